"""What a benchmark found: the result file, and the tables that are printed."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Struct, field
from rich.console import Console
from rich.table import Column, Table

from benchmarks.usage import Usage
from benchmarks.window import Window

LATEST = Path(__file__).parent / "results" / "latest.json"
_DISTRIBUTIONS = ("duewatch", "aiokafka", "faust-streaming", "hiredis", "msgspec", "redis", "uvloop")
OWN: Final = "contestant"
"""The group of a contestant's own processes, beside those of the servers."""
_COLUMNS: Final = (
    ("CPU us/event", "cpu_us_per_event", OWN, ",.1f"),
    ("broker", "cpu_us_per_event", "broker", ",.1f"),
    ("Redis", "cpu_us_per_event", "redis", ",.1f"),
    ("MiB", "peak_mib", OWN, ",.0f"),
)
"""What is shown of a contestant's runs beside its rate: title, field, part, format."""
_NO_RATIOS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({})
_NO_TARGETS: Final[Mapping[str, float]] = MappingProxyType({})


class Machine(Struct, frozen=True):
    """Where it ran. `load_before`: how many threads wanted to run in the minute before, ours not among them."""

    processor: str
    cores: int
    memory_mib: int
    system: str
    load_before: float


class Spread(Struct, frozen=True):
    """One figure over all rounds."""

    median: float
    lowest: float
    highest: float


class Run(Struct, frozen=True):
    """One contestant in one round.

    `events` were done in `seconds`, by one worker or several. `cpu_us_per_event` is by process in the same seconds;
    `stage_share` of the time that chunks took from their merge to their apply. `outputs` and `dead_letters` are those
    of the whole input, 0 for a program that was stopped before its end; `late_events_per_s` is the rate in the second
    half of the events, 0 for a program that is no worker.
    """

    contestant: str
    round: int
    events: int
    seconds: float
    events_per_s: float
    cpu_us_per_event: dict[str, float]
    stage_share: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)
    commits: int = 0
    outputs: int = 0
    dead_letters: int = 0
    late_events_per_s: float = 0.0


class Latency(Struct, frozen=True):
    """From when an event was sent until its answer could be read: `samples` of them, at `events_per_s` in all."""

    samples: int
    events_per_s: float
    p50_ms: float
    p99_ms: float
    highest_ms: float
    target_p50_ms: float | None
    target_p99_ms: float


def run_of(place: tuple[str, int], window: Window, usage: Usage, **more: Any) -> Run:
    """A contestant in a round, as measured in a window; `more` are other fields of `Run`."""
    seconds = window.until_s - window.from_s
    used_s = usage.cpu_s(window.from_s, window.until_s)
    cpu_us = {name: round(used / window.events * 1e6, 2) for name, used in used_s.items()}
    return Run(
        *place,
        window.events,
        round(seconds, 3),
        round(window.events / seconds, 1),
        cpu_us,
        peak_mib=usage.peak_mib(),
        **more,
    )


class Result(Struct, frozen=True):
    """The result file. `events_per_s` is by contestant; each of `ratios` is taken within a round, then over rounds.
    `targets` are what a ratio should be at least; `latency` is by load, where it was measured."""

    machine: Machine
    versions: dict[str, str]
    configuration: dict[str, str | int | float]
    rounds: list[list[Run]]
    events_per_s: dict[str, Spread]
    ratios: dict[str, Spread]
    targets: dict[str, float] = field(default_factory=dict)
    latency: dict[str, Latency] = field(default_factory=dict)


def result_of(
    rounds: Sequence[Sequence[Run]],
    machine: Machine,
    configuration: Mapping[str, str | int | float],
    servers: Mapping[str, str],
    ratios: Mapping[str, tuple[str, str]] = _NO_RATIOS,
    targets: Mapping[str, float] = _NO_TARGETS,
) -> Result:
    """Sum rounds up.

    Args:
        servers: versions of what is no Python package.
        ratios: by name: contestant, and contestant it is divided by.
        targets: what ratios should be at least.
    """
    rates = [{run.contestant: run.events_per_s for run in runs} for runs in rounds]
    return Result(
        machine,
        versions(servers),
        dict(configuration),
        [list(runs) for runs in rounds],
        {name: _spread([rate[name] for rate in rates], 0) for name in rates[0]},
        {name: _spread([rate[over] / rate[under] for rate in rates], 3) for name, (over, under) in ratios.items()},
        dict(targets),
    )


def versions(servers: Mapping[str, str]) -> dict[str, str]:
    """What ran: Python, its packages, and `servers`."""
    return {"python": platform.python_version(), **{name: version(name) for name in _DISTRIBUTIONS}, **servers}


def _spread(values: Sequence[float], digits: int) -> Spread:
    return Spread(*(round(value, digits) for value in (median(values), min(values), max(values))))


def this_machine() -> Machine:
    """What is known of this one; ask before anything is started."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(_processor(), os.cpu_count() or 1, pages >> 20, platform.platform(), round(os.getloadavg()[0], 2))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def write(result: Struct, path: Path) -> None:
    """Write the result file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def show(result: Result, console: Console) -> None:
    """Print what counts of it."""
    machine = result.machine
    console.print(
        f"\n{machine.cores} cores of {machine.processor}, load before {machine.load_before}; "
        f"rounds: {len(result.rounds)}, input: {result.configuration}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_by_contestant(result))
    for name in result.events_per_s:
        runs = _runs_of(result, name)
        if runs[0].stage_share:
            shares = (f"{stage} {_median(runs, 'stage_share', stage, '.0%')}" for stage in runs[0].stage_share)
            console.print(f"{name}, share of time: {', '.join(shares)}", highlight=False)
    for name, ratio in result.ratios.items():
        aim = _judged(ratio.median, result.targets.get(name), at_most=False)
        console.print(f"{name} {ratio.median} ({ratio.lowest} to {ratio.highest}){aim}", highlight=False)
    for load, latency in result.latency.items():
        show_latency(load, latency, console)
    for name, reason in result.configuration.items():
        if name.startswith("missing."):
            console.print(f"{name}: {reason}", highlight=False, soft_wrap=True)


def show_latency(load: str, latency: Latency, console: Console) -> None:
    """Print what counts of it."""
    for of, value, target in (
        ("p50", latency.p50_ms, latency.target_p50_ms),
        ("p99", latency.p99_ms, latency.target_p99_ms),
    ):
        console.print(f"latency {load}, {of}: {value} ms{_judged(value, target, at_most=True)}", highlight=False)


def _judged(value: float, target: float | None, *, at_most: bool) -> str:
    if target is None:
        return ""
    met = value <= target if at_most else value >= target
    return f"; target {'<=' if at_most else '>='} {target:g}: {'met' if met else 'not met'}"


def _by_contestant(result: Result) -> Table:
    table = Table(Column("", no_wrap=True), box=None, pad_edge=False)
    for title in ("events/s", "lowest", "highest", *(title for title, *_ in _COLUMNS)):
        table.add_column(title, justify="right")
    for name, spread in result.events_per_s.items():
        rates = (f"{value:,.0f}" for value in (spread.median, spread.lowest, spread.highest))
        runs = _runs_of(result, name)
        table.add_row(name, *rates, *(_median(runs, of, part, form) for _, of, part, form in _COLUMNS))
    return table


def _median(runs: Sequence[Run], of: str, part: str, form: str) -> str:
    values = [getattr(run, of)[part] for run in runs if part in getattr(run, of)]
    return format(median(values), form) if values else ""


def _runs_of(result: Result, contestant: str) -> list[Run]:
    return [run for runs in result.rounds for run in runs if run.contestant == contestant]
