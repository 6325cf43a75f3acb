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
from threadpoolctl import threadpool_limits

from streams.engine.features import FEATURE_INDEX
from streams.policy.compiler import compile_policy
from streams.policy.model import Band, Factor, Policy, Scorecard
from streams.replay.scorecard.sample import Sample, Values

BANDS_MAX = 8
SHARE_MIN = 0.01
"""A band, and the unknown, holds at least this share of the borrowers, or is not told apart."""
_ROUNDS, _RATE, _SHRINK = 250, 0.08, 5.0


def scores_of(policy: Policy, card: Scorecard, values: Sequence[Values]) -> list[int]:
    """Scores by a scorecard in the place of a policy's, as the engine computes them."""
    compiled = compile_policy(msgspec.structs.replace(policy, score=card))
    return [compiled.raw_score(row)[0] for row in values]


def fit(policy: Policy, sample: Sample) -> Scorecard:
    """The policy's scorecard with points set by what became of a sample.

    A factor of which the sample shows too little stays as it was set. The scores have the spread and the upper quartile
    of the policy's own, so that its thresholds go on to part about as many borrowers from the others.
    """
    card = policy.score
    columns = {factor.feature: _column(factor, sample) for factor in card.factors}
    least = max(2, round(len(sample.bad) * SHARE_MIN))
    outcome = np.asarray(sample.bad, dtype=bool)
    edges = {name: _edges(column, outcome, least) for name, column in columns.items()}
    fitted = [factor for factor in card.factors if edges[factor.feature]]
    given = np.asarray(scores_of(policy, card, sample.values), dtype=float)
    if not fitted or outcome.all() or not outcome.any() or given.std() == 0:
        return card
    codes = np.column_stack([_coded(columns[factor.feature], edges[factor.feature]) for factor in fitted])
    replaced: dict[str, Factor] = {}
    # The stumps are small: on busy cores several threads wait for each other a hundred times as long as one takes.
    with threadpool_limits(limits=1, user_api="openmp"):
        model = _model(codes, outcome, [direction(factor) for factor in fitted], least)
        per_logit = float(given.std() / max(model.decision_function(codes).std(), 0.01))
        for at, factor in enumerate(fitted):
            known, unknown = _shape(model, codes, at, least)
            points = [round(-per_logit * part) for part in known]
            replaced[factor.feature] = msgspec.structs.replace(
                factor, bands=_bands(edges[factor.feature], points), unknown=round(-per_logit * unknown)
            )
    factors = tuple(replaced.get(factor.feature, factor) for factor in card.factors)
    without = msgspec.structs.replace(card, base=0, factors=factors)
    upper = np.percentile(np.asarray(scores_of(policy, without, sample.values)), 75)
    return msgspec.structs.replace(without, base=round(float(np.percentile(given, 75) - upper)))


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


def _model(codes: Any, outcome: Any, directions: Sequence[int], least: int) -> Any:
    """Boosted stumps over band numbers: their sum of log odds is a sum over the factors."""
    model: Any = HistGradientBoostingClassifier(
        learning_rate=_RATE,
        max_iter=_ROUNDS,
        max_depth=1,
        min_samples_leaf=least,
        l2_regularization=_SHRINK,
        monotonic_cst=list(directions),
        early_stopping=False,
        random_state=0,
    )
    return model.fit(codes, outcome)


def _shape(model: Any, codes: Any, at: int, least: int) -> tuple[list[float], float]:
    """What each band of a factor and its unknown add to the log odds, the mean of the sample being 0."""
    column = codes[:, at]
    unknown = np.isnan(column)
    count = int(np.nanmax(column)) + 1
    asked = np.zeros((count + 1, codes.shape[1]))
    asked[:, at] = [*range(count), math.nan]
    added = model.decision_function(asked)
    held = np.bincount(column[~unknown].astype(int), minlength=count)
    known_mean = float((added[:count] * held).sum() / held.sum())
    # Too few unknown to tell: they stand where the known ones stand on average.
    of_unknown = float(added[count]) if int(unknown.sum()) >= least else known_mean
    share = float(unknown.mean())
    mean = known_mean * (1 - share) + of_unknown * share
    return [float(part) - mean for part in added[:count]], of_unknown - mean
