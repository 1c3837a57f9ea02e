"""Where requests run: media in a bounded pool of threads, networks on one thread a device, the event loop free."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from app.engine.admission import Admission, Reservation
from app.engine.batcher import Lane, Row
from app.engine.deadline import Deadline
from app.engine.device import Device, Search, compute
from app.engine.playback import Player, can_play
from app.engine.warmup import Aside, most_steps
from app.metrics import Metrics
from app.timing import ServerTiming
from models.media.cancellation import while_wanted

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel

    from models.features import Extracted
    from models.features.features import Sources
    from models.media.limits import MediaLimits
    from models.pipeline import Decoded, Pipeline
    from models.tasks.task import Result

T = TypeVar("T")
Part: TypeAlias = tuple[str, dict[str, Any]]
"""Of an answer that is told while it is made: ``token``, ``partial``, ``final``, ``progress``, at last ``result``."""

_SHORT = 1000
"""Bytes of text that take less than a millisecond."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request for one checkpoint."""

    pipeline: "Pipeline"
    timing: ServerTiming
    deadline: Deadline

    @property
    def reservation(self) -> Reservation:
        """What it takes of the server."""
        return self.deadline.reservation


class Runner:
    """Runs the stages of requests one after the other, first come, first served."""

    def __init__(
        self,
        decode_workers: int,
        limits: "MediaLimits",
        admission: Admission,
        metrics: Metrics,
        *,
        threads: int = 0,
        delay: float = 0.0,
    ) -> None:
        self.threads = threads
        self.delay = delay
        self.limits = limits
        self.admission = admission
        self.metrics = metrics
        self._media = ThreadPoolExecutor(decode_workers, "media", compute, (1,))
        # A chunk takes milliseconds; behind the files of others it would wait for seconds.
        self._chunks = ThreadPoolExecutor(decode_workers, "chunks", compute, (1,))
        self._devices: dict[str, Device] = {}
        self._aside = Aside()
        self._lanes: WeakKeyDictionary[Pipeline, Lane] = WeakKeyDictionary()
        self._players: WeakKeyDictionary[Pipeline, Player] = WeakKeyDictionary()

    async def prepare(self, call: Call, bundle: "Sources") -> "tuple[Decoded, Extracted]":
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

        if not self.admission.has_room():
            await call.deadline.within(self.admission.room())
        # A few sentences are tokens sooner than another thread has taken them up.
        short = all(call.pipeline.is_written(part) and sum(map(len, found)) <= _SHORT for part, found in bundle.items())
        decoded, features = work() if short else await self.attempt(call, work)
        stages = call.timing.stages
        seconds = (stages["decode"] + stages["features"]) / 1e3
        call.reservation.decoded(seconds, sum(features.lengths.values()), "+".join(sorted(features.lengths)))
        return decoded, features

    async def predict(self, call: Call, features: "Extracted", options: "BaseModel", *, explain: bool) -> "Result":
        """The whole answer.

        Raises:
            DeadlinePassed: it took too long.
        """
        row = self._row(call, features, options, lambda _: None, explain=explain)
        result: Result = await call.deadline.within(asyncio.wrap_future(self._put(call, row)))
        self._note(call, row)
        return result

    async def stream(self, call: Call, bundle: "Sources", options: "BaseModel") -> AsyncGenerator[Part, None]:
        """The answer part by part. Others run between two parts, and nothing runs once the caller stops asking.

        Where the checkpoint streams, ``progress`` comes with every chunk: ``seconds`` of ``total`` are played.

        Raises:
            MediaError: a medium cannot be used.
            DeadlinePassed: it took too long.
        """
        decoded, features = await self.prepare(call, bundle)
        # Tensors now: the bytes need not be held any longer.
        del bundle
        call.timing.stage = "inference"
        if played := can_play(call.pipeline):
            # What the network reads of the whole: not a silent sound track beside lips, say.
            heard = {name: items for name, items in decoded.media.items() if name in features.tensors}
            decoded = replace(decoded, media=heard)
            del heard
            async with aclosing(self._played(call, decoded, options)) as parts:
                async for part in parts:
                    yield part
        del decoded
        if played or _answers_at_once(call.pipeline):
            # Not what the session has come to: the answer is the same, whoever asks for it.
            result = await self.predict(call, features, options, explain=False)
            yield "result", result.model_dump(exclude_none=True)
            return
        told = self._told if call.pipeline.decoder() is not None else self._stepped
        async with aclosing(told(call, features, options)) as events:
            async for event in events:
                yield ("result", event["result"]) if "result" in event else ("token", event)

    async def overlay(self, call: Call, decoded: "Decoded", result: "Result") -> bytes:
        """PNG of where the network looked."""
        return await self._run(self._media, call, lambda: call.pipeline.overlay(decoded, result))

    async def attempt(self, call: Call, work: Callable[[], T]) -> T:
        """What ``work`` on a medium returns, which ends early where the call is given up.

        Raises:
            DeadlinePassed: it took too long.
        """
        given_up = threading.Event()

        def wanted() -> T:
            with while_wanted(lambda: not given_up.is_set()):
                return work()

        try:
            return await self._run(self._media, call, wanted)
        finally:
            # A thread that is still at it would keep others waiting for an answer that nobody waits for.
            given_up.set()

    async def offload(self, work: Callable[[], T]) -> T:
        """Run other CPU work of a request beside the event loop."""
        return await asyncio.wrap_future(self._media.submit(work))

    async def read(self, work: Callable[[], T]) -> T:
        """Run what belongs to a stream's chunks beside the event loop."""
        return await asyncio.wrap_future(self._chunks.submit(work))

    def warm_up(self, pipeline: "Pipeline") -> None:
        """Run it once, on the thread that will serve: torch keeps a pool of workers for each calling thread."""
        self.device(pipeline.device).submit(pipeline.warm_up).result()

    def measure(self, pipeline: "Pipeline", *, aside: bool = False) -> None:
        """Find out how much of it to batch, and ``aside`` only while others have no calls: it is answered meanwhile."""
        device = self.device(pipeline.device)
        run = partial(self._aside.run, device) if aside else lambda work: device.submit(work).result()
        steps = most_steps(pipeline, run)
        self._lanes[pipeline] = Lane(pipeline.config.name, steps)

    def lane(self, pipeline: "Pipeline") -> Lane:
        """Where its requests wait; one that was not measured yet is answered row by row."""
        return self._lanes.get(pipeline) or self._lanes.setdefault(pipeline, Lane(pipeline.config.name))

    def device(self, device: "torch.device") -> Device:
        """The thread of a device."""
        if (found := self._devices.get(str(device))) is None:
            name = f"inference-{device}"
            found = self._devices[str(device)] = Device(name, self.threads, self.delay, self.metrics)
        return found

    @property
    def is_alive(self) -> bool:
        """Whether every device's thread still takes turns."""
        return all(device.is_alive for device in self._devices.values())

    def close(self) -> None:
        """Drop what has not begun and let the threads end."""
        for pool in (self._media, self._chunks):
            pool.shutdown(wait=False, cancel_futures=True)
        for device in self._devices.values():
            device.close()

    async def _played(self, call: Call, decoded: "Decoded", options: "BaseModel") -> AsyncGenerator[Part, None]:
        """What a streaming session says of the whole input."""
        device, pipeline = self.device(call.pipeline.device), call.pipeline
        if (player := self._players.get(pipeline)) is None:
            player = self._players[pipeline] = Player(pipeline)
        opening = device.submit(lambda: player.open(decoded, options))
        try:
            playback = await call.deadline.within(asyncio.wrap_future(opening))
            while (work := playback.next()) is not None:
                row = Row(player.lane, player.streams.step, work, {"ticks": max(work.ticks, 1)})
                events = await call.deadline.within(asyncio.wrap_future(device.put(row)))
                self._note(call, row)
                for event in events:
                    yield playback.told(event)
                yield (
                    "progress",
                    {
                        "stage": "inference",
                        "seconds": round(playback.seconds, 2),
                        "total": round(playback.total, 2),
                    },
                )
        finally:
            # Behind the step that may still run there; a device that was closed has nothing to give back.
            with suppress(RuntimeError):
                device.submit(lambda: player.close(opening))

    async def _stepped(
        self, call: Call, features: "Extracted", options: "BaseModel"
    ) -> AsyncGenerator[dict[str, Any], None]:
        """A search without a decoder, step by step."""
        device = self.device(call.pipeline.device)
        parts = call.pipeline.stream(features, options)

        def work() -> dict[str, Any] | None:
            with call.timing.measure("inference"):
                return next(parts, None)

        try:
            while (part := await self._run(device, call, work)) is not None:
                if "result" in part:
                    call.reservation.computed(call.timing.stages["inference"] / 1e3)
                yield part
        finally:
            # On its own thread, behind the step that may still run there; a pool that was closed has nothing to stop.
            if isinstance(parts, Generator):
                with suppress(RuntimeError):
                    device.submit(parts.close)

    async def _told(
        self, call: Call, features: "Extracted", options: "BaseModel"
    ) -> AsyncGenerator[dict[str, Any], None]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        def tell(event: dict[str, Any] | None) -> None:
            # A loop that is closed has nobody left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(events.put_nowait, event)

        row = self._row(call, features, options, tell, told=True)
        search = self._put(call, row)
        search.add_done_callback(lambda _: tell(None))
        try:
            while (event := await call.deadline.within(events.get())) is not None:
                yield event
            result = search.result()
            self._note(call, row)
            yield {"result": result.model_dump(exclude_none=True)}
        finally:
            search.cancel()

    def _row(
        self,
        call: Call,
        features: "Extracted",
        options: "BaseModel",
        tell: Callable[[dict[str, Any]], object],
        *,
        explain: bool = False,
        told: bool = False,
    ) -> Row:
        from models.tasks.task import Query

        pipeline, lengths = call.pipeline, features.lengths
        lane = self.lane(pipeline)
        query = Query(features, options, explain, told)
        if (decoder := pipeline.decoder()) is None:
            return Row(lane, pipeline.predict_batch, query, lengths)
        return Search(lane, pipeline.searches, query, lengths, decoder=decoder, tell=tell)

    def _put(self, call: Call, row: Row) -> "Future[Any]":
        return self.device(call.pipeline.device).put(row)

    @staticmethod
    def _note(call: Call, row: Row) -> None:
        """Write down what an answer took."""
        call.timing.add("queue", row.began - row.since)
        call.timing.add("inference", time.perf_counter() - row.began)
        call.reservation.computed(row.spent)

    async def _run(self, pool: Device | ThreadPoolExecutor, call: Call, work: Callable[[], T]) -> T:
        submitted = time.perf_counter()

        def timed() -> T:
            call.timing.add("queue", time.perf_counter() - submitted)
            return work()

        return await call.deadline.within(asyncio.wrap_future(pool.submit(timed)))


def _answers_at_once(pipeline: "Pipeline") -> bool:
    """Whether its task has nothing to say before the whole answer."""
    from models.tasks.task import Task

    return type(pipeline.task).stream is Task.stream
