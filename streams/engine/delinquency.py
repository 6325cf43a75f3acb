"""How overdue a loan is on a business date: three counters side by side, so that grace can never hide arrears.

contractual  days since the oldest unpaid due date, never paused
managed      contractual less the days of pauses and of incidents' grace after that due date
material     consecutive days of arrears above both materiality thresholds (CRR Article 178), those of an incident's
             grace left out
"""

from collections.abc import Sequence
from copy import copy

from msgspec import Struct

from streams.engine.arrears import (
    COUNTS_AS,
    EPISODE_DPD,
    basis_of,
    contractual_dpd,
    day_of_managed,
    graced_days,
    is_material,
    managed_dpd,
    next_change_day,
    oldest_due,
)
from streams.engine.calendar import DAY_MS
from streams.engine.history import changes_the_past, known_by
from streams.engine.ledger import begin_again, bring_forward, settle
from streams.engine.loan import (
    CELLS,
    CHARGE,
    DAY,
    DETAIL,
    DUE,
    ENTRY,
    FOREVER_DAY,
    NONE,
    OFFSET,
    PAID_DAY,
    RESCHEDULE,
    REVERSAL,
    ROW,
    SLOTS_MAX,
    UNPAID,
    Loan,
    is_ended,
    row_named,
    schedule_setters,
    unapplied_minor,
)
from streams.policy.model import Facts

Cells = tuple[int, int, int, int]
_NOTHING: Cells = (0, 0, 0, 0)


class Position(Struct, frozen=True, gc=False):
    """A loan on a business date. Counters are days, amounts minor units (penalty, fee, interest, principal)."""

    contractual: int
    managed: int
    material: int
    principal: int
    interest: int
    outstanding: Cells
    overdue: Cells
    """Unpaid amounts of instalments due before the day."""
    unapplied_minor: int
    ended: bool


def position(loan: Loan, day: int, facts: Facts) -> Position:
    """The loan on business date `day`; brings it forward to that day, or looks back if it stands later already."""
    if day < loan.as_of_day:
        return position_as_of(loan, day, facts)
    settle(loan, day, facts)
    return _read(loan, day)


def position_as_of(loan: Loan, day: int, facts: Facts) -> Position:
    """The loan at the end of a past business date: entries with a value day up to it, all that are known today.

    A payment reversed by the day the loan stands at never was, an amount waived by then never owed, whatever day they
    were reversed and waived on. Replays the loan's entries; the loan itself is not changed.
    """
    return _read(_replayed(loan, day, facts), day)


