"""When Python's collector of cycles looks, and at what.

Nearly all that a worker holds is borrowers' states: millions of lists, in no cycle, gone with their last reference.
Looked at again and again, they cost a third of a fold. So a fold is not interrupted, and what it leaves is put
where the collector does not look, with all else that there is by then. What is made between two folds is looked at
once, before the second.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLDS = (100_000, 50, 100)
"""Between folds: what has been fetched is many objects, too, in no cycle."""


def begin() -> None:
    """Put aside what has been loaded until now, and let the collector come seldom."""
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


@contextmanager
def folding() -> Iterator[None]:
    """Around a fold. Whoever has turned the collector off keeps it off, and nothing is put aside."""
    if not gc.isenabled():
        yield
        return
    gc.collect(1)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
