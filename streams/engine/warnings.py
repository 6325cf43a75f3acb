"""Warning levels: raised or escalated at once, lowered only after a dwell time beyond a stricter threshold.

raise     score below or fallen by, or managed DPD from             at once, unless the level is in its cool-down
lower     score back above and managed DPD below, for the dwell     one level after another
overturn  the DPD that raised the level turns out never to have been    at once, by a compensating event, down to the
                                                                       level that is called for without it
"""

from typing import Any

from msgspec import UNSET

from schemas import outbound
from streams.engine.calendar import DAY_MS
from streams.engine.encode import Emitter
from streams.engine.reasons import Reasoner, dpd_rule
from streams.engine.standing import Ground, Standing, WarningDecision
from streams.engine.view import NEVER_BELOW, View, arrears_behind, leave_bounds, score_bounds
from streams.policy.model import LEVELS, WarningLevel

TOPIC = "early-warnings"


def _raised(rule: WarningLevel, view: View, score: int) -> bool:
    return score < max(score_bounds(rule, view), default=NEVER_BELOW) or _by_dpd(rule, view)


def _by_dpd(rule: WarningLevel, view: View) -> bool:
    return rule.managed_dpd_from is not None and view.managed >= rule.managed_dpd_from


def _may_leave(rule: WarningLevel, view: View, score: int) -> bool:
    if score < max(leave_bounds(rule, view), default=NEVER_BELOW):
        return False
    return rule.leave_managed_dpd_below is None or view.managed < rule.leave_managed_dpd_below


def _cooling_until(rule: WarningLevel, left_at_ms: int) -> int:
    return left_at_ms + rule.cool_down_days * DAY_MS if left_at_ms else 0


def judge_warnings(
    rules: tuple[WarningLevel, ...], standing: Standing, view: View, emitter: Emitter, reasoner: Reasoner
) -> None:
    """Move `standing` to the level that `view` calls for; `rules` are the levels from the lowest up."""
    target = _target(rules, standing, view)
    if target > standing.level:
        _raise_to(target, rules, standing, view, emitter, reasoner)
    elif standing.level:
        _lower(rules, standing, view, emitter, reasoner)


def _target(rules: tuple[WarningLevel, ...], standing: Standing, view: View) -> int:
    for index in range(min(len(rules), view.level_below - 1), standing.level, -1):
        rule = rules[index - 1]
        if _raised(rule, view, view.scored.score) and _cooling_until(rule, standing.left_at_ms[index]) <= view.as_of_ms:
            return index
    return standing.level


def _raise_to(
    target: int,
    rules: tuple[WarningLevel, ...],
    standing: Standing,
    view: View,
    emitter: Emitter,
    reasoner: Reasoner,
) -> None:
    rule = rules[target - 1]
    met = [dpd_rule(rule.reason, rule.managed_dpd_from or 0, view)] if _by_dpd(rule, view) else []
    previous = standing.level
    view.level = target
    event_id = emitter.emit(
        TOPIC,
        outbound.WarningEscalated if previous else outbound.WarningRaised,
        rule.level,
        level=rule.level,
        previous_level=LEVELS[previous],
        **reasoner.warning(view, [*met, *reasoner.falls(rule, view)]),
    )
    _stand_at(target, event_id, previous, rule, standing, view)


def _stand_at(level: int, event_id: str, previous: int, rule: WarningLevel, standing: Standing, view: View) -> None:
    """Note that an event put the borrower at a level above `previous`, whose conditions to be raised hold."""
    grounds = [Ground(managed_from=rule.managed_dpd_from or 0)] if _by_dpd(rule, view) else []
    grounds += [
        Ground(score_below=bound, arrears_dpd=arrears_behind(bound, view))
        for bound in score_bounds(rule, view)
        if view.scored.score < bound
    ]
    by_others = 0
    if view.others_points:
        by_others = max(0, level - called_level(view.levels, view, view.own_score))
    standing.warnings.append(WarningDecision(event_id, view.day, level, previous, grounds, view.as_of_ms, by_others))
    standing.level, standing.level_day = level, view.day
    standing.below_since_ms = [0] * len(standing.below_since_ms)


def _lower(
    rules: tuple[WarningLevel, ...], standing: Standing, view: View, emitter: Emitter, reasoner: Reasoner
) -> None:
    note_dwell(rules, standing, view)
    level = standing.level
    below = standing.below_since_ms
    while level and below[level] and below[level] + rules[level - 1].dwell_days * DAY_MS <= view.as_of_ms:
        standing.left_at_ms[level] = view.as_of_ms
        below[level] = 0
        level -= 1
    if level == standing.level:
        return
    previous = standing.level
    standing.level = view.level = level
    standing.level_day = view.day
    # A decision that raised two levels or more still carries the lower one of them.
    while standing.warnings and standing.warnings[-1].previous_level >= level:
        standing.warnings.pop()
    emitter.emit(
        TOPIC,
        outbound.WarningLowered if level else outbound.WarningCleared,
        LEVELS[level],
        level=LEVELS[level],
        previous_level=LEVELS[previous],
        **reasoner.warning(view, []),
    )


