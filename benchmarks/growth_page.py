"""docs/growth.md: the figures of the result files between its marks, and the plot beside it."""

from collections.abc import Callable, Sequence
from math import log10
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from benchmarks.growth import GROWTH, LARGE, SMALL, Growth, Row, Typical, read_growth
from benchmarks.result import OWN, Machine
from benchmarks.sweep import SWEEP, Swept
from tests.parts import BrokenPart

DOCS: Final = Path(__file__).parents[1] / "docs"
PAGE: Final = DOCS / "growth.md"
PLOT: Final = DOCS / "growth.svg"
BEGIN: Final = "<!-- figures: python -m benchmarks growth --doc -->"
END: Final = "<!-- /figures -->"
_PANEL: Final = (220, 150)
_MARGIN: Final = (64, 34)


def update() -> None:
    """Write the figures there are into the page, and the plot.

    Raises:
        BrokenPart: there are none.
    """
    found = read_growth(GROWTH)
    if found is None:
        raise BrokenPart(f"{GROWTH} is not there: run python -m benchmarks growth")
    PAGE.write_text(filled(PAGE.read_text(), block(found, read_sweep(SWEEP))))
    PLOT.write_text(plot(found))


def read_sweep(path: Path) -> Swept | None:
    """The result that a file holds, None where there is no file."""
    return msgspec.json.decode(path.read_bytes(), type=Swept) if path.is_file() else None


def filled(page: str, figures: str) -> str:
    """The page with other figures between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


# --- the block --------------------------------------------------------------------------------------------------------

_COLUMNS: Final[tuple[tuple[str, Callable[[Row], str]], ...]] = (
    ("borrowers", lambda row: f"{row.borrowers:,}"),
    ("workers", lambda row: str(row.workers)),
    ("rebuild, s", lambda row: f"{row.rebuild_s:,.1f}"),
    ("take-over, s", lambda row: f"{row.take_over_s:,.1f}"),
    ("Redis bytes each", lambda row: f"{row.redis_bytes_per_borrower:,.0f}"),
    ("packed state, bytes", lambda row: f"{row.state_bytes:,.0f}"),
    ("sealed state, bytes", lambda row: f"{row.sealed_bytes:,.0f}"),
    ("events/s", lambda row: f"{row.run.events_per_s:,.0f}"),
    ("CPU, us/event", lambda row: f"{row.run.cpu_us_per_event[OWN]:,.1f}"),
    ("Redis CPU, us/event", lambda row: _redis_us(row)),
    ("worker, MiB", lambda row: f"{row.run.peak_mib[OWN]:,.0f}"),
    ("waking", lambda row: f"{row.waking:,}"),
)


def _redis_us(row: Row) -> str:
    used_us = row.run.cpu_us_per_event.get("redis")
    return "" if used_us is None else f"{used_us:,.1f}"


def block(growth: Growth, sweep: Swept | None) -> str:
    """The figures as Markdown."""
    lines = [
        _ran_on(growth.machine),
        "",
        f"| {' | '.join(title for title, _ in _COLUMNS)} |",
        f"|{'---:|' * len(_COLUMNS)}",
        *(f"| {' | '.join(cell(row) for _, cell in _COLUMNS)} |" for row in growth.rows),
    ]
    if growth.events_per_s_ratio is not None:
        lines += ["", f"Events/s with {LARGE:,} borrowers over those with {SMALL:,}: **{growth.events_per_s_ratio}**."]
    if growth.typical is not None:
        lines += ["", _typical(growth.typical)]
    if sweep is not None:
        lines += ["", _swept(sweep)]
    lines += ["", f"![Events/s, Redis bytes and rebuild seconds over borrowers]({PLOT.name})"]
    return "\n".join(lines)


def _ran_on(machine: Machine) -> str:
    return f"{machine.cores} cores of {machine.processor}, load before {machine.load_before}."


def _typical(one: Typical) -> str:
    return (
        f"A typical borrower: **{one.bytes_per_typical_borrower:,.0f} bytes** of Redis, {one.state_bytes:,.0f} packed, "
        f"{one.sealed_bytes:,.0f} sealed ({one.borrowers:,} of them)."
    )


def _swept(found: Swept) -> str:
    return (
        f"One tick, {found.wakes:,} wake-ups of {found.borrowers:,} borrowers, {found.workers} workers "
        f"({_ran_on(found.machine)[:-1]}):\ndone on the slowest partition after {found.seconds:,.1f} s, "
        f"**{found.wakes_per_s:,.0f} wake-ups/s**. Of {found.logins:,} logins meanwhile, {found.logins_per_s:,.0f} a\n"
        f"second: p50 {found.p50_ms:,.0f} ms, p99 {found.p99_ms:,.0f} ms, longest {found.highest_ms:,.0f} ms."
    )


# --- the plot ---------------------------------------------------------------------------------------------------------


class _Point(NamedTuple):
    borrowers: int
    value: float


def plot(growth: Growth) -> str:
    """Three small plots over borrowers (logarithmic), of one worker, as SVG; each begins at 0."""
    rows = [row for row in growth.rows if row.workers == 1]
    panels = (
        ("events/s", [_Point(row.borrowers, row.run.events_per_s) for row in rows]),
        ("Redis bytes per borrower", [_Point(row.borrowers, row.redis_bytes_per_borrower) for row in rows]),
        ("rebuild, s", [_Point(row.borrowers, row.rebuild_s) for row in rows]),
    )
    width = len(panels) * (_PANEL[0] + _MARGIN[0])
    height = _PANEL[1] + 2 * _MARGIN[1]
    drawn = [_panel(title, points, number) for number, (title, points) in enumerate(panels) if points]
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="10">'
    return "\n".join((head, f'<rect width="{width}" height="{height}" fill="white"/>', *drawn, "</svg>\n"))


def _panel(title: str, points: Sequence[_Point], number: int) -> str:
    width, height = _PANEL
    left, top = _MARGIN[0] - 8 + number * (width + _MARGIN[0]), _MARGIN[1]
    lowest, highest = log10(points[0].borrowers), log10(points[-1].borrowers)
    most = max(point.value for point in points) or 1.0

    def across(borrowers: int) -> float:
        span = highest - lowest
        return left + (width * (0.05 + 0.9 * (log10(borrowers) - lowest) / span) if span else width / 2)

    def up(value: float) -> float:
        return top + height * (1 - 0.9 * value / most)

    base = top + height
    line = " ".join(f"{across(point.borrowers):.1f},{up(point.value):.1f}" for point in points)
    parts = [
        f'<text x="{left}" y="{top - 14}" font-weight="bold">{title}</text>',
        f'<path d="M{left} {top}V{base}H{left + width}" fill="none" stroke="black"/>',
        f'<text x="{left - 4}" y="{base + 3}" text-anchor="end">0</text>',
        f'<text x="{left - 4}" y="{up(most) + 3:.1f}" text-anchor="end">{most:,.0f}</text>',
        f'<path d="M{left} {up(most):.1f}h{width}" fill="none" stroke="#ccc"/>',
        f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>',
    ]
    for point in points:
        x, y = across(point.borrowers), up(point.value)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#1f5fa8"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + 14}" text-anchor="middle">{_short(point.borrowers)}</text>')
    return "\n".join(parts)


def _short(count: int) -> str:
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if count >= unit:
            return f"{count / unit:g}{name}"
    return str(count)
