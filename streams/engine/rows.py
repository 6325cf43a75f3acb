"""A loan's rows as their schedule sets them, and as they are packed: rows that still are so are only counted.

Most rows of a loan wait for a day that has not come, and repeat what stands in the schedule already. In the short form
a run of such rows, with row ids one behind the other, is the first id and how many they are. Any other row is -1 minus
its id and then the rest of it, as in :mod:`streams.engine.loan`.
"""

from streams.engine.loan import (
    CELLS,
    DUE,
    NONE,
    PAID_DAY,
    ROW,
    SLOT,
    SLOT_DUE,
    SLOT_FEE,
    SLOT_INTEREST,
    SLOT_PRINCIPAL,
    SLOTS_MAX,
    UNPAID,
    Loan,
)


def scheduled_row(schedules: list[list[int]], row_id: int) -> list[int]:
    """A row as its schedule sets it: no penalty, and all of it unpaid."""
    schedule, slot = schedules[row_id // SLOTS_MAX], row_id % SLOTS_MAX * SLOT
    return [
        row_id,
        schedule[slot + SLOT_DUE],
        UNPAID,
        0,
        schedule[slot + SLOT_FEE],
        schedule[slot + SLOT_INTEREST],
        schedule[slot + SLOT_PRINCIPAL],
    ]


def short_rows(loan: Loan) -> list[int]:
    """The short form of `loan.rows`."""
    rows, schedules = loan.rows, loan.schedules
    short: list[int] = []
    following = NONE
    for at in range(0, len(rows), ROW):
        row_id = rows[at]
        schedule, slot = schedules[row_id // SLOTS_MAX], row_id % SLOTS_MAX * SLOT
        # Compared one by one: this is done at every event of a loan.
        if (
            rows[at + PAID_DAY] != UNPAID
            or rows[at + DUE] != schedule[slot + SLOT_DUE]
            or rows[at + CELLS] != 0
            or rows[at + CELLS + 1] != schedule[slot + SLOT_FEE]
            or rows[at + CELLS + 2] != schedule[slot + SLOT_INTEREST]
            or rows[at + CELLS + 3] != schedule[slot + SLOT_PRINCIPAL]
        ):
            short.append(-1 - row_id)
            short += rows[at + 1 : at + ROW]
            following = NONE
        elif row_id == following:
            short[-1] += 1
            following += 1
        else:
            short.append(row_id)
            short.append(1)
            following = row_id + 1
    return short


def whole_rows(schedules: list[list[int]], short: list[int]) -> list[int]:
    """The rows of which `short` is the short form."""
    rows: list[int] = []
    at, end = 0, len(short)
    while at < end:
        first = short[at]
        if first < 0:
            rows.append(-1 - first)
            rows += short[at + 1 : at + ROW]
            at += ROW
            continue
        for row_id in range(first, first + short[at + 1]):
            rows += scheduled_row(schedules, row_id)
        at += 2
    return rows
