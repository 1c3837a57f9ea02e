"""What a streaming session and the connection that carries it say to each other."""

from typing import Any, Protocol

from app.errors import ServiceError

Event = dict[str, Any]

NORMAL, DRAINING, POLICY, TOO_LARGE, TRY_LATER = 1000, 1001, 1008, 1009, 1013
"""Close codes (RFC 6455, section 7.4.1, and the IANA registry)."""


class SessionClosed(Exception):
    """The session is over for this connection.

    Args:
        code: the WebSocket's close code.
        error: what is said before, if it is the client that has to do something about it.
    """

    def __init__(self, code: int, error: ServiceError | None = None) -> None:
        super().__init__(code)
        self.code, self.error = code, error


class Connection(Protocol):
    """The far end, while there is one."""

    def wake(self) -> None:
        """There may be something to say."""

    def hang_up(self, code: int) -> None:
        """Close with ``code``."""


def error_event(error: ServiceError) -> Event:
    """A problem, whose own ``type`` is called ``problem``, and whose headers are fields."""
    body = error.body()
    event = {"type": "error", "problem": body.pop("type"), **body}
    if (seconds := error.headers.get("Retry-After")) is not None:
        event |= {"retry_after": int(seconds), "remedy": "Retry after the seconds in retry_after."}
    return event
