"""Points from outcomes: an additive model of a policy's own factors, each band no better than a milder one.

Every factor keeps its feature, its subtotal and its reason. Its bands are cut where outcomes differ (a decision tree on
the feature alone), and all points are set together by boosted stumps: a sum of step functions of one feature each,
which is what a scorecard is. A factor's points move one way only: the way its points in the given policy move.
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.tree import DecisionTreeClassifier

from streams.engine.features import FEATURE_INDEX
from streams.policy.model import Band, Factor, Scorecard
from streams.replay.scorecard.sample import Sample

BANDS_MAX = 8
SHARE_MIN = 0.01
"""A band, and the unknown, holds at least this share of the borrowers, or is not told apart."""
_ROUNDS, _RATE, _SHRINK = 250, 0.08, 5.0


def fit(card: Scorecard, sample: Sample) -> Scorecard:
    """The scorecard with points set by what became of a sample; on the scale of its own tiers.

    A factor of which the sample shows too little stays as it was set.
    """
    columns = {factor.feature: _column(factor, sample) for factor in card.factors}
    least = max(2, round(len(sample.bad) * SHARE_MIN))
    outcome = np.asarray(sample.bad, dtype=bool)
    edges = {name: _edges(column, outcome, least) for name, column in columns.items()}
    fitted = [factor for factor in card.factors if _shows(columns[factor.feature], edges[factor.feature], least)]
    if not fitted or outcome.all() or not outcome.any():
        return card
    codes = np.column_stack([_coded(columns[factor.feature], edges[factor.feature]) for factor in fitted])
    logit, shapes = _model(codes, outcome, [direction(factor) for factor in fitted], least)
    per_logit, anchor = scale(card)
    replaced: dict[str, Factor] = {}
    for at, factor in enumerate(fitted):
        known, unknown = shapes[at]
        points = [round(-per_logit * part) for part in known]
        replaced[factor.feature] = msgspec.structs.replace(
            factor, bands=_bands(edges[factor.feature], points), unknown=round(-per_logit * unknown)
        )
    base = round(anchor - per_logit * logit)
    return msgspec.structs.replace(
        card, base=base, factors=tuple(replaced.get(factor.feature, factor) for factor in card.factors)
    )


def scale(card: Scorecard) -> tuple[float, float]:
    """Points per unit of log odds, and the score at even odds, by which the tiers of a scorecard mean what they say.

    The line goes through the best and the worst border between two tiers, each half way between their log odds.
    """
    tiers = [tier for tier in card.tiers if tier.from_score is not None]
    odds = [_log_odds(tier.probability_bp) for tier in card.tiers]
    if len(tiers) < 2:
        return 50 / math.log(2), 500.0
    best, worst = (odds[0] + odds[1]) / 2, (odds[-2] + odds[-1]) / 2
    top, bottom = tiers[0].from_score or 0, tiers[-1].from_score or 0
    per_logit = (top - bottom) / max(worst - best, 0.1)
    return per_logit, bottom + per_logit * worst


def _log_odds(probability_bp: int) -> float:
    probability = min(max(probability_bp / 10_000, 0.001), 0.999)
    return math.log(probability / (1 - probability))


def direction(factor: Factor) -> int:
    """1 where a higher value is worse by the points of the factor, -1 where it is better, 0 where they turn."""
    points = [band.points for band in factor.bands]
    if points == sorted(points):
        return 0 if points[0] == points[-1] else -1
    return 1 if points == sorted(points, reverse=True) else 0


# --- bands --------------------------------------------------------------------------------------------------------


def _column(factor: Factor, sample: Sample) -> Any:
    place = FEATURE_INDEX[factor.feature]
    values = [row[place] for row in sample.values]
    return np.array([math.nan if value is None else value for value in values], dtype=float)


def _edges(column: Any, outcome: Any, least: int) -> list[int]:
    """Where bands end: the whole numbers x such that value < x and value >= x differ most in outcome."""
    known = ~np.isnan(column)
    if known.sum() < 2 * least:
        return []
    tree = DecisionTreeClassifier(max_leaf_nodes=BANDS_MAX, min_samples_leaf=least, random_state=0)
    tree.fit(column[known].reshape(-1, 1), outcome[known])
    return sorted({math.floor(edge) + 1 for edge in tree.tree_.threshold[tree.tree_.feature == 0]})


def _shows(column: Any, edges: Sequence[int], least: int) -> bool:
    """Whether a sample tells anything of a factor: bands apart."""
    return len(edges) > 0 and int((~np.isnan(column)).sum()) >= 2 * least


def _coded(column: Any, edges: Sequence[int]) -> Any:
    codes: Any = np.searchsorted(np.asarray(edges, dtype=float), column, side="right").astype(float)
    codes[np.isnan(column)] = math.nan
    return codes


def _bands(edges: Sequence[int], points: Sequence[int]) -> tuple[Band, ...]:
    """Bands from their edges; neighbours of equal points are one."""
    bands: list[Band] = []
    for at, worth in enumerate(points):
        lower = None if at == 0 else edges[at - 1]
        upper = None if at == len(edges) else edges[at]
        if bands and bands[-1].points == worth:
            lower = bands.pop().lower
        bands.append(Band(worth, lower, upper))
    return tuple(bands)


# --- the model ----------------------------------------------------------------------------------------------------


def _model(
    codes: Any, outcome: Any, directions: Sequence[int], least: int
) -> tuple[float, list[tuple[list[float], float]]]:
    """Mean log odds, and per factor what each band and the unknown add to them, the mean of the sample being 0."""
    model = HistGradientBoostingClassifier(
        learning_rate=_RATE,
        max_iter=_ROUNDS,
        max_depth=1,
        min_samples_leaf=least,
        l2_regularization=_SHRINK,
        monotonic_cst=list(directions),
        early_stopping=False,
        random_state=0,
    )
    model.fit(codes, outcome)
    logit = _log_odds_at(model, np.zeros((1, codes.shape[1])))[0]
    shapes: list[tuple[list[float], float]] = []
    for at in range(codes.shape[1]):
        column = codes[:, at]
        unknown = np.isnan(column)
        count = int(np.nanmax(column)) + 1
        asked = np.zeros((count + 1, codes.shape[1]))
        asked[:, at] = [*range(count), math.nan]
        added = _log_odds_at(model, asked) - _log_odds_at(model, np.zeros((1, codes.shape[1])))[0]
        held = np.bincount(column[~unknown].astype(int), minlength=count)
        known_mean = float((added[:count] * held).sum() / held.sum())
        # Too few unknown to tell: they stand where the known ones stand on average.
        of_unknown = float(added[count]) if int(unknown.sum()) >= least else known_mean
        share = float(unknown.mean())
        mean = known_mean * (1 - share) + of_unknown * share
        logit += mean
        shapes.append(([float(part) - mean for part in added[:count]], of_unknown - mean))
    return float(logit), shapes


def _log_odds_at(model: Any, codes: Any) -> Any:
    return model.decision_function(codes)
