"""A loan's rows from its entries, in key order.

``take`` brings the next entry of the journal into the derived fields. Time is gone through with hindsight: of the first
``known`` entries every reversal and waiver is in force from the beginning, as if the payment had never been made and
the amount never been owed, whatever day the loan has come to. So neither changes anything when its own day comes; where
one comes to be known that was not when the loan went by, the loan begins again (``changes_the_past``).

A waiver lowers what was owed as if it had never been: of what was billed in that cell (row, component) the earliest
bill first, never more than all of it. Before its own day it does so with what was billed by then, after all of that.
A reschedule ends a row at what was paid on it when the reschedule came, without hindsight: the unpaid part disappears,
the latest bill first.
"""

from copy import copy

from streams.engine.allocation import add_credit, allocate, draw_between, draw_credit, skip_paid
from streams.engine.loan import (
    AMOUNT,
    CELLS,
    CHARGE,
    DAY,
    DETAIL,
    ENTRY,
    NONE,
    PAID_DAY,
    REPLACED,
    RESCHEDULE,
    REVERSAL,
    ROW,
    ROW_ID,
    SLOT,
    SLOT_DUE,
    SLOTS_MAX,
    UNPAID,
    WAIVER,
    Loan,
    row_named,
    row_order,
)
from streams.engine.rows import scheduled_row


def known_by(loan: Loan, day: int) -> int:
    """How many entries of the journal have a business date up to `day`."""
    journal = loan.journal
    at = len(journal)
    while at > 0 and journal[at - ENTRY + DAY] > day:
        at -= ENTRY
    return at // ENTRY


def changes_the_past(loan: Loan, known: int) -> bool:
    """Whether, of the first `known` entries, one not applied yet says that what is applied was otherwise."""
    applied = loan.applied
    for index in range(applied, known):
        kind = loan.journal[index * ENTRY]
        if kind == WAIVER or (kind == REVERSAL and loan.entry_refs[index] in loan.entry_refs[:applied]):
            return True
    return False


