"""One session without a network beside it: chunks of bytes in, work for a step out, and its state to carry away."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from models.state import State, part, under
from models.streaming.track import Array, Track, Work

_AHEAD = 64
"""Ticks that are taken out of the chunks before they are stepped."""

_ITEM = 4096
"""Bytes that a chunk or a mark counts besides its values, for what lies around them and what the server says to it: a
chunk of nothing is not free, and neither is an export."""


class Reader(Protocol):
    """One modality's chunks to the samples or frames that the checkpoint's front takes."""

    offload: bool
    """Whether reading takes so long that it belongs on a thread of its own."""

    def read(self, chunk: bytes, time: float) -> tuple[Array, str | None]:
        """What a chunk completes, and what a client should be warned of.

        Raises:
            BadChunk: it cannot be used, and neither can what follows.
        """

    def finish(self, *, last: bool) -> Array:
        """What is held back when an utterance ends; ``last``: and no other follows."""

    def close(self) -> None:
        """Nothing more comes."""

    def save(self) -> State:
        """What it remembers, as tensors."""

    def load(self, state: State) -> None:
        """Go on from what ``save`` returned."""


@dataclass(slots=True)
class _Chunk:
    modality: str
    values: Array
    sequence: int
    cost: int


@dataclass(slots=True)
class _Mark:
    """``reason`` is flush, end or export; ``note`` comes back with the answer."""

    reason: str
    note: Any = None
    held: State = field(default_factory=dict)


@dataclass(slots=True)
class Snapshot:
    """All that a session is made of: what another one goes on from."""

    tensors: dict[str, Tensor]
    numbers: list[float]
    acknowledged: int


class Store(Protocol):
    """Where the sessions' rows are."""

    def read(self, track: Track) -> tuple[State, list[float]]:
        """A session's tensors and numbers."""

    def write(self, track: Track, state: State, numbers: list[float]) -> None:
        """Let a session go on from them."""

    def close(self, track: Track) -> None:
        """Forget a session."""


class Session:
    """Chunks wait here until their turn. Belongs to one thread, but for what belongs to the one that steps."""

    def __init__(self, streams: Store, track: Track, readers: Mapping[str, Reader]) -> None:
        self.streams, self.track, self.readers = streams, track, dict(readers)
        self.waiting = 0
        """Cost of the chunks that wait."""
        self._inbox_bytes = 0
        self.acknowledged = -1
        """Number of the last chunk that left for the network."""
        self._inbox: deque[_Chunk | _Mark] = deque()

    def put(self, modality: str, values: Array, sequence: int, cost: int) -> None:
        """Let what a modality's reader made of a chunk wait; ``cost`` is what the chunk counts while it does."""
        self._inbox.append(_Chunk(modality, values, sequence, cost))
        self._inbox_bytes += values.nbytes + _ITEM
        self.waiting += cost

    def mark(self, reason: str, note: Any = None) -> None:
        """Ask for a flush, an end or an export, once all that came before is answered."""
        self._inbox.append(_Mark(reason, note, self._saved() if reason == "export" else {}))
        self._inbox_bytes += _ITEM

    @property
    def held(self) -> int:
        """Bytes of all that waits, decoded: in chunks, and in the track for a step that is not whole yet."""
        return self._inbox_bytes + self.track.nbytes

    def next(self) -> "tuple[Work | None, _Mark | None]":
        """What to step, and the mark that is reached with it; an export is reached after the step."""
        self._pull()
        if self.track.ticks:
            return self.track.take(), None
        mark = self._inbox.popleft() if self._inbox else None
        if not isinstance(mark, _Mark):
            return None, None
        self._inbox_bytes -= _ITEM
        return (None if mark.reason == "export" else self.track.take(mark.reason)), mark

    def snapshot(self, mark: _Mark) -> Snapshot:
        """The session as it is at an export's mark; on the thread that steps."""
        tensors, numbers = self.streams.read(self.track)
        queues = {f"queues.{name}": torch.from_numpy(queue.peek()) for name, queue in self.track.queues.items()}
        owed = {"owed": torch.tensor([queue.owed for queue in self.track.queues.values()], dtype=torch.float64)}
        return Snapshot(under("row", tensors) | queues | owed | mark.held, numbers, self.acknowledged)

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from where another session was; on the thread that steps, before anything else.

        Raises:
            LookupError, RuntimeError, TypeError, ValueError: it was a session of another kind.
        """
        self.streams.write(self.track, part(snapshot.tensors, "row"), snapshot.numbers)
        owed = snapshot.tensors["owed"].tolist()
        for (name, queue), late in zip(self.track.queues.items(), owed, strict=True):
            queue.put(snapshot.tensors[f"queues.{name}"].numpy())
            queue.owed = late
        for name, reader in self.readers.items():
            reader.load(part(snapshot.tensors, f"readers.{name}"))
        self.acknowledged = snapshot.acknowledged

    def close(self) -> None:
        """Give the row back; on the thread that steps."""
        self.streams.close(self.track)

    def _saved(self) -> State:
        saved: State = {}
        for name, reader in self.readers.items():
            saved |= under(f"readers.{name}", reader.save())
        return saved

    def _pull(self) -> None:
        """Let chunks leave for the track, up to a mark."""
        while self._inbox and isinstance(chunk := self._inbox[0], _Chunk) and self.track.ticks < _AHEAD:
            self._inbox.popleft()
            self.track.feed(chunk.modality, chunk.values)
            self._inbox_bytes -= chunk.values.nbytes + _ITEM
            self.waiting -= chunk.cost
            self.acknowledged = max(self.acknowledged, chunk.sequence)
