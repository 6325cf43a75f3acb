"""The limit ladder: graduated restriction, permanent zeroing, staged restoration.

    restrict   any condition of the next rung holds and the rung below has been stood on long enough; a `direct` rung
               from anywhere
    overturn   the arrears behind a restriction turn out never to have been: compensated at once, newest first
    restore    arrears cleared on all loans, probation clean, the rung's conditions gone: stage by stage; a relapse
               between two stages brings probation again
    rebase     the limit was changed elsewhere

Each event of a borrower's chain has the next `limit_seq` and starts where the last one ended. A rung is the place of
its status in STATUSES, whatever steps a policy has, so that the chain goes on when another policy goes live.
"""

from typing import Any, NamedTuple

from msgspec import UNSET

from schemas import outbound
from streams.engine.breaker import Gate
from streams.engine.calendar import DAY_MS, iso_day
from streams.engine.directions import MANUAL
from streams.engine.encode import Emitter
from streams.engine.profile import Profile
from streams.engine.reasons import Reasoner
from streams.engine.standing import Ground, Limit, LimitDecision, Standing
from streams.engine.view import View, ground_of, holds
from streams.policy.model import STATUSES, Condition, Limits, LimitStep, Status

TOPIC = "limit-adjustments"
EVENT_OF_STATUS: dict[Status, type[outbound.LimitAdjustment]] = {
    "draws_restricted": outbound.DrawsRestricted,
    "decreased": outbound.LimitDecreased,
    "frozen": outbound.LimitFrozen,
    "zeroed": outbound.LimitZeroed,
}


DECREASED, FROZEN, ZEROED = STATUSES.index("decreased"), STATUSES.index("frozen"), STATUSES.index("zeroed")


def status_of(rung: int) -> Status:
    """The status on a rung; rung 0 is ``normal``."""
    return STATUSES[rung]


def _held(step: LimitStep, view: View, level: int) -> list[Condition]:
    """The conditions of a step that hold, those on warnings at warning level `level`."""
    rung = STATUSES.index(step.status)
    held = [condition for condition in step.when if holds(condition, view, rung, level)]
    if rung == ZEROED and view.plan_kept:
        return [condition for condition in held if condition.fraud_confirmed]
    return held


def _called_for(step: LimitStep, view: View) -> tuple[list[Condition], bool]:
    """The conditions of a step on which it may be taken, and whether others hold that people have barred."""
    rung = STATUSES.index(step.status)
    held = _held(step, view, view.pressing)
    free = [
        condition
        for condition in held
        if rung < (view.fraud_rung_below if condition.fraud_confirmed else view.rung_below)
    ]
    return free, len(free) < len(held)


def judge_limit(
    rules: Limits, standing: Standing, view: View, emitter: Emitter, reasoner: Reasoner, gate: Gate
) -> None:
    """Move the limit to where `view` calls for it; nothing happens before the first `profile_set`."""
    limit = standing.limit
    if limit is None or view.silent:
        return
    end_in_time(rules, limit, view, emitter, reasoner)
    if view.limit_held:
        return
    while _restrict(rules, limit, view, emitter, reasoner, gate):
        pass
    if _on_the_way_back(limit, view):
        _restore(rules, standing, limit, view, emitter, reasoner)


def _on_the_way_back(limit: Limit, view: View) -> bool:
    """Whether a stage may be granted at some time. Beneath a freeze for some days none is."""
    if _passing(limit) is not None:
        return False
    return 0 < limit.rung < ZEROED or (limit.rung == ZEROED and view.cleared)


class Due(NamedTuple):
    """A step whose conditions hold, and from when it may be taken."""

    due_ms: int
    rung: int
    step: LimitStep
    held: list[Condition]


