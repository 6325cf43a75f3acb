"""`python -m benchmarks`: the service, its peers and its floor. `python -m benchmarks fold`: the engine alone.

`python -m benchmarks growth`: the service over the number of borrowers. `python -m benchmarks sweep`: one tick that
wakes many of them.
"""

import cProfile
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from msgspec.structs import replace
from rich.console import Console

from benchmarks.recordings import PARTITIONS, recording_of
from benchmarks.result import LATEST, Result, show, show_latency, write
from streams.replay.progress import progress
from tests.parts import BrokenPart, MissingPart

if TYPE_CHECKING:
    from benchmarks.growth import Asked
    from benchmarks.latency import Load

_INTERRUPTED = 130
_WHOLE = (1_150_000, 50_000, 3)
_SHORT = (60_000, 3_000, 1)
_SHORT_RESULTS = Path("build", "short")
_LONGEST_S = 60.0
_LONGEST_SHORT_S = 8.0
_GROWN_SHORT = (2_000,)
_TEMPLATES_SHORT = (1_000, 40_000)
_TYPICAL_SHORT, _EVENTS_SHORT, _WAKES_SHORT = 500, 5_000, 300
_ALONE, _LOAD_S = 300, 20.0
_ALONE_SHORT, _LOAD_SHORT_S = 60, 3.0
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_Short = Annotated[bool, typer.Option("--short", help="About 60,000 events of 3,000 borrowers, one round.")]
_Events = Annotated[int | None, typer.Option(min=1_000, help="About how many.  [default: 1,150,000]")]
_Borrowers = Annotated[int | None, typer.Option(min=1, help="How many.  [default: 50,000]")]
_Rounds = Annotated[int | None, typer.Option(min=1, help="How many.  [default: 3]")]
_Seed = Annotated[int, typer.Option(help="Of the simulated recording.")]

_Chosen = Annotated[
    list[str] | None, typer.Option("--set", help="A setting of the workers, NAME=VALUE; may be repeated.")
]
_SmallPopulation = Annotated[bool, typer.Option("--short", help="A few thousand borrowers.")]
_Interpreted = Annotated[bool, typer.Option("--interpreted", help="Do not compile the engine.")]


@app.callback(invoke_without_command=True)
def whole(
    context: typer.Context,
    short: _Short = False,
    events: _Events = None,
    borrowers: _Borrowers = None,
    rounds: _Rounds = None,
    seed: _Seed = 1,
    chosen: _Chosen = None,
    interpreted: _Interpreted = False,
    out: Annotated[Path, typer.Option(help="Where the result goes.")] = LATEST,
) -> None:
    """Events per second on real Kafka and Redis: `duewatch worker`, a small fold in it, the same in peers, a floor."""
    if context.invoked_subcommand is not None:
        return
    from benchmarks.contest import Contest, compete
    from benchmarks.field import WHOLE
    from benchmarks.latency import latency as measure

    recording, count, configuration = _input(short, events, borrowers, rounds, seed)
    tree = None if interpreted else _compiled(seed)
    settings = _settings(chosen or ())
    longest_s = _LONGEST_SHORT_S if short else _LONGEST_S
    result = compete(
        Contest(recording, count, settings, tree, longest_s, short), {**configuration, "longest_s": longest_s}
    )
    # Latency is of the second half of the recording, where states are older and an event costs more.
    top = median(run.late_events_per_s for runs in result.rounds for run in runs if run.contestant == WHOLE)
    found = measure(recording, _load(short, top / 2), settings, tree)
    _finish(replace(result, latency=found), out)


@app.command()
def latency(
    rate: Annotated[float, typer.Option(min=1, help="Events a second under load: half of what it can do.")],
    short: _Short = False,
    events: _Events = None,
    borrowers: _Borrowers = None,
    seed: _Seed = 1,
    chosen: _Chosen = None,
    interpreted: _Interpreted = False,
) -> None:
    """How long an event takes through `duewatch worker`, idle and under load, on real Kafka and Redis."""
    from benchmarks.latency import latency as measure

    recording, _, _ = _input(short, events, borrowers, None, seed)
    tree = None if interpreted else _compiled(seed)
    for name, found in measure(recording, _load(short, rate), _settings(chosen or ()), tree).items():
        show_latency(name, found, Console())


@app.command()
def fold(
    short: _Short = False,
    events: _Events = None,
    borrowers: _Borrowers = None,
    rounds: _Rounds = None,
    seed: _Seed = 1,
    chunk: Annotated[int, typer.Option(min=1, help="Records folded at once.")] = 4_000,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time goes.")] = False,
    profile_out: Annotated[Path | None, typer.Option(help="Write the profile for pstats and viewers.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the result goes.  [default: nowhere]")] = None,
) -> None:
    """Events per second through the engine alone, without Kafka and Redis."""
    from benchmarks import fold as folding

    recording, count, configuration = _input(short, events, borrowers, rounds, seed)
    profiler = cProfile.Profile() if profile or profile_out is not None else None
    result = folding.fold(recording, count, chunk, configuration, profiler)
    if profiler is not None:
        if profile_out is not None:
            profiler.dump_stats(profile_out)
        folding.show_profile(profiler)
    _finish(result, out)


