"""Room for decoded pixels: large pictures are decoded one after the other, however many threads there are."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from models.media.patience import check_wanted

_LOOKS = 0.1
"""Seconds after which whoever waits looks whether it is still wanted."""


class PixelRoom:
    """At most ``pixels`` at a time, over all threads; a picture of more comes when no other is there."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for so many, and keep it in the block.

        Raises:
            GivenUp: nobody wants the picture any more.
        """
        with self._changed:
            while self._held and self._held + pixels > self.pixels:
                check_wanted()
                self._changed.wait(_LOOKS)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


ROOM = PixelRoom(64_000_000)
"""What all pictures that are decoded at once may have together: as many as one alone may have."""
