"""Where requests run: media in a bounded pool of threads, networks on one thread a device, the event loop free."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from app.engine.device import Device, use_threads
from app.errors import DeadlinePassed, Unavailable
from app.telemetry import ServerTiming

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel

    from models.features import Extracted, Modality
    from models.media.limits import MediaLimits
    from models.pipeline import Decoded, Pipeline
    from models.tasks.streaming import Told
    from models.tasks.task import Result

T = TypeVar("T")
_SMOOTHING = 0.1
_FIRST_GUESS = 0.5


@dataclass(frozen=True, slots=True)
class Call:
    """One request for one checkpoint; ``until`` is its deadline on the event loop's clock."""

    pipeline: "Pipeline"
    timing: ServerTiming
    until: float


class Runner:
    """Admits requests up to a number, and runs their stages one after the other, first come, first served."""

    def __init__(self, decode_workers: int, max_waiting: int, limits: "MediaLimits", threads: int = 0) -> None:
        self.threads = threads
        self.max_waiting = max_waiting
        self.limits = limits
        self.waiting = 0
        self._seconds = _FIRST_GUESS
        self._media = ThreadPoolExecutor(decode_workers, "media", use_threads, (1,))
        self._devices: dict[str, Device] = {}

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place in the house for the time of the block.

        Raises:
            Unavailable: the house is full; Retry-After is the time that its backlog takes.
        """
        if self.waiting >= self.max_waiting:
            backlog = math.ceil(self.waiting * self._seconds)
            raise Unavailable(f"{self.waiting} requests are already waiting.", max(1, backlog))
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def prepare(self, call: Call, bundle: "Mapping[Modality, list[bytes | str]]") -> "tuple[Decoded, Extracted]":
        """Decode the media and compute their features.

        Raises:
            MediaError: a medium cannot be used.
            DeadlinePassed: it took too long.
        """

        def work() -> "tuple[Decoded, Extracted]":
            with call.timing.measure("decode"):
                decoded = call.pipeline.decode(bundle, self.limits)
            with call.timing.measure("features"):
                return decoded, call.pipeline.features(decoded)

        return await self._run(self._media, call, work)

    async def predict(self, call: Call, features: "Extracted", options: "BaseModel", *, explain: bool) -> "Result":
        """The whole answer.

        Raises:
            DeadlinePassed: it took too long.
        """

        def work() -> "Result":
            with call.timing.measure("inference"):
                return call.pipeline.predict(features, options, explain=explain)

        started = time.perf_counter()
        device = self.device(call.pipeline.device)
        if call.pipeline.decoder() is None:
            result = await self._run(device, call, work)
        else:
            search = self._search(device, call, features, options, lambda _: None, explain=explain, told=False)
            result = await _within(call, asyncio.wrap_future(search))
        self._seconds += _SMOOTHING * (time.perf_counter() - started - self._seconds)
        return result

    async def stream(
        self, call: Call, features: "Extracted", options: "BaseModel"
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The answer part by part. Others run between two parts, and nothing runs once the caller stops asking.

        Raises:
            DeadlinePassed: it took too long.
        """
        device = self.device(call.pipeline.device)
        if call.pipeline.decoder() is not None:
            async with aclosing(self._told(device, call, features, options)) as events:
                async for event in events:
                    yield event
            return
        parts = call.pipeline.stream(features, options)

        def work() -> dict[str, Any] | None:
            with call.timing.measure("inference"):
                return next(parts, None)

        try:
            while (part := await self._run(device, call, work)) is not None:
                yield part
        finally:
            # On its own thread, behind the step that may still run there; a pool that was closed has nothing to stop.
            if isinstance(parts, Generator):
                with suppress(RuntimeError):
                    device.submit(parts.close)

    async def overlay(self, call: Call, decoded: "Decoded", result: "Result") -> bytes:
        """PNG of where the network looked."""
        return await self._run(self._media, call, lambda: call.pipeline.overlay(decoded, result))

    async def offload(self, work: Callable[[], T]) -> T:
        """Run other CPU work of a request beside the event loop."""
        return await asyncio.wrap_future(self._media.submit(work))

    def warm_up(self, pipeline: "Pipeline") -> None:
        """Warm up on the thread that will serve: torch keeps a pool of workers for each calling thread."""
        self.device(pipeline.device).submit(pipeline.warm_up).result()

    def device(self, device: "torch.device") -> Device:
        """The thread of a device."""
        if (found := self._devices.get(str(device))) is None:
            found = self._devices[str(device)] = Device(f"inference-{device}", self.threads)
        return found

    def close(self) -> None:
        """Drop what has not begun and let the threads end."""
        self._media.shutdown(wait=False, cancel_futures=True)
        for device in self._devices.values():
            device.close()

    async def _told(
        self, device: Device, call: Call, features: "Extracted", options: "BaseModel"
    ) -> AsyncGenerator[dict[str, Any], None]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        def tell(event: dict[str, Any] | None) -> None:
            # A loop that is closed has nobody left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(events.put_nowait, event)

        search = self._search(device, call, features, options, tell, explain=False, told=True)
        search.add_done_callback(lambda _: tell(None))
        try:
            while (event := await _within(call, asyncio.ensure_future(events.get()))) is not None:
                yield event
            yield {"result": search.result().model_dump(exclude_none=True)}
        finally:
            search.cancel()

    @staticmethod
    def _search(
        device: Device,
        call: Call,
        features: "Extracted",
        options: "BaseModel",
        tell: Callable[[dict[str, Any]], object],
        *,
        explain: bool,
        told: bool,
    ) -> "Future[Result]":
        submitted = time.perf_counter()
        begun = submitted

        from models.tasks.task import Query

        def begin() -> "Told[Result]":
            nonlocal begun
            begun = time.perf_counter()
            call.timing.add("queue", begun - submitted)
            return call.pipeline.searches([Query(features, options, explain, told)])[0]

        decoder = call.pipeline.decoder()
        assert decoder is not None
        search = device.search(decoder, begin, tell)
        # Registered before anybody awaits it, so the time is there when the answer is.
        search.add_done_callback(lambda _: call.timing.add("inference", time.perf_counter() - begun))
        return search

    async def _run(self, pool: Device | ThreadPoolExecutor, call: Call, work: Callable[[], T]) -> T:
        submitted = time.perf_counter()

        def timed() -> T:
            call.timing.add("queue", time.perf_counter() - submitted)
            return work()

        return await _within(call, asyncio.wrap_future(pool.submit(timed)))


async def _within(call: Call, task: "asyncio.Future[T]") -> T:
    """What ``task`` returns, if it does so before the call's deadline; a task that is left is cancelled.

    Raises:
        DeadlinePassed: it did not.
    """
    # Not asyncio.timeout: it would also take a TimeoutError that the work itself raises for the deadline.
    remaining = call.until - asyncio.get_running_loop().time()
    try:
        done, _ = await asyncio.wait([task], timeout=max(remaining, 0))
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        # Takes it out of the queue or the batch; if it already runs as a whole, its end is not waited for.
        task.cancel()
        raise DeadlinePassed("The answer was not ready in time.", "Send less, or set a longer deadline.")
    return task.result()
