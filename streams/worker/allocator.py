"""Memory that is needed for a while only.

glibc keeps what has been freed below anything that is still in use. Filling Redis anew reads the commit log in pieces
of megabytes, by all tasks at a time: once is enough for a worker to stay at several times its size.
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress


def _trim_of() -> Callable[[int], int]:
    with suppress(OSError, AttributeError):
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return trim
    # Another C library, with habits of its own.
    return lambda _: 0


_trim = _trim_of()


def give_back() -> None:
    """Return to the system what is freed already; a few milliseconds, no more than that where there is nothing."""
    _trim(0)
