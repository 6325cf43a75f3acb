"""A loan's rows from its entries, in key order.

``take`` brings the next entry of the journal into the derived fields. A payment or charge with the newest key changes a
few rows. A reversal, waiver or reschedule changes the past: all rows are allocated again from the beginning, with what
is known up to that entry, by the same functions.

What is owed in a cell (row, component) at a moment = what was billed there up to that moment (schedule plus charges,
less what a reschedule took away) less everything waived there that is known, never below zero. So a waiver lowers what
was owed as if it had never been, earliest bill first.
"""

from streams.engine.allocation import add_credit, allocate, draw_between, draw_credit
from streams.engine.loan import (
    AMOUNT,
    CELLS,
    CHARGE,
    DAY,
    DETAIL,
    DUE,
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
    SLOT_FEE,
    SLOT_INTEREST,
    SLOT_PRINCIPAL,
    SLOTS_MAX,
    UNPAID,
    WAIVER,
    Loan,
    row_named,
)


def take(loan: Loan) -> None:
    """Bring entry number `loan.applied` into the derived fields; the loan stands at that entry's business date."""
    index = loan.applied
    at = index * ENTRY
    kind = loan.journal[at]
    amount = loan.journal[at + AMOUNT]
    loan.applied = index + 1
    if kind < REVERSAL:
        loan.received_minor += amount
        if loan.entry_refs.index(loan.entry_refs[index]) < index:  # its reversal has been waiting for it
            loan.reversed_minor += amount
        else:
            _pay(loan, kind, amount, loan.as_of_day, None)
    elif kind == CHARGE:
        detail = loan.journal[at + DETAIL]
        row_id = row_named(loan, detail // 4 - 1, len(loan.replaced))
        _bill(loan, row_id, detail % 4, amount)
        draw_credit(loan, loan.as_of_day, None)
    elif kind == REVERSAL:
        paid = _payment_before(loan, index)
        if paid != NONE:
            loan.reversed_minor += loan.journal[paid * ENTRY + AMOUNT]
            allocate_again(loan)
    else:
        if kind == WAIVER:
            _waive(loan, loan.journal[at + DETAIL], amount)
        else:
            loan.replaced.append(_unpaid_rows(loan))
        allocate_again(loan)


def _payment_before(loan: Loan, index: int) -> int:
    """The payment that the reversal at `index` names, NONE if it has not come yet."""
    ref = loan.entry_refs[index]
    for earlier in range(index):
        if loan.entry_refs[earlier] == ref and loan.journal[earlier * ENTRY] < REVERSAL:
            return earlier
    return NONE


def _pay(loan: Loan, method: int, amount: int, day: int, fills: list[int] | None) -> None:
    left = allocate(loan, method, amount, day, fills)
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


def _slot_bill(loan: Loan, row_id: int) -> list[int]:
    """What the schedule asks for in a row: penalty, fee, interest, principal."""
    schedule = loan.schedules[row_id // SLOTS_MAX]
    at = row_id % SLOTS_MAX * SLOT
    return [0, schedule[at + SLOT_FEE], schedule[at + SLOT_INTEREST], schedule[at + SLOT_PRINCIPAL]]


def _owed(loan: Loan) -> dict[int, list[int]]:
    """Per row what is owed (paid or not) in each component, as of the entries applied before the newest one."""
    owed = {row_id: _slot_bill(loan, row_id) for row_id in loan.rows[ROW_ID::ROW]}
    version = 0
    for index in range(loan.applied - 1):
        at = index * ENTRY
        if loan.journal[at] == CHARGE:
            detail = loan.journal[at + DETAIL]
            owed[row_named(loan, detail // 4 - 1, version)][detail % 4] += loan.journal[at + AMOUNT]
        elif loan.journal[at] == RESCHEDULE:
            gone = loan.replaced[version]
            version += 1
            for row in range(0, len(gone), 5):
                cells = owed[gone[row]]
                for component in range(4):
                    cells[component] -= gone[row + 1 + component]
    for at in range(0, len(loan.waived), 2):
        owed[loan.waived[at] // 4][loan.waived[at] % 4] -= loan.waived[at + 1]
    return owed


def _waive(loan: Loan, detail: int, amount: int) -> None:
    """Note which cells a waiver lowers, each by no more than what is owed there, oldest due first."""
    component = detail % 4
    owed = _owed(loan)
    if detail < 4:
        row_ids = loan.rows[ROW_ID::ROW]
    else:
        row_ids = [row_named(loan, detail // 4 - 1, len(loan.replaced))]
    left = amount
    for row_id in row_ids:
        lowered = min(left, owed[row_id][component])
        if lowered > 0:
            loan.waived += (row_id * 4 + component, lowered)
            left -= lowered


def allocate_again(loan: Loan) -> None:
    """Compute rows, credit and allocated money from the beginning, with the entries applied so far."""
    journal = loan.journal
    reversed_refs = set()
    for index in range(loan.applied):
        if journal[index * ENTRY] == REVERSAL:
            reversed_refs.add(loan.entry_refs[index])
    fills: list[int] = []
    billed: dict[int, list[int]] = {}
    loan.rows, loan.first, loan.credits, loan.allocated_minor = [], 0, [], 0
    loan.outstanding = [0, 0, 0, 0]
    day = loan.disbursed_day
    version = 0
    open_schedule(loan, version, day, billed)
    for index in range(loan.applied):
        at = index * ENTRY
        value_day = max(journal[at + DAY], day)
        draw_between(loan, day, value_day, fills)
        day = value_day
        kind = journal[at]
        if kind < REVERSAL:
            if loan.entry_refs[index] not in reversed_refs:
                _pay(loan, kind, journal[at + AMOUNT], day, fills)
        elif kind == CHARGE:
            _bill_less_waived(loan, journal[at + DETAIL], journal[at + AMOUNT], version, billed)
            draw_credit(loan, day, fills)
        elif kind == RESCHEDULE:
            _replace(loan, loan.replaced[version], billed, fills)
            version += 1
            open_schedule(loan, version, day, billed)
            draw_credit(loan, day, fills)
    draw_between(loan, day, loan.as_of_day, fills)


def open_schedule(loan: Loan, version: int, day: int, billed: dict[int, list[int]]) -> None:
    """Add the rows of a schedule; `billed` takes per row what is billed less what is waived, which may be negative."""
    schedule = loan.schedules[version]
    added: list[list[int]] = []
    for slot in range(len(schedule) // SLOT):
        row_id = version * SLOTS_MAX + slot
        cells = _slot_bill(loan, row_id)
        billed[row_id] = cells
        for at in range(0, len(loan.waived), 2):
            if loan.waived[at] // 4 == row_id:
                cells[loan.waived[at] % 4] -= loan.waived[at + 1]
        unpaid = [max(0, cell) for cell in cells]
        for component in range(4):
            loan.outstanding[component] += unpaid[component]
        # A row that owes nothing is settled from the day it exists.
        added.append([row_id, schedule[slot * SLOT + SLOT_DUE], UNPAID if sum(unpaid) > 0 else day, *unpaid])
    rows = loan.rows
    merged = [rows[at : at + ROW] for at in range(0, len(rows), ROW)] + added
    merged.sort(key=_due_and_id)
    loan.rows = [number for row in merged for number in row]
    _find_first(loan)


def _due_and_id(row: list[int]) -> tuple[int, int]:
    return row[DUE], row[ROW_ID]


def _find_first(loan: Loan) -> None:
    rows = loan.rows
    at = 0
    while at < len(rows) and rows[at + PAID_DAY] != UNPAID:
        at += ROW
    loan.first = at // ROW


def _bill_less_waived(loan: Loan, detail: int, amount: int, version: int, billed: dict[int, list[int]]) -> None:
    row_id = row_named(loan, detail // 4 - 1, version)
    component = detail % 4
    before = billed[row_id][component]
    billed[row_id][component] = before + amount
    owed_more = max(0, before + amount) - max(0, before)
    if owed_more > 0:
        _bill(loan, row_id, component, owed_more)


def _replace(loan: Loan, gone: list[int], billed: dict[int, list[int]], fills: list[int]) -> None:
    """Take away what a reschedule took away: the unpaid part of each row as it was known then."""
    rows = loan.rows
    freed: list[int] = []
    indexes = {row_id: index for index, row_id in enumerate(rows[ROW_ID::ROW])}
    for row in range(0, len(gone), 5):
        at = indexes[gone[row]] * ROW
        cells = billed[gone[row]]
        for component in range(4):
            before = cells[component]
            cells[component] = before - gone[row + 1 + component]
            unpaid = rows[at + CELLS + component]
            now = unpaid - (max(0, before) - max(0, cells[component]))
            if now < 0:
                # A later waiver moved money here that was not here when the row was settled.
                freed += (gone[row] * 4 + component, -now)
                now = 0
            rows[at + CELLS + component] = now
            loan.outstanding[component] -= unpaid - now
        open_cells = sum(rows[at + CELLS : at + ROW])
        rows[at + PAID_DAY] = UNPAID if open_cells > 0 else REPLACED
    _find_first(loan)
    for at in range(0, len(freed), 2):
        _give_back(loan, freed[at], freed[at + 1], fills)


def _give_back(loan: Loan, cell: int, amount: int, fills: list[int]) -> None:
    """Turn money allocated to a cell into credit again, the money that came last first."""
    loan.allocated_minor -= amount
    left = amount
    for at in range(len(fills) - 3, -1, -3):
        if fills[at] == cell and left > 0:
            back = min(left, fills[at + 2])
            fills[at + 2] -= back
            left -= back
            add_credit(loan, fills[at + 1], back)
