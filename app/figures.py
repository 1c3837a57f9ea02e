"""The files in which several processes share their figures, on a disk that may be full.

prometheus_client maps them into memory with holes in them. Where the disk has no room for a page that is written for
the first time, the system ends the process (SIGBUS), whatever filled the disk. So each page gets its room beforehand.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

from app.log import log

_BYTES = 2**14
"""Of a new file; it doubles when it is full."""
_AROUND = 40
"""Bytes around a figure's name, at most."""
_REMEDY = "Free space there, or set TMPDIR to another folder."


class Figures(MmapedDict):
    """One file of them. What there is no room for is counted once there is some."""

    def __init__(self, filename: str) -> None:
        self._is_told = False
        try:
            with Path(filename).open("ab") as file:
                _reserve(file.fileno(), _BYTES)
        except OSError as error:
            log.error("some figures of this process are not in /metrics", reason=str(error), remedy=_REMEDY)
            self._is_told = True
            # Others would read it, and there is not even a beginning.
            with suppress(OSError):
                Path(filename).unlink()
            with os.fdopen(os.memfd_create("figures")) as memory:
                super().__init__(f"/proc/self/fd/{memory.fileno()}")  # type: ignore[no-untyped-call]
        else:
            super().__init__(filename)  # type: ignore[no-untyped-call]

    def read_value(self, key: str) -> tuple[float, float]:
        """A figure and when it was set: 0 where it is new."""
        try:
            value: tuple[float, float] = super().read_value(key)  # type: ignore[no-untyped-call]
        except OSError as error:
            self._tell(error)
            return 0.0, 0.0
        return value

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Set a figure."""
        try:
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]
        except OSError as error:
            self._tell(error)

    def _init_value(self, key: str) -> None:
        if self._used + len(key.encode()) + _AROUND > self._capacity:
            _reserve(self._f.fileno(), 2 * self._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _tell(self, error: OSError) -> None:
        if not self._is_told:
            self._is_told = True
            log.error("some figures of this process are not in /metrics", reason=str(error), remedy=_REMEDY)


def share() -> None:
    """Have this process' figures in such files from now on, where it shares them."""
    module: Any = values
    module.MmapedDict = Figures


def _reserve(descriptor: int, nbytes: int) -> None:
    """Give a file its room up to ``nbytes``.

    Raises:
        OSError: there is none.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(descriptor, 0, nbytes)
