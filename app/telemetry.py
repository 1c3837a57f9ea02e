"""Request ids, and a line in the log for each request, with the id that its client also got."""

import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import answer
from app.errors import ClientLeft, ServiceError
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
    """Answers for what nobody else caught: the log gets all of it, the client nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except (ClientLeft, ClientDisconnect):
            raise
        except Exception as error:
            log.exception("unexpected error", exc_info=error)
            if has_begun:
                raise
            said = ServiceError(
                "The server failed on this request.", f"Report request id {scope['state']['request_id']}."
            )
            await answer(said)(scope, receive, send)


def _sane(value: str | None) -> str | None:
    usable = value is not None and 0 < len(value) <= _LONGEST_ID and value.isascii() and value.isprintable()
    return value if usable else None
