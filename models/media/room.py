"""Room for decoded pixels: large pictures are decoded one after the other, however many threads there are."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from models.media.cancellation import check_cancelled

_LOOKS = 0.1
"""Seconds after which whoever waits looks whether it is still wanted."""


class PixelRoom:
    """At most ``pixels`` at a time, over all threads; a picture of more comes when no other is there.

    First come, first served: small pictures that went past a large one would keep it out for good.
    """

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._held = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._waiting)

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for so many, and keep it in the block.

        Raises:
            Cancelled: nobody wants the picture any more.
        """
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while self._waiting[0] is not turn or (self._held and self._held + pixels > self.pixels):
                    check_cancelled()
                    self._changed.wait(_LOOKS)
                self._held += pixels
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


ROOM = PixelRoom(64_000_000)
"""What all files' pictures that are decoded at once may have together: as many as one alone may have."""
