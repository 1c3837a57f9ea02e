"""One streaming session as its client knows it: what came, what is to be said, and how much either side may send."""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from app.engine.bounds import SessionBounds
from app.engine.connection import NORMAL, POLICY, Connection, Event, SessionClosed, error_event
from app.errors import Gap, OutOfBounds

if TYPE_CHECKING:
    from models.streaming.session import Session

_ANSWERS = ("partial", "final")
"""What a client's credit is spent on."""

_CREDIT_SECONDS = 0.5
_MOST_GAPS = 100
"""Chunks out of order that are told of, before the session ends."""


class Live:
    """A session; it outlives its connection. All methods belong to the event loop."""

    def __init__(
        self,
        session: "Session",
        start: Mapping[str, Any],
        bounds: SessionBounds,
        wake_stepper: Callable[["Live"], None],
        offload: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        """``start``: the modalities and options that the client asked for, as JSON can hold them.

        ``offload`` runs what takes long beside the event loop.
        """
        self.id = secrets.token_urlsafe(18)
        self.session, self.start, self.bounds = session, start, bounds
        self.loop = asyncio.get_running_loop()
        self.opened = self.heard = self.taken = self.loop.time()
        self.detached: float | None = None
        self.next_sequence = 0
        self.said = 0
        """Finals so far; each carries its number."""
        self.finals: deque[Event] = deque()
        self.credit: int | None = None
        """Events that the client still takes; None: as many as its socket does."""
        self.ending = False
        """Whether no more chunks are taken, although there is still something to say."""
        self.over: int | None = None
        """The close code, once nothing more is to be said."""
        self.reason = ""
        """Why it is over."""
        self.greeting: Event = {}
        """What session.started says of the session, whenever a connection takes it up."""
        self.farewell: Event | None = None
        """The last event of a session whose client ended it: one that lost its connection is told once it is back."""
        self.connection: Connection | None = None
        self.room = asyncio.Event()
        self.room.set()
        self._wake_stepper, self.offload = wake_stepper, offload
        self._reading: asyncio.Task[None] | None = None
        """The last that was read beside the event loop."""
        self._outbox: deque[Event] = deque()
        self._partial: Event | None = None
        self._confirmed = 0
        self._gaps = 0
        self._returned = self._skip = 0
        self._credited = self.opened

    async def take(self, modality: str, sequence: int, chunk: bytes, time: float) -> None:
        """Take in a chunk. One that came before is passed over, and one after a gap is told of.

        Raises:
            BadChunk: it cannot be used, and neither can what follows; or a connection left while such a one was read.
            SessionClosed: there were too many gaps.
        """
        await self.settled()
        if self._reading is not None:
            self._reading.result()
        if self.ending or self.over is not None or sequence < self.next_sequence:
            self._returned += len(chunk)
            return
        if sequence > self.next_sequence:
            self._gaps += 1
            self._returned += len(chunk)
            said = f"Chunk {sequence} came, and {self.next_sequence} is next: it was not taken."
            self.say(error_event(Gap(said, "Send again from there.")) | {"expected": self.next_sequence})
            if self._gaps > _MOST_GAPS:
                raise SessionClosed(POLICY)
            return
        await self._whole(self._read(modality, sequence, chunk, time), self.session.readers[modality].offload)

    async def close_utterance(self, reason: str) -> None:
        """Answer all that came as if it ended here; ``reason`` is flush or end. One that is over has answered it."""
        await self.settled()
        if self.over is not None:
            return
        self.ending = self.ending or reason == "end"
        await self._whole(self._finish(reason), any(reader.offload for reader in self.session.readers.values()))

    def export(self, then: Callable[[str | None], None]) -> None:
        """Call ``then`` with the state after all that came, what is being read included, in base64; None: too large."""
        if self._reading is not None and not self._reading.done():
            self._reading.add_done_callback(lambda _: self.export(then))
            return
        if self.over is not None:
            return
        self.session.mark("export", then)
        self._came()

    async def settled(self) -> None:
        """Wait for what is being read, be it for a connection that has left: only then is ``next_sequence`` true."""
        while self._reading is not None and not self._reading.done():
            await asyncio.wait([self._reading])

    def say(self, event: Event) -> None:
        """Let the client know; a partial answer that it has not taken yet gives way to the next."""
        if self.over is not None:
            return
        if event["type"] == "partial":
            self._partial = event
        else:
            if event["type"] == "final":
                self.said += 1
                event = event | {"event": self.said}
                self.finals.append(event)
                while len(self.finals) > self.bounds.events:
                    self.finals.popleft()
                if self.said <= self._skip:
                    return
                self._partial = None
            if not self._outbox:
                self.taken = self.loop.time()
            self._outbox.append(event)
        self.wake()

    def answered(self, consumed: int) -> None:
        """A step is over: give the client room for what it consumed."""
        self._returned += consumed
        now = self.loop.time()
        if not self._full:
            self.room.set()
        much = self._returned >= self.bounds.window_bytes // 4
        if much or (self._returned and now - self._credited >= _CREDIT_SECONDS):
            self._give_credit(now)

    def starved(self) -> None:
        """Nothing that came can be stepped. If it is so much that no more is read, what it waits for cannot come."""
        if self.room.is_set():
            return
        track = self.session.track
        late = " and ".join(track.lacking)
        early = " and ".join(name for name in track.queues if name not in track.lacking)
        said = f"The session's {early} came so far ahead of its {late} that no more of it can wait."
        remedy = f"Send {late} along with {early}, or start a session with {early} alone."
        limit = f"{self.bounds.held_bytes} bytes, decoded"
        self.finish(POLICY, error_event(OutOfBounds(said, remedy, modality=late, limit=limit)))

    def next_event(self) -> Event | None:
        """What to send next, if there is something that the client takes."""
        place = next((at for at, event in enumerate(self._outbox) if not self._is_held(event, at)), None)
        stalled = self.stalled
        if place is not None:
            event = self._outbox[place]
            del self._outbox[place]
        elif self._outbox or self._partial is None or self.credit == 0:
            return None
        else:
            event, self._partial = self._partial, None
        if self.credit is not None and event["type"] in _ANSWERS:
            self.credit -= 1
        if event["type"] == "session.ended":
            # Nothing follows it: answers that waited for credit are in the state that it brings.
            self._outbox.clear()
        if not place:
            # What overtakes an answer says nothing of whether that is ever taken.
            self.taken = self.loop.time()
        if stalled and not self.stalled and self.over is None:
            self._wake_stepper(self)
        return event

    def _is_held(self, event: Event, place: int) -> bool:
        """Whether an event waits for credit: an answer, and the end behind one, unless it brings a state with both."""
        if self.credit != 0:
            return False
        ends = event["type"] == "session.ended" and "state" not in event
        behind = ends and any(earlier["type"] in _ANSWERS for earlier in islice(self._outbox, place))
        return behind or event["type"] in _ANSWERS

    @property
    def overtaken(self) -> list[Event]:
        """The finals that the client gave no credit for: a state comes before them, and takes them along."""
        finals = [event for event in self._outbox if event["type"] == "final"]
        return [] if self.credit is None else finals[self.credit :]

    @property
    def silent(self) -> bool:
        """Whether there is nothing left to say."""
        return not self._outbox

    @property
    def stalled(self) -> bool:
        """Whether the client leaves so much that it is asked for nothing more until it takes some."""
        states = sum(len(event.get("state", "")) for event in self._outbox)
        return len(self._outbox) >= self.bounds.events or states > self.bounds.held_bytes

    def more_events(self, count: int) -> None:
        """The client takes ``count`` events more."""
        self.credit = count if self.credit is None else self.credit + count
        self.wake()

    def confirm(self, received: int) -> None:
        """The client has the finals up to this number."""
        self._confirmed = max(self._confirmed, received)
        while self.finals and self.finals[0]["event"] <= self._confirmed:
            self.finals.popleft()

    def attach(self, connection: Connection, received: int | None) -> None:
        """Go on with a connection, which has the finals up to ``received``: the later ones are said again.

        Raises:
            ValueError: some of those are gone.
        """
        if received is not None:
            oldest = self.finals[0]["event"] if self.finals else self.said + 1
            if received > max(self.said, self._skip) or received + 1 < oldest:
                raise ValueError(f"event {received} is not among those that are kept, {oldest - 1} to {self.said}")
            self._outbox = deque(event for event in self.finals if event["event"] > received)
            self.confirm(received)
            if self.farewell is not None:
                self._outbox.append(self.farewell)
        self._outbox.appendleft(self.greeting | {"next_sequence": self.next_sequence, "event": self.said})
        if self.connection is not None:
            self.connection.hang_up(NORMAL)
        self.connection, self.detached = connection, None
        self.heard = self.taken = self.loop.time()
        self.credit = None
        self._returned = 0
        self.wake()
        if self.over is None:
            self._wake_stepper(self)

    def wake(self) -> None:
        """Let the connection look for something to say."""
        if self.connection is not None:
            self.connection.wake()

    def skip_to(self, said: int, overtaken: list[Event], received: int) -> None:
        """Number finals from ``said`` on, and say those after ``received``, of the ``overtaken`` ones too."""
        self.said, self._skip = said, received
        self.finals.extend(event for event in overtaken if event["event"] > received)
        self._outbox.extend(self.finals)

    def detach(self, connection: Connection) -> None:
        """A connection is gone; another may take its place within the idle limit."""
        if self.connection is connection:
            self.connection, self.detached = None, self.loop.time()

    def finish(self, code: int, event: Event | None = None, reason: str = "error") -> None:
        """Nothing comes after this; ``session.ended`` says the reason itself."""
        if self.over is not None:
            return
        self.reason = reason
        if event is not None:
            self.say(event)
            self.reason = event.get("reason", reason)
            self.farewell = event if event["type"] == "session.ended" else None
        self.over, self._partial = code, None
        self.room.set()
        self.wake()

    def lay_down(self) -> None:
        """Give up, once it is over, all but what may have to be said again."""
        del self.session, self._wake_stepper, self.offload

    def overdue(self, now: float) -> tuple[int, str] | None:
        """Close code and reason, if a limit of time has passed."""
        idle = self.bounds.idle_seconds
        if self.detached is not None:
            return (NORMAL, "detached") if now - self.detached > idle else None
        if self._outbox and now - self.taken > idle:
            return POLICY, "slow"
        if self.ending or self.over is not None:
            return None
        if now - self.opened > self.bounds.total_seconds:
            return NORMAL, "total"
        # What is not read yet is nothing that the client has left undone.
        waits = not self.room.is_set() or not (self._reading is None or self._reading.done())
        return (NORMAL, "idle") if not waits and now - self.heard > idle else None

    async def _whole(self, work: Coroutine[Any, Any, None], offload: bool) -> None:
        """Read to the end, also if the connection leaves meanwhile: a reader that has moved on reads nothing again."""
        if not offload:
            await work  # It never waits, so nothing can come between.
            return
        self._reading = asyncio.create_task(work)
        await asyncio.shield(self._reading)

    async def _read(self, modality: str, sequence: int, chunk: bytes, time: float) -> None:
        reader = self.session.readers[modality]
        read = partial(reader.read, chunk, time)
        values, warning = await self.offload(read) if reader.offload else read()
        self.next_sequence += 1
        self.session.put(modality, values, sequence, len(chunk))
        if warning is not None:
            self.say({"type": "warning", "sequence": sequence, "detail": warning})
        self._came()

    async def _finish(self, reason: str) -> None:
        for name, reader in self.session.readers.items():
            finish = partial(reader.finish, last=reason == "end")
            self.session.put(name, await self.offload(finish) if reader.offload else finish(), -1, 0)
        self.session.mark(reason)
        self._came()

    @property
    def _full(self) -> bool:
        return self.session.waiting > self.bounds.window_bytes or self.session.held > self.bounds.held_bytes

    def _came(self) -> None:
        if self._full:
            self.room.clear()
        self._wake_stepper(self)

    def _give_credit(self, now: float) -> None:
        self.say({"type": "credit", "bytes": self._returned, "acknowledged": self.session.acknowledged})
        self._returned, self._credited = 0, now
