"""Why a decision was made, and what would undo it, in terms a borrower can be told.

At most four reasons: the rule that was met, then the scored factors that cost most. Each has the value seen, the
threshold it crossed, the points it cost and the events that prove it. "Score too low" is never a reason (ECOA
Regulation B, 12 CFR 1002.9(b)(2); CFPB circular 2023-03).
"""

from typing import Any

from msgspec import UNSET, Struct

from schemas import outbound
from streams.engine import delinquency
from streams.engine.calendar import iso_day
from streams.engine.features import FEATURES
from streams.engine.score import crossed
from streams.engine.standing import Limit
from streams.engine.view import LoanView, View
from streams.engine.windows import proof
from streams.policy.compiler import SUBTOTALS, Compiled
from streams.policy.model import Condition, LimitStep

REASONS_MAX = 4
EVIDENCE_MAX = 4


class Rule(Struct, frozen=True):
    """A rule that was met: its reason code, the value seen and the threshold."""

    code: str
    value: int | str | None
    threshold: int | str | None
    evidence: list[str]


class Reasoner:
    """Gives reasons and ways back under one policy."""

    def __init__(self, compiled: Compiled) -> None:
        self._policy = compiled.policy
        self._compiled = compiled
        self._restoration = compiled.policy.limits.restoration

    # --- fields of events ---------------------------------------------------------------------------------------------

    def warning(self, view: View, rule: Rule | None) -> dict[str, Any]:
        """The fields of a warning event that explain it; `rule` is the DPD rule that raised it, if one did."""
        scored = view.scored
        return {
            "score": scored.score,
            "tier": self._policy.score.tiers[scored.tier].name,
            "subtotals": outbound.Subtotals(**dict(zip(SUBTOTALS, scored.subtotals, strict=True))),
            "reasons": self._reasons(view, [] if rule is None else [rule]) if view.level else [],
            "recovery": self._warning_recovery(view),
        }

    def restriction(self, view: View, step: LimitStep, held: list[Condition], limit: Limit) -> dict[str, Any]:
        """The fields of a restriction that explain it; `held` are its conditions that hold."""
        rules = [rule for condition in held if (rule := _rule_of(step.reason, condition, view)) is not None]
        scored = any(c.score_below is not None or c.level_from is not None for c in held)
        return {
            "reasons": self._reasons(view, rules, factors=scored),
            "recovery": self._limit_recovery(view, step.status == "zeroed", limit.stage),
        }

    def way_back(self, view: View, rung: int, stage: int) -> dict[str, Any]:
        """The fields of a restoration to a rung: no reasons against anyone, and what is still ahead."""
        return {"reasons": [], "recovery": UNSET if rung == 0 else self._limit_recovery(view, False, stage)}

    # --- reasons ------------------------------------------------------------------------------------------------------

    def _reasons(self, view: View, rules: list[Rule], factors: bool = True) -> list[outbound.Reason]:
        reasons: list[outbound.Reason] = []
        for rule in rules:
            if all(rule.code != reason.code or rule.value != reason.value for reason in reasons):
                reasons.append(self._reason(rule.code, rule.value, rule.threshold, 0, rule.evidence))
        if factors:
            reasons += self._scored_factors(view)
        return reasons[:REASONS_MAX]

    def _reason(
        self, code: str, value: int | str | None, threshold: int | str | None, points: int, evidence: list[str]
    ) -> outbound.Reason:
        text = self._policy.reasons[code].en
        return outbound.Reason(
            code=code, text=text, value=value, threshold=threshold, points=points, evidence=evidence[:EVIDENCE_MAX]
        )

    def _scored_factors(self, view: View) -> list[outbound.Reason]:
        """The factors that cost points, the costliest first."""
        points = view.scored.points
        costly = sorted((points[at], at) for at in range(len(points)) if points[at] < 0)[:REASONS_MAX]
        reasons: list[outbound.Reason] = []
        for cost, at in costly:
            factor = self._policy.score.factors[at]
            index = self._compiled.factor_features[at]
            value = view.features[index]
            feature = FEATURES[index]
            evidence = proof(view.windows, feature.proof, feature.proof_days, view.day) or _arrears_proof(view)
            reasons.append(self._reason(factor.reason, value, crossed(factor.bands, value), cost, evidence))
        return reasons

    # --- the way back -------------------------------------------------------------------------------------------------

    def _warning_recovery(self, view: View) -> outbound.Recovery | Any:
        if view.level == 0:
            return UNSET
        dwell = self._policy.warnings[view.level - 1].dwell_days
        earliest_on = iso_day(view.day + dwell)
        if view.overdue_minor:
            return outbound.Recovery(
                action="pay_overdue",
                amount_minor=view.overdue_minor,
                by_on=iso_day(self._next_threshold_day(view) - 1),
                earliest_on=earliest_on,
            )
        return outbound.Recovery(action="pay_on_time", earliest_on=earliest_on)

    def _limit_recovery(self, view: View, zeroed: bool, stage: int) -> outbound.Recovery:
        if zeroed:
            return outbound.Recovery(action="request_review")
        rules = self._restoration
        stages_left = max(len(rules.stages_bp) - stage - 1, 0)
        wait = rules.stage_days if stage else rules.probation_days
        if not stage and view.distressed_day is not None:
            wait = max(wait, rules.distressed_probation_days)
        earliest_on = iso_day(view.day + wait + stages_left * rules.stage_days)
        if view.overdue_minor:
            return outbound.Recovery(
                action="pay_overdue",
                amount_minor=view.overdue_minor,
                by_on=iso_day(self._next_threshold_day(view) - 1),
                earliest_on=earliest_on,
            )
        return outbound.Recovery(action="pay_on_time" if stage else "complete_probation", earliest_on=earliest_on)

    def _next_threshold_day(self, view: View) -> int:
        """The day on which managed DPD would reach the next threshold of the policy if nothing were paid."""
        managed = view.managed
        for edge in self._compiled.edges.managed:
            if edge > managed:
                return view.day + edge - managed
        return view.day + 1


def _arrears_proof(view: View) -> list[str]:
    worst = view.worst
    return [] if worst is None else delinquency.arrears_evidence(worst.loan, view.day)


def dpd_rule(code: str, managed_from: int, view: View) -> Rule:
    """The rule that managed DPD has reached a threshold."""
    return Rule(code, view.managed, managed_from, _arrears_proof(view))


def _rule_of(code: str, condition: Condition, view: View) -> Rule | None:
    """What a condition that holds has seen: its most telling term; None where it rests on the score alone."""
    if condition.fraud_confirmed and view.fraud_event_id is not None:
        return Rule(code, "confirmed", "confirmed", [view.fraud_event_id])
    if condition.overdue_episodes_from is not None:
        return Rule(code, view.episodes, condition.overdue_episodes_from, _arrears_proof(view))
    several = condition.several_loans
    if several is not None:
        reached = [loan for loan in view.loans if loan.position.managed >= several.managed_dpd_from]
        return Rule(code, len(reached), several.loans, _each_proof(reached, view.day))
    if condition.managed_dpd_from is not None:
        return dpd_rule(code, condition.managed_dpd_from, view)
    if condition.contractual_dpd_from is not None:
        value = max((loan.position.contractual for loan in view.loans), default=0)
        return Rule(code, value, condition.contractual_dpd_from, _arrears_proof(view))
    return None


def _each_proof(loans: list[LoanView], day: int) -> list[str]:
    """The first proof of each loan's arrears."""
    return [event_id for view in loans for event_id in delinquency.arrears_evidence(view.loan, day)[:1]]
