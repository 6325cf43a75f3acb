"""Reasons counted again: how much of what a decision names is true without the days that outages excuse."""

from streams.policy.model import Policy
from tests.laws.year.arrears import Arrears
from tests.laws.year.told import Event

_LATENESS = ("paid_late_often", "paid_late_long", "overdue_repeatedly")
_ARREARS = "arrears_now"
_FAILED = "debits_failed"
EPISODE_DPD = 30


class Recount:
    """Knows which reasons of a policy count days past due, and what they count."""

    def __init__(self, policy: Policy) -> None:
        steps = policy.limits.all_steps()
        self._days = {step.reason for step in steps} | {level.reason for level in policy.warnings} | {_ARREARS}
        conditions = [condition for step in steps if step.status == "zeroed" for condition in step.when]
        self._several = {
            condition.several_loans.loans: condition.several_loans.managed_dpd_from
            for condition in conditions
            if condition.several_loans is not None
        }
        self._material = {condition.managed_dpd_from for condition in conditions if condition.material}
        self._episodes = {condition.overdue_episodes_from for condition in conditions}
        self.listed_from = min(condition.managed_dpd_from or 0 for condition in conditions if condition.blacklists)
        """The days past due from which a borrower is listed."""

    def of_arrears(self, reason: Event) -> bool:
        """Whether a reason counts days past due, loans or episodes of them."""
        return reason["code"] in self._days and isinstance(reason["value"], int)

    def holds(self, reason: Event, arrears: Arrears, day: int, morning: bool = True) -> bool:
        """Whether such a reason is true of the morning of a day, or of its end, when all that is paid on it is paid and
        what is left may be no longer material. Episodes are those that mornings have seen."""
        threshold: int = reason["threshold"]
        if threshold in self._several:
            return arrears.reaching(self._several[threshold], day, morning) >= threshold
        if threshold in self._episodes:
            return arrears.episodes(EPISODE_DPD, day) >= threshold
        if threshold in self._material and not morning:
            return arrears.material(threshold, day)
        return arrears.managed(day, morning) >= threshold

    def of_outage(self, reason: Event, arrears: Arrears, explained: set[str], day: int) -> bool:
        """Whether a reason is nothing but the outage's: see the claims."""
        if self.of_arrears(reason):
            return not self.holds(reason, arrears, day)
        if reason["code"] == _FAILED:
            return explained.issuperset(reason["evidence"])
        return reason["code"] in _LATENESS and not arrears.late_by(day)
