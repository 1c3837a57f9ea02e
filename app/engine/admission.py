"""Who may come in: bounded in requests, bytes, steps and waiting time, and decided before a body is read.

What is let in is answered or told why not; nothing that was accepted is dropped to make room for another.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from app.errors import Unavailable
from app.metrics import Metrics

_SMOOTHING = 0.1
_HUGE = 3.0
"""How many times what is usual one request may count for."""
_MARGIN = 0.7
"""Of the time that a client gives, how much the estimate may take up: half of all requests take longer than theirs."""
_STALLED = 1.0
"""Seconds after which a body that is still arriving no longer counts as work to be done soon."""
_LATE = 30.0
"""Seconds that the rest of a body may take, at its pace so far, for room to be kept for it."""
_SHARE = 0.25
"""Share of all reservations for requests that let others go first: they stay long."""
_MEMORY = 0.95
"""What the measured speed keeps of its past with each request."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most requests at once, bytes and steps that they hold, and seconds that the last may have to wait."""

    requests: int
    nbytes: int
    steps: int
    seconds: float


@dataclass(slots=True)
class Cost:
    """What a request for one checkpoint takes, smoothed: seconds of work, and steps."""

    work: float = 0.0
    steps: float = 0.0
    is_known: bool = False

    def learn(self, work: float, steps: float) -> None:
        """Take in what another request took; a single huge one says little of those to come."""
        share = _SMOOTHING if self.is_known else 1.0
        if self.is_known:
            work, steps = min(work, _HUGE * self.work), min(steps, _HUGE * self.steps)
        self.is_known = True
        self.work += share * (work - self.work)
        self.steps += share * (steps - self.steps)


class Speed:
    """Seconds of useful work that are done in a second while there is work to do.

    What is given up half-way took its time for nothing. What ended otherwise without an answer, such as a body that was
    refused or an upload that was here already, says nothing: it is left out, with its share of the time.
    """

    def __init__(self) -> None:
        # As if it had been 1 for a while: the first few requests say little.
        self._work, self._time = 1.0, 1.0
        self._noted, self._working = 0.0, 0
        self.shared = 0.0
        """Seconds since the start that one request would have had, had it always shared them with all others."""

    def __float__(self) -> float:
        return max(self._work / self._time, 0.01)

    def note(self, now: float, working: int) -> None:
        """From now on so many requests are being worked on."""
        if self._working:
            self._time += now - self._noted
            self.shared += (now - self._noted) / self._working
        self._noted, self._working = now, working

    def did(self, work: float) -> None:
        """A request is over, after this much work that was of use."""
        self._work = _MEMORY * (self._work + work)
        self._time *= _MEMORY

    def leave_out(self, share: float) -> None:
        """A request is over that says nothing, which had this ``share`` of the time."""
        # Some of it is forgotten already, so that all of it may be too much: the speed does not rise by that.
        least = min(self._time, self._work / max(float(self), 1.0))
        self._time = max(self._time - share, least)


