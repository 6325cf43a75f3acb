"""What a borrower owes on its own loans, now and some time ago."""

from collections.abc import Collection

from streams.engine.feature import NEVER, Value
from streams.engine.loan import (
    AMOUNT,
    CHARGE,
    DAY,
    ENTRY,
    KIND,
    NONE,
    RESCHEDULE,
    REVERSAL,
    WAIVER,
    Loan,
    unapplied_minor,
)


def owed(loans: Collection[Loan], currency: str, day: int) -> Value:
    """All that is unpaid on the loans in a currency; None where there is no such loan. A loan that was closed is
    settled, one that was written off is still owed."""
    debt: Value = None
    for loan in loans:
        if loan.currency == currency:
            closed = loan.closed_day != NONE and loan.closed_day <= day
            debt = (debt or 0) + (0 if closed else sum(loan.outstanding))
    return debt


def owed_before(loans: Collection[Loan], currency: str, day: int, before_day: int) -> tuple[Value, int]:
    """The same as of the end of an earlier day: what is owed now, without what was charged since and with what was
    paid or waived since; None where a loan has a new schedule since. And the day from which the answer to the same
    question about as many days before may be another."""
    span = day - before_day
    debt, until = 0, NEVER
    known = True
    for loan in loans:
        if loan.currency != currency or (loan.closed_day != NONE and loan.closed_day <= before_day):
            continue
        if loan.disbursed_day > before_day:
            until = min(until, loan.disbursed_day + span)
            continue
        if loan.closed_day != NONE:
            until = min(until, loan.closed_day + span)
        moved, paid, replaced, leaves = _since(loan, day, before_day, span)
        until = min(until, leaves)
        known = known and not replaced
        debt += max(0, sum(loan.outstanding) + moved + max(0, paid - unapplied_minor(loan)))
    return (debt if known else None), until


def _since(loan: Loan, day: int, before_day: int, span: int) -> tuple[int, int, bool, int]:
    """Waived less charged, paid, whether the schedule was replaced; and when an entry leaves or enters the span."""
    moved = paid = 0
    replaced = False
    until = NEVER
    journal = loan.journal
    for index in range(len(loan.entry_ids) - 1, -1, -1):
        at = index * ENTRY
        on, kind = journal[at + DAY], journal[at + KIND]
        if on <= before_day:
            break
        if on > day:
            until = min(until, on)
            continue
        until = min(until, on + span)
        if kind < REVERSAL:
            paid += journal[at + AMOUNT] if loan.entry_refs.count(loan.entry_refs[index]) == 1 else 0
        elif kind == CHARGE:
            moved -= journal[at + AMOUNT]
        elif kind == WAIVER:
            moved += journal[at + AMOUNT]
        elif kind == RESCHEDULE:
            replaced = True
    return moved, paid, replaced, until
