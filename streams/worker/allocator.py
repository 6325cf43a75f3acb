"""Memory that is needed for a while only.

glibc keeps what has been freed below anything that is still in use. Filling Redis anew reads the commit log in pieces
of megabytes, by all tasks at a time, and each time the worker would stay at what that took.
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
    """Return to the system what is freed already. It takes the longer the more small pieces are free: a quarter of a
    second for half of 2 GB."""
    _trim(0)