class Admission:
    """All reservations; for the event loop's thread."""

    def __init__(self, bounds: Bounds, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self.bounds = bounds
        self.metrics = metrics
        self.clock = clock
        self.reservations: set[Reservation] = set()
        self.nbytes = 0
        self.steps = 0
        self._costs: dict[tuple[str, str], Cost] = {}
        self._speed = Speed()
        self._room = asyncio.Event()
        self._room.set()

    def enter(
        self, model: str, nbytes: int = 0, timeout: float = math.inf, *, interleaves: bool = False
    ) -> "Reservation":
        """Let in a request of ``nbytes``, as far as is known, which wants its answer within ``timeout`` seconds.

        One that ``interleaves`` lets others go first between its parts: nobody waits for all of it.
        Whoever comes into an empty server is let in: an estimate that is too high would otherwise stay so.

        Raises:
            Unavailable: there is no room, or the answer would come too late; Retry-After is the backlog's time.
        """
        reservation = Reservation(self, model, nbytes, timeout, interleaves)
        if self.reservations:
            self._check(reservation)
        self.reservations.add(reservation)
        self.metrics.waiting.inc()
        self.hold(nbytes, 0)
        return reservation

    def backlog(self) -> float:
        """Seconds until all that was admitted is answered."""
        now = self.clock()
        left = sum(each.left for each in self.reservations if not each.is_stalled(now))
        return left / float(self._speed)

    def cost(self, model: str, kind: str = "") -> Cost:
        """What a request for ``model`` takes, or one of this ``kind``; all zero until the first was answered."""
        return self._costs.setdefault((model, kind), Cost())

    def has_room(self) -> bool:
        """Whether another medium may be decoded: the devices are never more than the bound of steps behind."""
        return self._room.is_set()

    async def room(self) -> None:
        """Return when there is room."""
        while not self._room.is_set():
            await self._room.wait()

    def hold(self, nbytes: int, steps: int) -> None:
        """Count what a reservation holds more, or less."""
        self.nbytes += nbytes
        self.steps += steps
        self.metrics.waiting_bytes.set(self.nbytes)
        self.metrics.waiting_steps.set(self.steps)
        if self.steps < self.bounds.steps:
            self._room.set()
        else:
            self._room.clear()

    def began(self) -> float:
        """There is more work; returns the reading of the clock that runs slower the more requests share it."""
        self._note()
        return self._speed.shared

    def ended(self, work: float) -> None:
        """A request that was here is over, after this much work that was of use."""
        self._note()
        self._speed.did(work)

    def left_out(self, began: float) -> None:
        """A request that ``began`` then is over, and nothing is to be learned from it."""
        self._note()
        self._speed.leave_out(self._speed.shared - began)

    def _note(self) -> None:
        self._speed.note(self.clock(), sum(reservation.is_working for reservation in self.reservations))

    def check_bytes(self, more: int) -> None:
        """Refuse ``more`` bytes where they do not fit beside those that are held.

        Raises:
            Unavailable: they do not.
        """
        if self.nbytes + more > self.bounds.nbytes:
            # What was announced and does not come must keep nobody out.
            now = self.clock()
            for reservation in self.reservations:
                if reservation.is_late(now):
                    reservation.hold_received()
        if self.nbytes + more > self.bounds.nbytes:
            said = f"{self.nbytes} bytes are already waiting, of at most {self.bounds.nbytes}."
            raise self._refuse("bytes", said)

    def _check(self, reservation: "Reservation") -> None:
        bounds, waiting = self.bounds, len(self.reservations)
        if waiting >= bounds.requests:
            raise self._refuse("requests", f"{waiting} requests are already waiting.")
        if reservation.interleaves:
            others = sum(other.interleaves for other in self.reservations)
            if others >= max(_SHARE * bounds.requests, 1):
                said = f"{others} requests for {reservation.model} are already waiting."
                raise self._refuse("requests", said, self.cost(reservation.model).work)
        self.check_bytes(reservation.nbytes)
        if self.steps >= bounds.steps:
            raise self._refuse("steps", f"{self.steps} steps are already waiting, of at most {bounds.steps}.")
        backlog = self.backlog()
        if backlog > bounds.seconds:
            said = f"What is already waiting takes {backlog:.1f} seconds, more than the {bounds.seconds:g} allowed."
            raise self._refuse("time", said)
        if backlog + reservation.left / float(self._speed) > _MARGIN * reservation.timeout:
            said = f"What is already waiting takes {backlog:.1f} seconds: "
            said += f"no answer within {reservation.timeout:g} seconds."
            raise self._refuse("time", said)

    def _refuse(self, reason: str, detail: str, seconds: float = 0.0) -> Unavailable:
        self.metrics.refused.labels(reason).inc()
        return Unavailable(detail, max(1, math.ceil(max(seconds, self.backlog()))))


@dataclass(eq=False, slots=True)
class Reservation:
    """What one request takes of the server, from its first byte to its answer's last; a context manager.

    ``left`` is the work, in seconds of a thread, that it is expected to be still.
    """

    admission: Admission
    model: str
    nbytes: int
    timeout: float
    interleaves: bool = False
    left: float = field(init=False)
    since: float = field(init=False)
    steps: int = field(init=False, default=0)
    is_here: bool = field(init=False, default=False)
    is_done: bool = field(init=False, default=False)
    is_given_up: bool = field(init=False, default=False)
    """Its time was up, or its client gone, before it was answered."""
    _kind: str = field(init=False, default="")
    _began: float = field(init=False, default=0.0)
    _received: int = field(init=False, default=0)
    _work: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.left = 0.0 if self.interleaves else self.admission.cost(self.model).work
        self.since = self.admission.clock()

    @property
    def is_working(self) -> bool:
        """Whether the server has something to do for it now."""
        return self.is_here and not self.is_done

    def receive(self, nbytes: int) -> None:
        """More of the body has come.

        Raises:
            Unavailable: no room was kept for it, and there is none.
        """
        self._received += nbytes
        if (more := self._received - self.nbytes) > 0:
            if len(self.admission.reservations) > 1:
                self.admission.check_bytes(more)
            self._hold(self._received, self.steps)

    def received(self) -> None:
        """The body is here."""
        self.is_here = True
        self._began = self.admission.began()

    def decoded(self, work: float, steps: int, kind: str = "") -> None:
        """The media are tensors now, of so many steps, and their bytes are given up; it took ``work`` seconds.

        Steps are compared within a ``kind``, which names the modalities: a picture's one says little of a sound's many.
        """
        self._kind = kind
        usual = self.admission.cost(self.model, kind)
        if usual.steps and not self.interleaves:
            self.left = usual.work * steps / usual.steps
        self._spend(work)
        self._hold(0, self.steps + steps)

    def computed(self, work: float) -> None:
        """A network took ``work`` seconds for it."""
        self._spend(work)

    def answered(self) -> None:
        """All is done but the sending."""
        if not self.is_done:
            self.is_done = True
            for kind in {"", self._kind}:
                self.admission.cost(self.model, kind).learn(self._work, self.steps)
            self.left = 0.0
            self._hold(0, 0)
            self.admission.ended(self._work)

    def remaining(self) -> float:
        """Seconds until its client wants the answer."""
        return self.timeout - (self.admission.clock() - self.since)

    def is_stalled(self, now: float) -> bool:
        """Whether its body has been arriving for so long that it may as well never be there."""
        return not self.is_here and now > self.since + _STALLED

    def is_late(self, now: float) -> bool:
        """Whether its body comes so slowly, or not at all, that no room is kept for the rest of it."""
        rest = (self.nbytes - self._received) * (now - self.since)
        return self.is_stalled(now) and rest > self._received * _LATE

    def hold_received(self) -> None:
        """Keep no room for what was announced; what comes of it must find room then."""
        self._hold(self._received, self.steps)

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        admission = self.admission
        self._hold(0, 0)
        admission.reservations.discard(self)
        admission.metrics.waiting.dec()
        if self.is_working and self.is_given_up:
            admission.ended(0.0)
        elif self.is_working:
            admission.left_out(self._began)

    def _spend(self, work: float) -> None:
        self._work += work
        self.left = max(self.left - work, 0.0)

    def _hold(self, nbytes: int, steps: int) -> None:
        self.admission.hold(nbytes - self.nbytes, steps - self.steps)
        self.nbytes, self.steps = nbytes, steps