def _due_step(rules: Limits, limit: Limit, view: View) -> Due | None:
    """The step to take next: the highest direct one that holds, else the lowest that holds; else one more decrease."""
    stood_on, since_ms = ladder(limit)
    ahead: list[tuple[int, LimitStep, list[Condition]]] = []
    again: LimitStep | None = None
    barred = False
    for step in rules.steps_of(view.segment):
        rung = STATUSES.index(step.status)
        if rung > stood_on and not (rung == ZEROED and view.zero_asked):
            held, kept_back = _called_for(step, view)
            barred = barred or kept_back
            if held:
                ahead.append((rung, step, held))
        elif rung == stood_on < view.rung_below and step.times > 1:
            again = step
    for rung, step, held in reversed(ahead):
        if step.direct:
            return Due(0, rung, step, held)
    for rung, step, held in ahead:
        if not step.direct:
            return Due(since_ms + step.after_days * DAY_MS if stood_on else 0, rung, step, held)
    # Where people bar the step that is called for, one more of the step before it would only stand in for that.
    if barred or again is None:
        return None
    if sum(1 for taken in limit.decisions if taken.rung == stood_on) < again.times:
        held = _held(again, view, view.pressing)
        # Arrears that hold by themselves carry the decrease alone: it is undone with them, whatever level they led to.
        held = [condition for condition in held if condition.level_from is None] or held
        if held:
            return Due(since_ms + again.again_after_days * DAY_MS, stood_on, again, held)
    return None


def _passing(limit: Limit) -> LimitDecision | None:
    """The freeze for some days that lies on top of all else, if one does: the ladder goes on beneath it."""
    return limit.decisions[-1] if limit.decisions and limit.decisions[-1].until_ms else None


def ladder(limit: Limit) -> tuple[int, int]:
    """The rung that the ladder has come to, and since when."""
    freeze = _passing(limit)
    return (limit.rung, limit.since_ms) if freeze is None else (freeze.previous_rung, freeze.previous_since_ms)


def _restrict(rules: Limits, limit: Limit, view: View, emitter: Emitter, reasoner: Reasoner, gate: Gate) -> bool:
    """Take the step that is due; False where none is."""
    due = _due_step(rules, limit, view)
    if due is None or due.due_ms > view.as_of_ms:
        return False
    if due.rung == ZEROED and not gate.grants(view):
        fields = link(limit, due.rung, 0) | reasoner.restriction(view, due.step, due.held, 1)
        gate.ask(view, emitter.draft(outbound.LimitZeroed, **fields))
    else:
        take(rules, limit, due, view, emitter, reasoner)
    return True


def due_zeroing(rules: Limits, limit: Limit, view: View) -> Due | None:
    """The zeroing that waits for a person, None where its conditions no longer hold."""
    for step in rules.steps_of(view.segment):
        held = _held(step, view, view.pressing) if step.status == "zeroed" and limit.rung < ZEROED else []
        if held:
            return Due(0, ZEROED, step, held)
    return None


def take(rules: Limits, limit: Limit, due: Due, view: View, emitter: Emitter, reasoner: Reasoner) -> None:
    """Take a step whose conditions hold."""
    step = due.step
    to_minor = limit.minor * step.keep_bp // 10_000
    base_minor = limit.base_minor if limit.rung else limit.minor
    stages = stages_ahead(rules, base_minor, to_minor, 0)
    freeze = None if due.rung == ZEROED else _passing(limit)
    decide(
        limit, due.rung, to_minor, EVENT_OF_STATUS[step.status], step.reason,
        [ground_of(condition, view, due.rung) for condition in due.held], view, emitter,
        beneath=freeze, draws=_draws(step), **reasoner.restriction(view, step, due.held, stages),
    )  # fmt: skip


def _draws(step: LimitStep) -> Any:
    """How many draws a step allows, and how far apart; unset where it does not say."""
    if step.draws_max_30d is None or step.draws_min_gap_h is None:
        return UNSET
    return outbound.Draws(max_30d=step.draws_max_30d, min_gap_h=step.draws_min_gap_h)


def decide(
    limit: Limit,
    rung: int,
    to_minor: int,
    event: type[outbound.LimitAdjustment],
    rule: str,
    grounds: list[Ground],
    view: View,
    emitter: Emitter,
    until_ms: int = 0,
    beneath: LimitDecision | None = None,
    **fields: Any,
) -> str:
    """Restrict to a rung and an amount, and note what it rests on; returns the event's id. `beneath` a freeze for some
    days the status stays frozen, and the rung is what the freeze will end in."""
    previous_rung, from_minor = limit.rung, limit.minor
    since_ms, since_day, stage = limit.since_ms, limit.since_day, limit.stage
    if previous_rung == 0:
        limit.base_minor = from_minor
    event_id = _move(limit, rung if beneath is None else limit.rung, to_minor, view, emitter, event, **fields)
    # Whoever is restricted anew begins the way back anew.
    limit.stage = 0
    decision = LimitDecision(
        event_id, view.day, rung, previous_rung, from_minor, to_minor, grounds, view.as_of_ms, since_ms, since_day,
        rule, until_ms, stage,
    )  # fmt: skip
    if beneath is None:
        limit.decisions.append(decision)
    else:
        limit.since_ms, limit.since_day = since_ms, since_day
        _slip_beneath(limit, decision, beneath)
    return event_id