def before_payments_of_the_day(loan: Loan, day: int, at_ms: int, end_ms: int) -> Loan:
    """The loan as if what was paid on a business date after `at_ms`, until `end_ms` when the date ended, had not come.

    A payment valued on that date that was told later counts: a value date has no hour.
    """
    journal = loan.journal
    later = {
        at
        for at in range(0, len(journal), ENTRY)
        if journal[at] < REVERSAL and journal[at + DAY] == day and at_ms < day * DAY_MS + journal[at + OFFSET] < end_ms
    }
    if not later:
        return loan
    kept = [at for at in range(0, len(journal), ENTRY) if at not in later]
    then = copy(loan)
    then.journal = [number for at in kept for number in journal[at : at + ENTRY]]
    then.entry_ids = [loan.entry_ids[at // ENTRY] for at in kept]
    then.entry_refs = [loan.entry_refs[at // ENTRY] for at in kept]
    then.applied = NONE
    return then


def _replayed(loan: Loan, day: int, facts: Facts) -> Loan:
    past = copy(loan)
    known = known_by(loan, max(day, loan.as_of_day))
    begin_again(past, basis_of(facts, loan.currency), known)
    bring_forward(past, day, known)
    return past


def _read(loan: Loan, day: int) -> Position:
    if day < loan.disbursed_day:
        return Position(0, 0, 0, 0, 0, _NOTHING, _NOTHING, 0, False)
    rows = loan.rows
    counts_as = loan.basis[COUNTS_AS]
    penalty = fee = interest = principal = 0
    interest_due = principal_due = NONE
    for at in range(loan.first * ROW, len(rows), ROW):
        due = rows[at + DUE]
        if due >= day:
            break
        if rows[at + PAID_DAY] == UNPAID:
            penalty += rows[at + CELLS]
            fee += rows[at + CELLS + 1]
            if interest == 0:
                interest_due = due
            if principal == 0:
                principal_due = due
            interest += rows[at + CELLS + 2]
            principal += rows[at + CELLS + 3]
    owed = loan.outstanding
    outstanding = (owed[0], owed[1], owed[2], owed[3])
    overdue = (penalty, fee, interest, principal)
    unapplied = unapplied_minor(loan)
    if is_ended(loan, day):
        return Position(0, 0, 0, 0, 0, outstanding, overdue, unapplied, True)
    due = oldest_due(loan)
    if due == NONE or due > day or (due == day and counts_as == 0):
        return Position(0, 0, 0, 0, 0, outstanding, overdue, unapplied, False)
    material = 0
    if is_material(penalty + fee + interest + principal, sum(owed), loan.basis):
        start = day if loan.material_from == NONE else loan.material_from
        material = day - start + 1
        if loan.graces:
            # Technical past due (EBA/GL/2016/07, 23): such days do not count, nor do they end the stretch.
            material -= graced_days(loan, start - 1, day)
    return Position(
        contractual_dpd(loan, due, day),
        managed_dpd(loan, due, day),
        material,
        day - principal_due + counts_as if principal > 0 else _due_today(loan, day, 3),
        day - interest_due + counts_as if interest > 0 else _due_today(loan, day, 2),
        outstanding,
        overdue,
        unapplied,
        False,
    )


def _due_today(loan: Loan, day: int, component: int) -> int:
    """DPD of a component of which nothing is overdue: where the due date counts as 1, 1 if some of it is due today."""
    if loan.basis[COUNTS_AS] == 0:
        return 0
    rows = loan.rows
    for at in range(loan.first * ROW, len(rows), ROW):
        if rows[at + DUE] == day and rows[at + CELLS + component] > 0:
            return 1
    return 0


def episode_days(loan: Loan, day: int, days: int, facts: Facts) -> list[int]:
    """When each overdue episode reached managed DPD 30 in the `days` days up to a business date, oldest first.

    Between two episodes no instalment was overdue. A day before the one the loan stands at is answered with all that is
    known today.
    """
    if day < loan.disbursed_day:
        return []
    if day < loan.as_of_day:
        return episode_days(_replayed(loan, day, facts), day, days, facts)
    settle(loan, day, facts)
    reached = [at for at in loan.episodes if at > day - days]
    due = oldest_due(loan)
    running = loan.in_episode == 1 and due != NONE and contractual_dpd(loan, due, day) > 0
    if due != NONE and not running and not is_ended(loan, day) and managed_dpd(loan, due, day) >= EPISODE_DPD:
        reached.append(day)
    return reached


def separate_episodes(reached: Sequence[int]) -> int:
    """How many episodes of a borrower are separate, given the days on which those of all loans reached DPD 30.

    Loans that reached it within 30 days of one another were late at the same time: that is one stretch of arrears.
    """
    ordered = sorted(reached)
    return sum(1 for at, day in enumerate(ordered) if at == 0 or day - ordered[at - 1] >= EPISODE_DPD)


def learns_past(loan: Loan, day: int) -> bool:
    """Whether a reversal or waiver that is not in force yet comes into force by a business date and undoes the past."""
    return loan.applied not in (NONE, len(loan.entry_ids)) and changes_the_past(loan, known_by(loan, day))


def next_edge_day(
    loan: Loan,
    day: int,
    managed_edges: Sequence[int],
    contractual_edges: Sequence[int],
    facts: Facts,
    material_edges: Sequence[int] = (),
) -> int | None:
    """The next business date on which, with no further event, the answer changes in a way that can matter.

    That is: a counter reaches one of its thresholds (each list sorted, 1 or more), an instalment becomes overdue,
    credit may be drawn, an entry or pause dated ahead takes effect, or the loan begins or ends. None if there is none.
    """
    if day < loan.disbursed_day:
        return loan.disbursed_day
    settle(loan, day, facts)
    candidates = [next_change_day(loan, day)]
    at = loan.applied * ENTRY
    if at < len(loan.journal):
        candidates.append(loan.journal[at + DAY])
    due = oldest_due(loan)
    if due != NONE and not is_ended(loan, day):
        candidates.append(_next_contractual(loan, due, day, contractual_edges))
        candidates.append(_next_managed(loan, due, day, managed_edges))
        counted = _read(loan, day).material
        if counted > 0:
            candidates += [day + edge - counted for edge in material_edges if edge > counted][:1]
        # After its last day of grace a loan may be material again.
        candidates += [last + 1 for last in loan.graces[1::2] if last < FOREVER_DAY]
    coming = [candidate for candidate in candidates if candidate > day]
    return min(coming) if len(coming) > 0 else None


def _next_contractual(loan: Loan, due: int, day: int, edges: Sequence[int]) -> int:
    for edge in edges:
        reached = due + edge - loan.basis[COUNTS_AS]
        if reached > day:
            return reached
    return NONE


def _next_managed(loan: Loan, due: int, day: int, edges: Sequence[int]) -> int:
    for edge in edges:
        reached = day_of_managed(loan, due, edge, day)
        if reached > day:
            return reached if reached < FOREVER_DAY else NONE
    return NONE


def arrears_evidence(loan: Loan, day: int) -> list[str]:
    """At most 4 event ids that prove the arrears of a loan settled to `day`; none where nothing is past due.

    In this order: what set the oldest unpaid instalment, the last charge on it, the last reversal of a payment, the
    last payment that stands.
    """
    due = oldest_due(loan)
    if due == NONE or due > day:
        return []
    row_id = loan.rows[loan.first * ROW]
    last_charge = last_reversal = last_payment = ""
    version = 0
    paid: dict[str, str] = {}
    for index in range(loan.applied):
        kind = loan.journal[index * ENTRY]
        event_id, ref = loan.entry_ids[index], loan.entry_refs[index]
        if kind < REVERSAL:
            paid[ref] = event_id
        elif kind == REVERSAL and ref in paid:
            del paid[ref]
            last_reversal = event_id
        elif kind == RESCHEDULE:
            version += 1
        elif kind == CHARGE and row_named(loan, loan.journal[index * ENTRY + DETAIL] // 4 - 1, version) == row_id:
            last_charge = event_id
    for event_id in paid.values():
        last_payment = event_id
    proof = [schedule_setters(loan)[row_id // SLOTS_MAX], last_charge, last_reversal, last_payment]
    return [event_id for event_id in proof if event_id != ""]
