"""The generated scorecard gives what the bands say, and the thresholds are all there."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine.features import FEATURE_INDEX, FEATURES
from streams.engine.signal_table import GROUP_LEADS
from streams.policy.compiler import SUBTOTALS, compile_policy, score_source
from streams.policy.loader import digest, load
from streams.policy.model import Band, Factor, Policy, Scorecard, Tier

STANDARD = load("standard")
UNKNOWN: list[int | None] = [None] * len(FEATURES)


def with_card(card: Scorecard) -> Policy:
    return msgspec.structs.replace(STANDARD, score=card)


def consistent(values: list[int | None]) -> list[int | None]:
    """Features as the engine gives them: nothing of a group is known whose leading feature is not."""
    return [
        None if (lead := GROUP_LEADS.get(feature.group)) and values[FEATURE_INDEX[lead]] is None else value
        for feature, value in zip(FEATURES, values, strict=True)
    ]


def by_hand(
    card: Scorecard, values: list[int | None], segment: str = ""
) -> tuple[int, tuple[int, ...], str, tuple[int, ...]]:
    """The scorecard read out word for word."""
    points = []
    subtotals = dict.fromkeys(SUBTOTALS, 0)
    for factor in card.factors:
        value = values[FEATURE_INDEX[factor.feature]]
        of_segment = next((points for name, points in factor.segments.items() if name == segment), factor)
        got = of_segment.unknown
        if value is not None:
            (got,) = (
                band.points
                for band in of_segment.bands
                if (band.lower is None or band.lower <= value) and (band.upper is None or value < band.upper)
            )
        points.append(got)
        subtotals[factor.subtotal] += got
    score = card.base + sum(points)
    tier = next(tier.name for tier in card.tiers if tier.from_score is None or score >= tier.from_score)
    return score, tuple(subtotals.values()), tier, tuple(points)


EDGES = [
    (factor.feature, edge + step)
    for factor in STANDARD.score.factors
    for edge in sorted({bound for band in factor.bands for bound in (band.lower, band.upper) if bound is not None})
    for step in (-1, 0, 1)
]


@pytest.mark.parametrize(("feature", "value"), EDGES)
def test_at_and_beside_every_band_edge(feature: str, value: int) -> None:
    values = list(UNKNOWN)
    lead = GROUP_LEADS.get(FEATURES[FEATURE_INDEX[feature]].group)
    if lead is not None:
        values[FEATURE_INDEX[lead]] = 0
    values[FEATURE_INDEX[feature]] = value
    score, subtotals, tier, points = compile_policy(STANDARD).raw_score(values)
    expected = by_hand(STANDARD.score, values)
    assert (score, subtotals, STANDARD.score.tiers[tier].name, points) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.none() | st.integers(-20_000, 200_000), min_size=len(FEATURES), max_size=len(FEATURES)),
    st.sampled_from(["", "worker", "student", "freelancer", "small_business", "other"]),
)
def test_any_features_score_as_by_hand(drawn: list[int | None], segment: str) -> None:
    values = consistent(drawn)
    score, subtotals, tier, points = compile_policy(STANDARD).score_of(segment)(values)
    assert (score, subtotals, STANDARD.score.tiers[tier].name, points) == by_hand(STANDARD.score, values, segment)


def test_a_students_irregular_income_is_not_an_employees() -> None:
    values = list(UNKNOWN)
    values[FEATURE_INDEX["income_variation_6m_bp"]] = 9_000
    compiled = compile_policy(STANDARD)
    by_segment = {segment: compiled.score_of(segment)(values)[0] for segment in ("worker", "student", "other", "")}
    assert by_segment == {"worker": 635, "student": 650, "other": 635, "": 635}


@pytest.mark.parametrize(
    ("points", "tier"), [(31, 0), (30, 0), (29, 1), (-30, 1), (-31, 2), (-110, 2), (-111, 3), (-210, 3), (-211, 4)]
)
def test_tiers_at_their_edges(points: int, tier: int) -> None:
    card = Scorecard(
        STANDARD.score.base,
        (Factor("logins_7d", "links", (Band(0),), unknown=points, reason="not_seen"),),
        STANDARD.score.tiers,
    )
    score, subtotals, found, _ = compile_policy(with_card(card)).raw_score(UNKNOWN)
    assert (score, subtotals[SUBTOTALS.index("links")], found) == (650 + points, points, tier)


def test_one_tier_for_all() -> None:
    card = Scorecard(0, (), (Tier("all", 100),))
    assert compile_policy(with_card(card)).raw_score(UNKNOWN) == (0, (0, 0, 0, 0, 0), 0, ())


def test_a_borrower_without_history_is_in_the_second_tier() -> None:
    score, _, tier, _ = compile_policy(STANDARD).raw_score(UNKNOWN)
    assert (score, STANDARD.score.tiers[tier].name) == (650, "B")
    assert all(warning.score_below is None or score >= warning.score_below for warning in STANDARD.warnings)


def test_no_single_habit_raises_a_warning() -> None:
    """Of a borrower of whom nothing else is known, only arrears reach a warning by themselves."""
    watch = STANDARD.warnings[0].score_below
    assert watch is not None
    for factor in STANDARD.score.factors:
        every = (factor, *factor.segments.values())
        worst = STANDARD.score.base + min(band.points for card in every for band in card.bands)
        assert (worst < watch) == (factor.feature == "worst_managed_dpd")


def test_compiled_once_and_from_the_same_source() -> None:
    compiled = compile_policy(STANDARD)
    assert compile_policy(load("standard")) is compiled
    assert compiled.digest == digest(STANDARD)
    assert compiled.source.startswith(score_source(STANDARD.score))
    assert score_source(STANDARD.score, "student") in compiled.source
    assert "# worst_managed_dpd" in compiled.source


def test_edges_are_all_days_the_policy_looks_at() -> None:
    edges = compile_policy(STANDARD).edges
    assert edges.managed == (1, 4, 8, 15, 30, 31, 60, 61, 90, 91, 121, 151, 181)
    assert edges.contractual == (1, 31, 61, 90, 91, 120, 121, 151, 180, 181, 271, 361)
    assert edges.material == (1, 91)


def test_edges_follow_the_policy() -> None:
    steps = msgspec.structs.replace(STANDARD.limits, steps=STANDARD.limits.steps[:1], by_segment={})
    factors = (Factor("worst_contractual_dpd", "ability", (Band(0, upper=45), Band(-1, lower=45)), 0, "arrears_now"),)
    card = msgspec.structs.replace(STANDARD.score, factors=factors)
    edges = compile_policy(msgspec.structs.replace(STANDARD, limits=steps, score=card)).edges
    assert set(edges.contractual) - set(compile_policy(STANDARD).edges.contractual) == {45}
    assert edges.material == (91,)
    assert 90 not in edges.managed


@pytest.mark.parametrize(
    ("managed", "bucket"),
    [
        *[(0, "C"), (1, "M1"), (30, "M1"), (31, "M2"), (60, "M2"), (61, "M3"), (90, "M3"), (91, "M4"), (120, "M4")],
        *[(121, "M5"), (150, "M5"), (151, "M6"), (180, "M6"), (181, "M7"), (4_000, "M7")],
    ],
)
def test_buckets_at_their_edges(managed: int, bucket: str) -> None:
    assert STANDARD.buckets[compile_policy(STANDARD).bucket_index(managed)].name == bucket
