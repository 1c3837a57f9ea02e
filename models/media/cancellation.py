"""Work on a medium ends early where nobody waits for it any longer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Cancelled(BaseException):
    """Nobody wants the medium any more. Not an `Exception`: what is raised for broken files must not catch it."""


_is_wanted: ContextVar[Callable[[], bool]] = ContextVar("is_wanted", default=lambda: True)


@contextmanager
def while_wanted(is_wanted: Callable[[], bool]) -> Iterator[None]:
    """In the block, on this thread, decoding asks ``is_wanted()`` at every packet and every frame."""
    token = _is_wanted.set(is_wanted)
    try:
        yield
    finally:
        _is_wanted.reset(token)


def check_cancelled() -> None:
    """Go on, if somebody still waits.

    Raises:
        Cancelled: nobody does.
    """
    if not _is_wanted.get()():
        raise Cancelled
