"""The additive scorecard: base plus the points of one band per factor."""

from collections.abc import Sequence

from msgspec import Struct

from streams.policy.compiler import Compiled
from streams.policy.model import Band


class Scored(Struct, gc=False):
    """A score. `subtotals` stand in the order of SUBTOTALS, `tier` is an index into the tiers of the policy, `points`
    has one number per factor of the policy."""

    score: int
    subtotals: tuple[int, int, int, int, int]
    tier: int
    probability_bp: int
    points: tuple[int, ...]


def scored(compiled: Compiled, features: Sequence[int | None], segment: str = "") -> Scored:
    """Score a feature list (in the order of FEATURES) by a policy, with the points of a segment."""
    total, subtotals, tier, points = compiled.score_of(segment)(features)
    return Scored(total, subtotals, tier, compiled.policy.score.tiers[tier].probability_bp, points)


def crossed(bands: tuple[Band, ...], value: int | None) -> int | None:
    """The band edge that separates a value from the better-scored neighbour of its band, the best if both are better.

    None for an unknown value, and where no neighbour is better.
    """
    if value is None:
        return None
    at = 0
    for band in bands:
        if band.upper is None or value < band.upper:
            break
        at += 1
    points = bands[at].points
    below = bands[at - 1].points if at > 0 else points
    above = bands[at + 1].points if at + 1 < len(bands) else points
    if below > points and below >= above:
        return bands[at].lower
    return bands[at].upper if above > points else None