@app.command()
def growth(
    short: _SmallPopulation = False,
    borrowers: Annotated[
        list[int] | None,
        typer.Option(min=1, help="A size; may be repeated.  [default: 10,000, 50,000, 100,000, 1,000,000, 5,000,000]"),
    ] = None,
    workers: Annotated[
        list[int] | None, typer.Option(min=1, max=PARTITIONS, help="How many; may be repeated.  [default: 1]")
    ] = None,
    events: Annotated[int | None, typer.Option(min=1_000, help="About how many.  [default: 200,000]")] = None,
    typical: Annotated[
        int | None, typer.Option(min=0, help="Typical borrowers, for their bytes; 0: none.  [default: 50,000]")
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Keep what the result file holds of other sizes.")] = False,
    doc: Annotated[
        bool, typer.Option("--doc", help="Measure nothing: write the figures there are into docs/growth.md.")
    ] = False,
    seed: _Seed = 1,
    chosen: _Chosen = None,
    interpreted: _Interpreted = False,
    out: Annotated[Path | None, typer.Option(help="The result file.  [default: results/growth.json]")] = None,
) -> None:
    """Rebuild, take-over, memory and events per second over the number of borrowers, on real Kafka and Redis."""
    from benchmarks import growth as growing
    from benchmarks import growth_page

    console = Console()
    if doc:
        growth_page.update()
        return
    if typical is None:
        typical = _TYPICAL_SHORT if short else growing.TYPICAL
    file = out or (_SHORT_RESULTS / growing.GROWTH.name if short else growing.GROWTH)
    result = growing.grow(
        _asked(short, events, seed, chosen, interpreted),
        borrowers or (_GROWN_SHORT if short else growing.SIZES),
        workers or [1],
        typical,
        file,
        add=add,
    )
    growing.show_growth(result, console)
    console.print(f"\nwritten to {file}", highlight=False, soft_wrap=True)


@app.command()
def sweep(
    short: _SmallPopulation = False,
    wakes: Annotated[int | None, typer.Option(min=1, help="About how many are due.  [default: 200,000]")] = None,
    rate: Annotated[float, typer.Option(min=1, help="Logins a second meanwhile.")] = 500.0,
    workers: Annotated[int, typer.Option(min=1, max=PARTITIONS, help="How many.")] = 2,
    seed: _Seed = 1,
    chosen: _Chosen = None,
    interpreted: _Interpreted = False,
    out: Annotated[Path | None, typer.Option(help="The result file.  [default: results/sweep.json]")] = None,
) -> None:
    """One tick that wakes very many borrowers while events come in, on real Kafka and Redis."""
    from benchmarks import sweep as sweeping

    asked = _asked(short, None, seed, chosen, interpreted)
    wanted = sweeping.Wanted(wakes or (_WAKES_SHORT if short else sweeping.WAKES), rate, workers)
    file = out or (_SHORT_RESULTS / sweeping.SWEEP.name if short else sweeping.SWEEP)
    found = sweeping.sweep(asked, wanted)
    write(found, file)
    console = Console()
    sweeping.show_sweep(found, console)
    console.print(f"\nwritten to {file}", highlight=False, soft_wrap=True)


def _asked(short: bool, events: int | None, seed: int, chosen: Sequence[str] | None, interpreted: bool) -> "Asked":
    from benchmarks import growth as growing

    return growing.Asked(
        seed,
        _TEMPLATES_SHORT if short else growing.TEMPLATES,
        events or (_EVENTS_SHORT if short else growing.EVENTS),
        _settings(chosen or ()),
        None if interpreted else _compiled(seed),
    )


def _compiled(seed: int) -> Path:
    """The engine compiled, having folded a small recording to the same bytes as the plain one."""
    from benchmarks.compiled import check_same, compiled_tree

    with progress("compiling the engine", None):
        tree = compiled_tree()
    with progress("compiled and plain engine side by side", None):
        check_same(recording_of(seed, _SHORT[1], _SHORT[0]), tree)
    return tree


def _input(
    short: bool, events: int | None, borrowers: int | None, rounds: int | None, seed: int
) -> tuple[Path, int, dict[str, str | int | float]]:
    default = _SHORT if short else _WHOLE
    size = (events or default[0], borrowers or default[1])
    count = rounds or default[2]
    return recording_of(seed, size[1], size[0]), count, {"seed": seed, "borrowers": size[1], "rounds": count}


def _load(short: bool, events_per_s: float) -> "Load":
    from benchmarks.latency import Load

    alone, seconds = (_ALONE_SHORT, _LOAD_SHORT_S) if short else (_ALONE, _LOAD_S)
    return Load(alone, events_per_s, seconds)


def _settings(chosen: Sequence[str]) -> dict[str, str]:
    parts = [setting.partition("=") for setting in chosen]
    for setting, (name, sign, _) in zip(chosen, parts, strict=True):
        if not (name and sign):
            raise typer.BadParameter(f"{setting}: give NAME=VALUE, like chunk_records=8000")
    return {name: value for name, _, value in parts}


def _finish(result: Result, out: Path | None) -> None:
    if out is not None:
        write(result, out)
    console = Console()
    show(result, console)
    if out is not None:
        console.print(f"\nwritten to {out}", highlight=False, soft_wrap=True)


def main() -> NoReturn:
    """Run, and tell what went wrong in one line."""
    # The client warns of every topic that has no leader yet, then tries again.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        message = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
        code = _fail(f"{message} (see --help)", 2)
    except (MissingPart, BrokenPart) as error:
        code = _fail(str(error), 1)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        _fail("interrupted", code)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    print(f"benchmarks: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
