"""A causal checkpoint that follows sound, or sound and pictures, step by step, for any number of sessions at once.

A session's state is a row of tensors, a few numbers, and the samples of less than a step: the same size for ever.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from models.encoded import Encoded
from models.network import FusionRNN
from models.options import Options
from models.readings.reading import Event, Reading
from models.state import State, part, under
from models.streaming.errors import BadStart
from models.streaming.failing import FAILED, apart, guarded
from models.streaming.pool import StatePool
from models.streaming.session import Reader, Session
from models.streaming.sound import SoundFront
from models.streaming.track import Array, Queue, Track, Work

_ROWS = 64
"""Sessions that are stepped by one run of the network. More gain nothing, and their frames would not fit a cache."""

_CHUNK = 0.08
"""Seconds of a chunk that is asked for: a step that was shared by two ticks takes less than twice as long as by one."""


class Front(Protocol):
    """What stands between one modality's chunks and its encoder, for all sessions."""

    frames: int
    """Of the encoder's input in a tick."""
    block: int
    """Of what the readers return in a tick."""

    @property
    def tick(self) -> float:
        """Seconds of a step of the network."""

    def empty(self) -> Array:
        """Nothing, in the shape of what the readers return."""

    def blank(self, ticks: int) -> Array:
        """What stands for a session that does not send the modality."""

    def reader(self, encoding: Any, modality: str) -> Reader:
        """What reads chunks that come so."""

    def initial_state(self, rows: int) -> State:
        """The tensors of ``rows`` sessions that sent nothing yet."""

    def step(self, values: Tensor, state: State) -> tuple[Tensor, State]:
        """The encoder's input for whole ticks of several sessions."""

    def finish(self, values: Tensor, state: State) -> Tensor:
        """The encoder's input, a step's at most, for what is left of one session when it ends."""


class RecurrentStreams:
    """One checkpoint's sessions; ``open``, ``close``, ``step``, ``read`` and ``write`` belong to one thread."""

    def __init__(
        self, network: FusionRNN, fronts: Mapping[str, Front], reading: Reading, required: Sequence[str] = ()
    ) -> None:
        """``fronts`` by modality; all have the same tick. No session does without the ``required`` ones."""
        self.network, self.fronts, self.reading, self.required = network, dict(fronts), reading, tuple(required)
        self.tick = next(iter(fronts.values())).tick
        self.blocks = {name: front.block for name, front in fronts.items()}
        self.device = next(network.parameters()).device
        self._pool = StatePool(self._initial)

    @property
    def options(self) -> type[Options]:
        """What a session may ask for."""
        return self.reading.options

    def readers(self, encodings: Mapping[str, Any]) -> dict[str, Reader]:
        """What reads the chunks of a session's modalities, each encoded as ``encodings`` say.

        Raises:
            BadStart: there is none of them, or one that cannot be read so.
        """
        readers: dict[str, Reader] = {}
        for name, encoding in encodings.items():
            if name not in self.fronts:
                raise BadStart(f"This model takes {', '.join(self.fronts)}, not {name}.", "Leave it out.", "modalities")
            readers[name] = self.fronts[name].reader(encoding, name)
        for name in self.required:
            if name not in readers:
                raise BadStart(f"This model needs {name}.", f"Say in modalities how {name} comes.", "modalities")
        if not readers:
            raise BadStart("No modality is named.", f"Name some of {', '.join(self.fronts)}.", "modalities")
        return readers

    def advice(self, encodings: Mapping[str, Any]) -> dict[str, Any]:
        """How long a chunk should be: shorter ones wait for the next, longer ones are late."""
        seconds = round(self.tick * max(1, round(_CHUNK / self.tick)), 6)
        return {"seconds": seconds, "tick_seconds": self.tick, "modalities": list(encodings)}

    def session(self, options: Any, readers: Mapping[str, Reader]) -> Session:
        """A new session whose chunks come through ``readers``."""
        return Session(self, self.open(options, list(readers)), readers)

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
            for first in range(0, len(indices) if ticks else 0, _ROWS):
                some = indices[first : first + _ROWS]
                told = apart(partial(self._together, ticks), [works[index] for index in some])
                for index, found in zip(some, told, strict=True):
                    events[index] += [FAILED] if found is None else found
        for index, work in enumerate(works):
            if work.end is not None:
                events[index] += guarded(partial(self._finish, work))
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

    def _together(self, ticks: int, works: Sequence[Work]) -> list[list[Event]]:
        """One step of sessions that have equally many ticks."""
        tracks = [work.track for work in works]
        rows = torch.tensor([track.row for track in tracks])
        state = self._pool.select(rows)
        inputs: dict[str, Tensor] = {}
        after: State = {}
        for name, front in self.fronts.items():
            given = [work.media.get(name) for work in works]
            if all(each is None for each in given):
                after |= {key: value for key, value in state.items() if key.startswith(f"fronts.{name}.")}
                continue
            blank = front.blank(ticks)
            media = torch.from_numpy(np.stack([blank if each is None else each for each in given]))
            inputs[name], held = front.step(media, part(state, f"fronts.{name}"))
            after |= under(f"fronts.{name}", held)
        encoded, network = self._step(inputs, tracks, state)
        evidence, reading = self._read(encoded, inputs, tracks, state)
        self._pool.put(rows, after | under("network", network) | under("reading", reading))
        # From here on nothing of the others is to be stepped again, whatever fails.
        told: list[list[Event]] = []
        for place, found in enumerate(evidence):
            mine = {name: values[place : place + 1] for name, values in inputs.items()}
            told.append(guarded(partial(self._tell, tracks[place], found, mine, ticks)))
        return told

    def _tell(self, track: Track, found: Any, inputs: dict[str, Tensor], ticks: int) -> list[Event]:
        """Tell of one session's ticks. Where something is over before their end, the network takes the rest anew."""
        told = self.reading.tell(track.listener, found, track.steps, track.began)
        events = told.events
        track.steps += told.steps
        if not told.over:
            return events
        state = self._pool.read(track.row) | under("network", self.network.initial_state(1, self.device))
        if (left := ticks - told.steps) == 0:
            self._pool.write(track.row, state)
            return events
        rest = {name: values[:, told.steps * self.fronts[name].frames :] for name, values in inputs.items()}
        encoded, network = self._step(rest, [track], state)
        (again,), reading = self._read(encoded, rest, [track], state)
        self._pool.write(track.row, state | under("network", network) | under("reading", reading))
        return events + self._tell(track, again, rest, left)

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
            told = self.reading.tell(track.listener, found, track.steps, track.began)
            events += told.events
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
