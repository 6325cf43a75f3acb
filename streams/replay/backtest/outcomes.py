"""What became of people, from the ledger at the recording's end and with all that is known then."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from streams.engine.loan import FOREVER_DAY, NONE, Loan, ended_day
from streams.engine.spells import Spell, spells
from streams.policy.model import Facts
from streams.replay.cycle import LocalTask
from streams.replay.policy_diff import UNKNOWN_SEGMENT
from streams.replay.stops import everybody

OUTCOMES = (30, 60, 90)
"""Contractual days past due of the borrower, that is of the worst of its loans."""
OVERDUE = 1


class History(Struct, frozen=True):
    """What became of one borrower. `spells` by days past due (OVERDUE and OUTCOMES): when the borrower was so late.
    `loans` are kept of those who ever reached an outcome."""

    segment: str
    spells: dict[int, list[Spell]]
    loans: list[Loan]

    def reached(self, dpd: int, after_day: int, until_day: int) -> int | None:
        """The first business date after one and up to another on which the borrower became so late."""
        days = [first for first, _ in self.spells[dpd] if after_day < first <= until_day]
        return days[0] if days else None

    def is_at(self, dpd: int, day: int) -> bool:
        return any(first <= day < end for first, end in self.spells[dpd])

    def overdue_since(self, day: int) -> int:
        """Since when something has been overdue without a break, on a day on which something is."""
        return next(first for first, end in self.spells[OVERDUE] if first <= day < end)

    def was_at(self, dpd: int, from_day: int, until_day: int) -> bool:
        """Whether the borrower was so late on any business date from one to another."""
        return any(first <= until_day and from_day < end for first, end in self.spells[dpd])


class Histories:
    """Takes one task after the other. `facts` are the rules of the ledger that tells the outcomes; `left_out` are those
    of whom nothing is folded any more (in quarantine)."""

    def __init__(self, facts: Facts, ends_day: int) -> None:
        self.of: dict[str, History] = {}
        self.left_out: set[str] = set()
        self.facts = facts
        self._ends_day = ends_day

    def take(self, task: LocalTask) -> None:
        """Read what became of everybody in a task that has come to the recording's end."""
        for name, borrower in everybody(task):
            if borrower.facts.quarantine is not None:
                self.left_out.add(name)
                continue
            loans = list(borrower.facts.loans.values())
            profile = borrower.facts.profile
            late = self._late(loans)
            self.of[name] = History(
                UNKNOWN_SEGMENT if profile is None else profile.segment, late, loans if late[OUTCOMES[0]] else []
            )

    def _late(self, loans: Sequence[Loan]) -> dict[int, list[Spell]]:
        dpds = (OVERDUE, *OUTCOMES)
        by_loan = [spells(loan, dpds, self._ends_day, self.facts) for loan in loans]
        return {dpd: _union(spell for of_loan in by_loan for spell in of_loan[at]) for at, dpd in enumerate(dpds)}


def _union(parts: Iterable[Spell]) -> list[Spell]:
    """Stretches that touch or overlap become one."""
    found: list[Spell] = []
    for first, end in sorted(parts):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((first, end))
    return found


def is_owed(loan: Loan, day: int) -> bool:
    """Whether a loan was running as a business date began: one that ends on it still was."""
    ended = ended_day(loan)
    return loan.disbursed_day <= day <= (FOREVER_DAY if ended == NONE else ended)
