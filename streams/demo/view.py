"""What is shown: a live screen on a terminal, a line now and then elsewhere, and a summary at the end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec import UNSET
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.outbound import LimitAdjustment, Reason, WarningEvent
from streams.demo.feed import BORROWERS, DAYS_PER_S, START
from streams.demo.watch import Decision, Gauges, Outputs
from streams.engine.calendar import Calendar, date_of
from streams.policy.model import LEVELS, STATUSES
from streams.replay.simulate.population import CURRENCY
from streams.replay.simulate.world import ZONE

_STYLES = {
    "none": "green",
    "watch": "yellow",
    "amber": "dark_orange",
    "red": "red",
    "critical": "bold white on red",
    "normal": "green",
    "draws_restricted": "yellow",
    "decreased": "dark_orange",
    "frozen": "red",
    "zeroed": "bold white on red",
}
_BAR = 16
_ALARMS = LEVELS[1:]
_EASED = ("warning_lowered", "warning_cleared")
_calendar = Calendar(ZONE)


@dataclass(frozen=True, slots=True)
class Moment:
    """How things stand. `at_ms` is simulated time, `per_s` counts records read a second of late."""

    elapsed_s: float
    sent: int
    at_ms: int | None
    per_s: float
    gauges: Gauges
    outputs: Outputs

    @property
    def lag(self) -> int:
        return self.sent - self.gauges.read

    @property
    def dead_letters(self) -> int:
        return self.outputs.refused.total()

    @property
    def on(self) -> str:
        """The simulated date."""
        return "-" if self.at_ms is None else date_of(_calendar.day(self.at_ms)).isoformat()


# --- on a terminal ------------------------------------------------------------------------------------------------


def screen(moment: Moment) -> RenderableType:
    """One picture, as large as the terminal."""
    layout = Layout()
    layout.split_column(Layout(_heading(moment), size=1), Layout(name="figures", size=11), Layout(_decisions(moment)))
    layout["figures"].split_row(
        Layout(_panel("events", _events(moment)), ratio=5, minimum_size=20),
        Layout(_panel("days past due", _buckets(moment.gauges)), ratio=7, minimum_size=24),
        Layout(_panel("warnings", _warnings(moment)), ratio=4, minimum_size=18),
        Layout(_panel("limits", _limits(moment)), ratio=4, minimum_size=18),
    )
    return layout


def _heading(moment: Moment) -> Text:
    return Text.assemble(
        (" Duewatch ", "bold reverse"),
        f"  {BORROWERS} simulated borrowers, ",
        (moment.on, "bold"),
        f", {DAYS_PER_S:g} days a second    ",
        (f"{moment.elapsed_s:.0f} s, Ctrl-C ends", "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=title, title_align="left", border_style="dim", padding=(0, 1))


def _grid(rows: Iterable[tuple[str | Text, ...]]) -> Table:
    """A name, one or two figures, which are never cut, and, of four cells, a bar: on 80 columns names are cut."""
    rows = list(rows)
    columns = list(zip(*rows, strict=True))
    bar = len(columns) == 4
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", min_width=2, ratio=None if bar else 1)
    for _ in columns[1:3]:
        table.add_column(justify="right", no_wrap=True)
    if bar:
        table.add_column(no_wrap=True, overflow="crop", ratio=1)
    for row in rows:
        table.add_row(*row)
    return table


def _events(moment: Moment) -> Table:
    return _grid(
        (
            ("a second", f"{moment.per_s:,.0f}"),
            ("folded", f"{moment.gauges.read - moment.dead_letters:,}"),
            ("lag", f"{moment.lag:,}"),
            (Text("dead letters", "red" if moment.dead_letters else ""), f"{moment.dead_letters:,}"),
            *((Text(f" {reason}", "dim"), f"{count:,}") for reason, count in moment.outputs.refused.most_common(5)),
        )
    )


def _buckets(gauges: Gauges) -> Table:
    overdue = sorted(gauges.loans.items())[1:]
    most = max((count for _, (count, _) in overdue), default=0) or 1
    rows: list[tuple[str | Text, ...]] = [("", Text("loans", "dim"), Text(CURRENCY, "dim"), "")]
    for index, (bucket, (count, minor)) in enumerate(sorted(gauges.loans.items())):
        bar = "" if index == 0 else "█" * -(-count * _BAR // most)
        style = "green" if index == 0 else _STYLES[_ALARMS[min((index - 1) // 2, 2)]]
        rows.append((Text(bucket, style), f"{count:,}", f"{minor // 100:,}", Text(f"{bar:<{_BAR}}", style)))
    return _grid(rows)


def _warnings(moment: Moment) -> Table:
    raised, held = moment.outputs.warnings, moment.gauges.levels
    rows: list[tuple[str | Text, ...]] = [("", Text("now", "dim"), Text("all", "dim"))]
    rows += [
        (Text(level, _STYLES[level]), f"{held.get(level, 0):,}", f"{raised[level]:,}") for level in reversed(_ALARMS)
    ]
    rows += [(Text(kind.removeprefix("warning_"), "green"), "", f"{raised[kind]:,}") for kind in _EASED]
    return _grid(rows)


def _limits(moment: Moment) -> Table:
    rows: list[tuple[str | Text, ...]] = [("", Text("now", "dim"))]
    rows += [
        (Text(status.replace("_", " "), _STYLES[status]), f"{moment.gauges.statuses.get(status, 0):,}")
        for status in reversed(STATUSES)
    ]
    rows += [("changes", f"{moment.outputs.limits.total():,}")]
    return _grid(rows)


def _decisions(moment: Moment) -> Panel:
    newest = sorted(moment.outputs.last, key=lambda decision: decision.at_ms, reverse=True)
    lines = [line for decision in newest for line in _decision(decision)]
    return _panel("last decisions", Group(*lines))


def _decision(decision: Decision) -> tuple[Text, Text]:
    on = date_of(_calendar.day(decision.at_ms)).isoformat()
    why = "; ".join(map(_reason, decision.reasons)) or "the facts behind it are undone"
    if decision.compensates is not UNSET:
        why = f"undoes {decision.compensates[:8]}: {why}"
    return (
        Text.assemble((on, "dim"), f"  {decision.borrower_id}  ", _change(decision), no_wrap=True, overflow="ellipsis"),
        Text(f"            {why}", "dim", no_wrap=True, overflow="ellipsis"),
    )


def _change(decision: Decision) -> Text:
    before: str
    after: str
    if isinstance(decision, WarningEvent):
        before, after = decision.previous_level, decision.level
        more = f"  score {decision.score}, tier {decision.tier}"
        subject = "warning"
    else:
        assert isinstance(decision, LimitAdjustment)
        before, after = decision.from_status, decision.to_status
        more = f"  {decision.from_minor // 100:,} to {decision.to_minor // 100:,} {decision.currency}"
        subject = "limit"
    return Text.assemble(f"{subject:<8}", (before, _STYLES[before]), " to ", (after, _STYLES[after]), more)


def _reason(reason: Reason) -> str:
    against = f" ({reason.value}, threshold {reason.threshold})" if reason.threshold is not None else ""
    points = f" {reason.points}" if reason.points else ""
    return f"{reason.text.rstrip('.')}{against}{points}"


# --- elsewhere ----------------------------------------------------------------------------------------------------


def progress_line(moment: Moment) -> str:
    """How things stand, in one line."""
    overdue = sum(count for _, (count, _) in sorted(moment.gauges.loans.items())[1:])
    return (
        f"{moment.elapsed_s:4.0f} s  {moment.on}  {moment.gauges.read:,} events, {moment.per_s:,.0f} a second, "
        f"lag {moment.lag:,}; {overdue} loans overdue; warnings: {_listed(_raised(moment.outputs))}; "
        f"limit changes: {moment.outputs.limits.total():,}; dead letters: {moment.dead_letters:,}"
    )


def summary(moment: Moment) -> str:
    """What happened, once nothing more is sent: `moment` is its end."""
    outputs, read = moment.outputs, moment.gauges.read
    folded = read - moment.dead_letters
    kept = "nothing lost" if moment.lag == 0 else f"{moment.lag:,} not read when it was ended"
    overdue = {bucket: count for bucket, (count, _) in sorted(moment.gauges.loans.items())}
    lines = {
        "simulated": f"{START.isoformat()} to {moment.on}, {BORROWERS} borrowers",
        "events": f"{moment.sent:,} sent = {folded:,} folded + {moment.dead_letters:,} dead letters: {kept}",
        "rate": f"{read / max(moment.elapsed_s, 0.001):,.0f} a second over {moment.elapsed_s:.0f} s",
        "loans": _listed(overdue),
        "warnings": _listed(_raised(outputs)),
        "eased": _listed({kind.removeprefix("warning_"): outputs.warnings[kind] for kind in _EASED}),
        "limit changes": _listed(outputs.limits),
        "dead letters": _listed(outputs.refused),
    }
    return "\n".join(f"{name:<14} {told}" for name, told in lines.items())


def _raised(outputs: Outputs) -> dict[str, int]:
    return {level: outputs.warnings[level] for level in _ALARMS}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
