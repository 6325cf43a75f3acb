"""A back-test for the eye of a risk analyst: policies side by side, everybody first, then segment by segment."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.replay.backtest.figures import Figure
from streams.replay.backtest.run import EVERYBODY, Report
from streams.replay.quantities import money

_WORDS = {
    "became_late": "became so late within the horizon",
    "score_auc": "AUC of the score",
    "score_ks": "KS of the score",
    "score_stability": "stability of the score (PSI) since the first date",
    "score_stability_by_chance": "PSI that chance alone stays below",
    "caught_warned": "warned before that day",
    "caught_warned_early": "warned before anything was overdue",
    "lead_warned": "days from warning to that day",
    "caught_restricted": "restricted before that day",
    "caught_restricted_early": "restricted before anything was overdue",
    "lead_restricted": "days from restriction to that day",
    "caught_cut": "limit cut or closed before that day",
    "caught_cut_early": "limit cut before anything was overdue",
    "lead_cut": "days from cut to that day",
    "false_restricted": "restricted, but not so late within the horizon",
    "restricted_not_followed": "restricted too late to be followed",
    "false_cut": "limit cut, but not so late within the horizon",
    "cut_not_followed": "cut too late to be followed",
    "exposure": "owed on that day",
    "exposure_saved": "of it not drawn, had the policy been in force",
    "limit_cut": "taken off the limit before that day",
    "flaps_warned": "warnings given up that came back too soon",
    "flaps_restricted": "limits restored that were taken back too soon",
}
_SHAPES = {"share": ".1%", "index": ".3f", "days": ",.0f", "count": ",d"}
"""How a number of a unit is written; any other unit is a currency."""


def render(report: Report) -> RenderableType:
    """The report as rich text: scores as of the last observation date, of segments the worst outcome alone."""
    segments = sorted({figure.segment for figure in report.figures} - {EVERYBODY})
    dates = report.observed_on
    heading = (
        f"{report.borrowers:,} borrowers; decisions from {report.decisions_from_on} on, followed for "
        f"{report.horizon_days} days, up to {report.ends_on}; scores as of {dates[-1]}"
        + (f", the last of {len(dates)} dates" if dates[1:] else "")
    )
    parts: list[RenderableType] = [Text(heading, style="bold")]
    if report.left_out:
        parts.append(Text(f"{report.left_out:,} left out: erased or in quarantine, their outcome is not known"))
    shown = [figure for figure in report.figures if figure.on in (None, dates[-1])]
    parts += _tables(report, EVERYBODY, shown, [*report.outcomes_dpd, None])
    for segment in segments:
        parts += _tables(report, segment, shown, [report.outcomes_dpd[-1], None])
    parts.append(Text("\nIn brackets the 95 % interval (of days: the quartiles), behind it the size of the sample."))
    return Group(*parts)


def _tables(
    report: Report, segment: str, figures: Sequence[Figure], outcomes: Sequence[int | None]
) -> Iterator[RenderableType]:
    for dpd in outcomes:
        rows: dict[tuple[str, str], dict[str, Figure]] = {}
        for figure in figures:
            if (figure.segment, figure.dpd) == (segment, dpd):
                rows.setdefault((figure.figure, figure.unit), {})[figure.policy] = figure
        title = f"{segment}: {'scores and flaps' if dpd is None else f'{dpd} days past due'}"
        table = Table(title, *report.policies, box=None, header_style="bold")
        for (name, _), found in rows.items():
            table.add_row(
                _WORDS[name], *(_cell(found[policy]) if policy in found else "" for policy in report.policies)
            )
        yield from (Text(), table)


def _cell(figure: Figure) -> str:
    n = f"of {figure.n:,}"
    if figure.value is None:
        return f"too few {n}"
    if figure.low is None or figure.high is None:
        return f"{_number(figure, figure.value)} {n}"
    bounds = f"{_number(figure, figure.low)} to {_number(figure, figure.high)}"
    return f"{_number(figure, figure.value)} ({bounds}) {n}"


def _number(figure: Figure, value: float | int) -> str:
    shape = _SHAPES.get(figure.unit)
    return money(int(value), figure.unit) if shape is None else format(value, shape)
