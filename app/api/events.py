"""An answer as server-sent events: its parts as they come, and once a second how far it is."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.engine.runner import Call, Part, Runner
from app.errors import ClientLeft, ServiceError, from_media
from app.log import log
from app.metrics import Metrics
from models.media.errors import MediaError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from models.features.features import Sources

EVENTS = "text/event-stream"
EVERY = 1.0
"""Seconds from one ``progress`` to the next."""


async def event_stream(
    runner: Runner, call: Call, bundle: "Sources", options: "BaseModel", head: dict[str, Any]
) -> Response:
    """The answer to a bundle; ``head`` is what the last event begins with.

    It returns with the first event, after ``EVERY`` seconds at the latest.

    Raises:
        MediaError, ServiceError: it went wrong before the first event, so that the status can still tell.
    """
    parts = paced(runner.stream(call, bundle, options), EVERY, lambda: {"stage": call.timing.stage})
    first = await anext(parts)
    return _EventStream(call, parts, _events(first, parts, call, head, runner.metrics), runner.metrics)


async def paced(
    parts: AsyncGenerator[Part, None], every: float, status: Callable[[], dict[str, Any]]
) -> AsyncGenerator[Part, None]:
    """All parts as they come but for ``progress``: of it the latest, about every ``every`` seconds, also in a silence.

    It says the ``status`` besides, and how many seconds have ``elapsed`` since the first part was asked for.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    due = began + every
    latest: dict[str, Any] = {}
    following: asyncio.Task[Part | None] | None = None
    try:
        while True:
            following = following or asyncio.create_task(_next(parts))
            await asyncio.wait([following], timeout=max(due - loop.time(), 0))
            if following.done():
                part, following = following.result(), None
                if part is None:
                    return
                if part[0] == "progress":
                    latest = part[1]
                else:
                    yield part
                    if part[0] == "result":
                        # Nothing comes after it, however late it was.
                        return
            if loop.time() >= due:
                yield "progress", {**status(), **latest, "elapsed": round(loop.time() - began, 1)}
                due = loop.time() + every
    finally:
        if following is None or following.done():
            await parts.aclose()
        else:
            # Not waited for: whoever cancels this must not keep it from tidying up.
            following.cancel()


async def _next(parts: AsyncGenerator[Part, None]) -> Part | None:
    return await anext(parts, None)


async def _events(
    first: Part, parts: AsyncGenerator[Part, None], call: Call, head: dict[str, Any], metrics: Metrics
) -> AsyncGenerator[str, None]:
    try:
        yield _event(first, call, head, metrics)
        async for part in parts:
            yield _event(part, call, head, metrics)
    # The status line is long gone, so whatever happens now can only be told inside the stream.
    except ServiceError as error:
        yield written("error", error.body())
    except MediaError as error:
        yield written("error", from_media(error).body())
    except Exception as error:  # noqa: BLE001 - see above; the log has it, the client gets none of it
        log.exception("unexpected error in a stream", exc_info=error)
        yield written("error", ServiceError("The server failed on this request.").body())


def _event(part: Part, call: Call, head: dict[str, Any], metrics: Metrics) -> str:
    name, data = part
    if name != "result":
        return written(name, data)
    metrics.noticed(call.pipeline.config.name, data.get("notices"))
    call.reservation.answered()
    return written(name, head | data)


def written(name: str, data: dict[str, Any]) -> str:
    """One event, as it is sent."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


class _EventStream(StreamingResponse):
    """Server-sent events that stop the network when they end, however they end.

    Raises:
        ClientLeft: the client left before the last of them.
    """

    def __init__(
        self, call: Call, parts: AsyncGenerator[Part, None], events: AsyncGenerator[str, None], metrics: Metrics
    ) -> None:
        headers = {"Cache-Control": "no-store", "Server-Timing": call.timing.header()}
        super().__init__(events, headers=headers, media_type=EVENTS)
        self.call, self.parts, self.events, self.metrics = call, parts, events, metrics
        self.is_over = False

    async def stream_response(self, send: Send) -> None:
        """Send them all."""
        await super().stream_response(send)
        self.is_over = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A client that leaves suspends the generators at a yield; closed here, they stop the network too. One that has
        # left before the first event was sent leaves events that never began, and could not close the parts.
        async with aclosing(self.parts), aclosing(self.events):
            await super().__call__(scope, receive, send)
        if not self.is_over:
            if not self.call.reservation.is_done:
                self.call.reservation.is_given_up = True
                self.metrics.evicted.labels("left").inc()
            raise ClientLeft
