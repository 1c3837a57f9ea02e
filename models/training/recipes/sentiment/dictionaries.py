"""What dictionaries say of words that no review has: sentences and glosses, for the teacher to judge.

WordNet 3.0 (Princeton University 2006) shows tens of thousands of English words in a short sentence each: the files
``data.adj``, ``data.adv``, ``data.noun`` and ``data.verb`` of its database. CC-CEDICT (MDBG, CC BY-SA 4.0) says in
English what Chinese words mean, so that a teacher that reads English can judge Chinese.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from models.training.manifest import DataError
from models.training.recipes.waveforms import choice

Gloss = tuple[str, str]
"""A Chinese word, or several, and the same in English."""

WORDNET = ("data.adj", "data.adv", "data.noun", "data.verb")
CEDICT = "cedict_1_0_ts_utf-8_mdbg.txt"

_EXAMPLE = re.compile(r'"([^"]+)"')
_ENTRY = re.compile(r"\S+ (?P<word>[\u4e00-\u9fff]{2,6}) \[(?P<said>[^\]]*)\] /(?P<senses>.*)/")
_ABOUT_WORDS = re.compile(r"variant of|abbr\.|^see |surname|CL:|^also written|pr\. \[|old term|used in|Japanese|\d{3}")
"""Senses that tell of the word and not of what it means."""
_ASIDE = re.compile(r"\([^)]*\)|\[[^\]]*\]|[\u4e00-\u9fff]+\|?|\b(fig|lit)\.\s*")
_SENSES = 3
_PATTERNS: tuple[Gloss, ...] = (
    ("很{}", "very {}"), ("太{}了", "so {}!"), ("十分{}", "extremely {}"), ("真是{}", "really {}"),
    ("不{}", "not {}"), ("一点也不{}", "not {} at all"), ("从来不{}", "never {}"), ("不够{}", "not {} enough"),
    ("没有{}", "no {}"), ("毫无{}", "without any {}"), ("不是{}", "it is not {}"), ("这个{}", "this {}"),
    ("这里{}", "{} here"), ("让人{}", "it makes people {}"), ("觉得{}", "i feel {}"), ("他很{}", "he is very {}"),
    ("{}，{}", "{}, {}"), ("{}，但是{}", "{}, but {}"), ("虽然{}，但{}", "although {}, {}"),
    ("{}，也{}", "{}, and also {}"), ("又{}又{}", "both {} and {}"), ("不{}，{}", "not {}, {}"),
    ("没有{}，但是{}", "no {}, but {}"),
)  # fmt: skip
_LONGEST = 4, 40
"""Characters of a word that stands in a pattern, and of its first meaning."""


def examples(folder: Path) -> list[str]:
    """WordNet's English examples of two words or more, each once.

    Raises:
        DataError: a file is missing.
    """
    found = []
    for name in WORDNET:
        for line in _read(folder / name, "it is part of WordNet 3.0").splitlines():
            # The lines of the licence begin with spaces.
            if not line.startswith(" "):
                found += [example.strip(" ;") for example in _EXAMPLE.findall(line.partition(" | ")[2])]
    return [text for text in dict.fromkeys(found) if " " in text]


def glosses(folder: Path) -> list[Gloss]:
    """Chinese words of two to six simplified characters, names left out, each with its first meanings in English.

    Raises:
        DataError: the file is missing or has no entry.
    """
    found: dict[str, str] = {}
    for line in _read(folder / CEDICT, "it is CC-CEDICT, unpacked").splitlines():
        entry = _ENTRY.match(line)
        # A name is pronounced with a capital letter.
        if entry is None or entry["said"][:1].isupper():
            continue
        kept = (sense for sense in entry["senses"].split("/") if not _ABOUT_WORDS.search(sense))
        senses = [plain for sense in kept if (plain := _ASIDE.sub("", sense).strip(" ,;"))]
        if senses:
            found.setdefault(entry["word"], "; ".join(senses[:_SENSES]))
    if not found:
        raise DataError(f"{folder / CEDICT} has no entry of CC-CEDICT")
    return list(found.items())


def phrases(words: Sequence[Gloss], count: int) -> list[Gloss]:
    """So many Chinese phrases, of words drawn for patterns, with the same in English: always the same ones.

    Words of any kind stand anywhere, so that many phrases say nothing. The teacher judges those, too.
    """
    first = ((word, meanings.partition(";")[0].removeprefix("to ")) for word, meanings in words)
    short = [(word, meaning) for word, meaning in first if len(word) <= _LONGEST[0] and len(meaning) <= _LONGEST[1]]
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(count):
            chinese, english = _PATTERNS[choice(len(_PATTERNS))]
            drawn = [short[choice(len(short))] for _ in range(chinese.count("{}"))]
            filled = chinese.format(*(word for word, _ in drawn)), english.format(*(meaning for _, meaning in drawn))
            found.append(filled)
    return found


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {what}") from error
