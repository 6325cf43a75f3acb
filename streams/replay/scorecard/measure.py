"""How well a score tells apart those who went bad: AUC and KS, with bootstrap confidence intervals."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

_RESAMPLES = 500


class Interval(Struct, frozen=True):
    """A figure in units, with the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float


class Power(Struct, frozen=True):
    """`auc`: how often a good borrower has the higher score of a pair, ties half. `ks`: the largest distance between
    the distributions of the scores of good and bad ones."""

    borrowers: int
    bad: int
    auc: Interval
    ks: Interval


def power(scores: Sequence[int], bad: Sequence[bool], seed: int = 7) -> Power:
    """The power of a score, high scores good; intervals by resampling borrowers (percentiles)."""
    values, outcome = np.asarray(scores), np.asarray(bad, dtype=bool)
    levels, level = np.unique(values, return_inverse=True)
    rng = np.random.default_rng(seed)
    aucs, kss = [], []
    for number in range(_RESAMPLES + 1):
        # The first one is the sample itself.
        drawn = np.arange(len(values)) if number == 0 else rng.integers(0, len(values), len(values))
        worse = np.bincount(level[drawn][outcome[drawn]], minlength=len(levels))
        better = np.bincount(level[drawn][~outcome[drawn]], minlength=len(levels))
        auc, ks = _auc_ks(worse, better)
        aucs.append(auc)
        kss.append(ks)
    return Power(len(values), int(outcome.sum()), _interval(aucs), _interval(kss))


def auc_of(scores: Sequence[int], bad: Sequence[bool]) -> float:
    """The AUC alone."""
    levels, level = np.unique(np.asarray(scores), return_inverse=True)
    outcome = np.asarray(bad, dtype=bool)
    worse = np.bincount(level[outcome], minlength=len(levels))
    return _auc_ks(worse, np.bincount(level[~outcome], minlength=len(levels)))[0]


def _auc_ks(worse: "np.ndarray", better: "np.ndarray") -> tuple[float, float]:
    """From the counts of bad and of good borrowers by score, lowest score first."""
    bads, goods = worse.sum(), better.sum()
    if bads == 0 or goods == 0:
        return 0.5, 0.0
    below = np.cumsum(worse) - worse
    auc = float((better * (below + worse / 2)).sum() / (bads * goods))
    ks = float(np.abs(np.cumsum(worse) / bads - np.cumsum(better) / goods).max())
    return auc, ks


def _interval(figures: list[float]) -> Interval:
    bounds: list[float] = np.percentile(figures[1:], [2.5, 97.5]).tolist()
    return Interval(round(figures[0], 4), round(bounds[0], 4), round(bounds[1], 4))
