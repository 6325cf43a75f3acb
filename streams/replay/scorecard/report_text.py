"""What a fit found, for the eye of a risk analyst."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.replay.scorecard.fitting import REPEATS, BandShown, FactorShown, FitReport
from streams.replay.scorecard.measure import Interval, Power

_WAY = {1: "more is worse", -1: "less is worse", 0: "either way"}


def render(report: FitReport) -> RenderableType:
    """The report as rich text."""
    given = report.given
    parts: list[RenderableType] = [
        Text(
            f"{given.borrowers:,} borrowers as of {report.moment}, {given.bad:,} with the outcome ({report.outcome})",
            style="bold",
        ),
        _powers(report),
        Text(
            f"Cuts in halves, AUC: {', '.join(f'{auc:.3f}' for auc in report.fitted_aucs)}; "
            f"KS: {', '.join(f'{ks:.3f}' for ks in report.fitted_kss)}"
        ),
        Text(),
        _tiers(report),
        Text(),
    ]
    for factor in report.factors:
        if factor.fitted:
            parts += [Text(f"{factor.feature}: {_WAY[factor.direction]}; alone AUC {factor.auc:.3f}"), _factor(factor)]
    kept = [factor.feature for factor in report.factors if not factor.fitted]
    if kept:
        parts.append(Text(f"Left as they were, for these borrowers do not differ in them: {', '.join(kept)}"))
    return Group(*parts)


def _powers(report: FitReport) -> Table:
    table = Table("score", "borrowers", "AUC (95 %)", "KS (95 %)", box=None, header_style="dim")
    rows: list[tuple[str, Power | None]] = [
        (f"points of {report.policy}", report.given),
        (f"fitted, on others (first of {REPEATS} cuts in halves)", report.fitted),
        ("fitted, on the same borrowers", report.within),
        (f"points of {report.policy}, other half", report.given_out_of_time),
        (f"fitted as of {report.earlier}, other half, now", report.out_of_time),
    ]
    for name, found in rows:
        if found is not None:
            table.add_row(name, f"{found.borrowers:,}", _interval(found.auc), _interval(found.ks))
    return table


def _interval(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _tiers(report: FitReport) -> Table:
    table = Table("tier", "borrowers", "outcome", "probability", box=None, header_style="dim")
    for tier in report.tiers:
        table.add_row(tier.name, f"{tier.borrowers:,}", _rate(tier.bad_rate), f"{tier.probability_bp / 100:.2f} %")
    return table


def _rate(rate: float | None) -> str:
    return "too few" if rate is None else f"{rate:.1%}"


def _factor(factor: FactorShown) -> Table:
    table = Table("value", "borrowers", "outcome", "points", box=None, header_style="dim")
    for band in factor.bands:
        table.add_row(_value(band), f"{band.borrowers:,}", _rate(band.bad_rate), f"{band.points:+}")
    return table


def _value(band: BandShown) -> str:
    if band.unknown:
        return "unknown"
    if band.lower is None:
        return "any" if band.upper is None else f"below {band.upper:,}"
    return f"from {band.lower:,}" if band.upper is None else f"{band.lower:,} to below {band.upper:,}"
