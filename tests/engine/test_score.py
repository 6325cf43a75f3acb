"""Scores, and the threshold a reason names."""

import pytest

from streams.engine.features import FEATURE_INDEX, FEATURES
from streams.engine.score import crossed, scored
from streams.policy.compiler import SUBTOTALS, compile_policy
from streams.policy.loader import load
from streams.policy.model import Band

COMPILED = compile_policy(load("standard"))


def test_a_score_is_the_base_and_the_points() -> None:
    values: list[int | None] = [None] * len(FEATURES)
    values[FEATURE_INDEX["worst_managed_dpd"]] = 31
    values[FEATURE_INDEX["income_fall_bp"]] = 7_000
    values[FEATURE_INDEX["new_devices_7d"]] = 2
    result = scored(COMPILED, values)
    assert result.score == 650 - 230 - 70 - 10
    assert dict(zip(SUBTOTALS, result.subtotals, strict=True)) == {
        "ability": -70,
        "willingness": -230,
        "behaviour": -10,
        "external": 0,
        "links": 0,
    }
    assert (COMPILED.policy.score.tiers[result.tier].name, result.probability_bp) == ("E", 5_000)
    by_feature = dict(zip((f.feature for f in COMPILED.policy.score.factors), result.points, strict=True))
    assert {name: points for name, points in by_feature.items() if points != 0} == {
        "worst_managed_dpd": -230,
        "income_fall_bp": -70,
        "new_devices_7d": -10,
    }


RISING = (Band(10, upper=1), Band(-5, lower=1, upper=4), Band(-9, lower=4))
FALLING = (Band(-60, upper=5_000), Band(-30, lower=5_000, upper=8_000), Band(20, lower=8_000))
VALLEY = (Band(5, upper=0), Band(-5, lower=0, upper=10), Band(6, lower=10))
HILL = (Band(-5, upper=0), Band(5, lower=0, upper=10), Band(-5, lower=10))


@pytest.mark.parametrize(
    ("bands", "value", "expected"),
    [
        (RISING, 0, None),
        (RISING, 1, 1),
        (RISING, 3, 1),
        (RISING, 4, 4),
        (RISING, 400, 4),
        (FALLING, 4_999, 5_000),
        (FALLING, 5_000, 8_000),
        (FALLING, 8_000, None),
        (VALLEY, 0, 10),
        (VALLEY, -1, None),
        (HILL, -1, 0),
        (HILL, 0, None),
        (HILL, 10, 10),
        ((Band(3),), 7, None),
        (RISING, None, None),
    ],
)
def test_the_edge_crossed_is_the_one_towards_the_better_neighbour(
    bands: tuple[Band, ...], value: int | None, expected: int | None
) -> None:
    assert crossed(bands, value) == expected
