"""A table of files and what is known of them, one example a row, to manifests.

    file_name,category                     path	sentence	gender
    dogs/1.jpg,dog                         clips/1.mp3	what is said	female

So data sets are described that are not sorted into folders. A column that names files is a medium, of the kind that its
files are, and of texts, in files that end in .txt, these are read; every other one keeps its name and is a field.
"""

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, get_args

from models.features import Modality
from models.refusals import nearest
from models.training.folders import DRAWN, GIVEN, HELD_OUT, Written, drawn, part_of, text_of, write_splits
from models.training.manifest import DataError

_MODALITIES = get_args(Modality)
_SPLIT = "split"
_NUMBER = "value"
"""The field that must be a number: what else is in it would be refused by training, without the cell."""

_SENTENCES = ("captions", "target_text")
"""Fields of which an example may have several."""

_TEXTS = frozenset({"text", *_SENTENCES})
"""Fields whose digits are words."""

_Row = Mapping[str, str]
_Medium = tuple[str, str]
"""A part and what is there: a path, or a text."""


def write_table(table: Path, folder: Path, columns: Mapping[str, str], *, share: float = 0.2) -> Written:
    """Write ``train.jsonl`` and ``val.jsonl`` of a table of comma-, semicolon- or tab-separated values.

    A column ``split`` divides the rows; without one the share ``share`` goes to ``val.jsonl``, of each class where
    there is a ``label``, and rows that share a medium stay together. Rows that differ in ``captions`` or
    ``target_text`` alone are one example, with a list of them.

    Args:
        folder: where the manifests go; the table's paths begin there, or where the table lies.
        columns: which column is which field, where they have other names: ``{"label": "category"}``.

    Raises:
        DataError: the table cannot be read, or has nothing to learn from; the message says what, where and what to do.
        OSError: a file that it names cannot be read, or a manifest not written.
    """
    rows = _renamed(_read(table), columns, table)
    columns_of = _Columns.of(rows, table, folder)
    found: dict[str, list[dict[str, Any]]] = {}
    for line, row in rows.items():
        where = f"{table}, line {line},"
        found.setdefault(_split(row[_SPLIT], where) if _SPLIT in row else "", []).append(columns_of.example(row, where))
    splits = {name: list(_together(examples)) for name, examples in found.items()}
    if "" in splits:
        splits = drawn(table, _grouped(splits[""]), share)
    if lacking := [name for name in DRAWN if not splits.get(name)]:
        raise DataError(f"{table} has no rows for {lacking[0]}: it needs some for each of {' and '.join(DRAWN)}")
    write_splits(folder, splits)
    return Written({name: len(lines) for name, lines in splits.items()}, [], columns_of.empty, columns_of.odd)


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the columns are: ``files`` by what they usually are, and those of ``numbers``; ``odd`` are almost such."""

    folder: Path
    bases: Sequence[Path]
    files: Mapping[str, str]
    numbers: frozenset[str]
    odd: list[str]
    empty: list[str] = field(default_factory=list)
    """Files of texts without a word."""

    @classmethod
    def of(cls, rows: Mapping[int, _Row], table: Path, folder: Path) -> Self:
        bases = [base for base in (folder, table.parent) if base.resolve().is_relative_to(folder.resolve())]
        names = next(iter(rows.values())).keys()
        there = {name: [_file(row[name], bases) for row in rows.values()] for name in names - {_SPLIT}}
        files = {name: _usual(name, found) for name, found in there.items() if any(found)}
        if not files and "text" not in names:
            raise DataError(
                f"{table} has no column of files in {folder}, and none called 'text', but {', '.join(names)}: give "
                "the folder from which its paths begin, or name the column of texts with --column text=NAME"
            )
        numbers, odd = _numbers(rows, names - files.keys() - _TEXTS, table)
        return cls(folder, bases, files, numbers, odd)

    def example(self, row: _Row, where: str) -> dict[str, Any]:
        """The line of a row; empty cells say nothing."""
        example: dict[str, Any] = {}
        for name, cell in row.items():
            if not cell or name == _SPLIT:
                continue
            part, value = self._read(name, cell, where)
            if part in example:
                raise DataError(f"{where} has two of {part}: leave one of the columns out")
            if value != "":
                example[part] = value
        return example

    def _read(self, name: str, cell: str, where: str) -> tuple[str, Any]:
        if name not in self.files:
            return name, _number(cell) if name in self.numbers else cell
        found = _file(cell, self.bases)
        if found is None:
            if cell.lower().endswith(".txt"):
                raise DataError(f"{where} names {cell}, which does not exist: put the file there, or take the row out")
            return self.files[name], cell  # Of a file that is missing training says so, with the line.
        path, part = Path(os.path.relpath(found, self.folder)).as_posix(), part_of(found)
        if part != "text":
            return part or self.files[name], path
        text = text_of(found, path)
        if not text:
            self.empty.append(path)
        return name if name in _TEXTS else part, text


def _read(table: Path) -> dict[int, dict[str, str]]:
    """The rows by the line of the file that each begins on."""
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
            (_, names), *rows = _numbered(reader) or [(1, [])]
    except OSError as error:
        raise DataError(f"{table} cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} is no table in UTF-8: {error}; save it as CSV in UTF-8") from error
    names = [name.strip() for name in names]
    if len(set(names)) < len(names) or not all(names):
        raise DataError(f"{table} must begin with a name for each column, all different, not {', '.join(names)}")
    if not rows:
        raise DataError(f"{table} has no rows below its first line, which names the columns")
    for line, row in rows:
        if len(row) != len(names):
            raise DataError(f"{table}, line {line}, has {len(row)} cells, and there are {len(names)} columns: mend it")
    return {line: dict(zip(names, (cell.strip() for cell in row), strict=True)) for line, row in rows}


def _numbered(reader: Any) -> list[tuple[int, list[str]]]:
    """The rows of a reader with something in them; quoted cells go over several lines, and some lines are empty."""
    found, first = [], 1
    for row in reader:
        if any(cell.strip() for cell in row):
            found.append((first, row))
        first = reader.line_num + 1
    return found


def _renamed(rows: Mapping[int, _Row], columns: Mapping[str, str], table: Path) -> dict[int, dict[str, str]]:
    given = next(iter(rows.values())).keys()
    for column in columns.values():
        if column not in given:
            raise DataError(f"{table} has no column '{column}'{nearest(column, given)}")
    fields = {column: name for name, column in columns.items()}
    names = [fields.get(name, _SPLIT if name.lower() == _SPLIT else name) for name in given]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{table} would have two columns '{twice[0]}': give the other one another name")
    return {line: dict(zip(names, row.values(), strict=True)) for line, row in rows.items()}


def _file(cell: str, bases: Sequence[Path]) -> Path | None:
    try:
        return next((base / cell for base in bases if cell and (base / cell).is_file()), None)
    except (OSError, ValueError):  # too long for a name, or with a zero byte
        return None


def _usual(name: str, found: Sequence[Path | None]) -> str:
    """What most files of a column are: what cannot be read is named by training, where its part is known."""
    kinds = Counter(part for path in found[:100] if path is not None and (part := part_of(path)) is not None)
    return name if name in {*_MODALITIES, *_TEXTS} or not kinds else kinds.most_common(1)[0][0]


def _numbers(rows: Mapping[int, _Row], names: Collection[str], table: Path) -> tuple[frozenset[str], list[str]]:
    """Which of these columns are of numbers, and of those that mostly are, what is not."""
    numbers, odd = set(), []
    for name in sorted(names):
        given = {line: row[name] for line, row in rows.items() if row[name]}
        others = [line for line, cell in given.items() if _number(cell) is None]
        if not others:
            numbers.add(name)
            continue
        said = f"{table}, line {others[0]}, column '{name}': '{given[others[0]]}' is not a number"
        if name == _NUMBER:
            raise DataError(
                f"{said}, as a '{_NUMBER}' must be: write it as in 13.5, leave the cell empty, or give the column "
                f"another name, as in --column amount={_NUMBER}"
            )
        # Classes are names, whatever they look like.
        if name != "label" and len(others) < len(given) / 2:
            odd.append(f"{said}, as most there are: the whole column is taken for text")
    return frozenset(numbers), odd


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


def _together(examples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Examples that differ in their sentences alone as one; what is the same again is left for training to name."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for example in examples:
        others = {name: value for name, value in example.items() if name not in _SENTENCES}
        groups.setdefault(json.dumps(others, sort_keys=True), []).append(example)
    for group in groups.values():
        several = {name: [example[name] for example in group if name in example] for name in _SENTENCES}
        if _media(group[0]) and any(len(set(texts)) > 1 for texts in several.values()):
            yield group[0] | {name: texts for name, texts in several.items() if texts}
        else:
            yield from group


def _grouped(examples: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each with the name of its group: of those that share a medium, or are linked by others that do, the first one."""
    before: dict[_Medium, _Medium] = {}

    def first(medium: _Medium) -> _Medium:
        while before.setdefault(medium, medium) != medium:
            before[medium] = medium = before[before[medium]]
        return medium

    media = [_media(example) or [("", "")] for example in examples]
    for together in media:
        known = {first(medium) for medium in together}
        before |= dict.fromkeys(known, min(known))
    for together, example in zip(media, examples, strict=True):
        yield first(together[0])[1], example


def _media(example: Mapping[str, Any]) -> list[_Medium]:
    """The files of an example, by part; without any, its text: beside files many may have the same."""
    media = [(name, str(example[name])) for name in sorted(_MODALITIES) if name in example]
    return [medium for medium in media if medium[0] != "text"] or media
