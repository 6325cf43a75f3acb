"""Turns a policy into what the engine runs: plain functions, sorted thresholds, lookup tables."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast
from zlib import crc32

from streams.engine.arrears import EPISODE_DPD
from streams.engine.features import FEATURE_INDEX, FEATURES
from streams.engine.signal_table import GROUP_LEADS
from streams.policy.loader import digest as digest_of
from streams.policy.model import Factor, Policy, Regulatory, Scorecard, Segment, SegmentPoints, Subtotal

OF_OTHERS: tuple[Subtotal, ...] = ("external", "links")
"""What others say, not the borrower."""
SUBTOTALS: tuple[Subtotal, ...] = ("ability", "willingness", "behaviour", *OF_OTHERS)
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

    `source` is the generated scorecard, `raw_score` its function, for borrowers without a segment of their own in it
    (see `score_of`). `card` is a checksum of the scorecard: scores of equal cards can be compared. `factor_features`
    gives the index in FEATURES of each factor.
    """

    __slots__ = (
        "_unknown_of_others",
        "bucket_starts",
        "card",
        "digest",
        "edges",
        "factor_features",
        "policy",
        "raw_score",
        "raw_score_by_segment",
        "source",
    )

    def __init__(self, policy: Policy, digest: str, source: str, functions: dict[str, ScoreFunction]) -> None:
        self.policy = policy
        self.digest = digest
        self.source = source
        self.card = crc32(source.encode())
        self.raw_score = functions[""]
        self.raw_score_by_segment = functions
        self.edges = _edges(policy)
        self.bucket_starts = tuple(bucket.from_day for bucket in policy.buckets)
        self.factor_features = tuple(FEATURE_INDEX[factor.feature] for factor in policy.score.factors)
        of_others = [factor for factor in policy.score.factors if factor.subtotal in OF_OTHERS]
        self._unknown_of_others = {
            segment: sum(bands_of(factor, segment).unknown for factor in of_others) for segment in functions
        }

    def others_points(self, segment: str, subtotals: tuple[int, int, int, int, int]) -> int:
        """By how many points a score would be higher if all that others say of the borrower were unknown; 0 where that
        costs nothing."""
        unknown = self._unknown_of_others.get(segment, self._unknown_of_others[""])
        return max(0, unknown - sum(subtotals[-len(OF_OTHERS) :]))

    def score_of(self, segment: str) -> ScoreFunction:
        """The score function of a segment ("" and any that has nothing of its own: the common one)."""
        return self.raw_score_by_segment.get(segment, self.raw_score)

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
        segments = ["", *sorted({segment for factor in policy.score.factors for segment in factor.segments})]
        source = "".join(score_source(policy.score, segment) for segment in segments)
        scope: dict[str, object] = {}
        # The text holds names fixed here and whole numbers alone: nothing a policy says reaches it as code.
        exec(compile(source, f"<scorecard {digest[:19]}>", "exec"), scope)  # noqa: S102
        functions = {segment: cast(ScoreFunction, scope[_function_name(segment)]) for segment in segments}
        found = Compiled(policy, digest, source, functions)
        if len(_compiled) >= _KEPT:
            _compiled.clear()
        _compiled[digest] = found
    return found


def bands_of(factor: Factor, segment: str) -> Factor | SegmentPoints:
    """Where the bands and the points of the unknown stand that a factor has for a segment."""
    own = factor.segments.get(cast(Segment, segment))
    return factor if own is None else own


def _function_name(segment: str) -> str:
    return f"score_{segment}" if segment else "score"


def score_source(card: Scorecard, segment: str = "") -> str:
    """Python source of ``score(v)`` over a feature list: one chain of comparisons per factor.

    Factors of a group with a leading feature stand together behind it: while that is unknown, all of them are.
    """
    lines = [f"def {_function_name(segment)}(v):"]
    terms: dict[str, list[str]] = {subtotal: [] for subtotal in SUBTOTALS}
    groups: dict[str, list[int]] = {}
    for at, factor in enumerate(card.factors):
        group = FEATURES[FEATURE_INDEX[factor.feature]].group
        if group in GROUP_LEADS:
            groups.setdefault(group, []).append(at)
        else:
            lines += _factor_lines(at, factor, segment, "    ")
            terms[factor.subtotal].append(f"p{at}")
    for number, (group, members) in enumerate(groups.items()):
        lines += _group_lines(number, FEATURE_INDEX[GROUP_LEADS[group]], members, card, segment, terms)
    lines += [f"    s{at} = {' + '.join(terms[subtotal]) or '0'}" for at, subtotal in enumerate(SUBTOTALS)]
    lines.append(f"    t = {card.base} + s0 + s1 + s2 + s3 + s4")
    for at, tier in enumerate(card.tiers):
        test = f"t >= {tier.from_score}" if tier.from_score is not None else "True"
        lines += [f"    {'if' if at == 0 else 'elif'} {test}:", f"        i = {at}"]
    points = "".join(f"p{at}, " for at in range(len(card.factors)))
    lines.append(f"    return t, (s0, s1, s2, s3, s4), i, ({points.rstrip()})")
    return "\n".join(lines) + "\n"


def _group_lines(
    number: int, lead: int, members: list[int], card: Scorecard, segment: str, terms: dict[str, list[str]]
) -> list[str]:
    """The factors of one group, and its sums, which are added to `terms`."""
    unknown = {at: bands_of(card.factors[at], segment).unknown for at in members}
    known: list[str] = []
    absent = [f"        p{at} = {points}" for at, points in unknown.items()]
    for at in members:
        known += _factor_lines(at, card.factors[at], segment, "        ")
    for place, subtotal in enumerate(SUBTOTALS):
        part = [at for at in members if card.factors[at].subtotal == subtotal]
        if part:
            name = f"g{number}_{place}"
            absent.append(f"        {name} = {sum(unknown[at] for at in part)}")
            known.append(f"        {name} = {' + '.join(f'p{at}' for at in part)}")
            terms[subtotal].append(name)
    return [f"    if v[{lead}] is None:  # {FEATURES[lead].group}", *absent, "    else:", *known]


def _factor_lines(at: int, factor: Factor, segment: str, indent: str) -> list[str]:
    index, card = FEATURE_INDEX[factor.feature], bands_of(factor, segment)
    lines = [f"x = v[{index}]  # {FEATURES[index].name}", "if x is None:", f"    p{at} = {card.unknown}"]
    for band in card.bands:
        lines.append("else:" if band.upper is None else f"elif x < {band.upper}:")
        lines.append(f"    p{at} = {band.points}")
    return [indent + line for line in lines]


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
        every: list[Factor | SegmentPoints] = [factor, *factor.segments.values()]
        bounds = {band.upper for card in every for band in card.bands if band.upper is not None}
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
