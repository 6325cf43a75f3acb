"""How far a borrower's score has fallen, by a history of daily scores that is as short as it can be.

What counts is the score that stood at the end of a day: what an event costs and the next one gives back on the same day
has not fallen. A fall is measured from the highest of the days before, so that time alone makes no fall; it only ends
one. Of the days before, those alone are kept after which no score was as high: nothing else can be a highest any more.
The history is that of one scorecard: under another one it begins anew.
"""

from typing import Final

from streams.engine.feature import Feature, Value
from streams.engine.standing import Standing

SPANS: Final = (7, 30)
"""Over how many days before the business date a fall is measured."""
FEATURES: Final = tuple(
    Feature(
        f"score_fall_{span}d", "score", "points", "", 0,
        f"How far the score is below the highest that stood at the end of one of the {span} days before; unknown until "
        "there is a score of an earlier day",
    )
    for span in SPANS
)  # fmt: skip
"""Features that are made of the score. No scorecard may score them: the score would feed itself."""

REASONS: Final = tuple(f"score_fell_{span}d" for span in SPANS)
"""The codes of warnings that a fall has raised."""

_PAIR: Final = 2
"""`Standing.peaks` holds the last day of a score, and the score."""


def highest(standing: Standing, day: int, span: int) -> Value:
    """The highest score that stood at the end of one of the `span` days before `day`; None where there was none."""
    last = standing.score if 0 <= standing.score_day < day else None
    peaks = standing.peaks
    for at in range(0, len(peaks), _PAIR):
        if peaks[at] >= day - span:
            return peaks[at + 1] if last is None else max(peaks[at + 1], last)
    return last


def peaks_of(standing: Standing, day: int) -> tuple[Value, Value]:
    """`highest` over each of SPANS."""
    week, month = SPANS
    return highest(standing, day, week), highest(standing, day, month)


def fallen(peak: Value, score: int) -> Value:
    """The points from a highest score down to `score`, 0 where it has not fallen, None where there is no highest."""
    return None if peak is None else max(0, peak - score)


def keep_to(standing: Standing, card: int) -> None:
    """Forget the scores of another scorecard than `card` (see `Compiled.card`)."""
    if standing.card != card:
        standing.card, standing.score_day, standing.peaks = card, -1, []


def note(standing: Standing, score: int, tier: int, day: int) -> None:
    """Note the score of a judgement on `day`."""
    if standing.score_day < day:
        if standing.score_day >= 0:
            _end_day(standing, day)
        standing.score_day = day
    standing.score, standing.tier = score, tier


def _end_day(standing: Standing, day: int) -> None:
    """Take the score so far as that of the days up to `day`."""
    peaks = standing.peaks
    while peaks and peaks[-1] <= standing.score:
        del peaks[-_PAIR:]
    while peaks and peaks[0] < day - SPANS[-1]:
        del peaks[:_PAIR]
    peaks += [day - 1, standing.score]
