"""Why a decision was made, and what would undo it, in terms a borrower can be told.

At most four reasons: the rule that was met, then the scored factors that cost most. Each has the value seen, the
threshold it crossed, the points it cost and the events that prove it. "Score too low" is never a reason (ECOA
Regulation B, 12 CFR 1002.9(b)(2); CFPB circular 2023-03).
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from msgspec import UNSET, Struct

from schemas import outbound
from streams.engine import delinquency
from streams.engine.calendar import iso_day
from streams.engine.features import FEATURES
from streams.engine.score import crossed
from streams.engine.score_fall import REASONS as FALL_REASONS
from streams.engine.signal_proof import signal_proof
from streams.engine.tightening import macro_of
from streams.engine.view import LoanView, View, loan_holds
from streams.engine.windows import proof
from streams.policy.compiler import OF_OTHERS, SUBTOTALS, Compiled, bands_of
from streams.policy.model import STATUSES, Condition, LimitStep, Subtotal, WarningLevel

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

    def warning(self, view: View, rules: list[Rule]) -> dict[str, Any]:
        """The fields of a warning event that explain it; `rules` are those that raised it beside the score."""
        scored = view.scored
        return {
            "score": scored.score,
            "tier": self._policy.score.tiers[scored.tier].name,
            "subtotals": outbound.Subtotals(**dict(zip(SUBTOTALS, scored.subtotals, strict=True))),
            "reasons": self._reasons(view, rules) if view.level else [],
            "recovery": self._warning_recovery(view),
            "macro": macro_of(view.factors, view.shift_points),
        }

    def restriction(self, view: View, step: LimitStep, held: list[Condition], stages: int) -> dict[str, Any]:
        """The fields of a restriction that explain it; `held` are its conditions that hold, `stages` those ahead."""
        rules = [rule for condition in held for rule in self._rules_of(step.reason, condition, view)]
        scored = any(condition.on_score or condition.level_from is not None for condition in held)
        # What others say was left out of the score that freezes or zeroes, so that it is no reason for it.
        left_out = OF_OTHERS if step.status in ("frozen", "zeroed") else ()
        return {
            "reasons": self._reasons(view, rules, scored, left_out),
            "recovery": self._limit_recovery(view, step.status == "zeroed", 0, stages),
            "macro": macro_of(view.factors, view.shift_points),
        }

    def way_back(self, view: View, rung: int, stage: int, stages: int) -> dict[str, Any]:
        """The fields of a restoration to a rung: no reasons against anyone, and the `stages` still ahead."""
        zeroed = STATUSES[rung] == "zeroed"
        return {
            "reasons": [],
            "recovery": UNSET if rung == 0 else self._limit_recovery(view, zeroed, stage, stages),
            "macro": macro_of(view.factors, view.shift_points),
        }

    def falls(self, rule: WarningLevel | Condition, view: View, code: str | None = None) -> list[Rule]:
        """The falls of the score that a rule looks for and that are there, under a code (None: their own)."""
        thresholds = rule.score_fall_7d_from, rule.score_fall_30d_from
        return [
            Rule(code or of_span, fall, threshold, self._fall_proof(view))
            for of_span, fall, threshold in zip(FALL_REASONS, view.falls, thresholds, strict=True)
            if fall is not None and threshold is not None and fall >= threshold
        ]

    def told(
        self, code: str, evidence: list[str], value: int | str | None = None, threshold: int | str | None = None
    ) -> outbound.Reason:
        """A reason that rests on what a person or another system has told."""
        return self._reason(code, value, threshold, 0, [event_id for event_id in evidence if event_id])

    # --- reasons ------------------------------------------------------------------------------------------------------

    def _reasons(
        self, view: View, rules: list[Rule], factors: bool = True, left_out: Sequence[Subtotal] = ()
    ) -> list[outbound.Reason]:
        reasons: list[outbound.Reason] = []
        for rule in rules:
            if all(rule.code != reason.code or rule.value != reason.value for reason in reasons):
                reasons.append(self._reason(rule.code, rule.value, rule.threshold, 0, rule.evidence))
        if factors:
            reasons += self._scored_factors(view, left_out)
        return reasons[:REASONS_MAX]

    def _reason(
        self, code: str, value: int | str | None, threshold: int | str | None, points: int, evidence: list[str]
    ) -> outbound.Reason:
        text = self._policy.reasons[code].en
        return outbound.Reason(
            code=code, text=text, value=value, threshold=threshold, points=points, evidence=evidence[:EVIDENCE_MAX]
        )

    def _scored_factors(self, view: View, left_out: Sequence[Subtotal]) -> list[outbound.Reason]:
        """The factors that cost points, the costliest first, but for those of some subtotals."""
        scored_by = self._policy.score.factors
        costly = sorted(
            (points, at)
            for at, points in enumerate(view.scored.points)
            if points < 0 and scored_by[at].subtotal not in left_out
        )[:REASONS_MAX]
        reasons: list[outbound.Reason] = []
        for cost, at in costly:
            factor = self._policy.score.factors[at]
            value, evidence = view.features[self._compiled.factor_features[at]], self._factor_proof(at, view)
            reasons.append(
                self._reason(factor.reason, value, crossed(bands_of(factor, view.segment).bands, value), cost, evidence)
            )
        return reasons

    def _factor_proof(self, at: int, view: View) -> list[str]:
        feature = FEATURES[self._compiled.factor_features[at]]
        asked = feature.proof, feature.proof_days, view.day
        return proof(view.windows, *asked) or signal_proof(view.windows.signals, *asked) or _arrears_proof(view)

    def _fall_proof(self, view: View) -> list[str]:
        """The first proof of each of the factors furthest below their best points, what is unknown left out."""
        lost: list[tuple[int, int]] = []
        for at, factor in enumerate(self._policy.score.factors):
            best = max(band.points for band in bands_of(factor, view.segment).bands)
            if view.features[self._compiled.factor_features[at]] is not None and view.scored.points[at] < best:
                lost.append((view.scored.points[at] - best, at))
        found = [event_id for _, at in sorted(lost) for event_id in self._factor_proof(at, view)[:1]]
        return list(dict.fromkeys(found))

    def _rules_of(self, code: str, condition: Condition, view: View) -> list[Rule]:
        """What a condition that holds has seen, at most one rule; none where it rests on score or level alone."""
        rule = _rule_of(code, condition, view)
        return self.falls(condition, view, code)[:1] if rule is None else [rule]

    # --- the way back -------------------------------------------------------------------------------------------------

    def _warning_recovery(self, view: View) -> outbound.Recovery | Any:
        if view.level == 0:
            return UNSET
        dwell = self._policy.warnings[view.level - 1].dwell_days
        return self._recovery(view, "pay_on_time", view.day + dwell)

    def _limit_recovery(self, view: View, zeroed: bool, stage: int, stages: int) -> outbound.Recovery:
        if zeroed:
            return outbound.Recovery(action="request_review")
        rules = self._restoration
        first_day = view.day + rules.stage_days if stage else view.probation_end_day(rules, view.day)
        earliest_day = first_day + (stages - 1) * rules.stage_days
        return self._recovery(view, "pay_on_time" if stage else "complete_probation", earliest_day)

    def _recovery(self, view: View, action: outbound.RecoveryAction, earliest_day: int) -> outbound.Recovery:
        """What is overdue is to be paid first; how much is told where all of it is in the borrower's home currency."""
        overdue = view.overdue_minor()
        if not overdue:
            return outbound.Recovery(action=action, earliest_on=iso_day(earliest_day))
        home = list(overdue) == [view.windows.currency]
        return outbound.Recovery(
            action="pay_overdue",
            amount_minor=overdue[view.windows.currency] if home else UNSET,
            by_on=iso_day(self._next_threshold_day(view) - 1),
            earliest_on=iso_day(earliest_day),
        )

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
        evidence = _arrears_proof(view) or view.episode_proof
        return Rule(code, view.episodes, condition.overdue_episodes_from, evidence)
    several = condition.several_loans
    if several is not None:
        reached = [loan for loan in view.loans if loan.position.managed >= several.managed_dpd_from]
        return Rule(code, len(reached), several.loans, _each_proof(reached, view.day))
    by_managed = condition.managed_dpd_from is not None
    threshold = condition.managed_dpd_from if by_managed else condition.contractual_dpd_from
    if threshold is None:
        return None
    # The loan for which the whole condition holds, which need not be the one longest overdue.
    counted, loan = max(
        ((_counted(loan, by_managed), loan) for loan in view.loans if loan_holds(condition, loan, view.day)),
        key=itemgetter(0),
    )
    return Rule(code, counted, threshold, delinquency.arrears_evidence(loan.loan, view.day))


def _counted(loan: LoanView, by_managed: bool) -> int:
    return loan.position.managed if by_managed else loan.position.contractual


def _each_proof(loans: list[LoanView], day: int) -> list[str]:
    """The first proof of each loan's arrears."""
    return [event_id for view in loans for event_id in delinquency.arrears_evidence(view.loan, day)[:1]]
