"""Feature sequences of unequal length computed once and kept on disk, so that epochs read instead of decode.

A cache is three files: the values of all rows one after another, one line of JSON a row (its steps, or why it has
none), and the shape and dtype of a step. They are appended row by row, so a killed run goes on from its last row.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.files import write_whole
from models.training.manifest import DataError
from models.training.progress import progress


class Unusable(Exception):
    """A row has no features; the message says which medium and why. ``kind`` groups like reasons."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows [T_i, ...] of one kind. ``lengths`` int64 [N]; a row that is absent, or has a ``fault``, has length 0."""

    values: NDArray[Any]
    offsets: NDArray[np.int64]
    faults: dict[int, tuple[str, str]]
    notices: dict[int, list[str]]
    left_out: frozenset[int] = frozenset()
    """Rows that count as absent, whatever is stored of them."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each row, int64 [N]."""
        lengths = np.diff(self.offsets)
        lengths[sorted(self.left_out)] = 0
        return lengths

    def __getitem__(self, row: int) -> Tensor:
        begin, end = self.offsets[row : row + 2]
        # A copy: the file is mapped read-only, and tensors must be free to change.
        return torch.from_numpy(np.array(self.values[begin : begin if row in self.left_out else end]))


def cached_ragged(
    folder: Path,
    label: str,
    key: dict[str, Any],
    count: int,
    compute: Callable[[int], tuple[Tensor | None, list[str]]],
    *,
    most_bytes: float,
) -> Ragged:
    """The rows ``compute(0)`` to ``compute(count - 1)``, read from ``folder`` or computed and kept there.

    Args:
        label: names the cache; caches of the same label with another key are deleted, so the folder does not grow.
        key: all that the features depend on.
        compute: features [T, ...] of a row, or None where the row lacks them, and what was noticed about its media;
            raises `Unusable` for a row that must be left out.
        most_bytes: of the whole folder.

    Raises:
        DataError: the folder would hold more than ``most_bytes``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps([key, count], sort_keys=True, default=str).encode()).hexdigest()[:16]
    stem = f"{label}-{digest}"
    for old in folder.glob(f"{label}-*"):
        if not old.name.startswith(stem):
            old.unlink()
    values, index, step = (folder / f"{stem}.{ending}" for ending in ("values", "rows", "step"))
    rows = _whole_rows(values, index, step)
    if len(rows) < count:
        room = most_bytes - sum(file.stat().st_size for file in folder.iterdir())
        _append(values, index, step, rows, range(len(rows), count), compute, label, room)
    return _read(values, step, rows)


def _append(
    values: Path,
    index: Path,
    step: Path,
    rows: list[dict[str, Any]],
    missing: range,
    compute: Callable[[int], tuple[Tensor | None, list[str]]],
    label: str,
    room: float,
) -> None:
    with (
        values.open("ab") as value_file,
        index.open("a", encoding="utf-8") as index_file,
        progress(f"features {label}", total=missing.stop, start=missing.start) as advance,
    ):
        for row in missing:
            line: dict[str, Any] = {"steps": 0}
            try:
                tensor, notices = compute(row)
            except Unusable as error:
                line |= {"fault": [error.kind, error.reason]}
            else:
                if notices:
                    line["notices"] = notices
                if tensor is not None and len(tensor):
                    array = np.ascontiguousarray(tensor.numpy())
                    kind = {"dtype": str(array.dtype), "shape": list(array.shape[1:])}
                    if not step.exists():
                        write_whole(step, json.dumps(kind))
                    elif json.loads(step.read_text(encoding="utf-8")) != kind:
                        raise DataError(
                            f"{label}: example {row + 1} has features of another size ({kind}) than those before it"
                        )
                    room -= array.nbytes
                    if room < 0:
                        raise DataError(
                            f"{label}: the cached features would take more than `cache_gigabytes` allows after "
                            f"{row} of {missing.stop} examples; allow more, or choose smaller features"
                        )
                    value_file.write(array.tobytes())
                    line["steps"] = len(array)
            # The values first: a row counts only once its line is there.
            value_file.flush()
            index_file.write(json.dumps(line) + "\n")
            index_file.flush()
            rows.append(line)
            advance()


def _whole_rows(values: Path, index: Path, step: Path) -> list[dict[str, Any]]:
    """The rows that an earlier run finished; what a kill left half-written is cut off, what is damaged begun anew."""
    try:
        text = index.read_text(encoding="utf-8")
        finished = text[: text.rfind("\n") + 1]
        rows: list[dict[str, Any]] = [json.loads(line) for line in finished.splitlines()]
        steps = sum(row["steps"] for row in rows)
        if not steps:
            # It may be there of a row that was not finished.
            step.unlink(missing_ok=True)
        size = steps * _step_bytes(step) if steps else 0
        surplus = values.stat().st_size - size
    except (OSError, ValueError, KeyError, TypeError):
        surplus = -1
    if surplus < 0:
        for file in (values, index, step):
            file.unlink(missing_ok=True)
        return []
    # What is whole is left alone: another run may be reading it.
    if finished != text:
        write_whole(index, finished)
    if surplus:
        os.truncate(values, size)
    return rows


def _step_bytes(step: Path) -> int:
    kind = json.loads(step.read_text(encoding="utf-8"))
    return int(np.dtype(kind["dtype"]).itemsize * np.prod(kind["shape"], dtype=np.int64))


def _read(values: Path, step: Path, rows: list[dict[str, Any]]) -> Ragged:
    offsets = np.concatenate([[0], np.cumsum([row["steps"] for row in rows], dtype=np.int64)]).astype(np.int64)
    faults = {number: (row["fault"][0], row["fault"][1]) for number, row in enumerate(rows) if "fault" in row}
    notices = {number: row["notices"] for number, row in enumerate(rows) if "notices" in row}
    if offsets[-1] == 0:
        return Ragged(np.zeros((0, 1), np.float32), offsets, faults, notices)
    kind = json.loads(step.read_text(encoding="utf-8"))
    mapped = np.memmap(values, kind["dtype"], "r", shape=(int(offsets[-1]), *kind["shape"]))
    return Ragged(mapped, offsets, faults, notices)
