"""A task of a recording, folded with stops: at each of some moments one can look at everybody."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from streams.engine.chunk import Folded
from streams.engine.order import Ordered
from streams.engine.state import Borrower, unpack
from streams.replay.cycle import LocalTask


def stops(
    task: LocalTask,
    chunks: Iterable[Sequence[Ordered]],
    moments: Sequence[int | None],
    seen: Callable[[Folded], None],
) -> Iterator[int]:
    """Fold the chunks, and stop at each moment: after every record with an order time up to it, None at the end.

    Args:
        moments: epoch ms, ascending.
        seen: takes what each pass came to.

    Yields:
        The place in `moments` of the moment that the task now stands at.
    """
    reached = 0
    for chunk in chunks:
        rest = chunk
        while reached < len(moments):
            moment = moments[reached]
            if moment is None or rest[-1][0] <= moment:
                break
            end = bisect_right(rest, moment, key=_order_ms)
            _fold(task, rest[:end], seen)
            rest = rest[end:]
            yield reached
            reached += 1
        _fold(task, rest, seen)
    yield from range(reached, len(moments))


def _fold(task: LocalTask, records: Sequence[Ordered], seen: Callable[[Folded], None]) -> None:
    for folded in task.fold(records):
        seen(folded)


def _order_ms(ordered: Ordered) -> int:
    return ordered[0]


def everybody(task: LocalTask) -> Iterator[tuple[str, Borrower]]:
    """Everybody of whom the task knows anything, as things stand; changing them changes nothing in the task."""
    for borrower_id in task.borrowers():
        blob = task.state(borrower_id)
        if blob is not None:
            yield borrower_id, unpack(blob)
