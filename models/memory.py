"""What stays with the process: freed memory, for a while, and some of what oneDNN has planned."""

import ctypes
import functools
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h of the GNU C library
_KEPT_BYTES, _MAPPED_BYTES = 256 * 2**20, 32 * 2**20


_PLANS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_MOST_PLANS = 512


def bound_plans() -> None:
    """Let oneDNN keep half as many plans as it does by default, if nobody has said how many; before it runs.

    A plan is for one shape of one layer and takes up to half a megabyte, and a server meets new shapes all the time.
    """
    os.environ.setdefault(_PLANS, str(_MOST_PLANS))


@functools.cache
def keep_freed_memory() -> bool:
    """Let malloc keep what a network's layers free, for the next run; False where the C library is not GNU's.

    By default it gives each large buffer back to the system. The next one is then faulted in page by page and cleared,
    which takes up to a third of the time of a convolutional network. What is kept is at most the most that was ever in
    use at once and 256 MiB; buffers above 32 MiB still come and go.

    Threads that start later share the main thread's heap. Heaps of their own could not grow beyond 64 MiB: a network's
    layers need several, which are unmapped, and faulted in again, whatever the options say.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    options = {_MMAP_THRESHOLD: _MAPPED_BYTES, _TRIM_THRESHOLD: _KEPT_BYTES, _ARENA_MAX: 1}
    return all(mallopt(option, value) for option, value in options.items())


def give_back() -> bool:
    """Return to the system what malloc keeps and nobody uses, also between what is used; False as above.

    Some 20 ms where 100 MiB lie about in pieces, and no other thread can allocate meanwhile.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(0)
    return True
