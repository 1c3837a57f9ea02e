"""Logs, request ids and Server-Timing. One line a request, as JSON, with the id that its client also got."""

import logging
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ClientLeft, ServiceError
from app.metrics import Metrics
from app.settings import Settings
from app.tracing import Tracer

log = structlog.get_logger("fusionrnn")

_LONGEST_ID = 128
_PROBES = ("/healthz", "/readyz", "/metrics")
_CLIENT_LEFT = 499


class ServerTiming:
    """Milliseconds a request spent in each stage, for the header of that name and the log."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self.stage = "queue"
        """What is being done, as far as it is known."""

    def add(self, stage: str, seconds: float) -> None:
        """Add to ``stage``; stages keep the order of their first mention."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds * 1e3

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes."""
        started, self.stage = time.perf_counter(), stage
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def header(self) -> str:
        """The value of the Server-Timing header."""
        return ", ".join(f"{stage};dur={spent:.2f}" for stage, spent in self.taken().items())

    def taken(self) -> dict[str, float]:
        """The stages so far; a thread that nobody waits for any more may still add to them."""
        return self.stages.copy()


def configure_logging(settings: Settings) -> None:
    """Send structlog's and the standard library's lines, uvicorn's among them, to stderr in one form."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    final: list[Any]
    if settings.log_format == "json":
        final = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        final = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    # Our own lines do not take the way through the standard library, which would be a tenth of a text's answer.
    structlog.configure(
        processors=[*shared, *final],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler()
    foreign = [structlog.stdlib.add_logger_name, *shared]
    without = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[without, *final], foreign_pre_chain=foreign))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)


class RequestLog:
    """Gives each request an id, logs it when it is over, and answers for what nobody else caught."""

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
            # The last place before the socket: the log gets all of it, the client nothing.
            except Exception as error:
                log.exception("unexpected error", exc_info=error)
                if status:
                    raise
                said = ServiceError("The server failed on this request.", f"Report request id {request_id}.")
                await said.response()(scope, receive, marked)
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


def _sane(value: str | None) -> str | None:
    usable = value is not None and 0 < len(value) <= _LONGEST_ID and value.isascii() and value.isprintable()
    return value if usable else None
