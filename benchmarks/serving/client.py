"""An open-loop client: requests leave when the schedule says so, whether or not earlier ones were answered.

A request's latency counts from its scheduled arrival, so a server, or a client, that falls behind is not let off the
requests it made wait (no coordinated omission).
"""

import asyncio
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import numpy as np

OK, REFUSED, EXPIRED = 200, {429, 503}, 504
_HOPELESS = 0.1
"""Share of a run's requests: once so many have missed the objective, the rest need not be sent."""


@dataclass(frozen=True, slots=True)
class Post:
    """A request as it goes over the wire."""

    path: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request: its HTTP status, 0 where there was none, and seconds since its scheduled arrival."""

    status: int
    seconds: float
    late: float
    """Seconds by which the client itself sent it too late."""


@dataclass(frozen=True, slots=True)
class Load:
    """The outcomes of one run at one rate."""

    rate: float
    seconds: float
    outcomes: tuple[Outcome, ...]

    def quantile(self, share: float) -> float:
        """Seconds within which this share of all requests was answered; infinite where too few were answered at all."""
        took = sorted(outcome.seconds if outcome.status == OK else math.inf for outcome in self.outcomes)
        return took[min(math.ceil(share * len(took)), len(took)) - 1]

    def within(self, objective: float) -> int:
        """Requests answered within ``objective`` seconds."""
        return sum(outcome.status == OK and outcome.seconds <= objective for outcome in self.outcomes)

    @property
    def answered(self) -> int:
        """Requests answered with 200."""
        return sum(outcome.status == OK for outcome in self.outcomes)

    @property
    def refused(self) -> int:
        """Requests that were told to come back later."""
        return sum(outcome.status in REFUSED for outcome in self.outcomes)

    @property
    def expired(self) -> int:
        """Requests that the server took and gave up when their time was over."""
        return sum(outcome.status == EXPIRED for outcome in self.outcomes)

    @property
    def failed(self) -> int:
        """Requests that came to none of these: errors, broken connections, and no answer in time."""
        return len(self.outcomes) - self.answered - self.refused - self.expired

    @property
    def late(self) -> float:
        """The client's own 99th percentile of lateness, in seconds: large values make the run worthless."""
        return float(np.quantile([outcome.late for outcome in self.outcomes], 0.99))


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Times of a Poisson process of ``rate`` a second, from 0 to ``seconds``; at least one."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / rate, size=max(math.ceil(2 * rate * seconds), 16))
    times = np.cumsum(gaps)
    return [float(time) for time in times[times < seconds]] or [0.0]


def load(
    url: str, posts: Sequence[Post], rate: float, seconds: float, *, seed: int, patience: float,
    objective: float = math.inf,
) -> Load:  # fmt: skip
    """Send posts drawn from ``posts`` for ``seconds``, and wait at most ``patience`` for each.

    A run in which a tenth has missed the ``objective`` is broken off; what is under way then counts as not answered.
    """
    return asyncio.run(_load(url, posts, rate, seconds, seed, patience, objective))


def one_by_one(url: str, posts: Sequence[Post], patience: float) -> list[Outcome]:
    """Send each when the one before has been answered."""

    async def run() -> list[Outcome]:
        loop = asyncio.get_running_loop()
        async with _session(url, patience) as session:
            return [await _send(session, post, loop.time()) for post in posts]

    return asyncio.run(run())


def in_turn(url: str, posts: Sequence[Post], clients: int, patience: float) -> list[Outcome]:
    """Send each once, always ``clients`` of them at a time."""

    async def run() -> list[Outcome]:
        loop = asyncio.get_running_loop()
        waiting = iter(posts)
        async with _session(url, patience) as session:

            async def client() -> list[Outcome]:
                return [await _send(session, post, loop.time()) for post in waiting]

            return [outcome for part in await asyncio.gather(*(client() for _ in range(clients))) for outcome in part]

    return asyncio.run(run())


async def _load(
    url: str, posts: Sequence[Post], rate: float, seconds: float, seed: int, patience: float, objective: float
) -> Load:
    times = arrivals(rate, seconds, seed)
    drawn = np.random.default_rng(seed + 1).integers(len(posts), size=len(times))
    loop = asyncio.get_running_loop()
    missed = 0
    hopeless = asyncio.Event()

    async def send(session: aiohttp.ClientSession, post: Post, due: float) -> Outcome:
        nonlocal missed
        outcome = await _send(session, post, due)
        missed += outcome.status != OK or outcome.seconds > objective
        if missed > _HOPELESS * len(times) and objective < math.inf:
            hopeless.set()
        return outcome

    tasks: list[asyncio.Task[Outcome]] = []
    async with _session(url, patience) as session:
        start = loop.time() + 0.05
        for time, number in zip(times, drawn, strict=True):
            if (pause := start + time - loop.time()) > 0:
                await asyncio.sleep(pause)
            if hopeless.is_set():
                break
            tasks.append(loop.create_task(send(session, posts[number], start + time)))
        told = loop.create_task(hopeless.wait())
        waited: set[asyncio.Future[Any]] = {asyncio.gather(*tasks, return_exceptions=True), told}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        done = [task.result() if task.done() else Outcome(0, math.inf, 0.0) for task in tasks]
        told.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(told, *tasks, return_exceptions=True)
    return Load(rate, seconds, tuple(done))


async def _send(session: aiohttp.ClientSession, post: Post, due: float) -> Outcome:
    loop = asyncio.get_running_loop()
    late = max(loop.time() - due, 0.0)
    try:
        async with session.post(post.path, data=post.body, headers=post.headers) as answer:
            await answer.read()
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        status = 0
    return Outcome(status, loop.time() - due, late)


def _session(url: str, patience: float) -> aiohttp.ClientSession:
    # As many connections as there are requests under way: a limit would be a queue inside the client.
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(url, connector=connector, timeout=aiohttp.ClientTimeout(total=patience))


def within(post: Post, seconds: float) -> Post:
    """The same request, which says how long its client waits."""
    return replace(post, headers={**post.headers, "X-Request-Timeout": f"{seconds:g}"})


def form(path: str, name: str, data: bytes, *, file: bool = True) -> Post:
    """A multipart form of one part, coded once for all the times it is sent."""
    boundary = uuid.uuid4().hex
    told = f'; filename="{name}"\r\nContent-Type: application/octet-stream' if file else ""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{told}\r\n\r\n'
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return Post(path, body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
