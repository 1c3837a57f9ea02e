"""Opinions that are put together from patterns."""

import unicodedata
from collections import Counter

from models.training.recipes.sentiment.everyday import EMOJI, opinions


def test_opinions_are_of_both_kinds_and_languages_and_always_the_same() -> None:
    found = opinions(2000)
    assert found == opinions(2000)
    counts = Counter(positive for _, positive in found)
    assert counts.keys() == {0, 0.5, 1}
    assert 750 < counts[0] < 950
    assert 750 < counts[1] < 950
    assert 900 < sum(text.isascii() or _is_english(text) for text, _ in found) < 1100
    assert len({text for text, _ in found}) > 1000


def test_nothing_is_left_of_the_patterns() -> None:
    assert not [text for text, _ in opinions(2000) if "{" in text or "}" in text or not text.strip()]


def test_no_emoji_and_no_phrase_says_both() -> None:
    assert not set(EMOJI[0]) & set(EMOJI[1])
    said: dict[str, set[float]] = {}
    for text, positive in opinions(6000):
        said.setdefault(text, set()).add(positive)
    assert not [text for text, both in said.items() if len(both) > 1]
    emoji = [(text, positive) for text, positive in opinions(2000) if set(text) & set("".join(EMOJI))]
    assert len(emoji) > 300
    assert all(
        positive in (0, 1) and set(text) & set(EMOJI[int(positive)]) and not set(text) & set(EMOJI[1 - int(positive)])
        for text, positive in emoji
    )


def _is_english(text: str) -> bool:
    return not any(unicodedata.name(character, "").startswith("CJK") for character in text)
