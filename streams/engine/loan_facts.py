"""What a loan keeps beside its money: pool, rebuttals, failed attempts, hardship plans.

Each is a function of the set of events as well: of several about the same thing the latest by `at_ms` stands.
"""

from bisect import bisect_left
from typing import Final

from schemas import inbound as wire
from streams.engine.calendar import Calendar, day_of
from streams.engine.journal import DUPLICATE, Applied, Outcome, conflict, digest_but_id
from streams.engine.loan import (
    AMOUNT,
    ATTEMPT,
    ATTEMPT_DAY,
    ATTEMPT_MS,
    ATTRIBUTION,
    ATTRIBUTIONS,
    DAY,
    ENTRY,
    NONE,
    PLAN_STATES,
    RESCHEDULE,
    REVISED_MS,
    Loan,
)
from streams.policy.model import Facts

PLAN: Final = 6
PLAN_CLOSED_MS: Final = 3
REBUTTAL: Final = 3

PlanEnd = wire.PlanDeclined | wire.PlanBroken | wire.PlanCompleted
_PLAN_END = {wire.PlanDeclined: "declined", wire.PlanBroken: "broken", wire.PlanCompleted: "completed"}


def pool_assigned(loan: Loan, event: wire.PoolAssigned, calendar: Calendar, facts: Facts) -> Outcome:
    if (event.at_ms, event.pool_id) > (loan.pool_ms, loan.pool_id):
        loan.pool_ms, loan.pool_id = event.at_ms, event.pool_id
    return Applied(False)


def rebutted_stage(loan: Loan, event: wire.PresumptionRebutted, calendar: Calendar, facts: Facts) -> Outcome:
    if event.event_id in loan.rebuttal_ids:
        return DUPLICATE
    day = calendar.day(event.at_ms)
    index = bisect_left(loan.rebuttal_ids, event.event_id)
    loan.rebuttal_ids.insert(index, event.event_id)
    loan.rebuttals[index * REBUTTAL : index * REBUTTAL] = [
        2 if event.which == "stage2" else 3,
        day,
        day_of(event.until_on),
    ]
    return Applied(day < loan.as_of_day)


# --- failed attempts ----------------------------------------------------------------------------------------------


def attribution_of(code: str, facts: Facts) -> str:
    """Who caused a failure, by the policy's table of codes."""
    if code in facts.attribution.platform:
        return "platform"
    return "borrower" if code in facts.attribution.borrower else "unknown"


def _attempt_at(loan: Loan, attempt_id: str) -> int:
    """Where an attempt stands in `attempts`, made room for if it is new."""
    index = bisect_left(loan.attempt_ids, attempt_id)
    if index == len(loan.attempt_ids) or loan.attempt_ids[index] != attempt_id:
        loan.attempt_ids.insert(index, attempt_id)
        loan.attempt_channels.insert(index, "")
        loan.attempts[index * ATTEMPT : index * ATTEMPT] = [0, NONE, 0, NONE, NONE]
    return index * ATTEMPT


