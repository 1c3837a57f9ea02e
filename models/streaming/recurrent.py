"""A causal checkpoint that follows sound, or sound and pictures, step by step, for any number of sessions at once.

A session's state is a row of tensors, a few numbers, and the samples of less than a step: the same size for ever.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoded import Encoded
from models.features.audio import AudioFeatures
from models.network import FusionRNN
from models.state import State, part, under
from models.streaming.pool import StatePool
from models.streaming.reading import Event, Listener, Reading
from models.streaming.sound import SoundFront

MOST_TICKS = 32
"""Of one session in one step of all: one that sends a file at once keeps no other waiting for long."""

Array = NDArray[Any]


class Queue:
    """Samples, or frames, of one session and modality that have come and were not stepped yet."""

    def __init__(self, empty: Array) -> None:
        """``empty``: none of them."""
        self._parts: deque[Array] = deque()
        self._empty = empty
        self.size = 0

    def put(self, values: Array) -> None:
        """Let ``values`` [n, ...] wait."""
        if len(values):
            self._parts.append(values)
            self.size += len(values)

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

    def take(self, end: str | None = None) -> "Work":
        """What to step next; with ``end``, flush or end, also that the utterance is over once nothing waits."""
        ticks = min(self.ticks, MOST_TICKS)
        # A power of two, so that sessions with different arrears still share steps.
        ticks = 1 << (ticks.bit_length() - 1) if ticks else 0
        media = {name: queue.take(ticks * self.blocks[name]) for name, queue in self.queues.items()}
        if end is None or self.ticks:
            return Work(self, ticks, media)
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


class RecurrentStreams:
    """One checkpoint's sessions; ``open``, ``close``, ``step``, ``read`` and ``write`` belong to one thread."""

    def __init__(self, network: FusionRNN, fronts: Mapping[str, SoundFront], reading: Reading) -> None:
        """``fronts`` by modality; all have the same tick."""
        self.network, self.fronts, self.reading = network, dict(fronts), reading
        self.tick = next(iter(fronts.values())).tick
        self.blocks = {name: front.block for name, front in fronts.items()}
        self.device = next(network.parameters()).device
        self._pool = StatePool(self._initial)

    def open(self, options: Any, modalities: Sequence[str] | None = None) -> Track:
        """A new session that sends some of the modalities, by default all."""
        sent = self.network.modalities if modalities is None else modalities
        queues = {name: Queue(self.fronts[name].empty()) for name in sent}
        present = tuple(name in queues for name in self.network.modalities)
        return Track(self._pool.take(), present, queues, self.blocks, self.reading.listener(options))

    def close(self, track: Track) -> None:
        """Forget a session."""
        self._pool.give_back(track.row)

    @property
    def sessions(self) -> int:
        """How many are open."""
        return len(self._pool)

    @torch.inference_mode()
    def step(self, works: Sequence[Work]) -> list[list[Event]]:
        """Step many sessions; the events of each."""
        groups: dict[int, list[int]] = {}
        for index, work in enumerate(works):
            groups.setdefault(work.ticks, []).append(index)
        events: list[list[Event]] = [[] for _ in works]
        for ticks, indices in groups.items():
            if ticks:
                self._together(ticks, indices, works, events)
        for index, work in enumerate(works):
            if work.end is not None:
                events[index] += self._finish(work)
        return events

    def read(self, track: Track) -> tuple[State, list[float]]:
        """A session's tensors and numbers; what waits in its queues is the caller's to keep."""
        return self._pool.read(track.row), [track.began, float(track.steps), *track.listener.state()]

    def write(self, track: Track, state: State, numbers: list[float]) -> None:
        """Let a new session go on as another one was when it was read.

        Raises:
            ValueError: it was a session of another kind.
        """
        began, steps, *rest = numbers
        self._pool.write(track.row, state)
        track.listener.restore(rest)
        track.began, track.steps = began, int(steps)

    def _initial(self, rows: int) -> State:
        reading = {name: value.to(self.device) for name, value in self.reading.initial_state(rows).items()}
        state = under("network", self.network.initial_state(rows, self.device)) | under("reading", reading)
        for name, front in self.fronts.items():
            state |= under(f"fronts.{name}", front.initial_state(rows))
        return state

    def _together(self, ticks: int, indices: list[int], works: Sequence[Work], events: list[list[Event]]) -> None:
        """One step of those sessions that have equally many ticks."""
        tracks = [works[index].track for index in indices]
        rows = torch.tensor([track.row for track in tracks])
        state = self._pool.select(rows)
        inputs: dict[str, Tensor] = {}
        after: State = {}
        for name, front in self.fronts.items():
            given = [works[index].media.get(name) for index in indices]
            blank = front.blank(ticks)
            media = torch.from_numpy(np.stack([blank if each is None else each for each in given]))
            inputs[name], held = front.step(media, part(state, f"fronts.{name}"))
            after |= under(f"fronts.{name}", held)
        encoded, network = self._step(inputs, tracks, state)
        evidence, reading = self._read(encoded, inputs, tracks, state)
        self._pool.put(rows, after | under("network", network) | under("reading", reading))
        for index, track, found in zip(indices, tracks, evidence, strict=True):
            events[index] += self.reading.tell(track.listener, found, track.steps, track.began)
            track.steps += ticks

    def _finish(self, work: Work) -> list[Event]:
        """Step what is left of an utterance, tell the end of it, and begin the next."""
        track, events = work.track, list[Event]()
        assert work.end is not None
        state = self._pool.read(track.row)
        seconds = track.steps * self.tick
        inputs: dict[str, Tensor] = {}
        # Modalities that go step by step end together: with the shorter of them.
        complete = all(len(values) for values in work.rest.values())
        for name, values in work.rest.items():
            front = self.fronts[name]
            inputs[name] = front.finish(
                torch.from_numpy(values if complete else front.empty()).unsqueeze(0), part(state, f"fronts.{name}")
            )
            seconds = max(seconds, (track.steps + len(values) / front.block) * self.tick)
        encoded, _ = self._step(inputs, [track], state)
        reading = part(state, "reading")
        if complete:
            (found,), reading = self._read(encoded, inputs, [track], state)
            events += self.reading.tell(track.listener, found, track.steps, track.began)
            track.steps += 1
        events += self.reading.close(track.listener, encoded, reading, track.steps, track.began, work.end)
        track.began, track.steps = track.began + seconds, 0
        self._pool.reset(track.row)
        return events

    def _step(self, inputs: dict[str, Tensor], tracks: Sequence[Track], state: State) -> tuple[Encoded, State]:
        present = torch.tensor([track.present for track in tracks], device=self.device)
        given = {name: values.to(self.device) for name, values in inputs.items()}
        return self.network.step(given, present, part(state, "network"))

    def _read(
        self, encoded: Encoded, inputs: dict[str, Tensor], tracks: Sequence[Track], state: State
    ) -> tuple[Sequence[Any], State]:
        ticks = max(-(-values.shape[1] // self.fronts[name].frames) for name, values in inputs.items())
        loudness = self._loudness(inputs, ticks).to(self.device)
        return self.reading.step(encoded, loudness, [track.listener for track in tracks], part(state, "reading"))

    def _loudness(self, inputs: Mapping[str, Tensor], ticks: int) -> Tensor:
        """[R, ticks]: the mean log energy of all bands."""
        for name, values in inputs.items():
            if isinstance(self.fronts[name], SoundFront):
                return values.reshape(len(values), ticks, -1).mean(2)
        some = next(iter(inputs.values()))
        return torch.zeros(len(some), ticks)


def sound_front(features: AudioFeatures, encoder: Any) -> SoundFront:
    """The front of an encoder that makes a step of ``encoder.stride`` frames."""
    return SoundFront(features, int(getattr(encoder, "stride", 1)))
