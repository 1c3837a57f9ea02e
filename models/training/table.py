"""A table of files and what is known of them, one example a row, to manifests.

    file_name,category                     path	sentence	gender
    dogs/1.jpg,dog                         clips/1.mp3	what is said	female

So data sets are described that are not sorted into folders. A column that names files is a medium, of the kind that its
files are; every other one keeps its name and is a field.
"""

import csv
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

from models.features import Modality
from models.refusals import nearest
from models.training.folders import DRAWN, GIVEN, HELD_OUT, Written, drawn, part_of, write_splits
from models.training.manifest import DataError

_MODALITIES = get_args(Modality)
_SPLIT = "split"
_TEXTS = frozenset({"text", "target_text"})
"""Fields whose digits are words."""


def write_table(table: Path, folder: Path, columns: Mapping[str, str], *, share: float = 0.2) -> Written:
    """Write ``train.jsonl`` and ``val.jsonl`` of a table of comma-, semicolon- or tab-separated values.

    A column ``split`` divides the rows; without one the share ``share`` goes to ``val.jsonl``, of each class where
    there is a ``label``, and rows with the same medium stay together.

    Args:
        folder: where the manifests go; the table's paths begin there, or where the table lies.
        columns: which column is which field, where they have other names: ``{"label": "category"}``.

    Raises:
        DataError: the table cannot be read, or has nothing to learn from; the message says what, where and what to do.
        OSError: a file that it names cannot be read, or a manifest not written.
    """
    rows = _renamed(_read(table), columns, table)
    columns_of = _Columns.of(rows, table, folder)
    splits: dict[str, list[dict[str, Any]]] = {}
    undivided = []
    for number, row in enumerate(rows, 2):
        example = columns_of.example(row, f"{table}, row {number},")
        if _SPLIT in row:
            splits.setdefault(_split(row[_SPLIT], f"{table}, row {number},"), []).append(example)
        else:
            undivided.append((_key(example), example))
    if undivided:
        splits = drawn(table, undivided, share)
    if lacking := [name for name in DRAWN if not splits.get(name)]:
        raise DataError(f"{table} has no rows for {lacking[0]}: it needs some for each of {' and '.join(DRAWN)}")
    write_splits(folder, splits)
    return Written({name: len(lines) for name, lines in splits.items()}, [], [])


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the columns are: ``files`` by what they usually are, and those of ``numbers``."""

    folder: Path
    bases: Sequence[Path]
    files: Mapping[str, str]
    numbers: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]], table: Path, folder: Path) -> Self:
        bases = [base for base in (folder, table.parent) if base.resolve().is_relative_to(folder.resolve())]
        there = {name: [_file(row[name], bases) for row in rows] for name in rows[0] if name not in (_SPLIT, "text")}
        files = {name: _usual(name, found) for name, found in there.items() if any(found)}
        if not files and "text" not in rows[0]:
            raise DataError(
                f"{table} has no column of files in {folder}, and none called 'text', but {', '.join(rows[0])}: give "
                "the folder from which its paths begin, or name the column of texts with --column text=NAME"
            )
        others = rows[0].keys() - files.keys() - _TEXTS
        return cls(folder, bases, files, frozenset(name for name in others if _are_numbers(row[name] for row in rows)))

    def example(self, row: Mapping[str, str], where: str) -> dict[str, Any]:
        """The line of a row; empty cells say nothing."""
        example: dict[str, Any] = {}
        for name, cell in row.items():
            if not cell or name == _SPLIT:
                continue
            field, value = self._read(name, cell)
            if field in example:
                raise DataError(f"{where} has two of {field}: leave one of the columns out")
            example[field] = value
        return example

    def _read(self, name: str, cell: str) -> tuple[str, Any]:
        if name not in self.files:
            return name, _number(cell) if name in self.numbers else cell
        found = _file(cell, self.bases)
        if found is None:  # training says so, with the line
            return self.files[name], cell
        return part_of(found) or self.files[name], Path(os.path.relpath(found, self.folder)).as_posix()


def _read(table: Path) -> list[dict[str, str]]:
    try:
        # Spreadsheets begin a file with a byte order mark.
        with table.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            separator = max("\t,;", key=head.count)
            # Where tabs separate, a quotation mark is a mark: so such tables are written, and sentences begin with one.
            reader = (
                csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE)
                if separator == "\t"
                else csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
            )
            names, *cells = [row for row in reader if any(cell.strip() for cell in row)] or [[]]
    except OSError as error:
        raise DataError(f"{table} cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} is no table in UTF-8: {error}; save it as CSV in UTF-8") from error
    names = [name.strip() for name in names]
    if len(set(names)) < len(names) or not all(names):
        raise DataError(f"{table} must begin with a name for each column, all different, not {', '.join(names)}")
    if not cells:
        raise DataError(f"{table} has no rows below its first line, which names the columns")
    for number, row in enumerate(cells, 2):
        if len(row) != len(names):
            raise DataError(f"{table}, row {number}, has {len(row)} cells, and there are {len(names)} columns: mend it")
    return [dict(zip(names, (cell.strip() for cell in row), strict=True)) for row in cells]


def _renamed(rows: list[dict[str, str]], columns: Mapping[str, str], table: Path) -> list[dict[str, str]]:
    for column in columns.values():
        if column not in rows[0]:
            raise DataError(f"{table} has no column '{column}'{nearest(column, rows[0])}")
    fields = {column: field for field, column in columns.items()}
    names = [fields.get(name, name) for name in rows[0]]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{table} would have two columns '{twice[0]}': give the other one another name")
    return [dict(zip(names, row.values(), strict=True)) for row in rows]


def _file(cell: str, bases: Sequence[Path]) -> Path | None:
    try:
        return next((base / cell for base in bases if cell and (base / cell).is_file()), None)
    except (OSError, ValueError):  # too long for a name, or with a zero byte
        return None


def _usual(name: str, found: Sequence[Path | None]) -> str:
    """What most files of a column are: what cannot be read is named by training, where its part is known."""
    kinds = Counter(part for path in found[:100] if path is not None and (part := part_of(path)) is not None)
    return name if name in _MODALITIES or not kinds else kinds.most_common(1)[0][0]


def _are_numbers(cells: Any) -> bool:
    given = [cell for cell in cells if cell]
    return bool(given) and all(_number(cell) is not None for cell in given)


def _number(cell: str) -> int | float | None:
    """A number as JSON writes it; None for all else, such as 007, which is a name."""
    try:
        value = float(cell)
    except ValueError:
        return None
    digits = cell.lstrip("+-")
    if not math.isfinite(value) or (digits[:1] == "0" and digits[1:2].isdigit()) or "_" in cell:
        return None
    return int(cell) if digits.isdigit() else value


def _split(cell: str, where: str) -> str:
    name = cell.lower()
    if name in GIVEN:
        return name
    if name in HELD_OUT:
        return "val"
    raise DataError(f"{where} has the split '{cell}': known are {', '.join(GIVEN)}")


def _key(example: Mapping[str, Any]) -> str:
    """What decides which split a row goes to: its media, so that the same are never in both."""
    media = [str(example[name]) for name in sorted(_MODALITIES) if name in example]
    return "\n".join(media[:1])