def note_dwell(rules: tuple[WarningLevel, ...], standing: Standing, view: View) -> None:
    """Note since when the levels in force may be left; where nothing may be said, that is all that is done."""
    below = standing.below_since_ms
    for index in range(1, standing.level + 1):
        if not _may_leave(rules[index - 1], view, view.scored.score):
            below[index] = 0
        elif below[index] == 0:
            below[index] = view.as_of_ms


def pressing_level(rules: tuple[WarningLevel, ...], standing: Standing, view: View) -> int:
    """The highest level up to that in force whose lower threshold has not been passed.

    Above it a level only waits out its dwell time. That holds restrictions in place, but is no ground for a new one.
    """
    return _pressing_up_to(standing.level, rules, view, view.scored.score)


def _pressing_up_to(level: int, rules: tuple[WarningLevel, ...], view: View, score: int) -> int:
    while level and _may_leave(rules[level - 1], view, score):
        level -= 1
    return level


def note_own(rules: tuple[WarningLevel, ...], standing: Standing, view: View) -> int:
    """The highest level that would press if all that others say were unknown, and notes up to where the levels in force
    have been called for without it.

    A level that others have raised may press for long after they speak better of the borrower: then it is theirs still.
    """
    if not view.others_points and not any(decision.by_others for decision in standing.warnings):
        return len(LEVELS)
    called = called_level(rules, view, view.own_score)
    own = 0
    for decision in standing.warnings:
        decision.by_others = min(decision.by_others, max(0, decision.level - called))
        own = max(own, decision.level - decision.by_others)
    return max(called, _pressing_up_to(min(own, standing.level), rules, view, view.own_score))


def called_level(rules: tuple[WarningLevel, ...], view: View, score: int) -> int:
    """The highest level whose conditions to be raised hold at a score, be it in its cool-down."""
    for level in range(min(len(rules), view.level_below - 1), 0, -1):
        if _raised(rules[level - 1], view, score):
            return level
    return 0


def undo_warning(
    rules: tuple[WarningLevel, ...],
    standing: Standing,
    view: View,
    emitter: Emitter,
    reasoner: Reasoner,
    incident_id: str = "",
) -> bool:
    """Compensate the newest warning decision: its DPD was not there on its own day, because of an incident if one is
    named. The level that is called for without it stays in force, where that is above the one before the decision;
    whether it is. Where it is no lower than the one in force, it is raised anew, for its own reasons."""
    decision, previous = standing.warnings[-1], standing.level
    before = decision.previous_level
    called = min(called_level(rules, view, view.scored.score), previous)
    if before < called < previous:
        event_id = _take_back(standing, called, view, emitter, reasoner, incident_id=incident_id or UNSET)
        _stand_at(called, event_id, before, rules[called - 1], standing, view)
        return True
    _take_back(standing, before, view, emitter, reasoner, incident_id=incident_id or UNSET)
    if called > before:
        _raise_to(called, rules, standing, view, emitter, reasoner)
    return called > before


def overturn_warning(
    standing: Standing, view: View, emitter: Emitter, reasoner: Reasoner, reason: outbound.Reason
) -> None:
    """Compensate the newest warning decision: a reviewer has overturned it."""
    _take_back(standing, standing.warnings[-1].previous_level, view, emitter, reasoner, reasons=[reason])


def _take_back(standing: Standing, level: int, view: View, emitter: Emitter, reasoner: Reasoner, **fields: Any) -> str:
    """Compensate the newest warning decision by lowering to a level; returns the event's id."""
    decision = standing.warnings.pop()
    previous = standing.level
    standing.level = view.level = min(previous, level)
    standing.level_day = view.day
    standing.below_since_ms = [0] * len(standing.below_since_ms)
    return emitter.emit(
        TOPIC,
        outbound.WarningLowered if standing.level else outbound.WarningCleared,
        LEVELS[standing.level],
        level=LEVELS[standing.level],
        previous_level=LEVELS[previous],
        compensates=decision.event_id,
        **(reasoner.warning(view, []) | fields),
    )


def next_warning_wake(rules: tuple[WarningLevel, ...], standing: Standing, view: View) -> int | None:
    """The next moment at which a dwell time or a cool-down in force ends."""
    moments: list[int] = []
    level = standing.level
    if level and standing.below_since_ms[level]:
        moments.append(standing.below_since_ms[level] + rules[level - 1].dwell_days * DAY_MS)
    for index in range(level + 1, min(len(rules) + 1, view.level_below)):
        until = _cooling_until(rules[index - 1], standing.left_at_ms[index])
        if until > view.as_of_ms and _raised(rules[index - 1], view, view.scored.score):
            moments.append(until)
    return min((moment for moment in moments if moment > view.as_of_ms), default=None)


def next_look_day(rules: tuple[WarningLevel, ...], standing: Standing, view: View) -> int | None:
    """The business date on which a warned borrower is looked at again though nothing happens: once per dwell time.

    What time takes out of the windows sends no event; without this a borrower who has recovered and then does nothing
    would stay warned. Counted from the day the level was reached, so that it does not depend on when it is asked.
    """
    level = standing.level
    if level == 0 or standing.below_since_ms[level]:
        return None
    every = max(rules[level - 1].dwell_days, 1)
    return standing.level_day + ((view.day - standing.level_day) // every + 1) * every
