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
_STALLED = 1.0
"""Seconds after which a body that is still arriving no longer counts as work to be done soon."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most requests in the house, bytes and steps that they hold, and seconds that the last may have to wait."""

    requests: int
    nbytes: int
    steps: int
    seconds: float


@dataclass(slots=True)
class Cost:
    """What a request for one checkpoint takes, smoothed: seconds of a media thread, of the device, and steps."""

    media: float = 0.0
    device: float = 0.0
    steps: float = 0.0

    def learn(self, media: float, device: float, steps: int) -> None:
        """Take in what another request took."""
        share = _SMOOTHING if self.steps else 1.0
        self.media += share * (media - self.media)
        self.device += share * (device - self.device)
        self.steps += share * (steps - self.steps)


class Admission:
    """The places of the house; for the event loop's thread."""

    def __init__(
        self, bounds: Bounds, media_workers: int, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """An empty house whose media are decoded by so many threads."""
        self.bounds = bounds
        self.metrics = metrics
        self.clock = clock
        self.places: set[Place] = set()
        self.nbytes = 0
        self.steps = 0
        self._workers = media_workers
        self._costs: dict[str, Cost] = {}
        self._room = asyncio.Event()
        self._room.set()

    def enter(self, model: str, nbytes: int = 0, timeout: float = math.inf) -> "Place":
        """A place for a request of ``nbytes``, as far as is known, which wants its answer within ``timeout`` seconds.

        Whoever comes into an empty house is let in: an estimate that is too high would otherwise stay so.

        Raises:
            Unavailable: there is no room, or the answer would come too late; Retry-After is the backlog's time.
        """
        place = Place(self, model, nbytes, timeout)
        if self.places:
            self._check(place)
        self.places.add(place)
        self.metrics.waiting.inc()
        self.hold(nbytes, 0)
        return place

    def backlog(self) -> float:
        """Seconds until all that is in the house is answered."""
        now = self.clock()
        due = [place for place in self.places if not place.is_stalled(now)]
        return max(sum(place.media for place in due) / self._workers, sum(place.device for place in due))

    def cost(self, model: str) -> Cost:
        """What a request for ``model`` takes; all zero until the first was answered."""
        return self._costs.setdefault(model, Cost())

    async def room(self) -> None:
        """Return when another medium may be decoded: the devices are never more than the bound of steps behind."""
        while not self._room.is_set():
            await self._room.wait()

    def hold(self, nbytes: int, steps: int) -> None:
        """Count what a place holds more, or less."""
        self.nbytes += nbytes
        self.steps += steps
        self.metrics.waiting_bytes.set(self.nbytes)
        self.metrics.waiting_steps.set(self.steps)
        if self.steps < self.bounds.steps:
            self._room.set()
        else:
            self._room.clear()

    def refuse(self, reason: str, detail: str) -> Unavailable:
        """What to raise."""
        self.metrics.refused.labels(reason).inc()
        return Unavailable(detail, max(1, math.ceil(self.backlog())))

    def _check(self, place: "Place") -> None:
        bounds, waiting = self.bounds, len(self.places)
        if waiting >= bounds.requests:
            raise self.refuse("requests", f"{waiting} requests are already waiting.")
        self.check_bytes(place.nbytes)
        if self.steps >= bounds.steps:
            raise self.refuse("steps", f"{self.steps} steps are already waiting, of at most {bounds.steps}.")
        backlog = self.backlog()
        if backlog > bounds.seconds:
            said = f"What is already waiting takes {backlog:.1f} seconds, more than the {bounds.seconds:g} allowed."
            raise self.refuse("time", said)
        if backlog + place.media + place.device > place.timeout:
            said = f"What is already waiting takes {backlog:.1f} seconds: no answer within {place.timeout:g} seconds."
            raise self.refuse("time", said)

    def check_bytes(self, more: int) -> None:
        """Raise where ``more`` bytes do not fit beside those that are held."""
        if self.nbytes + more > self.bounds.nbytes:
            said = f"{self.nbytes} bytes are already waiting, of at most {self.bounds.nbytes}."
            raise self.refuse("bytes", said)


@dataclass(eq=False, slots=True)
class Place:
    """One request's part in the house, from its first byte to its answer's last; a context manager.

    ``media`` and ``device`` are the seconds of each that it is expected to take still.
    """

    house: Admission
    model: str
    nbytes: int
    timeout: float
    media: float = field(init=False)
    device: float = field(init=False)
    steps: int = field(init=False, default=0)
    since: float = field(init=False)
    is_here: bool = field(init=False, default=False)
    _received: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        cost = self.house.cost(self.model)
        self.media, self.device, self.since = cost.media, cost.device, self.house.clock()

    def receive(self, nbytes: int) -> None:
        """More of the body has come.

        Raises:
            Unavailable: it was not announced, and there is no room for it.
        """
        self._received += nbytes
        if (more := self._received - self.nbytes) > 0:
            if len(self.house.places) > 1:
                self.house.check_bytes(more)
            self._hold(self._received, self.steps)

    def received(self) -> None:
        """The body is here."""
        self.is_here = True

    def decoded(self, steps: int) -> None:
        """The media are tensors now, of so many steps, and their bytes are given up."""
        usual = self.house.cost(self.model).steps
        if usual:
            self.device *= steps / usual
        self.media = 0.0
        self._hold(0, steps)

    def answered(self, media: float, device: float) -> None:
        """The network is done; these are the seconds of a media thread and of the device that it took."""
        self.house.cost(self.model).learn(media, device, self.steps)
        self.device = 0.0
        self._hold(0, 0)

    def remaining(self) -> float:
        """Seconds until its client wants the answer."""
        return self.timeout - (self.house.clock() - self.since)

    def is_stalled(self, now: float) -> bool:
        """Whether its body has been arriving for so long that it may as well never be there."""
        return not self.is_here and now > self.since + _STALLED

    def __enter__(self) -> "Place":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        house = self.house
        self._hold(0, 0)
        house.places.discard(self)
        house.metrics.waiting.dec()

    def _hold(self, nbytes: int, steps: int) -> None:
        self.house.hold(nbytes - self.nbytes, steps - self.steps)
        self.nbytes, self.steps = nbytes, steps
