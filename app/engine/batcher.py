"""What waits for a device, and which of it is answered together.

The policy, all of it in ``Batcher.take``: whoever has waited longest is next, and takes along those of its lane that
are nearest to it in length, as long as the padded steps stay within the lane's bound and few of them are padding.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

_MOST_PADDING = 0.25
"""Of a batch's steps. Above it, two rows of unequal lengths take longer together than one after the other."""


@dataclass(frozen=True, eq=False, slots=True)
class Lane:
    """Rows that can be answered by one call: those for one checkpoint.

    ``most_steps`` bounds the padded steps of a batch in each modality, since a photo takes longer than a word; without
    any, each row goes alone.
    """

    name: str
    most_steps: Mapping[str, int] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Row:
    """One request's work: ``run`` answers the items of several rows of its lane.

    ``lengths`` counts its steps by modality. The device notes when it ``began`` and the seconds that it ``spent``: of
    what it shares with others, its share.
    """

    lane: Lane
    run: Callable[[list[Any]], Sequence[Any]]
    item: Any
    lengths: Mapping[str, int] = field(default_factory=dict)
    future: "Future[Any]" = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)
    began: float = 0.0
    spent: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of all modalities."""
        return sum(self.lengths.values())

    def distance(self, other: "Row") -> int:
        """By how many steps it differs in length, over all modalities."""
        names = self.lengths.keys() | other.lengths.keys()
        return sum(abs(self.lengths.get(name, 0) - other.lengths.get(name, 0)) for name in names)


class Batcher:
    """Rows in the order of their arrival; for one thread."""

    def __init__(self, delay: float = 0.0) -> None:
        """``delay``: seconds that the oldest row may wait for more to come, where the batch is not full."""
        self.delay = delay
        self.rows: list[Row] = []

    def put(self, row: Row) -> None:
        """Let a row wait."""
        self.rows.append(row)

    def patience(self) -> float:
        """Seconds for which ``take`` may still wait for more rows: none, once a lane's oldest has waited its delay."""
        return min(map(self._patience, self.rows), default=0.0)

    def _patience(self, row: Row) -> float:
        return max(row.since + self.delay - time.perf_counter(), 0.0) if row.lane.most_steps else 0.0

    def take(self) -> list[Row]:
        """The next batch; rows whose future was cancelled are gone. Empty if there is none, or not yet."""
        self.rows = [row for row in self.rows if not row.future.cancelled()]
        passed: set[Lane] = set()
        for oldest in self.rows:
            if oldest.lane in passed:
                continue
            batch, full = self._batch(oldest)
            if full or not self._patience(oldest):
                chosen = set(batch)
                self.rows = [row for row in self.rows if row not in chosen]
                return batch
            # It waits for more of its lane, and holds up no other.
            passed.add(oldest.lane)
        return []

    def _batch(self, oldest: Row) -> tuple[list[Row], bool]:
        """Whom a row takes along, and whether they leave no room for more."""
        batch, longest, real = [oldest], dict(oldest.lengths), oldest.steps
        for row in sorted(self._mates(oldest), key=oldest.distance):
            wider = longest | {name: max(length, longest.get(name, 0)) for name, length in row.lengths.items()}
            padded = {name: (len(batch) + 1) * length for name, length in wider.items()}
            together = real + row.steps
            if together < sum(padded.values()) * (1 - _MOST_PADDING) or any(
                steps > oldest.lane.most_steps.get(name, 0) for name, steps in padded.items()
            ):
                return batch, True
            batch.append(row)
            longest, real = wider, together
        return batch, False

    def _mates(self, oldest: Row) -> Iterable[Row]:
        return (row for row in self.rows if row is not oldest and row.lane is oldest.lane and oldest.lane.most_steps)


def cost(rows: Sequence[Row]) -> tuple[int, int]:
    """Steps of a batch when every row is as long as the longest in each modality, and without the padding."""
    longest: dict[str, int] = {}
    for row in rows:
        for name, length in row.lengths.items():
            longest[name] = max(longest.get(name, 0), length)
    return len(rows) * sum(longest.values()), sum(row.steps for row in rows)
