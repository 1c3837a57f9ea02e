"""Freed memory stays with the process."""

import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library
_KEPT_BYTES, _MAPPED_BYTES = 256 * 2**20, 32 * 2**20


@functools.cache
def keep_freed_memory() -> bool:
    """Let malloc keep what a network's layers free, for the next run; False where the C library is not GNU's.

    By default it gives each large buffer back to the system. The next one is then faulted in page by page and cleared,
    which takes up to a third of the time of a convolutional network. What is kept is at most the most that was ever in
    use at once and 256 MiB a thread; buffers above 32 MiB still come and go.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES) and mallopt(_TRIM_THRESHOLD, _KEPT_BYTES))
