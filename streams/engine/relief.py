"""What incidents do to one borrower: graces and skipped logins, and what is told downstream of them beside the
decisions that they undo.

due_date_shifted   an unpaid instalment whose due date lies in a grace counts as overdue only after it. Told again, as
                   a compensation, when the incident ends on another day or turns out to have no grace for the loan.
waiver_proposed    penalties charged during a grace; each once, less what was waived already
"""

from msgspec import UNSET

from schemas import outbound
from streams.engine import graces, ledger
from streams.engine.calendar import Calendar, iso_day
from streams.engine.cases import Case
from streams.engine.chunk import TaskState
from streams.engine.encode import Emitter
from streams.engine.loan import (
    AMOUNT,
    CHARGE,
    COMPONENTS,
    DAY,
    DETAIL,
    DUE,
    ENTRY,
    FOREVER_DAY,
    NONE,
    PAID_DAY,
    ROW,
    UNPAID,
    WAIVER,
    Loan,
    row_no,
)
from streams.engine.standing import LoanStanding, Shift
from streams.engine.windows import LOANS, LOGINS
from streams.policy.model import Facts

TOPIC = "delinquency"
_PENALTY = COMPONENTS.index("penalty")


def heed_incidents(case: Case, task: TaskState, as_of_ms: int, rules: Facts, calendar: Calendar) -> None:
    """Bring a borrower up to the incidents its task knows; `case.relieved_by` tells whether that changes a grace.

    To be done before the borrower is judged, after an event of its own, at its wake-up or for the incident's sake.
    """
    facts = case.borrower.facts
    if facts.incidents_rev == task.incidents_rev and not (case.more_than_windows and task.incidents):
        return
    for loan in facts.loans.values():
        if rules.incidents.reach == "due":
            ledger.settle(loan, calendar.day(as_of_ms), rules)
            case.dirty(LOANS)
        case.relieved_by = graces.give(loan, task.incidents, rules.incidents, calendar) or case.relieved_by
    if case.relieved_by:
        case.retroactive = case.more_than_windows = True
        case.dirty(LOANS)
    logins = facts.windows.logins
    if logins is not None and graces.skip_logins(logins, facts.loans.values(), task.incidents, calendar):
        case.dirty(LOGINS)
    facts.incidents_rev = task.incidents_rev


def note_overdue(case: Case, as_of_ms: int, calendar: Calendar) -> None:
    """Enter what has fallen overdue into the index of failures, where a later incident finds what was due."""
    for loan in case.borrower.facts.loans.values():
        days = graces.newly_overdue(loan, calendar.day(as_of_ms))
        if days:
            case.failed_days += days
            case.dirty(LOANS)


def tell_relief(loan: Loan, standing: LoanStanding, emitter: Emitter) -> None:
    """Tell what has changed since it was last told."""
    _tell_shifts(loan, standing, emitter)
    for at, incident_id in enumerate(loan.grace_ids):
        _propose_waivers(loan, standing, loan.graces[2 * at], loan.graces[2 * at + 1], incident_id, emitter)


def _tell_shifts(loan: Loan, standing: LoanStanding, emitter: Emitter) -> None:
    unpaid = _unpaid_dues(loan)
    told = {(shift.incident_id, shift.no): shift for shift in standing.shifts if unpaid.get(shift.no) == shift.due_day}
    kept: list[Shift] = []
    for at, incident_id in enumerate(loan.grace_ids):
        first, last = loan.graces[2 * at], loan.graces[2 * at + 1]
        for no, due in unpaid.items():
            # A failure on the day after the due date leaves no day of arrears before the grace.
            if not first - 1 <= due < last or last >= FOREVER_DAY:
                continue
            before = told.pop((incident_id, no), None)
            if before is None or before.to_day != last:
                before = _shift(loan, incident_id, no, due, last, before, emitter)
            kept.append(before)
    for shift in told.values():
        if _grace_end(loan, shift.incident_id) == FOREVER_DAY:
            kept.append(shift)
        else:
            _shift(loan, shift.incident_id, shift.no, shift.due_day, shift.due_day, shift, emitter)
    standing.shifts = kept


def _unpaid_dues(loan: Loan) -> dict[int, int]:
    """Due day of every unpaid instalment, by number; the newest row of a number stands."""
    rows = loan.rows
    found: dict[int, tuple[int, int]] = {}
    for at in range(loan.first * ROW, len(rows), ROW):
        if rows[at + PAID_DAY] == UNPAID:
            no = row_no(loan, rows[at])
            if no not in found or rows[at] > found[no][0]:
                found[no] = (rows[at], rows[at + DUE])
    return {no: due for no, (_, due) in found.items()}


def _grace_end(loan: Loan, incident_id: str) -> int:
    return loan.graces[2 * loan.grace_ids.index(incident_id) + 1] if incident_id in loan.grace_ids else NONE


def _shift(
    loan: Loan, incident_id: str, no: int, due_day: int, to_day: int, before: Shift | None, emitter: Emitter
) -> Shift:
    event_id = emitter.emit(
        TOPIC,
        outbound.DueDateShifted,
        "due_date_shifted",
        loan_id=loan.loan_id,
        instalment_no=no,
        from_on=iso_day(due_day if before is None else before.to_day),
        to_on=iso_day(to_day),
        incident_id=incident_id,
        compensates=UNSET if before is None else before.event_id,
    )
    return Shift(incident_id, no, due_day, to_day, event_id)


def _propose_waivers(
    loan: Loan, standing: LoanStanding, first: int, last: int, incident_id: str, emitter: Emitter
) -> None:
    journal = loan.journal
    proposed: dict[int, int] = {}
    for index, entry_id in enumerate(loan.entry_ids):
        at = index * ENTRY
        if journal[at] != CHARGE or journal[at + DETAIL] % 4 != _PENALTY or not first <= journal[at + DAY] <= last:
            continue
        if entry_id not in standing.waivers_proposed:
            standing.waivers_proposed.append(entry_id)
            no = journal[at + DETAIL] // 4 - 1
            proposed[no] = proposed.get(no, 0) + journal[at + AMOUNT]
    for no, amount_minor in proposed.items():
        left = min(amount_minor, _penalties_left(loan, no))
        if left > 0:
            emitter.emit(
                TOPIC,
                outbound.WaiverProposed,
                "waiver_proposed",
                loan_id=loan.loan_id,
                instalment_no=no,
                component="penalty",
                amount_minor=left,
                incident_id=incident_id,
            )


def _penalties_left(loan: Loan, no: int) -> int:
    """Penalties charged on an instalment, less what was waived of them by its number."""
    journal, cell = loan.journal, _PENALTY + 4 * (no + 1)
    left = 0
    for at in range(0, len(journal), ENTRY):
        if journal[at + DETAIL] == cell:
            if journal[at] == CHARGE:
                left += journal[at + AMOUNT]
            elif journal[at] == WAIVER:
                left -= journal[at + AMOUNT]
    return left
