"""One session that cannot be stepped harms no other that shares its step."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from models.readings.reading import Event

_log = logging.getLogger(__name__)

FAILED: Event = {"type": "error", "detail": "The server failed on this session.", "remedy": "Start a new one."}
"""What a session's client is told in place of what could not be made."""

T = TypeVar("T")
R = TypeVar("R")


def apart(run: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | None]:
    """What ``run`` makes of all items at once, or, if that fails, of each by itself; None for those that fail so.

    ``run`` changes nothing before it can fail no more.
    """
    if not items:
        return []
    try:
        return list(run(items))
    except Exception:  # noqa: BLE001 - a network may be a user's own; its sessions' clients are told
        if len(items) == 1:
            _log.exception("a session cannot be stepped")
            return [None]
        return [result for item in items for result in apart(run, [item])]


def guarded(tell: Callable[[], list[Event]]) -> list[Event]:
    """What one session is told; an error where that fails."""
    try:
        return tell()
    except Exception:  # noqa: BLE001 - as above
        _log.exception("a session cannot be told of")
        return [FAILED]
