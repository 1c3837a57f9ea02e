"""What the resources share: settings, checkpoints, threads, and whether new work is welcome."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from app.engine.admission import Admission, Bounds
from app.engine.deadline import Deadline
from app.engine.device import compute
from app.engine.registry import Registry
from app.engine.runner import Runner
from app.engine.swaps import Swaps
from app.errors import Unavailable
from app.log import log
from app.metrics import Metrics
from app.settings import Settings

if TYPE_CHECKING:
    from models.pipeline import Pipeline

_RETRY = 2


class Service:
    """One process's state."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.registry = Registry(
            settings.model_dir, settings.device, settings.plugins, settings.runtime, settings.threads
        )
        bounds = Bounds(
            settings.max_waiting,
            settings.max_waiting_bytes,
            settings.max_waiting_steps,
            settings.max_waiting_seconds,
        )
        self.admission = Admission(bounds, self.metrics)
        self.runner = Runner(
            settings.decode_workers,
            settings.limits,
            self.admission,
            self.metrics,
            threads=settings.threads,
            delay=settings.batch_seconds,
        )
        self.swaps = Swaps(
            self.registry,
            self._make_ready,
            self.admission,
            self.metrics,
            settings.idle_unload_seconds,
        )
        self.loading: asyncio.Task[None] | None = None
        self.draining = False

    def load(self) -> None:
        """Load and warm up every checkpoint; takes seconds, for a thread of its own."""
        compute(1)
        self.registry.load_all(self.runner.warm_up, lambda: self.draining)

    def measure(self) -> None:
        """Find out how far to batch each checkpoint, which takes as long as loading them; for a thread as well."""
        compute(1)
        for pipeline in self.registry.pipelines.values():
            if self.draining:
                return
            try:
                self.runner.measure(pipeline, aside=True)
            except Exception as error:  # noqa: BLE001 - the network may be a user's own
                # Where the service stops meanwhile, the device is closed, and that is no news.
                with suppress(Unavailable):
                    self.check_staying()
                    log.warning("not batched", model=pipeline.config.name, reason=str(error) or type(error).__name__)

    async def awake(self, name: str, deadline: Deadline) -> "Pipeline":
        """The checkpoint called ``name``, loaded again if it rests.

        Raises:
            DeadlinePassed: that took too long.
            ClientLeft: the client left meanwhile.
            NoSuchModel: there is none.
            Unavailable: it may still be loading, or cannot be loaded again.
        """
        if not self.registry.is_resting(name):
            return await self.swaps.awake(name)
        return await deadline.within(self.swaps.awake(name), "The model was not loaded in time.", "Try again later.")

    def _make_ready(self, pipeline: "Pipeline") -> None:
        """For one that replaces another under load."""
        self.runner.warm_up(pipeline)
        self.runner.measure(pipeline)

    def check_ready(self) -> None:
        """Return where requests are welcome.

        Raises:
            Unavailable: loading, draining, nothing to serve, or nothing that runs it any more.
        """
        self.check_staying()
        self.check_loaded()
        if not self.registry.served:
            failed = self.registry.failed
            why = "No model could be loaded; GET /v1/models says why." if failed else "There is no checkpoint to serve."
            raise Unavailable(why, _RETRY)
        if not self.runner.is_alive:
            raise Unavailable("A device's thread has ended; the log says why. Start the server again.", _RETRY)

    def check_staying(self) -> None:
        """Return where the server goes on.

        Raises:
            Unavailable: it is draining.
        """
        if self.draining:
            raise Unavailable("The server is shutting down.", _RETRY)

    def check_loaded(self) -> None:
        """Return where all that will be served at first is: what was let in before would do without the rest.

        Raises:
            Unavailable: it is not.
        """
        if not self.registry.loaded:
            raise Unavailable("Models are still being loaded.", _RETRY)
