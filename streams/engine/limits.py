"""The limit ladder: graduated restriction, permanent zeroing, staged restoration.

    restrict   any condition of the next rung holds and the rung below has been stood on long enough; a `direct` rung
               from anywhere
    overturn   the arrears behind a restriction turn out never to have been: compensated at once, newest first
    restore    arrears cleared on all loans, probation clean, the rung's conditions gone: stage by stage
    rebase     the limit was changed elsewhere

Each event of a borrower's chain has the next `limit_seq` and starts where the last one ended. A rung is the place of
its status in STATUSES, whatever steps a policy has, so that the chain goes on when another policy goes live.
"""

from typing import Any

from msgspec import UNSET

from schemas import outbound
from streams.engine.calendar import DAY_MS
from streams.engine.encode import Emitter
from streams.engine.profile import Profile
from streams.engine.reasons import Reasoner
from streams.engine.standing import Limit, LimitDecision, Standing
from streams.engine.view import View, ground_of, holds
from streams.policy.model import LEVELS, STATUSES, Condition, Limits, LimitStep, Status

TOPIC = "limit-adjustments"
EVENT_OF_STATUS: dict[Status, type[outbound.LimitAdjustment]] = {
    "draws_restricted": outbound.DrawsRestricted,
    "decreased": outbound.LimitDecreased,
    "frozen": outbound.LimitFrozen,
    "zeroed": outbound.LimitZeroed,
}


_DECREASED, _ZEROED = STATUSES.index("decreased"), STATUSES.index("zeroed")


def status_of(rung: int) -> Status:
    """The status on a rung; rung 0 is ``normal``."""
    return STATUSES[rung]


def _held(step: LimitStep, view: View, level: int) -> list[Condition]:
    """The conditions of a step that hold, those on warnings at warning level `level`."""
    held = [condition for condition in step.when if holds(condition, view, level, LEVELS.index)]
    if step.status == "zeroed" and view.plan_kept:
        return [condition for condition in held if condition.fraud_confirmed]
    return held


def judge_limit(rules: Limits, standing: Standing, view: View, emitter: Emitter, reasoner: Reasoner) -> None:
    """Move the limit to where `view` calls for it; nothing happens before the first `profile_set`."""
    limit = standing.limit
    if limit is None:
        return
    while _restrict(rules, limit, view, emitter, reasoner):
        pass
    if 0 < limit.rung < _ZEROED:
        _restore(rules, standing, limit, view, emitter, reasoner)


def _next_step(rules: Limits, limit: Limit, view: View) -> tuple[int, LimitStep, list[Condition]] | None:
    """The rung to take now: the highest direct one that holds, else the lowest that holds and is due."""
    ahead = _steps_below(rules, limit)
    for rung, step in reversed(ahead):
        if step.direct and (held := _held(step, view, view.pressing)):
            return rung, step, held
    for rung, step in ahead:
        if not step.direct and (held := _held(step, view, view.pressing)):
            due_ms = limit.since_ms + step.after_days * DAY_MS
            return (rung, step, held) if limit.rung == 0 or due_ms <= view.as_of_ms else None
    return None


def _steps_below(rules: Limits, limit: Limit) -> list[tuple[int, LimitStep]]:
    """The steps harder than the rung in force, from mild to hard."""
    steps = [(STATUSES.index(step.status), step) for step in rules.steps]
    return [(rung, step) for rung, step in steps if rung > limit.rung]


def _restrict(rules: Limits, limit: Limit, view: View, emitter: Emitter, reasoner: Reasoner) -> bool:
    taken = _next_step(rules, limit, view)
    if taken is None:
        return False
    rung, step, held = taken
    previous_rung, from_minor = limit.rung, limit.minor
    since_ms, since_day = limit.since_ms, limit.since_day
    if previous_rung == 0:
        limit.base_minor = from_minor
    to_minor = from_minor * step.keep_bp // 10_000
    draws: Any = UNSET
    if step.draws_max_30d is not None and step.draws_min_gap_h is not None:
        draws = outbound.Draws(max_30d=step.draws_max_30d, min_gap_h=step.draws_min_gap_h)
    event_id = _move(
        limit, rung, to_minor, view, emitter, EVENT_OF_STATUS[step.status],
        draws=draws, **reasoner.restriction(view, step, held, stages_ahead(rules, limit.base_minor, to_minor, 0)),
    )  # fmt: skip
    grounds = [ground_of(condition, view, LEVELS.index) for condition in held]
    limit.decisions.append(
        LimitDecision(
            event_id, view.day, rung, previous_rung, from_minor, to_minor, grounds, view.as_of_ms, since_ms, since_day
        )
    )
    return True