def _slip_beneath(limit: Limit, decision: LimitDecision, freeze: LimitDecision) -> None:
    """Put a decision that has just been taken under the freeze on top, which goes on from it."""
    decision.previous_rung, decision.previous_stage = freeze.previous_rung, freeze.previous_stage
    decision.previous_since_ms, decision.previous_since_day = freeze.previous_since_ms, freeze.previous_since_day
    freeze.previous_rung, freeze.previous_stage = decision.rung, 0
    freeze.previous_since_ms, freeze.previous_since_day = decision.at_ms, decision.day
    freeze.from_minor = freeze.to_minor = decision.to_minor
    limit.decisions.insert(-1, decision)


def end_in_time(rules: Limits, limit: Limit, view: View, emitter: Emitter, reasoner: Reasoner) -> None:
    """End what was decided for some days only; nothing is given back where the ladder has come to the same rung."""
    for at in range(len(limit.decisions) - 1, -1, -1):
        decision = limit.decisions[at]
        if not 0 < decision.until_ms <= view.as_of_ms:
            continue
        if decision is _passing(limit) and not view.limit_held:
            _go_on(rules, limit, decision, view, emitter, reasoner)
        if limit.rung < decision.rung:
            limit.decisions.remove(decision)
        elif decision is _passing(limit) and decision.previous_rung == limit.rung:
            limit.since_ms, limit.since_day = decision.previous_since_ms, decision.previous_since_day
            limit.decisions.remove(decision)
        else:
            lift(rules, limit, at, view, emitter, reasoner)


def _go_on(
    rules: Limits, limit: Limit, freeze: LimitDecision, view: View, emitter: Emitter, reasoner: Reasoner
) -> None:
    """Take the step to the rung of a freeze that ends, if its own conditions hold: the borrower stands on that rung
    already, so that no dwell time below it is waited for."""
    for step in rules.steps_of(view.segment):
        rung = STATUSES.index(step.status)
        if freeze.previous_rung < rung == freeze.rung and (held := _called_for(step, view)[0]):
            take(rules, limit, Due(0, rung, step, held), view, emitter, reasoner)


def link(limit: Limit, rung: int, to_minor: int) -> dict[str, Any]:
    """The next link of the chain, as the fields of its event."""
    return {
        "limit_seq": limit.seq + 1,
        "from_minor": limit.minor,
        "to_minor": to_minor,
        "from_status": status_of(limit.rung),
        "to_status": status_of(rung),
        "currency": limit.currency,
    }


def _move(
    limit: Limit,
    rung: int,
    to_minor: int,
    view: View,
    emitter: Emitter,
    event: type[outbound.LimitAdjustment],
    **fields: Any,
) -> str:
    event_id = emitter.emit(TOPIC, event, status_of(rung), **link(limit, rung, to_minor), **fields)
    limit.seq += 1
    limit.minor = to_minor
    if rung != limit.rung:
        limit.stage = 0
    limit.rung = rung
    limit.since_ms = view.as_of_ms
    limit.since_day = view.day
    return event_id


# --- the way back -------------------------------------------------------------------------------------------------


def probation_end_day(rules: Limits, standing: Standing, limit: Limit, view: View) -> int | None:
    """The first business date on which restoration may start; None while anything is in arrears.

    Probation runs from cure or from the last restriction, whichever is later; after a distressed restructure it does
    not end before the longer one, from the latest of restructure, default and end of grace (EBA/GL/2016/07, 71-72).
    """
    if standing.clean_since_day is None:
        return None
    return view.probation_end_day(rules.restoration, max(standing.clean_since_day, limit.since_day))