def failed(loan: Loan, event: wire.RepaymentFailed, calendar: Calendar, facts: Facts) -> Outcome:
    digest = digest_but_id(event)
    at = _attempt_at(loan, event.attempt_id)
    attempts = loan.attempts
    if attempts[at + ATTEMPT_DAY] != NONE:
        return DUPLICATE if attempts[at] == digest else conflict("attempt_id")
    day = calendar.day(event.at_ms)
    attempts[at] = digest
    attempts[at + ATTEMPT_DAY] = day
    attempts[at + ATTEMPT_MS] = event.at_ms
    loan.attempt_channels[at // ATTEMPT] = event.channel
    note_channel(loan, event.channel, event.at_ms)
    if attempts[at + REVISED_MS] == NONE:
        attempts[at + ATTRIBUTION] = ATTRIBUTIONS.index(attribution_of(event.code, facts))
    return Applied(day < loan.as_of_day)


def note_channel(loan: Loan, channel: str, at_ms: int) -> None:
    """Something was paid or tried over a channel."""
    if channel not in loan.channels:
        index = bisect_left(loan.channels, channel)
        loan.channels.insert(index, channel)
        loan.channel_since.insert(index, at_ms)
    else:
        index = loan.channels.index(channel)
        loan.channel_since[index] = min(loan.channel_since[index], at_ms)


def reattributed(loan: Loan, event: wire.FailureReattributed, calendar: Calendar, facts: Facts) -> Outcome:
    """The latest revision stands; one that comes before its attempt waits for it."""
    at = _attempt_at(loan, event.attempt_id)
    attempts = loan.attempts
    attribution = ATTRIBUTIONS.index(event.attribution)
    if (event.at_ms, attribution) > (attempts[at + REVISED_MS], attempts[at + ATTRIBUTION]):
        attempts[at + REVISED_MS], attempts[at + ATTRIBUTION] = event.at_ms, attribution
    day = attempts[at + ATTEMPT_DAY]
    return Applied(day != NONE)


def attribution_now(loan: Loan, attempt_id: str) -> str | None:
    """Who caused a failed attempt, as last revised; None while the attempt itself has not come."""
    if attempt_id not in loan.attempt_ids:
        return None
    at = loan.attempt_ids.index(attempt_id) * ATTEMPT
    return None if loan.attempts[at + ATTEMPT_DAY] == NONE else ATTRIBUTIONS[loan.attempts[at + ATTRIBUTION]]


# --- hardship plans -----------------------------------------------------------------------------------------------


def _plan_at(loan: Loan, plan_id: str) -> int:
    index = bisect_left(loan.plan_ids, plan_id)
    if index == len(loan.plan_ids) or loan.plan_ids[index] != plan_id:
        loan.plan_ids.insert(index, plan_id)
        loan.plans[index * PLAN : index * PLAN] = [NONE] * PLAN
    return index * PLAN


def plan_accepted(loan: Loan, event: wire.PlanAccepted, day: int) -> None:
    """Note an accepted plan; its schedule is an entry of the journal."""
    at = _plan_at(loan, event.plan_id)
    accepted = [event.at_ms, day, day_of(event.until_on)]
    if accepted > loan.plans[at : at + PLAN_CLOSED_MS]:
        loan.plans[at : at + PLAN_CLOSED_MS] = accepted


def plan_ended(loan: Loan, event: PlanEnd, calendar: Calendar, facts: Facts) -> Outcome:
    day = calendar.day(event.at_ms)
    at = _plan_at(loan, event.plan_id)
    ended = [event.at_ms, day, PLAN_STATES.index(_PLAN_END[type(event)])]
    if ended > loan.plans[at + PLAN_CLOSED_MS : at + PLAN]:
        loan.plans[at + PLAN_CLOSED_MS : at + PLAN] = ended
    return Applied(day < loan.as_of_day)


def plan_kept(loan: Loan, day: int) -> str | None:
    """The accepted plan that is being kept on a business date: accepted by then, not over, not broken or completed."""
    for index, plan_id in enumerate(loan.plan_ids):
        accepted_ms, accepted_day, until_day, closed_ms, closed_day, _ = loan.plans[index * PLAN : (index + 1) * PLAN]
        open_then = closed_ms < accepted_ms or closed_day > day
        if accepted_ms != NONE and accepted_day <= day <= until_day and open_then:
            return plan_id
    return None


def plan_change_day(loan: Loan, day: int) -> int | None:
    """The next business date on which, with no further event, a plan that is kept on `day` is kept no more."""
    changes: list[int] = []
    for at in range(0, len(loan.plans), PLAN):
        accepted_ms, accepted_day, until_day, closed_ms, closed_day, _ = loan.plans[at : at + PLAN]
        if accepted_ms != NONE and accepted_day <= day <= until_day:
            changes.append(until_day + 1 if closed_ms < accepted_ms else min(closed_day, until_day + 1))
    return min((change for change in changes if change > day), default=None)


def plan_state(loan: Loan, plan_id: str) -> str | None:
    """accepted, declined, broken or completed, None for a plan the borrower has not answered."""
    if plan_id not in loan.plan_ids:
        return None
    at = loan.plan_ids.index(plan_id) * PLAN
    if loan.plans[at + PLAN_CLOSED_MS] < loan.plans[at]:
        return "accepted"
    return PLAN_STATES[loan.plans[at + PLAN - 1]]


# --- what others ask ----------------------------------------------------------------------------------------------


def distressed_day(loan: Loan, day: int) -> int | None:
    """The day of the latest distressed restructure up to a business date."""
    journal = loan.journal
    for at in range(len(journal) - ENTRY, -1, -ENTRY):
        if journal[at] == RESCHEDULE and journal[at + AMOUNT] == 1 and journal[at + DAY] <= day:
            return journal[at + DAY]
    return None


def is_written_off(loan: Loan, day: int) -> bool:
    return loan.written_off_day != NONE and loan.written_off_day <= day


def rebutted(loan: Loan, stage: int, day: int) -> str | None:
    """The event id of a rebuttal of an IFRS 9 stage (2 or 3) that holds on a business date."""
    for index, event_id in enumerate(loan.rebuttal_ids):
        which, recorded_day, until_day = loan.rebuttals[index * REBUTTAL : (index + 1) * REBUTTAL]
        if which == stage and recorded_day <= day <= until_day:
            return event_id
    return None
