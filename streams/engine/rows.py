"""A loan's rows as they are packed: rows that are as their schedule set them are only counted.

Most rows of a loan wait for a day that has not come, and repeat what stands in the schedule already. In the short form
a run of such rows, with row ids one behind the other, is the first id and how many they are. Any other row is -1 minus
its id and then the rest of it, as in :mod:`streams.engine.loan`.
"""

from streams.engine.loan import (
    NONE,
    ROW,
    ROW_ID,
    SLOT,
    SLOT_DUE,
    SLOT_FEE,
    SLOT_INTEREST,
    SLOT_PRINCIPAL,
    SLOTS_MAX,
    UNPAID,
    Loan,
)


def short_rows(loan: Loan) -> list[int]:
    """The short form of `loan.rows`."""
    rows, schedules = loan.rows, loan.schedules
    short: list[int] = []
    following = NONE
    for at in range(0, len(rows), ROW):
        row_id, rest = rows[at + ROW_ID], rows[at + 1 : at + ROW]
        if rest != _as_set(schedules, row_id):
            short.append(-1 - row_id)
            short += rest
            following = NONE
            continue
        if row_id == following:
            short[-1] += 1
        else:
            short += (row_id, 1)
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
            rows.append(row_id)
            rows += _as_set(schedules, row_id)
        at += 2
    return rows


def _as_set(schedules: list[list[int]], row_id: int) -> list[int]:
    """A row, without its id, of which nothing is paid and to which nothing has been added."""
    schedule, at = schedules[row_id // SLOTS_MAX], row_id % SLOTS_MAX * SLOT
    return [
        schedule[at + SLOT_DUE],
        UNPAID,
        0,
        schedule[at + SLOT_FEE],
        schedule[at + SLOT_INTEREST],
        schedule[at + SLOT_PRINCIPAL],
    ]
