"""A folder of files, sorted into one subfolder a class, to manifests.

    my/alarm/a.jpg  my/alarm/a.wav  my/alarm/a.txt  my/calm/b.jpg ...

or divided already: my/train/alarm/a.jpg ... my/val/alarm/c.jpg ..., perhaps with my/test as well.

Files of one stem are one example. What a file is, is told from its content; plain text is what its name ends in .txt.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.files import replacing
from models.media.sniff import HEAD, sniff
from models.training.manifest import DataError

DRAWN = ("train", "val")
"""The splits that are made where the folder is not divided."""

GIVEN = ("train", "val", "test")
HELD_OUT = {"val", "valid", "validation", "dev", "eval", "test"}
"""Names of folders that beside ``train`` are no classes."""
_TOO_FEW = "a class needs one to learn from and one, of other media, to measure by"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: examples of each split; files that are no medium, texts without a word, and what to look at."""

    examples: dict[str, int]
    ignored: list[str]
    empty: list[str]
    odd: list[str] = field(default_factory=list)


def write_manifests(folder: Path, *, share: float = 0.2) -> Written:
    """Write ``train.jsonl`` and ``val.jsonl`` of a folder with one subfolder a class, or with such a folder a split.

    Of a folder that is not divided, the share ``share`` of each class, at least one, goes to ``val.jsonl``: those whose
    names' hashes are lowest, so a folder gives the same split whatever is added to it, as far as the shares allow.

    Raises:
        DataError: there are manifests already, or nothing to list, or a text or a name that is not UTF-8.
        OSError: a file cannot be read, or a manifest not written.
    """
    given = _given(folder)
    ignored: list[str] = []
    empty: list[str] = []
    splits: dict[str, list[dict[str, Any]]] = {name: [] for name in given}
    for split in given:
        for label in _labels(folder / split):
            splits[split] += _examples(folder, label, ignored, empty).values()
    if not given:
        found: dict[str, dict[str, Any]] = {}
        for label in _labels(folder):
            examples = _examples(folder, label, ignored, empty)
            if not examples:
                raise DataError(f"{folder} has 0 examples of '{label.name}': {_TOO_FEW}")
            found |= examples
        splits = drawn(folder, list(found.items()), share)
    write_splits(folder, splits)
    return Written({name: len(lines) for name, lines in splits.items()}, ignored, empty)


def drawn(
    source: Path, examples: Iterable[tuple[str, dict[str, Any]]], share: float
) -> dict[str, list[dict[str, Any]]]:
    """Examples, each with the name of its group, divided among ``DRAWN``: of each label the ``share`` to the second.

    What is of one group stays together, whatever its labels.

    Raises:
        DataError: a label has too few to divide.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    labels: dict[Any, set[str]] = {}
    for key, example in examples:
        groups.setdefault(key, []).append(example)
        labels.setdefault(example.get("label"), set()).add(key)
    held_out: dict[str, bool] = {}
    # The rarest first, as they have the least choice where a group has several labels.
    for label, keys in sorted(labels.items(), key=lambda item: len(item[1])):
        if len(keys) < 2:
            of_label = "" if label is None else f" of '{label}'"
            raise DataError(f"{source} has {len(keys)} examples{of_label}: {_TOO_FEW}")
        wanted = max(1, round(share * len(keys))) - sum(held_out.get(key, False) for key in keys)
        free = sorted(keys - held_out.keys(), key=_hash)
        held_out |= {key: place < wanted for place, key in enumerate(free)}
    splits: dict[str, list[dict[str, Any]]] = {name: [] for name in DRAWN}
    for keys in labels.values():
        for key in sorted(keys, key=_hash):
            splits["val" if held_out[key] else "train"] += groups.pop(key, [])
    return splits


def write_splits(folder: Path, splits: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Write a manifest for each split: all of them, or none where one cannot be written.

    Raises:
        DataError: there are such already.
        OSError: one cannot be written.
    """
    present = [f"{name}.jsonl" for name in splits if (folder / f"{name}.jsonl").exists()]
    if present:
        raise DataError(f"{folder} already has {' and '.join(present)}: remove them to have them written anew")
    with ExitStack() as whole:
        for name, lines in splits.items():
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            whole.enter_context(replacing(folder / f"{name}.jsonl")).write_text(text, encoding="utf-8")


def _given(folder: Path) -> list[str]:
    """The splits that a folder is divided into already; none where its subfolders are classes."""
    names = {path.name for path in _subfolders(folder)}
    if "train" not in names or not names & HELD_OUT:
        return []
    if "val" not in names or names - set(GIVEN):
        raise DataError(
            f"{folder} is divided into {', '.join(sorted(names))}: call the two that are needed 'train' and 'val', "
            "a third one 'test', and leave no other beside them"
        )
    return [name for name in GIVEN if name in names]


def _labels(folder: Path) -> list[Path]:
    labels = _subfolders(folder)
    if len(labels) < 2:
        raise DataError(f"{folder} has {len(labels)} subfolders: give it one a class, at least two")
    return labels


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and _shown(path, folder))


def _shown(path: Path, folder: Path) -> bool:
    """Whether neither a file nor a folder on the way to it is what a system or a program keeps for itself."""
    return all(part[0] not in "._" for part in path.relative_to(folder).parts)


def _examples(folder: Path, label: Path, ignored: list[str], empty: list[str]) -> dict[str, dict[str, Any]]:
    """Examples by the path of their stem, each with its media by part and its label."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(file for file in label.rglob("*") if _shown(file, label) and file.is_file()):
        name = _name(path, folder)
        part = part_of(path)
        if part is None:
            ignored.append(name)
            continue
        text = text_of(path, name) if part == "text" else ""
        if part == "text" and not text:
            empty.append(name)
            continue
        example = found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), {})
        if part in example:
            raise DataError(f"{name} and {example[part]} are both the {part} of one example: give them other names")
        example[part] = text or name
    return {stem: example | {"label": label.name} for stem, example in found.items()}


def _name(path: Path, folder: Path) -> str:
    name = path.relative_to(folder).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{folder} has a file whose name is not UTF-8: rename {name!a}") from error
    return name


def text_of(path: Path, name: str) -> str:
    """The text in a file, without the spaces around it.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        # Editors on Windows begin a file with a byte order mark, which is no part of the text.
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 text: byte {error.start} is {error.reason}; save it as UTF-8") from error


def part_of(path: Path) -> str | None:
    """The part of a bundle that a file can be, told from its content; None where it is no medium."""
    if path.suffix.lower() == ".txt":
        return "text"
    with path.open("rb") as file:
        known = sniff(file.read(HEAD))
    kinds: Sequence[str] = sorted(known.modalities) if known is not None else ()
    # Containers that can hold a video are taken for one; their sound is found there as well.
    return kinds[-1] if kinds else None


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
