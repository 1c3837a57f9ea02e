"""How long a request waits for what is done for it."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from app.engine.admission import Reservation
from app.errors import ClientLeft, DeadlinePassed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the answer to a request is of no use any more.

    ``until`` is on the event loop's clock; ``gone`` is done when its client has left.
    """

    reservation: Reservation
    until: float
    gone: "asyncio.Future[None] | None" = None

    @classmethod
    def of(cls, reservation: Reservation, seconds: float, gone: "asyncio.Future[None] | None" = None) -> "Deadline":
        """``seconds`` from now, or sooner where the client wants its answer sooner."""
        until = asyncio.get_running_loop().time() + min(seconds, reservation.remaining())
        return cls(reservation, until, gone)

    async def within(
        self,
        work: Awaitable[T],
        said: str = "The answer was not ready in time.",
        remedy: str = "Send less, or set a longer deadline.",
    ) -> T:
        """What ``work`` returns, if the deadline and the client allow it; work that is left is cancelled.

        Raises:
            DeadlinePassed: the deadline came first, with what is ``said`` of it then.
            ClientLeft: the client left first.
        """
        task = asyncio.ensure_future(work)
        # Not asyncio.timeout: it would also take a TimeoutError that the work itself raises for the deadline.
        remaining = self.until - asyncio.get_running_loop().time()
        waited: set[asyncio.Future[Any]] = {task} if self.gone is None else {task, self.gone}
        try:
            await asyncio.wait(waited, timeout=max(remaining, 0), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            return task.result()
        # Takes it out of the queue or the batch; if it already runs as a whole, its end is not waited for.
        task.cancel()
        left = self.gone is not None and self.gone.done()
        if not self.reservation.is_given_up:  # a request that waits for several things at once is given up once
            self.reservation.is_given_up = True
            self.reservation.admission.metrics.evicted.labels("left" if left else "deadline").inc()
        raise ClientLeft if left else DeadlinePassed(said, remedy)
