"""How well a policy's score tells apart, at each observation date, those who become late from those who do not; and
whether the scores of all are still distributed as they were."""

import math
from bisect import bisect_right
from collections.abc import Sequence

from streams.engine.calendar import iso_day
from streams.replay.backtest.figures import FEW, Sheet
from streams.replay.backtest.outcomes import OUTCOMES, History
from streams.replay.scorecard.measure import power

BANDS = 10
"""Stability compares shares of the borrowers in so many bands of the score, each with as many at the first date."""
FEW_FOR_STABILITY = 100
_Z_95 = 1.644854
"""Of a one-sided bound of 95 %."""


def put_scores(
    sheet: Sheet,
    scores: Sequence[dict[str, int]],
    observed: Sequence[int],
    histories: dict[str, History],
    horizon_days: int,
) -> None:
    """All figures about the score of a group of people.

    Args:
        scores: at each observation date the score of everybody with an open loan.
        histories: what became of the group; who is not in it is left out.
    """
    groups = [{name: score for name, score in at_date.items() if name in histories} for at_date in scores]
    for day, group in zip(observed, groups, strict=True):
        for dpd in OUTCOMES:
            names = sorted(name for name in group if not histories[name].is_at(dpd, day))
            bad = [histories[name].reached(dpd, day, day + horizon_days) is not None for name in names]
            sheet.share("became_late", sum(bad), len(bad), dpd=dpd, on=iso_day(day))
            _put_power(sheet, [group[name] for name in names], bad, dpd, iso_day(day))
    for day, group in zip(observed[1:], groups[1:], strict=True):
        _put_stability(sheet, list(groups[0].values()), list(group.values()), iso_day(day))


def _put_power(sheet: Sheet, scores: Sequence[int], bad: Sequence[bool], dpd: int, on: str) -> None:
    if min(sum(bad), len(bad) - sum(bad)) < FEW:
        for name in ("score_auc", "score_ks"):
            sheet.put(name, len(bad), None, "index", dpd=dpd, on=on)
        return
    found = power(scores, bad)
    for name, interval in (("score_auc", found.auc), ("score_ks", found.ks)):
        sheet.put(name, len(bad), interval.value, "index", dpd=dpd, on=on, bounds=(interval.low, interval.high))


def _put_stability(sheet: Sheet, before: Sequence[int], after: Sequence[int], on: str) -> None:
    n = len(after)
    if min(len(before), n) < FEW_FOR_STABILITY:
        sheet.put("score_stability", n, None, "index", on=on)
        return
    edges = band_edges(before)
    sheet.put("score_stability", n, round(stability(before, after, edges), 4), "index", on=on)
    sheet.put("score_stability_by_chance", n, round(by_chance(len(before), n, len(edges)), 4), "index", on=on)


def band_edges(scores: Sequence[int]) -> list[int]:
    """The scores from which the bands begin, but for the lowest one; equal scores are never parted."""
    ordered = sorted(scores)
    cuts = {ordered[len(ordered) * number // BANDS] for number in range(1, BANDS)}
    return sorted(cuts - {ordered[0]})


def stability(before: Sequence[int], after: Sequence[int], edges: Sequence[int]) -> float:
    """The population stability index: the sum over the bands of (q - p) ln(q / p), p and q being the shares of the
    borrowers before and after. Half a borrower more in each band keeps an empty one from making it endless."""
    total = 0.0
    shares = [_shares(scores, edges) for scores in (before, after)]
    for p, q in zip(*shares, strict=True):
        total += (q - p) * math.log(q / p)
    return total


def _shares(scores: Sequence[int], edges: Sequence[int]) -> list[float]:
    counts = [0.5] * (len(edges) + 1)
    for score in scores:
        counts[bisect_right(edges, score)] += 1
    return [count / sum(counts) for count in counts]


def by_chance(before: int, after: int, edges: int) -> float:
    """What the index of two samples from one distribution stays below in 95 of 100 cases.

    Where p and q are close the index is the sum of (q - p)^2 / p, which is (1 / before + 1 / after) times chi-squared
    with a degree of freedom for every edge; its quantile is Wilson and Hilferty's, within one in a hundred.
    """
    if edges == 0:
        return 0.0
    spread = 2 / (9 * edges)
    return (1 / before + 1 / after) * edges * (1 - spread + _Z_95 * math.sqrt(spread)) ** 3