def next_stage(rules: Limits, limit: Limit) -> tuple[int, int]:
    """(number of the next stage, limit it restores): the first stage that changes anything."""
    stages = rules.restoration.stages_bp
    for number in range(limit.stage, len(stages)):
        restored = limit.base_minor * stages[number] // 10_000
        if restored > limit.minor:
            return number + 1, restored
    return len(stages), max(limit.minor, limit.base_minor)


def stages_ahead(rules: Limits, base_minor: int, minor: int, stage: int) -> int:
    """How many stages lie between a limit and the whole of it; the last one also where only the status is restored."""
    stages = rules.restoration.stages_bp[stage:]
    return max(1, sum(1 for stage_bp in stages if base_minor * stage_bp // 10_000 > minor))


def restoration_day(rules: Limits, standing: Standing, limit: Limit, view: View) -> int | None:
    """The business date from which the next stage may be granted; None while in arrears. A reviewer who clears a
    borrower vouches for the probation."""
    clean_since_day = standing.clean_since_day
    if limit.stage and clean_since_day is not None:
        day = limit.since_day + rules.restoration.stage_days
        # Who was in arrears since the last stage has to come through probation again.
        relapsed = clean_since_day > limit.since_day
        return max(day, view.probation_end_day(rules.restoration, clean_since_day)) if relapsed else day
    if view.cleared:
        return standing.clean_since_day
    return probation_end_day(rules, standing, limit, view)


def _restore(rules: Limits, standing: Standing, limit: Limit, view: View, emitter: Emitter, reasoner: Reasoner) -> None:
    day = restoration_day(rules, standing, limit, view)
    if day is None or view.day < day:
        return
    # Where a reviewer has cleared the borrower, only arrears stand in the way of the first stage.
    if not (view.cleared and limit.stage == 0):
        taken = [step for step in rules.steps_of(view.segment) if STATUSES.index(step.status) <= limit.rung]
        # Nothing is given back that a level in its cool-down would take again when that ends.
        if any(_held(step, view, max(view.level, view.called)) for step in taken):
            return
    if not _paid_on_time(rules, standing, limit, view):
        return
    stage, to_minor = next_stage(rules, limit)
    # While only a part is restored the limit counts as decreased (or as what it is, where that is less).
    rung = 0 if to_minor >= limit.base_minor else min(limit.rung, DECREASED)
    stage = 0 if rung == 0 else stage
    way_back = reasoner.way_back(view, rung, stage, stages_ahead(rules, limit.base_minor, to_minor, stage))
    _move(limit, rung, to_minor, view, emitter, outbound.LimitRestored, **way_back)
    limit.stage = stage
    if rung == 0:
        limit.decisions.clear()


def _paid_on_time(rules: Limits, standing: Standing, limit: Limit, view: View) -> bool:
    """Whether enough was paid on time since cure or the last stage; nobody can who owes nothing any more."""
    if not any(sum(loan.position.outstanding) for loan in view.loans):
        return True
    since = limit.since_day if limit.stage else (standing.clean_since_day or 0)
    return view.on_time_since(since) >= rules.restoration.stage_on_time


def lift(
    rules: Limits, limit: Limit, at: int, view: View, emitter: Emitter, reasoner: Reasoner, **fields: Any
) -> LimitDecision:
    """Take back one decision in force, whatever was decided since: that stands, on what is left below it."""
    decision = limit.decisions.pop(at)
    since_ms, since_day, stage = limit.since_ms, limit.since_day, limit.stage
    if at < len(limit.decisions):
        rung, to_minor = limit.rung, max(limit.minor, _rebuilt(limit, at, decision))
        to_minor = 0 if rung == ZEROED else to_minor
    else:
        rung, to_minor = min(limit.rung, decision.previous_rung), max(limit.minor, decision.from_minor)
        # What never was does not prolong the dwell time or the probation that ran before it.
        if rung != limit.rung or decision.previous_rung == decision.rung == limit.rung:
            since_ms, since_day = decision.previous_since_ms, decision.previous_since_day
            stage = decision.previous_stage
    ahead = stages_ahead(rules, limit.base_minor, to_minor, 0)
    fields = reasoner.way_back(view, rung, 0, ahead) | fields
    for step in rules.steps_of(view.segment):
        if step.status == status_of(rung):
            fields["draws"] = _draws(step)
    _move(limit, rung, to_minor, view, emitter, outbound.LimitRestored, **fields)
    limit.since_ms, limit.since_day, limit.stage = since_ms, since_day, stage
    return decision


def set_by_hand(
    rules: Limits, limit: Limit, minor: int, view: View, emitter: Emitter, reasons: list[outbound.Reason], end_day: int
) -> None:
    """Set the limit as a reviewer has decided, until a business date; a cut is restored like any other."""
    recovery = outbound.Recovery(action="request_review", earliest_on=iso_day(end_day))
    if minor < limit.minor:
        decide(
            limit, max(ladder(limit)[0], DECREASED), minor, outbound.LimitDecreased, MANUAL, [Ground(other=True)], view,
            emitter, beneath=_passing(limit), reasons=reasons, recovery=recovery,
        )  # fmt: skip
        return
    if minor == 0 and limit.rung == ZEROED:
        return
    whole = limit.rung == 0 or minor >= limit.base_minor
    rung = 0 if whole else min(limit.rung, DECREASED)
    if (rung, minor) != (limit.rung, limit.minor):
        ahead: Any = UNSET if whole else recovery
        _move(limit, rung, minor, view, emitter, outbound.LimitRestored, reasons=reasons, recovery=ahead)
    if whole:
        limit.base_minor = minor
        limit.decisions.clear()


def _rebuilt(limit: Limit, at: int, lifted: LimitDecision) -> int:
    """What the decisions from `at` on come to without the one below them."""
    above = limit.decisions[at]
    above.previous_rung, above.previous_since_ms = lifted.previous_rung, lifted.previous_since_ms
    above.previous_since_day = lifted.previous_since_day
    minor = lifted.from_minor
    for decision in limit.decisions[at:]:
        kept = minor if decision.from_minor == 0 else minor * decision.to_minor // decision.from_minor
        decision.from_minor, decision.to_minor = minor, kept
        minor = kept
    return minor


def rebase(standing: Standing, profile: Profile, view: View, emitter: Emitter) -> None:
    """Take over a limit that was set elsewhere; undoing an earlier restriction then no longer changes the amount.

    A profile that repeats what the last one said, or what a restriction in force made of it, changes no limit. What is
    zeroed stays at nothing: the new amount is what it would be restored to.
    """
    limit, minor, currency = standing.limit, profile.limit_minor, profile.currency
    if limit is None:
        standing.limit = Limit(
            minor, currency, base_minor=minor, since_ms=view.as_of_ms, since_day=view.day, told_minor=minor
        )
        return
    told, limit.told_minor = limit.told_minor, minor
    if limit.currency == currency and (
        minor in (told, limit.minor) or any(decision.to_minor == minor for decision in limit.decisions)
    ):
        return
    lowered = limit.currency != currency or minor < told
    limit.currency = currency
    since_ms, since_day, stage = limit.since_ms, limit.since_day, limit.stage
    to_minor = 0 if limit.rung == ZEROED else minor
    _move(limit, limit.rung, to_minor, view, emitter, outbound.LimitRebased, reasons=[])
    limit.since_ms, limit.since_day, limit.stage = since_ms, since_day, stage
    limit.base_minor = minor if limit.rung == 0 or lowered else max(limit.base_minor, minor)
    for decision in limit.decisions:
        decision.from_minor = minor


def next_limit_wake(rules: Limits, standing: Standing, view: View) -> tuple[int | None, int | None]:
    """(moment, business date) at which the next rung or the next stage may be due by the passing of time alone."""
    limit = standing.limit
    if limit is None or view.silent:
        return None, None
    due = None if view.limit_held else _due_step(rules, limit, view)
    moment = due.due_ms if due is not None and due.due_ms > view.as_of_ms else None
    for decision in limit.decisions:
        if decision.until_ms > view.as_of_ms:
            moment = decision.until_ms if moment is None else min(moment, decision.until_ms)
    day: int | None = None
    if not view.limit_held and _on_the_way_back(limit, view):
        day = restoration_day(rules, standing, limit, view)
        if day is not None and day <= view.day:
            day = None if _paid_on_time(rules, standing, limit, view) else view.next_paid_due_day()
    return moment, day
