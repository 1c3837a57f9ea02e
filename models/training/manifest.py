"""JSONL manifests: one example a line, media paths relative to the data folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_A_LINE = 'one JSON object a line, such as {"image": "a.jpg", "label": "cat"}'


class DataError(ValueError):
    """A data folder cannot be trained on; the message names the file, the line and the remedy."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The examples of one split and the folder their media paths start from."""

    folder: Path
    split: str
    examples: list[dict[str, Any]]
    lines: list[int]
    """The line that each example stands on, counted from 1."""

    def path(self, example: dict[str, Any], modality: str) -> Path:
        """Where an example's medium lies."""
        return self.folder / str(example[modality])


def read_manifest(folder: Path, split: str, *, media: tuple[str, ...] = ()) -> Manifest:
    """Read ``folder/split.jsonl``; each example must have the fields named in ``media``, and their files must exist.

    Raises:
        DataError: the manifest is missing, unreadable, empty or malformed, or files it names are missing (the first ten
            by name).
    """
    path = folder / f"{split}.jsonl"
    examples, lines = [], []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            example = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}, is not JSON ({error.msg}): write {_A_LINE}") from error
        except ValueError as error:
            raise DataError(f"{path}, line {number}, has a number of thousands of digits: mend it") from error
        except RecursionError as error:
            raise DataError(f"{path}, line {number}, has too many brackets within each other: mend it") from error
        if _has_half_characters(line, example):
            raise DataError(f"{path}, line {number}, has half of a character, a lone \\ud800 to \\udfff: remove it")
        if not isinstance(example, dict):
            raise DataError(f"{path}, line {number}, is no JSON object: write {_A_LINE}")
        absent = [field for field in media if field not in example]
        if absent:
            raise DataError(f"{path}, line {number}, lacks {', '.join(absent)}")
        examples.append(example)
        lines.append(number)
    if not examples:
        raise DataError(f"{path} has no examples: write {_A_LINE}")
    named = [str(example[field]) for example in examples for field in media]
    missing = [name for name in named if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{len(missing)} files named in {path} do not exist: {', '.join(missing[:10])}")
    return Manifest(folder, split, examples, lines)


def _text(path: Path) -> str:
    try:
        # Editors on Windows begin a file with a byte order mark, which is no part of the text.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        there = sorted(file.name for file in path.parent.glob("*.jsonl"))
        others = sorted(file.name for file in path.parent.glob(f"{path.stem}.*"))
        raise DataError(
            f"{path} does not exist"
            + (f", but {', '.join(there)}" if there else "")
            + f": put {_A_LINE} into it"
            + (f"; {', '.join(others)} is not read" if others else "")
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): it must be a file that you may read") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {error.start} is {error.reason}; save it as UTF-8") from error


def _has_half_characters(line: str, example: Any) -> bool:
    """Whether an escape in the line stands for one half of a pair only: it cannot be written to any file."""
    if "\\ud" not in line.lower():
        return False
    try:
        json.dumps(example, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
