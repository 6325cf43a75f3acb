"""Borrowers that folds have opened, kept for the next fold.

Opening a packed state again for every chunk would be work for nothing. What is kept here is exactly what was packed
last; whoever cannot commit a fold must throw away the whole of it.
"""

from streams.engine.features import FeatureCache
from streams.engine.parts import PackedParts
from streams.engine.state import Borrower, unpack


class Case:
    """A borrower that a fold has opened.

    `blob` is its state as it was packed last: what a fold that is thrown away goes back to.
    `known` says whether a state was stored before, `touched` whether it has to be stored again. Until the next
    judgement has looked at them, `retroactive` is set by facts that change the past, `new_profile` by a profile that
    was set, `more_than_windows` by any fact that is not only in the windows, `relieved_by` is the incident that has
    changed a grace, "" for none. `failed_days` are business dates on which
    something failed, for the task's index of failures; the fold takes them from there.
    """

    __slots__ = (
        "blob",
        "borrower",
        "borrower_id",
        "failed_days",
        "features",
        "known",
        "more_than_windows",
        "new_profile",
        "parts",
        "relieved_by",
        "retroactive",
        "touched",
        "wake_ms",
    )

    def __init__(self, borrower_id: str, blob: bytes | None, borrower: Borrower | None = None) -> None:
        self.borrower_id = borrower_id
        self.blob = blob
        self.known = blob is not None
        if borrower is None:
            borrower = Borrower() if blob is None else unpack(blob)
        self.borrower = borrower
        self.wake_ms = self.borrower.wake_ms
        self.touched = False
        self.features = FeatureCache()
        self.parts = PackedParts()
        self.retroactive = False
        self.new_profile = False
        self.more_than_windows = False
        self.relieved_by = ""
        self.failed_days: list[int] = []

    def seat(self, borrower: Borrower, wake_ms: int | None) -> "Case":
        """This case for another look at it, with a standing and a wake-up of its own; all else is shared."""
        seat = Case(self.borrower_id, self.blob, borrower)
        seat.wake_ms = wake_ms
        seat.known, seat.touched = self.known, self.touched
        seat.features, seat.parts = self.features, self.parts
        seat.retroactive, seat.new_profile = self.retroactive, self.new_profile
        seat.more_than_windows, seat.relieved_by = self.more_than_windows, self.relieved_by
        return seat

    def dirty(self, parts: int) -> None:
        """Windows or loans have changed: the parts that `observe_*` names, LOANS for a loan."""
        self.features.dirty |= parts
        self.parts.changed |= parts


class Cases:
    """The cases of one task, at most `limit` of them: those opened longest ago give way."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._cases: dict[str, Case] = {}

    def __contains__(self, borrower_id: str) -> bool:
        return borrower_id in self._cases

    def __len__(self) -> int:
        return len(self._cases)

    def get(self, borrower_id: str) -> Case | None:
        return self._cases.get(borrower_id)

    def reopen(self, opened: dict[str, Case]) -> None:
        """Put back what a fold that is thrown away has opened: each case as it was packed last."""
        for borrower_id in opened:
            case = self._cases.get(borrower_id)
            if case is not None:
                self._cases[borrower_id] = Case(borrower_id, case.blob)

    def keep(self, opened: dict[str, Case]) -> None:
        """Keep what a fold has opened, but for borrowers of whom nothing is stored."""
        cases = self._cases
        for borrower_id, case in opened.items():
            cases.pop(borrower_id, None)
            if case.known:
                cases[borrower_id] = case
        excess = len(cases) - self._limit
        if excess > 0:
            for borrower_id in list(cases)[:excess]:
                del cases[borrower_id]
