"""How many records a chunk takes.

Short chunks answer soon, and let the other tasks of the worker have their turn. In long ones borrowers come back, so
that each state is packed, logged and stored for more of its events: they get more done. So the further a task is
behind, the longer its chunks. Beside a sweep they are short, however much waits.
"""

from typing import Final

FOLD_LEAST_S: Final = 0.1
FOLD_MOST_S: Final = 1.0
SHARE: Final = 8
"""A chunk takes this part of what waits, within what folds in FOLD_LEAST_S to FOLD_MOST_S."""
RECORDS_LEAST: Final = 100
_FIRST_S: Final = 1e-4


class Pace:
    """The measure of one task's chunks, at most `most` records each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._record_s = _FIRST_S

    def records(self, waiting: int) -> int:
        """How many records the next chunk may take where `waiting` are known of."""
        fold_s = min(FOLD_MOST_S, max(FOLD_LEAST_S, waiting / SHARE * self._record_s))
        return min(self._most, max(RECORDS_LEAST, round(fold_s / self._record_s)))

    def note(self, records: int, fold_s: float) -> None:
        """A fold of `records` took so long; of few of them it tells little."""
        if records >= RECORDS_LEAST and fold_s > 0:
            self._record_s += (fold_s / records - self._record_s) / 2
