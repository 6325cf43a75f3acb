"""What was in arrears on any day of the year, as it is known at its end: read off the ledger's rows, day by day."""

from collections.abc import Iterable, Mapping
from functools import cached_property

from streams.engine import delinquency
from streams.engine.loan import (
    DAY,
    DUE,
    ENTRY,
    KIND,
    NONE,
    PAID_DAY,
    REPLACED,
    RESCHEDULE,
    ROW,
    ROW_ID,
    SLOTS_MAX,
    UNPAID,
    Loan,
    is_ended,
)
from streams.policy.model import Facts

NEVER = 10**6


class Row:
    """An instalment from `set_day` on; from `gone_day` on it is paid or replaced."""

    def __init__(self, due_day: int, set_day: int, gone_day: int, paid: bool) -> None:
        self.due_day, self.set_day, self.gone_day, self.paid = due_day, set_day, gone_day, paid


class LoanDays:
    """One loan. `excused` are the days that outages excuse, as the recorded failures and incidents tell."""

    def __init__(self, loan: Loan, excused: set[int], facts: Facts) -> None:
        self.loan = loan
        self.excused = excused
        self.facts = facts
        self.rows = _rows(loan)

    def contractual(self, day: int, morning: bool = False) -> int:
        """Days past due at the end of a day, or in its `morning`, before what was paid on it."""
        if is_ended(self.loan, day - 1 if morning else day) or day < self.loan.disbursed_day:
            return 0
        return max(0, day - min((row.due_day for row in self.rows if _open(row, day, morning)), default=day))

    def managed(self, day: int, morning: bool = False) -> int:
        """Those of them that neither an outage excuses nor a pause that was set by then."""
        overdue = self.contractual(day, morning)
        return sum(1 for at in range(day - overdue + 1, day + 1) if not self._stopped(at, day))

    def material(self, day: int) -> bool:
        """Whether what is past due at the end of a day is above the thresholds of materiality."""
        return delinquency.position_as_of(self.loan, day, self.facts).material > 0

    def _stopped(self, day: int, known_day: int) -> bool:
        pauses = self.loan.pauses
        return day in self.excused or any(
            pauses[at] <= day <= pauses[at + 1] and pauses[at + 2] <= known_day for at in range(0, len(pauses), 3)
        )

    @cached_property
    def first_late_day(self) -> int:
        """The first day on which something was unpaid after its due date for no fault of an outage."""
        first = NEVER
        for row in self.rows:
            for day in range(row.due_day + 1, min(row.gone_day, first, self.loan.as_of_day) + 1):
                if day not in self.excused and not is_ended(self.loan, day):
                    first = day
                    break
        return first

    def on_time(self, after_day: int, day: int) -> bool:
        """Whether an instalment that fell due after a day has been paid on time by another one."""
        return not is_ended(self.loan, day) and any(
            after_day < row.due_day <= day and row.paid and row.gone_day <= day and self._lateness(row) == 0
            for row in self.rows
        )

    def _lateness(self, row: Row) -> int:
        return sum(1 for day in range(row.due_day + 1, row.gone_day + 1) if day not in self.excused)

    def owes(self, day: int) -> bool:
        """Whether anything is left to pay on it."""
        if is_ended(self.loan, day) or day < self.loan.disbursed_day:
            return False
        return any(row.set_day <= day < row.gone_day for row in self.rows)


def _open(row: Row, day: int, morning: bool) -> bool:
    return row.set_day <= day and (row.gone_day >= day if morning else row.gone_day > day)


def _rows(loan: Loan) -> list[Row]:
    journal = loan.journal
    resets = [journal[at + DAY] for at in range(0, len(journal), ENTRY) if journal[at + KIND] == RESCHEDULE]
    replaced = {row_id: day for day, gone in zip(resets, loan.replaced, strict=False) for row_id in gone[::5]}
    rows: list[Row] = []
    for at in range(0, len(loan.rows), ROW):
        row_id, paid_day = loan.rows[at + ROW_ID], loan.rows[at + PAID_DAY]
        version = row_id // SLOTS_MAX
        set_day = loan.disbursed_day if version == 0 else resets[version - 1]
        gone_day = NEVER if paid_day == UNPAID else replaced[row_id] if paid_day == REPLACED else paid_day
        rows.append(Row(loan.rows[at + DUE], set_day, gone_day, paid_day >= 0))
    return rows


class Arrears:
    """All loans of one borrower."""

    def __init__(self, loans: Iterable[Loan], excused: Mapping[str, set[int]], facts: Facts) -> None:
        self.loans = [LoanDays(loan, excused.get(loan.loan_id, set()), facts) for loan in loans]

    def contractual(self, day: int) -> int:
        return max((loan.contractual(day) for loan in self.loans), default=0)

    def managed(self, day: int, morning: bool = False) -> int:
        return max((loan.managed(day, morning) for loan in self.loans), default=0)

    def reaching(self, managed: int, day: int, morning: bool) -> int:
        """How many loans are that many days past due on a day."""
        return sum(1 for loan in self.loans if loan.managed(day, morning) >= managed)

    def material(self, managed: int, day: int) -> bool:
        """Whether a loan is that many days past due at the end of a day, with arrears that are material."""
        return any(loan.managed(day) >= managed and loan.material(day) for loan in self.loans)

    def episodes(self, managed: int, day: int) -> int:
        """How many separate stretches of that many days past due there were in the year up to a day."""
        found = 0
        for loan in self.loans:
            inside = False
            for at in range(day - 364, day + 1):
                reached = loan.managed(at, morning=True)
                found += reached >= managed and not inside
                inside = reached >= managed or (inside and reached > 0)
        return found

    def late_by(self, day: int) -> bool:
        """Whether anything was late by a day for no fault of an outage."""
        return any(loan.first_late_day <= day for loan in self.loans)

    def written_off(self, day: int) -> bool:
        return any(NONE < loan.loan.written_off_day <= day for loan in self.loans)

    def on_time(self, after_day: int, day: int) -> bool:
        """Whether something was paid on time between two days, or nothing is left to pay."""
        return not any(loan.owes(day) for loan in self.loans) or any(
            loan.on_time(after_day, day) for loan in self.loans
        )