def _move(
    limit: Limit,
    rung: int,
    to_minor: int,
    view: View,
    emitter: Emitter,
    event: type[outbound.LimitAdjustment],
    **fields: Any,
) -> str:
    from_status, to_status = status_of(limit.rung), status_of(rung)
    limit.seq += 1
    event_id = emitter.emit(
        TOPIC,
        event,
        to_status,
        limit_seq=limit.seq,
        from_minor=limit.minor,
        to_minor=to_minor,
        from_status=from_status,
        to_status=to_status,
        currency=limit.currency,
        **fields,
    )
    limit.minor = to_minor
    if rung != limit.rung:
        limit.stage = 0
    limit.rung = rung
    limit.since_ms = view.as_of_ms
    limit.since_day = view.day
    return event_id


# --- the way back -------------------------------------------------------------------------------------------------


def probation_end_day(rules: Limits, standing: Standing, limit: Limit, distressed_day: int | None) -> int | None:
    """The first business date on which restoration may start; None while anything is in arrears.

    Probation runs from cure or from the last restriction, whichever is later; after a distressed restructure longer,
    from the latest of restructure and cure (EBA/GL/2016/07, 71-72).
    """
    if standing.clean_since_day is None:
        return None
    start = max(standing.clean_since_day, limit.since_day)
    end = start + rules.restoration.probation_days
    if distressed_day is not None:
        latest = max(distressed_day, standing.clean_since_day)
        end = max(end, latest + rules.restoration.distressed_probation_days)
    return end


def _next_stage(rules: Limits, limit: Limit) -> tuple[int, int]:
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


def restoration_day(rules: Limits, standing: Standing, limit: Limit, distressed_day: int | None) -> int | None:
    """The business date from which the next stage may be granted; None while in arrears."""
    if limit.stage:
        return None if standing.clean_since_day is None else limit.since_day + rules.restoration.stage_days
    return probation_end_day(rules, standing, limit, distressed_day)


def _restore(rules: Limits, standing: Standing, limit: Limit, view: View, emitter: Emitter, reasoner: Reasoner) -> None:
    day = restoration_day(rules, standing, limit, view.distressed_day)
    if day is None or view.day < day:
        return
    taken = [step for step in rules.steps if STATUSES.index(step.status) <= limit.rung]
    if any(_held(step, view, view.level) for step in taken) or not _paid_on_time(rules, standing, limit, view):
        return
    stage, to_minor = _next_stage(rules, limit)
    # While only a part is restored the limit counts as decreased (or as what it is, where that is less).
    rung = 0 if to_minor >= limit.base_minor else min(limit.rung, _DECREASED)
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


def overturn_limit(
    rules: Limits, standing: Standing, view: View, emitter: Emitter, reasoner: Reasoner, incident_id: str = ""
) -> None:
    """Compensate the newest restriction, whose arrears turned out false as of its own day, by an incident if one is
    named."""
    limit = standing.limit
    if limit is None:
        return
    decision = limit.decisions.pop()
    rung = min(limit.rung, decision.previous_rung)
    to_minor = max(limit.minor, decision.from_minor)
    since_ms, since_day = limit.since_ms, limit.since_day
    if rung != limit.rung:
        # What never was does not prolong the dwell time or the probation that ran before it.
        since_ms, since_day = decision.previous_since_ms, decision.previous_since_day
    ahead = stages_ahead(rules, limit.base_minor, to_minor, 0)
    _move(
        limit, rung, to_minor, view, emitter, outbound.LimitRestored,
        compensates=decision.event_id, incident_id=incident_id or UNSET, **reasoner.way_back(view, rung, 0, ahead),
    )  # fmt: skip
    limit.since_ms, limit.since_day = since_ms, since_day


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
    to_minor = 0 if limit.rung == _ZEROED else minor
    _move(limit, limit.rung, to_minor, view, emitter, outbound.LimitRebased, reasons=[])
    limit.since_ms, limit.since_day, limit.stage = since_ms, since_day, stage
    limit.base_minor = minor if limit.rung == 0 or lowered else max(limit.base_minor, minor)
    for decision in limit.decisions:
        decision.from_minor = minor


def next_limit_wake(rules: Limits, standing: Standing, view: View) -> tuple[int | None, int | None]:
    """(moment, business date) at which the next rung or the next stage may be due by the passing of time alone."""
    limit = standing.limit
    if limit is None:
        return None, None
    moment: int | None = None
    for _, step in _steps_below(rules, limit):
        if not step.direct and _held(step, view, view.pressing):
            due_ms = limit.since_ms + step.after_days * DAY_MS
            moment = due_ms if due_ms > view.as_of_ms else None
            break
    day: int | None = None
    if 0 < limit.rung < _ZEROED:
        day = restoration_day(rules, standing, limit, view.distressed_day)
        if day is not None and day <= view.day:
            day = None if _paid_on_time(rules, standing, limit, view) else view.next_paid_due_day()
    return moment, day
