"""Request ids, and a line in the log for each request, with the id that its client also got."""

import asyncio
import time
import uuid
from contextlib import suppress

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.events import EVENTS, written
from app.api.problems import answer
from app.engine.service import Service
from app.errors import ClientLeft, ServiceError, Unavailable
from app.log import log
from app.metrics import Metrics
from app.timing import ServerTiming
from app.tracing import Tracer

_LONGEST_ID = 128
_PROBES = ("/healthz", "/readyz", "/metrics")
_CLIENT_LEFT = 499


class RequestLog:
    """Gives each request an id, counts it, and logs it when it is over."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: Tracer | None = None) -> None:
        self.app, self.metrics, self.tracer = app, metrics, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _sane(Headers(scope=scope).get("x-request-id")) or uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"], state["timing"] = request_id, ServerTiming()
        started, status = time.perf_counter(), 0
        probe = scope["path"].removeprefix(scope.get("root_path", "")) in _PROBES
        span = self.tracer.begin(scope) if self.tracer is not None and not probe else None

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id, **(span.names() if span else {})):
            try:
                await self.app(scope, receive, marked)
            # The one while it ran, the other while its body was read.
            except (ClientLeft, ClientDisconnect):
                status = _CLIENT_LEFT
            finally:
                seconds, stages = time.perf_counter() - started, state["timing"].taken()
                self.metrics.answered(state.get("model"), status or _CLIENT_LEFT, seconds, stages)
                if span is not None:
                    span.end(scope, status or _CLIENT_LEFT, request_id, state.get("model"), stages)
                spent = {stage: round(ms, 2) for stage, ms in stages.items()}
                asked = {} if state.get("model") is None else {"model": state["model"]}
                write = log.debug if probe else log.info
                write(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status or _CLIENT_LEFT,
                    ms=round(seconds * 1e3, 2),
                    **asked,
                    **spent,
                )


class Unforeseen:
    """Answers for what nobody else caught: the log gets all of it, the client nothing.

    So does it for what the server gives up because it stops: uvicorn would call that an error of the application's.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun: Headers | None = None

        async def noted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = Headers(raw=message["headers"])
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except (ClientLeft, ClientDisconnect):
            raise
        except asyncio.CancelledError:
            try:
                self.service.check_staying()
            except Unavailable as error:
                await _break_off(error, begun, scope, receive, send)
            else:
                raise
        except Exception as error:
            log.exception("unexpected error", exc_info=error)
            if begun is not None:
                raise
            said = ServiceError(
                "The server failed on this request.", f"Report request id {scope['state']['request_id']}."
            )
            await answer(said)(scope, receive, send)


async def _break_off(error: ServiceError, begun: Headers | None, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with ``error``, or say it as the last event where events have ``begun``; other answers stay cut off."""
    if begun is None:
        await answer(error)(scope, receive, send)
    elif begun.get("content-type", "").startswith(EVENTS):
        # Where the last event was just being sent, all is said.
        with suppress(RuntimeError):
            await send({"type": "http.response.body", "body": written("error", error.body()).encode()})


def _sane(value: str | None) -> str | None:
    usable = value is not None and 0 < len(value) <= _LONGEST_ID and value.isascii() and value.isprintable()
    return value if usable else None
