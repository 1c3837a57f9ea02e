"""What waits of one session, and how much of it is stepped next."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.readings.reading import Listener

MOST_TICKS = 32
"""Of one session in one step of all: one that sends a file at once keeps no other waiting for long."""

_SHORT = 4096
"""Bytes below which an array is joined with the next: one of a single sample takes up a hundred times its values."""

Array = NDArray[Any]


class Queue:
    """Samples, or frames, of one session and modality that have come and were not stepped yet."""

    def __init__(self, empty: Array) -> None:
        """``empty``: none of them."""
        self._parts: deque[Array] = deque()
        self._empty = empty
        self._row = empty.itemsize * math.prod(empty.shape[1:])
        self.size = 0
        self.owed = 0.0
        """How many that have yet to come belong to an utterance that is over."""

    @property
    def nbytes(self) -> int:
        """Bytes of what waits."""
        return self.size * self._row

    def put(self, values: Array) -> None:
        """Let ``values`` [n, ...] wait, but for those that come too late for their utterance."""
        if (late := min(len(values), math.floor(self.owed + 0.5))) > 0:
            self.owed -= late
            values = values[late:]
        self.size += len(values)
        if self._parts and self._parts[-1].nbytes < _SHORT:
            values = np.concatenate([self._parts.pop(), values])
        if len(values):
            self._parts.append(values)

    def take(self, count: int) -> Array:
        """The first ``count``, which are there."""
        taken = [self._empty]
        self.size -= count
        while count:
            first = self._parts.popleft()
            taken.append(first[:count])
            if len(first) > count:
                self._parts.appendleft(first[count:])
            count -= len(taken[-1])
        return taken[1] if len(taken) == 2 else np.concatenate(taken)

    def peek(self) -> Array:
        """All that wait; they stay."""
        return np.concatenate([self._empty, *self._parts])


@dataclass(eq=False, slots=True)
class Track:
    """One session of a checkpoint: its row, what waits, and how far its utterance is."""

    row: int
    present: tuple[bool, ...]
    queues: dict[str, Queue]
    blocks: dict[str, int]
    listener: Listener
    began: float = 0.0
    """Seconds of the session before the utterance."""
    steps: int = 0
    """Of the utterance."""

    def feed(self, modality: str, values: Array) -> None:
        """Let samples or frames wait for the next step."""
        self.queues[modality].put(values)

    @property
    def ticks(self) -> int:
        """Whole ticks that wait."""
        return min(queue.size // self.blocks[name] for name, queue in self.queues.items())

    @property
    def nbytes(self) -> int:
        """Bytes of what waits."""
        return sum(queue.nbytes for queue in self.queues.values())

    @property
    def lacking(self) -> list[str]:
        """The modalities of which no whole tick waits: without them the others go no further."""
        return [name for name, queue in self.queues.items() if queue.size < self.blocks[name]]

    def take(self, end: str | None = None) -> "Work":
        """What to step next; with ``end``, flush or end, also that the utterance is over once nothing waits."""
        ticks = min(self.ticks, MOST_TICKS)
        # A power of two, so that sessions with different arrears still share steps.
        ticks = 1 << (ticks.bit_length() - 1) if ticks else 0
        media = {name: queue.take(ticks * self.blocks[name]) for name, queue in self.queues.items()}
        if end is None or self.ticks:
            return Work(self, ticks, media)
        # The utterance is as long as what came furthest: what the others lack of it must not meet what comes next.
        longest = max(queue.size / self.blocks[name] for name, queue in self.queues.items())
        for name, queue in self.queues.items():
            queue.owed += longest * self.blocks[name] - queue.size
        rest = {name: queue.take(queue.size) for name, queue in self.queues.items()}
        return Work(self, ticks, media, rest, end)


@dataclass(eq=False, slots=True)
class Work:
    """What one session has to be stepped: whole ticks of each modality, and at an utterance's end the rest."""

    track: Track
    ticks: int
    media: dict[str, Array]
    rest: dict[str, Array] = field(default_factory=dict)
    end: str | None = None
