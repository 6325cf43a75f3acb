"""The reasons of a decision in words: values and thresholds in the unit of what they speak of.

A reason does not name its unit. It follows from the policy that gave it: a reason with points is of the factors under
its code, one without is of the rule whose threshold it names.
"""

from collections.abc import Callable, Iterator
from typing import Any

from streams.engine.directions import LYING
from streams.engine.features import FEATURE_INDEX, FEATURES
from streams.engine.score_fall import REASONS as FALL_REASONS
from streams.policy.model import Condition, Policy
from streams.replay.quantities import quantity


def reason_in_words(reason: dict[str, Any], policy: Policy | None, named: Callable[[str], str]) -> str:
    """A reason as a line; `named` names an event. Without its `policy` numbers stand as they are."""
    unit = "count" if policy is None else _unit(reason, policy)
    told = [_value(reason["value"], unit)] if reason["value"] is not None else []
    if not told and reason["points"]:
        told.append("unknown")
    if reason["threshold"] is not None:
        told.append(f"threshold {_value(reason['threshold'], unit)}")
    if reason["points"]:
        told.append(f"{reason['points']:+} points")
    if reason["evidence"]:
        told.append(f"proof {', '.join(map(named, reason['evidence']))}")
    behind = f": {', '.join(told)}" if told else ""
    return f"{reason['text']} ({reason['code']}{behind})"


def _value(value: int | str, unit: str) -> str:
    return value if isinstance(value, str) else quantity(value, unit)


def _unit(reason: dict[str, Any], policy: Policy) -> str:
    """The unit of a reason's value; that of a bare number where it could be of several."""
    code = reason["code"]
    if reason["points"]:
        scored = [factor.feature for factor in policy.score.factors if factor.reason == code]
        units = {FEATURES[FEATURE_INDEX[feature]].unit for feature in scored}
    elif code in FALL_REASONS:
        units = {"points"}
    elif code == LYING:
        units = {"days"}
    else:
        units = {unit for threshold, unit in _thresholds(code, policy) if threshold == reason["threshold"]}
    return units.pop() if len(units) == 1 else "count"


def _thresholds(code: str, policy: Policy) -> Iterator[tuple[int | None, str]]:
    """What the rules that give a code look for, and the unit of each."""
    for level in policy.warnings:
        if level.reason == code:
            yield level.managed_dpd_from, "days"
    for step in policy.limits.all_steps():
        for condition in step.when if step.reason == code else ():
            yield from _looked_for(condition)


def _looked_for(condition: Condition) -> Iterator[tuple[int | None, str]]:
    yield condition.managed_dpd_from, "days"
    yield condition.contractual_dpd_from, "days"
    yield condition.overdue_episodes_from, "count"
    yield None if condition.several_loans is None else condition.several_loans.loans, "count"
    yield condition.score_fall_7d_from, "points"
    yield condition.score_fall_30d_from, "points"
