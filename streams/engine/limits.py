"""The limit ladder: graduated restriction, permanent zeroing, staged restoration.

    restrict   any condition of the next rung holds and the rung below has been stood on long enough; a `direct` rung
               from anywhere
    overturn   the arrears behind a restriction turn out never to have been: compensated at once, newest first
    restore    arrears cleared on all loans, probation clean, the rung's conditions gone: stage by stage
    rebase     the limit was changed elsewhere

Each event of a borrower's chain has the next `limit_seq` and starts where the last one ended.
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
from streams.policy.model import LEVELS, Condition, Limits, LimitStep, Status

TOPIC = "limit-adjustments"
EVENT_OF_STATUS: dict[Status, type[outbound.LimitAdjustment]] = {
    "draws_restricted": outbound.DrawsRestricted,
    "decreased": outbound.LimitDecreased,
    "frozen": outbound.LimitFrozen,
    "zeroed": outbound.LimitZeroed,
}


def status_of(rules: Limits, rung: int) -> Status:
    """The status on a rung; rung 0 is ``normal``."""
    return "normal" if rung == 0 else rules.steps[rung - 1].status


def _held(step: LimitStep, view: View) -> list[Condition]:
    if step.status == "zeroed" and view.plan_kept:
        return [c for c in step.when if c.fraud_confirmed and holds(c, view, LEVELS.index)]
    return [condition for condition in step.when if holds(condition, view, LEVELS.index)]


def judge_limit(rules: Limits, standing: Standing, view: View, emitter: Emitter, reasoner: Reasoner) -> None:
    """Move the limit to where `view` calls for it; nothing happens before the first `profile_set`."""
    limit = standing.limit
    if limit is None:
        return
    while _restrict(rules, limit, view, emitter, reasoner):
        pass
    if limit.rung and status_of(rules, limit.rung) != "zeroed":
        _restore(rules, standing, limit, view, emitter, reasoner)


def _next_step(rules: Limits, limit: Limit, view: View) -> tuple[int, list[Condition]] | None:
    """The rung to take now: the highest direct one that holds, else the lowest that holds and is due."""
    for rung in range(len(rules.steps), limit.rung, -1):
        step = rules.steps[rung - 1]
        if step.direct and (held := _held(step, view)):
            return rung, held
    for rung in range(limit.rung + 1, len(rules.steps) + 1):
        step = rules.steps[rung - 1]
        if step.direct:
            continue
        if held := _held(step, view):
            due_ms = limit.since_ms + step.after_days * DAY_MS
            return (rung, held) if limit.rung == 0 or due_ms <= view.as_of_ms else None
    return None


def _restrict(rules: Limits, limit: Limit, view: View, emitter: Emitter, reasoner: Reasoner) -> bool:
    taken = _next_step(rules, limit, view)
    if taken is None:
        return False
    rung, held = taken
    step = rules.steps[rung - 1]
    previous_rung, from_minor = limit.rung, limit.minor
    if previous_rung == 0:
        limit.base_minor = from_minor
    to_minor = from_minor * step.keep_bp // 10_000
    draws: Any = UNSET
    if step.draws_max_30d is not None and step.draws_min_gap_h is not None:
        draws = outbound.Draws(max_30d=step.draws_max_30d, min_gap_h=step.draws_min_gap_h)
    event_id = _move(
        rules, limit, rung, to_minor, view, emitter, EVENT_OF_STATUS[step.status],
        draws=draws, **reasoner.restriction(view, step, held, limit),
    )  # fmt: skip
    grounds = [ground_of(condition, view, LEVELS.index) for condition in held]
    limit.decisions.append(LimitDecision(event_id, view.day, rung, previous_rung, from_minor, to_minor, grounds))
    return True


def _move(
    rules: Limits,
    limit: Limit,
    rung: int,
    to_minor: int,
    view: View,
    emitter: Emitter,
    event: type[outbound.LimitAdjustment],
    **fields: Any,
) -> str:
    from_status, to_status = status_of(rules, limit.rung), status_of(rules, rung)
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


def restoration_day(rules: Limits, standing: Standing, limit: Limit, distressed_day: int | None) -> int | None:
    """The business date from which the next stage may be granted; None while in arrears."""
    if limit.stage:
        return None if standing.clean_since_day is None else limit.since_day + rules.restoration.stage_days
    return probation_end_day(rules, standing, limit, distressed_day)


def _restore(rules: Limits, standing: Standing, limit: Limit, view: View, emitter: Emitter, reasoner: Reasoner) -> None:
    day = restoration_day(rules, standing, limit, view.distressed_day)
    if day is None or view.day < day:
        return
    if any(_held(rules.steps[rung - 1], view) for rung in range(1, limit.rung + 1)):
        return
    since = limit.since_day if limit.stage else (standing.clean_since_day or 0)
    if view.loans and view.on_time_since(since) < rules.restoration.stage_on_time:
        return
    stage, to_minor = _next_stage(rules, limit)
    rung = 0 if to_minor >= limit.base_minor else _rung_of_partial(rules, limit)
    stage = 0 if rung == 0 else stage
    way_back = reasoner.way_back(view, rung, stage)
    _move(rules, limit, rung, to_minor, view, emitter, outbound.LimitRestored, **way_back)
    limit.stage = stage
    if rung == 0:
        limit.decisions.clear()


def _rung_of_partial(rules: Limits, limit: Limit) -> int:
    """While only a part is restored the limit counts as decreased (or as what it is, where that is less)."""
    for rung in range(1, limit.rung + 1):
        if rules.steps[rung - 1].status == "decreased":
            return rung
    return limit.rung


def overturn_limit(rules: Limits, standing: Standing, view: View, emitter: Emitter, reasoner: Reasoner) -> None:
    """Compensate the newest restriction, whose arrears turned out false as of its own day."""
    limit = standing.limit
    if limit is None:
        return
    decision = limit.decisions.pop()
    rung = min(limit.rung, decision.previous_rung)
    to_minor = max(limit.minor, decision.from_minor)
    _move(
        rules, limit, rung, to_minor, view, emitter, outbound.LimitRestored,
        compensates=decision.event_id, **reasoner.way_back(view, rung, 0),
    )  # fmt: skip


def rebase(rules: Limits, standing: Standing, profile: Profile, view: View, emitter: Emitter) -> None:
    """Take over a limit that was set elsewhere; undoing an earlier restriction then no longer changes the amount."""
    limit, minor, currency = standing.limit, profile.limit_minor, profile.currency
    if limit is None:
        standing.limit = Limit(minor, currency, base_minor=minor, since_ms=view.as_of_ms, since_day=view.day)
        return
    if limit.minor == minor and limit.currency == currency:
        return
    limit.currency = currency
    since_ms, since_day, stage = limit.since_ms, limit.since_day, limit.stage
    _move(rules, limit, limit.rung, minor, view, emitter, outbound.LimitRebased, reasons=[])
    limit.since_ms, limit.since_day, limit.stage = since_ms, since_day, stage
    limit.base_minor = minor if limit.rung == 0 else max(limit.base_minor, minor)
    for decision in limit.decisions:
        decision.from_minor = minor


def next_limit_wake(rules: Limits, standing: Standing, view: View) -> tuple[int | None, int | None]:
    """(moment, business date) at which the next rung or the next stage may be due by the passing of time alone."""
    limit = standing.limit
    if limit is None:
        return None, None
    moment: int | None = None
    for rung in range(limit.rung + 1, len(rules.steps) + 1):
        step = rules.steps[rung - 1]
        if not step.direct and _held(step, view):
            due_ms = limit.since_ms + step.after_days * DAY_MS
            moment = due_ms if due_ms > view.as_of_ms else None
            break
    day: int | None = None
    if limit.rung and status_of(rules, limit.rung) != "zeroed":
        day = restoration_day(rules, standing, limit, view.distressed_day)
        if day is not None and day <= view.day:
            day = None
    return moment, day
