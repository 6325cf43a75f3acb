"""The ledger of a loan: what happened to it, in the order of value, and what follows from it.

A loan is a function of the set of its entries, not of their arrival: entries are kept by (value day, at_ms, event_id),
and whatever changes a past day makes the derived fields be computed again. `apply` only takes an event down; `settle`
brings the derived fields to a business date.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

from schemas import inbound as wire
from streams.engine import loan_facts
from streams.engine.allocation import pinned_orders
from streams.engine.arrears import basis_of, close_days
from streams.engine.calendar import DAY_MS, Calendar, day_of
from streams.engine.history import allocate_again, changes_the_past, known_by, take
from streams.engine.journal import (
    DUPLICATE,
    Applied,
    Duplicate,
    Outcome,
    Refused,
    changed,
    conflict,
    digest_but_id,
    enter,
    place,
    reschedules_before,
    seen_payment,
)
from streams.engine.loan import (
    CHARGE,
    COMPONENTS,
    DAY,
    ENTRY,
    METHODS,
    NONE,
    RESCHEDULE,
    REVERSAL,
    WAIVER,
    Loan,
    row_named,
)
from streams.policy.model import Facts

__all__ = [
    "DUPLICATE",
    "Applied",
    "Duplicate",
    "Loan",
    "Outcome",
    "Refused",
    "apply",
    "begin_again",
    "bring_forward",
    "disburse",
    "settle",
]


# --- the loan appears ---------------------------------------------------------------------------------------------


def disburse(event: wire.LoanDisbursed, facts: Facts, calendar: Calendar) -> Loan:
    """A new loan, with the allocation orders of the policy in force pinned to it."""
    cover = event.cover if isinstance(event.cover, wire.Cover) else None
    loan = Loan(
        loan_id=event.loan_id,
        product=event.product,
        currency=event.currency,
        principal_minor=event.principal_minor,
        disbursed_day=calendar.day(event.at_ms),
        disbursed_ms=event.at_ms,
        disbursed_id=event.event_id,
        content=digest_but_id(event),
        orders=pinned_orders(facts.allocation),
        schedules=[_flat(event.schedule)],
        platform=event.platform if isinstance(event.platform, str) else "",
        pool_id=event.pool_id if isinstance(event.pool_id, str) else "",
    )
    if cover is not None:
        loan.cover_party = cover.party
        loan.cover_share_bp = cover.share_bp
        loan.cover_claim_after_dpd = cover.claim_after_dpd
    begin_again(loan, basis_of(facts, loan.currency), 0)
    return loan


def _flat(schedule: list[wire.Instalment]) -> list[int]:
    flat: list[int] = []
    for due, number, slot in sorted((day_of(slot.due_on), slot.no, index) for index, slot in enumerate(schedule)):
        amounts = schedule[slot]
        flat += (number, due, amounts.fee_minor, amounts.interest_minor, amounts.principal_minor)
    return flat


# --- time passes --------------------------------------------------------------------------------------------------


def settle(loan: Loan, day: int, facts: Facts) -> None:
    """Bring the derived fields to business date `day`: entries up to it, credit drawn, stretches counted. Idempotent.

    The reversals and waivers up to `day` are in force on all days before it too, the stretches counted accordingly. A
    day before the one the loan stands at changes nothing (see `delinquency.position_as_of` for the past).
    """
    basis = basis_of(facts, loan.currency)
    stale = loan.applied == NONE or loan.basis != basis
    if day < loan.as_of_day and not stale:
        return
    known = known_by(loan, day)
    if stale or changes_the_past(loan, known):
        begin_again(loan, basis, known)
    bring_forward(loan, day, known)


def begin_again(loan: Loan, basis: list[int], known: int) -> None:
    """The derived fields as they were on the day of disbursement, with hindsight of the first `known` entries."""
    loan.as_of_day = loan.disbursed_day
    loan.applied = 0
    loan.basis = basis
    loan.received_minor = loan.reversed_minor = 0
    loan.replaced, loan.episodes, loan.material_runs = [], [], []
    loan.material_from = NONE
    loan.in_episode = 0
    allocate_again(loan, known)


def bring_forward(loan: Loan, day: int, known: int) -> None:
    """Let time pass until `day`, with hindsight of the first `known` entries; they include all those up to `day`."""
    if day < loan.as_of_day:
        return
    journal = loan.journal
    at = loan.applied * ENTRY
    while at < len(journal) and journal[at + DAY] <= day:
        if journal[at + DAY] > loan.as_of_day:
            close_days(loan, journal[at + DAY])
        take(loan, known)
        at += ENTRY
    if day > loan.as_of_day:
        close_days(loan, day)


# --- an event arrives ---------------------------------------------------------------------------------------------


def apply(loan: Loan, event: wire.Inbound, calendar: Calendar, facts: Facts) -> Outcome:
    """Take an event of this loan down. A refused one leaves the loan as it was.

    Raises:
        KeyError: the event's type is none that a loan knows.
    """
    if isinstance(event, wire.LoanEvent) and isinstance(event.currency, str) and event.currency != loan.currency:
        return Refused("currency_mismatch", "currency: is not the loan's; send amounts in the loan's currency")
    return _APPLY[type(event)](loan, event, calendar, facts)


def _received(loan: Loan, event: wire.RepaymentReceived, calendar: Calendar, facts: Facts) -> Outcome:
    digest = digest_but_id(event)
    seen = seen_payment(loan, event.payment_id, True, digest)
    if seen is not None:
        return seen
    value_on = event.value_on
    day = day_of(value_on) if isinstance(value_on, date) else calendar.day(event.at_ms)
    numbers = (METHODS.index(event.method), day, event.amount_minor, digest)
    outcome = enter(loan, event, numbers, event.payment_id)
    if isinstance(outcome, Applied):
        loan_facts.note_channel(loan, event.channel, event.at_ms)
    return outcome


def _reversed(loan: Loan, event: wire.RepaymentReversed, calendar: Calendar, facts: Facts) -> Outcome:
    digest = digest_but_id(event)
    seen = seen_payment(loan, event.payment_id, False, digest)
    if seen is not None:
        return seen
    return enter(loan, event, (REVERSAL, calendar.day(event.at_ms), 0, digest), event.payment_id)


def _unknown_instalment(loan: Loan, event: wire.Inbound, day: int, number: int) -> Refused | None:
    entry = [0, day, event.at_ms - day * DAY_MS]
    version = reschedules_before(loan, place(loan, entry, event.event_id))
    if row_named(loan, number, version) != NONE:
        return None
    return Refused(
        "unknown_instalment", "instalment_no: no schedule of the loan has it at that time; send the schedule first"
    )


def _charged(loan: Loan, event: wire.ChargeAdded, calendar: Calendar, facts: Facts) -> Outcome:
    day = calendar.day(event.at_ms)
    refused = _unknown_instalment(loan, event, day, event.instalment_no)
    if refused is not None:
        return refused
    cell = COMPONENTS.index(event.component) + 4 * (event.instalment_no + 1)
    return enter(loan, event, (CHARGE, day, event.amount_minor, cell), "")


def _waived(loan: Loan, event: wire.AmountWaived, calendar: Calendar, facts: Facts) -> Outcome:
    day = calendar.day(event.at_ms)
    cell = COMPONENTS.index(event.component)
    if isinstance(event.instalment_no, int):
        refused = _unknown_instalment(loan, event, day, event.instalment_no)
        if refused is not None:
            return refused
        cell += 4 * (event.instalment_no + 1)
    return enter(loan, event, (WAIVER, day, event.amount_minor, cell), "")


def _rescheduled(loan: Loan, event: wire.LoanRescheduled, calendar: Calendar, facts: Facts) -> Outcome:
    numbers = (RESCHEDULE, calendar.day(event.at_ms), 1 if event.distressed else 0, 0)
    return enter(loan, event, numbers, "", _flat(event.schedule))


def _closed(loan: Loan, event: wire.LoanClosed, calendar: Calendar, facts: Facts) -> Outcome:
    day = calendar.day(event.at_ms)
    if loan.closed_day == NONE or (day, event.event_id) < (loan.closed_day, loan.closed_id):
        loan.closed_day, loan.closed_id = day, event.event_id
    return changed(loan, day, False)


def _written_off(loan: Loan, event: wire.LoanWrittenOff, calendar: Calendar, facts: Facts) -> Outcome:
    day = calendar.day(event.at_ms)
    if loan.written_off_day == NONE or (day, event.event_id) < (loan.written_off_day, loan.written_off_id):
        loan.written_off_day, loan.written_off_id = day, event.event_id
    return changed(loan, day, False)


def _paused(loan: Loan, event: wire.PauseSet, calendar: Calendar, facts: Facts) -> Outcome:
    day = calendar.day(event.at_ms)
    pause = [day_of(event.from_on), day_of(event.until_on), day]
    at = 0
    while at < len(loan.pauses) and loan.pauses[at : at + 3] < pause:
        at += 3
    if loan.pauses[at : at + 3] == pause:
        return DUPLICATE
    loan.pauses[at:at] = pause
    return changed(loan, day, False)


def _plan_accepted(loan: Loan, event: wire.PlanAccepted, calendar: Calendar, facts: Facts) -> Outcome:
    day = calendar.day(event.at_ms)
    outcome = enter(loan, event, (RESCHEDULE, day, 0, 0), "", _flat(event.schedule))
    if isinstance(outcome, Applied):
        loan_facts.plan_accepted(loan, event, day)
    return outcome


def _disbursed_again(loan: Loan, event: wire.LoanDisbursed, calendar: Calendar, facts: Facts) -> Outcome:
    return DUPLICATE if digest_but_id(event) == loan.content else conflict("loan_id")


_APPLY: dict[type, Callable[[Loan, Any, Calendar, Facts], Outcome]] = {
    wire.LoanDisbursed: _disbursed_again,
    wire.RepaymentReceived: _received,
    wire.RepaymentReversed: _reversed,
    wire.ChargeAdded: _charged,
    wire.AmountWaived: _waived,
    wire.LoanRescheduled: _rescheduled,
    wire.LoanClosed: _closed,
    wire.LoanWrittenOff: _written_off,
    wire.PauseSet: _paused,
    wire.RepaymentFailed: loan_facts.failed,
    wire.FailureReattributed: loan_facts.reattributed,
    wire.PoolAssigned: loan_facts.pool_assigned,
    wire.PresumptionRebutted: loan_facts.rebutted_stage,
    wire.PlanAccepted: _plan_accepted,
    wire.PlanDeclined: loan_facts.plan_ended,
    wire.PlanBroken: loan_facts.plan_ended,
    wire.PlanCompleted: loan_facts.plan_ended,
}
