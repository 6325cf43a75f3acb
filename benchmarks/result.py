"""What a benchmark found: the result file, and the tables that are printed."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct, field
from rich.console import Console
from rich.table import Column, Table

LATEST = Path(__file__).parent / "results" / "latest.json"
_DISTRIBUTIONS = ("duewatch", "aiokafka", "faust-streaming", "hiredis", "msgspec", "redis", "uvloop")
_PARTED = (
    ("CPU us/event, {}", "cpu_us_per_event", ",.1f"),
    ("peak MiB, {}", "peak_mib", ",.0f"),
    ("share of {}", "stage_share", ".1%"),
)
"""What a run tells by parts: title, field, format."""


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
    of the whole input; whatever the round, they must be the same.
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


class Result(Struct, frozen=True):
    """The result file. `events_per_s` is by contestant; each of `ratios` is taken within a round, then over rounds."""

    machine: Machine
    versions: dict[str, str]
    configuration: dict[str, str | int | float]
    rounds: list[list[Run]]
    events_per_s: dict[str, Spread]
    ratios: dict[str, Spread]


def result_of(
    rounds: Sequence[Sequence[Run]],
    machine: Machine,
    configuration: Mapping[str, str | int | float],
    servers: Mapping[str, str],
    ratios: Iterable[tuple[str, str, str]] = (),
) -> Result:
    """Sum rounds up.

    Args:
        servers: versions of what is no Python package.
        ratios: (name, contestant, contestant it is divided by).
    """
    rates = [{run.contestant: run.events_per_s for run in runs} for runs in rounds]
    return Result(
        machine,
        {"python": platform.python_version(), **{name: version(name) for name in _DISTRIBUTIONS}, **servers},
        dict(configuration),
        [list(runs) for runs in rounds],
        {name: _spread([rate[name] for rate in rates], 0) for name in rates[0]},
        {name: _spread([rate[over] / rate[under] for rate in rates], 3) for name, over, under in ratios},
    )


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


def write(result: Result, path: Path) -> None:
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
    for name, ratio in result.ratios.items():
        console.print(f"{name} {ratio.median} ({ratio.lowest} to {ratio.highest})", highlight=False)


def _by_contestant(result: Result) -> Table:
    table = Table(Column("", no_wrap=True), box=None, pad_edge=False)
    for name in result.events_per_s:
        table.add_column(name, justify="right", no_wrap=True)
    for of in Spread.__struct_fields__:
        table.add_row(f"events/s, {of}", *(f"{getattr(spread, of):,.0f}" for spread in result.events_per_s.values()))
    runs = {name: _runs_of(result, name) for name in result.events_per_s}
    for title, of, form in _PARTED:
        for part in dict.fromkeys(part for found in runs.values() for run in found for part in getattr(run, of)):
            values = ([getattr(run, of)[part] for run in found if part in getattr(run, of)] for found in runs.values())
            table.add_row(title.format(part), *(format(median(some), form) if some else "" for some in values))
    table.add_row("outputs of all input", *(f"{found[0].outputs:,}" for found in runs.values()))
    return table


def _runs_of(result: Result, contestant: str) -> list[Run]:
    return [run for runs in result.rounds for run in runs if run.contestant == contestant]
