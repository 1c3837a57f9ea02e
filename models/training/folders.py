"""A folder of files, sorted into one subfolder a class, to manifests.

    my/alarm/a.jpg  my/alarm/a.wav  my/alarm/a.txt  my/calm/b.jpg ...

Files of one stem are one example. What a file is, is told from its content; plain text is what its name ends in .txt.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.media.sniff import HEAD, sniff
from models.training.manifest import DataError

_MANIFESTS = ("train.jsonl", "val.jsonl")


@dataclass(frozen=True, slots=True)
class Written:
    """What ``write_manifests`` wrote: examples of each split; files that are no medium, and texts without a word."""

    train: int
    val: int
    ignored: list[str]
    empty: list[str]


def write_manifests(folder: Path, *, share: float = 0.2) -> Written:
    """Write ``train.jsonl`` and ``val.jsonl`` of a folder with one subfolder a class.

    Of each class the share ``share``, at least one, goes to ``val.jsonl``: those whose names' hashes are lowest, so a
    folder gives the same split whatever is added to it, as far as the shares allow.

    Raises:
        DataError: there are manifests already, or nothing to list, or a text or a name that is not UTF-8.
    """
    present = [name for name in _MANIFESTS if (folder / name).exists()]
    if present:
        raise DataError(f"{folder} already has {' and '.join(present)}: remove them to have them written anew")
    labels = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")
    if len(labels) < 2:
        raise DataError(f"{folder} has {len(labels)} subfolders: give it one a class, at least two")
    splits: dict[str, list[dict[str, Any]]] = {name: [] for name in _MANIFESTS}
    ignored: list[str] = []
    empty: list[str] = []
    for label in labels:
        examples = _examples(folder, label, ignored, empty)
        if len(examples) < 2:
            raise DataError(
                f"{label} has {len(examples)} examples: a class needs one to learn from and one to measure by"
            )
        held_out = max(1, round(share * len(examples)))
        for place, (_, example) in enumerate(sorted(examples.items(), key=lambda item: _hash(item[0]))):
            splits["val.jsonl" if place < held_out else "train.jsonl"].append(example | {"label": label.name})
    for name, lines in splits.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / name).write_text(text, encoding="utf-8")
    return Written(len(splits["train.jsonl"]), len(splits["val.jsonl"]), ignored, empty)


def _examples(folder: Path, label: Path, ignored: list[str], empty: list[str]) -> dict[str, dict[str, Any]]:
    """Examples by the path of their stem, each with its media by part."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(file for file in label.rglob("*") if file.is_file() and file.name[0] not in "._"):
        name = _name(path, folder)
        part = _part(path)
        if part is None:
            ignored.append(name)
            continue
        text = _text(path, name) if part == "text" else ""
        if part == "text" and not text:
            empty.append(name)
            continue
        example = found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), {})
        if part in example:
            raise DataError(f"{name} and {example[part]} are both the {part} of one example: give them other names")
        example[part] = text or name
    return found


def _name(path: Path, folder: Path) -> str:
    name = path.relative_to(folder).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{folder} has a file whose name is not UTF-8: rename {name!a}") from error
    return name


def _text(path: Path, name: str) -> str:
    try:
        # Editors on Windows begin a file with a byte order mark, which is no part of the text.
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 text: byte {error.start} is {error.reason}; save it as UTF-8") from error


def _part(path: Path) -> str | None:
    if path.suffix.lower() == ".txt":
        return "text"
    with path.open("rb") as file:
        known = sniff(file.read(HEAD))
    kinds: Sequence[str] = sorted(known.modalities) if known is not None else ()
    # Containers that can hold a video are taken for one; their sound is found there as well.
    return kinds[-1] if kinds else None


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
