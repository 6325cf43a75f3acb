"""A figure with its sample size and its interval, or without a value where the sample is too small to say anything."""

import math
from collections.abc import Sequence
from statistics import median, quantiles

from msgspec import Struct

FEW = 30
"""A share, a median or a power of a score of fewer than this is not told (of a power: of fewer good or bad ones)."""
_Z = 1.959964
"""Of a two-sided interval of 95 %."""

DEFAULT_UNIT = "share"


class Figure(Struct, frozen=True):
    """One number of a back-test.

    `dpd` is the outcome it is about and `on` the observation date, None where it is about none. `unit`: `share` (0 to
    1), `days`, `count`, `index` (AUC, KS, stability) or a currency, in minor units. `n` is the size of the sample it is
    of; `value` is None where that is too small. `low` and `high` are the bounds of the 95 % interval where there is
    one; of a median of days they are the quartiles.
    """

    policy: str
    segment: str
    figure: str
    dpd: int | None
    on: str | None
    unit: str
    n: int
    value: float | int | None
    low: float | None = None
    high: float | None = None


class Sheet:
    """Takes down the figures of one policy and segment."""

    def __init__(self, policy: str, segment: str) -> None:
        self.figures: list[Figure] = []
        self._whose = policy, segment

    def put(
        self,
        figure: str,
        n: int,
        value: float | int | None,
        unit: str = DEFAULT_UNIT,
        *,
        dpd: int | None = None,
        on: str | None = None,
        bounds: tuple[float, float] | None = None,
    ) -> None:
        low, high = (None, None) if bounds is None else bounds
        self.figures.append(Figure(*self._whose, figure, dpd, on, unit, n, value, low, high))

    def share(self, figure: str, hits: int, n: int, *, dpd: int | None = None, on: str | None = None) -> None:
        """`hits` of `n`, with Wilson's interval."""
        if n < FEW:
            self.put(figure, n, None, dpd=dpd, on=on)
        else:
            self.put(figure, n, round(hits / n, 4), dpd=dpd, on=on, bounds=wilson(hits, n))

    def quartiles(self, figure: str, days: Sequence[int], *, dpd: int) -> None:
        """The median of numbers of days, with their quartiles."""
        if len(days) < FEW:
            self.put(figure, len(days), None, "days", dpd=dpd)
            return
        lower, _, upper = quantiles(days, n=4, method="inclusive")
        self.put(figure, len(days), round(median(days), 1), "days", dpd=dpd, bounds=(round(lower, 1), round(upper, 1)))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `hits` among `n` (1 or more), by Wilson's score."""
    share = hits / n
    middle = share + _Z * _Z / (2 * n)
    reach = _Z * math.sqrt(share * (1 - share) / n + _Z * _Z / (4 * n * n))
    whole = 1 + _Z * _Z / n
    return round(max(0.0, (middle - reach) / whole), 4), round(min(1.0, (middle + reach) / whole), 4)
