"""Checkpoints come, are replaced and go while requests run; whoever has begun on one finishes on it."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.engine.admission import Admission
from app.engine.device import compute
from app.engine.garbage import collect
from app.engine.registry import Registry
from app.errors import LoadFailed, Unavailable
from app.log import log
from app.metrics import Metrics
from models.memory import give_back

if TYPE_CHECKING:
    from models.pipeline import Pipeline

_RETRY = 10
_LOOKS = 4
"""How many times in the idle time the clock is looked at."""


class Swaps:
    """One change at a time; for the event loop's thread."""

    def __init__(
        self,
        registry: Registry,
        prepare: "Callable[[Pipeline], object]",
        admission: Admission,
        metrics: Metrics,
        idle_seconds: float = 0.0,
    ) -> None:
        """``prepare`` is run on a checkpoint before it serves; after ``idle_seconds`` without a request it rests."""
        self.registry = registry
        self.admission = admission
        self.metrics = metrics
        self.idle_seconds = idle_seconds
        self._prepare = prepare
        self._used: dict[str, float] = {}
        self._lock = asyncio.Lock()
        self._waking: dict[str, asyncio.Task[Pipeline]] = {}

    async def load(self, name: str) -> "Pipeline":
        """Load the folder of that name as it is now, warm it up, and only then let it take over.

        Raises:
            Unavailable: those that are served at first are still being loaded, this one perhaps among them.
            NoSuchModel: there is no such folder.
            LoadFailed: it cannot be served; what had the name still is.
        """
        self._check_loaded()
        async with self._lock:
            pipeline = await asyncio.to_thread(self._load, name)
            self.metrics.checkpoints(self.registry.counts)
            self.use(name)
        self.metrics.swaps.labels(name, "load").inc()
        return pipeline

    async def unload(self, name: str) -> None:
        """Serve it no more.

        Raises:
            Unavailable: those that are served at first are still being loaded.
            NoSuchModel: it is not served.
        """
        self._check_loaded()
        async with self._lock:
            await self._unload(name, rest=False)

    async def awake(self, name: str) -> "Pipeline":
        """The checkpoint called ``name``, loaded again if it rests: all who ask meanwhile wait for the same load.

        Raises:
            NoSuchModel: there is none.
            Unavailable: it may still be loading, or cannot be loaded again.
        """
        if not self.registry.is_resting(name):
            pipeline = self.registry.get(name)
            self.use(name)
            return pipeline
        self.use(name)
        if (task := self._waking.get(name)) is None:
            task = self._waking[name] = asyncio.create_task(self._wake(name))
            task.add_done_callback(lambda _: self._waking.pop(name))
        # Whoever stops waiting leaves the load to the others.
        return await asyncio.shield(task)

    def use(self, name: str) -> None:
        """Note that somebody uses it now."""
        if self.idle_seconds:
            self._used[name] = time.monotonic()

    async def watch(self) -> None:
        """Let checkpoints rest that nobody has used for the idle time; never returns."""
        while self.idle_seconds:
            await asyncio.sleep(self.idle_seconds / _LOOKS)
            for name in self.registry.pipelines if self.registry.loaded else ():
                self._used.setdefault(name, time.monotonic())
                if self._is_idle(name):
                    async with self._lock:
                        # While another change was made, somebody may have asked for it, or unloaded it.
                        if self._is_idle(name):
                            await self._unload(name, rest=True)

    def _check_loaded(self) -> None:
        # Whoever loads them changes what is served, on a thread of its own.
        if not self.registry.loaded:
            raise Unavailable("Models are still being loaded.", _RETRY)

    def _is_idle(self, name: str) -> bool:
        busy = any(reservation.model == name for reservation in self.admission.reservations)
        last = self._used.get(name, math.inf)
        return name in self.registry.pipelines and not busy and time.monotonic() > last + self.idle_seconds

    async def _unload(self, name: str, *, rest: bool) -> None:
        self.registry.unload(name, rest=rest)
        self._used.pop(name, None)
        await asyncio.to_thread(free)
        # Also where no scrape reaches this process: what is told is the most that any of them has.
        self.metrics.checkpoints(self.registry.counts)
        self.metrics.swaps.labels(name, "rest" if rest else "unload").inc()

    async def _wake(self, name: str) -> "Pipeline":
        async with self._lock:
            # While another change was made, somebody may have loaded it, or unloaded it for good.
            if not self.registry.is_resting(name):
                return self.registry.get(name)
            try:
                return await asyncio.to_thread(self._load, name)
            except LoadFailed as error:
                log.error("not loaded again", name=name, reason=error.detail)
                raise Unavailable(error.detail, _RETRY) from error
            finally:
                self.metrics.checkpoints(self.registry.counts)

    def _load(self, name: str) -> "Pipeline":
        compute(1)
        try:
            return self.registry.load(name, self._prepare)
        finally:
            free()


def free() -> None:
    """Give what was freed back: a network's tensors lie in cycles, and glibc and torch keep what they have."""
    import torch

    collect()
    give_back()
    # It does nothing where CUDA was never used.
    torch.cuda.empty_cache()
