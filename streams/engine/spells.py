"""The stretches of days on which a loan was so many days past due, told afterwards with all that is known.

For what becomes of people (back-tests, reports): decisions ask of the day they are made on, and of no other.
"""

from collections.abc import Sequence
from copy import copy

from streams.engine.arrears import COUNTS_AS, basis_of, contractual_dpd, next_change_day, oldest_due
from streams.engine.history import known_by
from streams.engine.ledger import begin_again, bring_forward
from streams.engine.loan import DAY, ENTRY, FOREVER_DAY, NONE, Loan, is_ended
from streams.engine.loan_facts import is_written_off
from streams.policy.model import Facts

Spell = tuple[int, int]
"""First day, and the day after the last one (FOREVER_DAY: it runs on)."""


def spells(loan: Loan, dpds: Sequence[int], until_day: int, facts: Facts) -> list[list[Spell]]:
    """For each of `dpds` the stretches of business dates with a contractual DPD from there up, as far as `until_day`.

    A payment that was reversed never was, one that was told late counts from its value day, as in
    `delinquency.position_as_of`. From the day it is written off a loan has reached any DPD for good: that loss is not
    cured. `dpds` are 1 or more. The loan itself is not changed.
    """
    past = copy(loan)
    known = known_by(loan, max(until_day, loan.as_of_day))
    begin_again(past, basis_of(facts, loan.currency), known)
    found: list[list[Spell]] = [[] for _ in dpds]
    began = [NONE for _ in dpds]
    day = loan.disbursed_day
    while day != NONE and day <= until_day:
        bring_forward(past, day, known)
        reached = _dpd(past, day)
        for at, dpd in enumerate(dpds):
            if reached >= dpd and began[at] == NONE:
                began[at] = day
            elif reached < dpd and began[at] != NONE:
                found[at].append((began[at], day))
                began[at] = NONE
        day = _next_day(past, day, reached, dpds)
    for at, first in enumerate(began):
        if first != NONE:
            found[at].append((first, FOREVER_DAY))
    return found


def _dpd(loan: Loan, day: int) -> int:
    if is_written_off(loan, day):
        return FOREVER_DAY
    due = oldest_due(loan)
    return 0 if due == NONE or is_ended(loan, day) else contractual_dpd(loan, due, day)


def _next_day(loan: Loan, day: int, reached: int, dpds: Sequence[int]) -> int:
    """The first day after `day` on which one of `dpds` may be reached or left, NONE if there is none."""
    candidates = [next_change_day(loan, day), loan.written_off_day]
    at = loan.applied * ENTRY
    if at < len(loan.journal):
        candidates.append(loan.journal[at + DAY])
    due = oldest_due(loan)
    if due != NONE:
        candidates += [due + dpd - loan.basis[COUNTS_AS] for dpd in dpds if dpd > reached]
    return min((candidate for candidate in candidates if candidate > day), default=NONE)
