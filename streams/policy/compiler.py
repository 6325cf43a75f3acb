"""Turns a policy into what the engine runs: plain functions, sorted thresholds, lookup tables."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from streams.engine.arrears import EPISODE_DPD
from streams.engine.features import FEATURE_INDEX, FEATURES
from streams.policy.loader import digest as digest_of
from streams.policy.model import Factor, Policy, Regulatory, Scorecard, Subtotal

SUBTOTALS: tuple[Subtotal, ...] = ("ability", "willingness", "behaviour", "external", "links")
"""The order of subtotals everywhere."""

RawScore = tuple[int, tuple[int, int, int, int, int], int, tuple[int, ...]]
"""Score, subtotals, index of the tier, points per factor."""
ScoreFunction = Callable[[Sequence[int | None]], RawScore]


class Edges(NamedTuple):
    """DPD values, sorted, at which something the policy looks at changes: reaching one, or falling below it."""

    managed: tuple[int, ...]
    contractual: tuple[int, ...]
    material: tuple[int, ...]


class Compiled:
    """A policy ready to run. Equal policies compile to equal source.

    `source` is the generated scorecard, `raw_score` its function. `factor_features` gives the index in FEATURES of each
    factor.
    """

    __slots__ = (
        "bucket_starts",
        "digest",
        "edges",
        "factor_features",
        "policy",
        "raw_score",
        "source",
    )

    def __init__(self, policy: Policy, digest: str, source: str, raw_score: ScoreFunction) -> None:
        self.policy = policy
        self.digest = digest
        self.source = source
        self.raw_score = raw_score
        self.edges = _edges(policy)
        self.bucket_starts = tuple(bucket.from_day for bucket in policy.buckets)
        self.factor_features = tuple(FEATURE_INDEX[factor.feature] for factor in policy.score.factors)

    def bucket_index(self, managed_dpd: int) -> int:
        """The index of the bucket of a managed DPD (0 or more)."""
        return bisect_right(self.bucket_starts, managed_dpd) - 1


_compiled: dict[str, Compiled] = {}
_KEPT = 64


def compile_policy(policy: Policy) -> Compiled:
    """The compiled form of a policy that the loader has accepted; kept by digest."""
    digest = digest_of(policy)
    found = _compiled.get(digest)
    if found is None:
        source = score_source(policy.score)
        scope: dict[str, object] = {}
        # The text holds names fixed here and whole numbers alone: nothing a policy says reaches it as code.
        exec(compile(source, f"<scorecard {digest[:19]}>", "exec"), scope)  # noqa: S102
        found = Compiled(policy, digest, source, cast(ScoreFunction, scope["score"]))
        if len(_compiled) >= _KEPT:
            _compiled.clear()
        _compiled[digest] = found
    return found


def score_source(card: Scorecard) -> str:
    """Python source of ``score(v)`` over a feature list: one chain of comparisons per factor."""
    lines = ["def score(v):"]
    for at, factor in enumerate(card.factors):
        lines += _factor_lines(at, factor)
    sums = []
    for subtotal in SUBTOTALS:
        terms = [f"p{at}" for at, factor in enumerate(card.factors) if factor.subtotal == subtotal]
        sums.append(" + ".join(terms) or "0")
    lines += [f"    s{at} = {text}" for at, text in enumerate(sums)]
    lines.append(f"    t = {card.base} + s0 + s1 + s2 + s3 + s4")
    for at, tier in enumerate(card.tiers):
        test = f"t >= {tier.from_score}" if tier.from_score is not None else "True"
        lines += [f"    {'if' if at == 0 else 'elif'} {test}:", f"        i = {at}"]
    points = "".join(f"p{at}, " for at in range(len(card.factors)))
    lines.append(f"    return t, (s0, s1, s2, s3, s4), i, ({points.rstrip()})")
    return "\n".join(lines) + "\n"


def _factor_lines(at: int, factor: Factor) -> list[str]:
    index = FEATURE_INDEX[factor.feature]
    lines = [f"    x = v[{index}]  # {FEATURES[index].name}", "    if x is None:", f"        p{at} = {factor.unknown}"]
    for band in factor.bands:
        lines.append("    else:" if band.upper is None else f"    elif x < {band.upper}:")
        lines.append(f"        p{at} = {band.points}")
    return lines


def _edges(policy: Policy) -> Edges:
    managed = {bucket.from_day for bucket in policy.buckets} | {policy.offers.managed_dpd_from}
    contractual = {bucket.from_day for bucket in policy.buckets} | _regulatory_days(policy.regulatory)
    material = {policy.regulatory.default.material_from_day}
    for warning in policy.warnings:
        managed.update(d for d in (warning.managed_dpd_from, warning.leave_managed_dpd_below) if d is not None)
    for step in policy.limits.all_steps():
        for condition in step.when:
            if condition.managed_dpd_from is not None:
                managed.add(condition.managed_dpd_from)
            if condition.contractual_dpd_from is not None:
                contractual.add(condition.contractual_dpd_from)
            if condition.material:
                material.add(1)
            if condition.several_loans is not None:
                managed.add(condition.several_loans.managed_dpd_from)
            if condition.overdue_episodes_from is not None:
                managed.add(EPISODE_DPD)
    for factor in policy.score.factors:
        bounds = {band.upper for band in factor.bands if band.upper is not None}
        if factor.feature == "worst_managed_dpd":
            managed |= bounds
        elif factor.feature == "worst_contractual_dpd":
            contractual |= bounds
    return Edges(*(tuple(sorted(day for day in days if day >= 1)) for days in (managed, contractual, material)))


def _regulatory_days(rules: Regulatory) -> set[int]:
    """Contractual DPD at which a regulatory class begins."""
    tiers, closed, opened = rules.five_tier, rules.ffiec.closed_end, rules.ffiec.open_end
    return {
        rules.ifrs9.stage2_from_day,
        rules.ifrs9.stage3_from_day,
        tiers.special_mention_from_day,
        tiers.substandard_from_day,
        tiers.doubtful_from_day,
        tiers.loss_from_day,
        closed.substandard_from_day,
        closed.loss_from_day,
        opened.substandard_from_day,
        opened.loss_from_day,
    }
