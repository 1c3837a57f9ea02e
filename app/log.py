"""The log, and the form of its lines."""

import logging
import sys
import threading
from types import TracebackType
from typing import Any

import structlog

from app.settings import Settings

log = structlog.get_logger("fusionrnn")


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


def log_all() -> None:
    """Have what Python writes to stderr by itself in the log too: warnings, and errors that nobody caught.

    For the whole process, so for its beginning.
    """
    logging.captureWarnings(capture=True)

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("uncaught error", exc_info=(kind, error, trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            thread = args.thread.name if args.thread is not None else None
            log.critical("uncaught error in a thread", thread=thread, exc_info=args.exc_value)

    def ignored(args: "sys.UnraisableHookArgs") -> None:
        where = f"{args.err_msg or 'Exception ignored in'}: {args.object!r}"
        log.error("error that nobody can catch", where=where, exc_info=args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, in_thread, ignored
