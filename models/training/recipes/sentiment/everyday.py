"""What people type of everyday things, put together from patterns: what reviews of films and hotels hardly ever say.

Short judgements, denials of both kinds, fixed phrases, and emoji, in English and Chinese, from ``everyday.toml``.
Whoever reads only reviews takes "not bad" for bad, and does not know that who cannot wait to come back was pleased; nor
that some sentences judge nothing.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.training.recipes.waveforms import chance, choice

Opinion = tuple[str, float]
"""A text, and how likely it is to be called positive: 1, 0, or a half where it says neither."""

_SAID: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
EMOJI: tuple[str, str] = (_SAID["emoji"]["negative"], _SAID["emoji"]["positive"])
"""Those that say no, and those that say yes."""

_NEUTRAL, _FIXED, _TWO = 0.15, 0.3, 0.2
"""How many say nothing either way, are phrases without a slot, or are two in one."""
_LINKS = {"en": (". ", ", ", " and ", "! "), "zh": ("，", "。", "！")}
_ENDS = ("", "", "", ".", "!", "!!")


def opinion() -> Opinion:
    """One opinion, English or Chinese, or a sentence that has none; at times two opinions alike."""
    language = "zh" if chance(0.5) else "en"
    if chance(_NEUTRAL):
        return _said(language, "neutral"), 0.5
    positive = choice(2)
    kind = "positive" if positive else "negative"
    text = _said(language, kind)
    if chance(_TWO):
        text = f"{text}{_one(_LINKS[language])}{_said(language, kind)}"
    if chance(0.25):
        return f"{text}{' ' if chance(0.5) else ''}{_emoji(positive)}", positive
    if chance(0.05):
        # A thing that is only named, and emoji that say all.
        return f"{_one(_SAID[language]['words']['t'])} {_emoji(positive)}", positive
    return text + (_one(_ENDS) if language == "en" else ""), positive


def opinions(count: int) -> list[Opinion]:
    """So many opinions: always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [opinion() for _ in range(count)]


def _said(language: str, kind: str) -> str:
    said = _SAID[language][kind]
    return _one(said["phrases"]) if chance(_FIXED) else _filled(_one(said["patterns"]), _SAID[language]["words"])


def _emoji(positive: int) -> str:
    """One to three times the same one."""
    return _one(EMOJI[positive]) * (1 + choice(3))


def _filled(pattern: str, words: dict[str, list[str]]) -> str:
    """A pattern with a word drawn for each of its slots."""
    for slot, known in words.items():
        while f"{{{slot}}}" in pattern:
            pattern = pattern.replace(f"{{{slot}}}", _one(known), 1)
    return pattern


def _one(items: Sequence[str]) -> str:
    return items[choice(len(items))]