def take(loan: Loan, known: int) -> None:
    """Bring entry number `loan.applied` into the derived fields, with hindsight of the first `known` entries.

    The loan stands at the entry's business date.
    """
    index = loan.applied
    at = index * ENTRY
    kind = loan.journal[at]
    amount = loan.journal[at + AMOUNT]
    loan.applied = index + 1
    if kind < REVERSAL:
        loan.received_minor += amount
        refs = loan.entry_refs
        ref = refs[index]
        # Its reversal has been waiting for it, or is known with hindsight.
        if refs.index(ref) < index or (known > loan.applied and ref in refs[loan.applied : known]):
            loan.reversed_minor += amount
        else:
            _pay(loan, kind, amount, loan.as_of_day)
    elif kind == CHARGE:
        if WAIVER in loan.journal[at + ENTRY : known * ENTRY : ENTRY]:  # which may waive this charge too
            allocate_again(loan, known)
        else:
            detail = loan.journal[at + DETAIL]
            _bill(loan, row_named(loan, detail // 4 - 1, len(loan.replaced)), detail % 4, amount)
            draw_credit(loan, loan.as_of_day)
    elif kind == RESCHEDULE:
        loan.replaced.append(_unpaid_before(loan, index))
        allocate_again(loan, known)


def _unpaid_before(loan: Loan, index: int) -> list[int]:
    """What was unpaid when the reschedule at `index` came, as it was known then."""
    then = copy(loan)
    then.applied = index
    day = allocate_again(then, index)
    draw_between(then, day, loan.as_of_day)
    return _unpaid_rows(then)


def _pay(loan: Loan, method: int, amount: int, day: int) -> None:
    left = allocate(loan, method, amount, day)
    if left > 0:
        add_credit(loan, method, left)


def _bill(loan: Loan, row_id: int, component: int, amount: int) -> None:
    rows = loan.rows
    index = rows[ROW_ID::ROW].index(row_id)
    rows[index * ROW + CELLS + component] += amount
    rows[index * ROW + PAID_DAY] = UNPAID
    loan.outstanding[component] += amount
    loan.first = min(loan.first, index)


def _unpaid_rows(loan: Loan) -> list[int]:
    rows = loan.rows
    unpaid: list[int] = []
    for at in range(loan.first * ROW, len(rows), ROW):
        if rows[at + PAID_DAY] == UNPAID:
            unpaid.append(rows[at])
            unpaid += rows[at + CELLS : at + ROW]
    return unpaid


class Bills:
    """What is owed in each cell, bill by bill in key order: [entry that billed it or NONE for the schedule, amount]."""

    __slots__ = ("cells", "row_ids")

    def __init__(self, loan: Loan, known: int) -> None:
        """The bills by the charges, waivers and reschedules among the entries applied, then the other known waivers."""
        self.cells: dict[int, list[list[int]]] = {}
        self.row_ids: list[int] = []
        version = 0
        self._open(loan, version)
        for index in range(loan.applied):
            at = index * ENTRY
            kind = loan.journal[at]
            detail = loan.journal[at + DETAIL]
            if kind == CHARGE:
                cell = row_named(loan, detail // 4 - 1, version) * 4 + detail % 4
                self.cells[cell].append([index, loan.journal[at + AMOUNT]])
            elif kind == WAIVER:
                self._waive(loan, detail, loan.journal[at + AMOUNT], version)
            elif kind == RESCHEDULE:
                self._end(loan.replaced[version])
                version += 1
                self._open(loan, version)
        for at in range(loan.applied * ENTRY, known * ENTRY, ENTRY):
            if loan.journal[at] == WAIVER:
                self._waive(loan, loan.journal[at + DETAIL], loan.journal[at + AMOUNT], version)

    def billed(self, cell: int, entry: int) -> int:
        """What an entry (NONE: the schedule) bills in a cell."""
        for by, amount in self.cells[cell]:
            if by == entry:
                return amount
        return 0

    def _open(self, loan: Loan, version: int) -> None:
        for slot in range(len(loan.schedules[version]) // SLOT):
            row_id = version * SLOTS_MAX + slot
            self.row_ids.append(row_id)
            for component, amount in enumerate(scheduled_row(loan.schedules, row_id)[CELLS:]):
                self.cells[row_id * 4 + component] = [[NONE, amount]]
        self.row_ids.sort(key=lambda row_id: row_order(loan, row_id))

    def _waive(self, loan: Loan, detail: int, amount: int, version: int) -> None:
        row_ids = self.row_ids
        if detail >= 4:
            named = row_named(loan, detail // 4 - 1, version)
            row_ids = [] if named == NONE else [named]  # no schedule so far has it
        left = amount
        for row_id in row_ids:
            for bill in self.cells[row_id * 4 + detail % 4]:
                lowered = min(left, bill[1])
                bill[1] -= lowered
                left -= lowered

    def _end(self, gone: list[int]) -> None:
        for row in range(0, len(gone), 5):
            for component in range(4):
                left = gone[row + 1 + component]
                for bill in reversed(self.cells[gone[row] * 4 + component]):
                    lowered = min(left, bill[1])
                    bill[1] -= lowered
                    left -= lowered


def allocate_again(loan: Loan, known: int) -> int:
    """Compute rows, credit and allocated money from the beginning, with the entries applied so far.

    The reversals and waivers among the first `known` entries (at least those applied) are in force throughout. Returns
    the business date reached: that of the last entry applied, or that of the disbursement.
    """
    journal = loan.journal
    reversed_refs = set()
    for index in range(known):
        if journal[index * ENTRY] == REVERSAL:
            reversed_refs.add(loan.entry_refs[index])
    bills = Bills(loan, known)
    loan.rows, loan.first, loan.credits, loan.allocated_minor = [], 0, [], 0
    loan.outstanding = [0, 0, 0, 0]
    day = loan.disbursed_day
    version = 0
    _open_schedule(loan, version, day, bills)
    for index in range(loan.applied):
        at = index * ENTRY
        value_day = max(journal[at + DAY], day)
        draw_between(loan, day, value_day)
        day = value_day
        kind = journal[at]
        if kind < REVERSAL:
            if loan.entry_refs[index] not in reversed_refs:
                _pay(loan, kind, journal[at + AMOUNT], day)
        elif kind == CHARGE:
            detail = journal[at + DETAIL]
            row_id = row_named(loan, detail // 4 - 1, version)
            billed = bills.billed(row_id * 4 + detail % 4, index)
            if billed > 0:
                _bill(loan, row_id, detail % 4, billed)
                draw_credit(loan, day)
        elif kind == RESCHEDULE:
            _mark_replaced(loan, loan.replaced[version])
            version += 1
            _open_schedule(loan, version, day, bills)
            draw_credit(loan, day)
    return day


def _open_schedule(loan: Loan, version: int, day: int, bills: Bills) -> None:
    """Add the rows of a schedule, which exist from a business date on."""
    rows = loan.rows
    merged = [rows[at : at + ROW] for at in range(0, len(rows), ROW)]
    schedule = loan.schedules[version]
    for slot in range(len(schedule) // SLOT):
        row_id = version * SLOTS_MAX + slot
        unpaid = [bills.billed(row_id * 4 + component, NONE) for component in range(4)]
        for component in range(4):
            loan.outstanding[component] += unpaid[component]
        # A row that owes nothing is settled from the day it exists.
        merged.append([row_id, schedule[slot * SLOT + SLOT_DUE], UNPAID if sum(unpaid) > 0 else day, *unpaid])
    merged.sort(key=lambda row: row_order(loan, row[ROW_ID]))
    loan.rows = [number for row in merged for number in row]
    loan.first = 0
    skip_paid(loan)


def _mark_replaced(loan: Loan, gone: list[int]) -> None:
    """Rows that a reschedule ended were not paid in full; where a reversal opened them again they are unpaid."""
    rows = loan.rows
    ended = set(gone[::5])
    for at in range(0, len(rows), ROW):
        if rows[at] in ended and rows[at + PAID_DAY] != UNPAID:
            rows[at + PAID_DAY] = REPLACED
