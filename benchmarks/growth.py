"""What becomes of the service as borrowers grow: rebuild, take-over, memory and events/s over the size of a population.

See docs/growth.md for what is measured and how.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import redis
from msgspec import Struct, field
from rich.console import Console
from rich.table import Table

from benchmarks.population import Population, Snapshot, Written, snapshot_of, write_log
from benchmarks.recordings import PARTITIONS, recording_of
from benchmarks.result import OWN, Machine, Run, this_machine, versions, write
from benchmarks.service import Service, WorkerProcess, open_service
from benchmarks.traffic import live, send, stretch_of
from benchmarks.workers import owned_at_s, run_workers
from streams.replay.progress import progress
from tests.parts import BrokenPart, wait_until

GROWTH: Final = Path(__file__).parent / "results" / "growth.json"
SIZES: Final = (10_000, 50_000, 100_000, 1_000_000, 5_000_000)
SMALL, LARGE = 50_000, 5_000_000
"""The ratio of their events/s is what the whole is about."""
TEMPLATES: Final = (10_000, 400_000)
"""Borrowers and records of the recording: four weeks of them."""
TYPICAL: Final = 50_000
EVENTS: Final = 200_000
APP_ID: Final = "benchmark-growth"
_REDIS_S: Final = 600.0


class Row(Struct, frozen=True):
    """One population, by so many workers.

    `rebuild_s` and `take_over_s` run from the start of the processes until the last task was taken over, with Redis
    empty and filled. `redis_bytes_per_borrower` is all that Redis' memory has grown by, `state_bytes` a packed state,
    `sealed_bytes` the same as it is kept, each for one borrower on average. `waking` is how many of the borrowers have
    a wake-up due in the stretch that `run` is of.
    """

    borrowers: int
    workers: int
    rebuild_s: float
    take_over_s: float
    redis_bytes_per_borrower: float
    state_bytes: float
    sealed_bytes: float
    waking: int
    run: Run


class Typical(Struct, frozen=True):
    """Borrowers with one open loan of twelve instalments who log in and spend; bytes as in `Row`."""

    borrowers: int
    bytes_per_typical_borrower: float
    state_bytes: float
    sealed_bytes: float


class Growth(Struct, frozen=True):
    """The result file. `events_per_s_ratio` is that of the largest of the usual sizes over 50,000, by one worker; None
    where one of the two was not run."""

    machine: Machine
    versions: dict[str, str]
    configuration: dict[str, str | int | float]
    rows: list[Row] = field(default_factory=list)
    typical: Typical | None = None
    events_per_s_ratio: float | None = None


class Asked(NamedTuple):
    """What is to be measured.

    `templates`: borrowers and records of the recording. `chosen` are settings of the workers that differ from the
    defaults, by name; `tree` is a folder with the packages that they run, None for these sources.
    """

    seed: int
    templates: tuple[int, int]
    events: int
    chosen: Mapping[str, str]
    tree: Path | None

    @property
    def configuration(self) -> dict[str, str | int | float]:
        return {
            "seed": self.seed,
            "template_borrowers": self.templates[0],
            "template_records": self.templates[1],
            "events": self.events,
            "partitions": PARTITIONS,
            "engine": "interpreted" if self.tree is None else "compiled",
            **{f"worker.{name}": value for name, value in self.chosen.items()},
        }

    def snapshot(self) -> Snapshot:
        """The templates."""
        recording = recording_of(self.seed, *self.templates)
        with progress("folding the templates", self.templates[1]) as advance:
            return snapshot_of(recording, advance)


def grow(
    asked: Asked, sizes: Sequence[int], workers: Sequence[int], typical: int, out: Path, *, add: bool = False
) -> Growth:
    """Measure each size with each number of workers, each on its own Kafka and Redis, and write the result after each.

    Args:
        typical: how many typical borrowers are measured; 0: they are left out.
        add: keep what `out` holds of other sizes.

    Raises:
        MissingPart: Kafka or Redis cannot be had here.
        BrokenPart: a part, or a worker, did not do what it must; or what is to be added to was measured otherwise.
    """
    machine = this_machine()
    before = read_growth(out) if add else None
    if before is not None and before.configuration != asked.configuration:
        raise BrokenPart(f"{out} was measured with other settings: leave --add, or name another file with --out")
    snapshot = asked.snapshot()
    rows = {(row.borrowers, row.workers): row for row in ([] if before is None else before.rows)}
    found = None if before is None else before.typical
    result = None
    for size in sizes:
        population = Population(snapshot, size)
        for count in workers:
            with open_service() as service:
                service.renew()
                rows[size, count] = _row(service, population, count, asked)
                result = _result(machine, versions(service.versions), asked, rows, found)
            write(result, out)
    if typical:
        with open_service() as service:
            service.renew()
            found = _typical(service, Population(snapshot.typical(), typical), asked)
            result = _result(machine, versions(service.versions), asked, rows, found)
        write(result, out)
    if result is None:
        raise BrokenPart("nothing to measure: name a size")
    return result


def read_growth(path: Path) -> Growth | None:
    """The result that a file holds, None where there is no file."""
    return msgspec.json.decode(path.read_bytes(), type=Growth) if path.is_file() else None


def _result(
    machine: Machine,
    of: dict[str, str],
    asked: Asked,
    rows: Mapping[tuple[int, int], Row],
    typical: Typical | None,
) -> Growth:
    rates = {size: row.run.events_per_s for (size, workers), row in rows.items() if workers == 1}
    ratio = round(rates[LARGE] / rates[SMALL], 3) if {LARGE, SMALL} <= rates.keys() else None
    return Growth(machine, of, asked.configuration, [rows[key] for key in sorted(rows)], typical, ratio)


def _row(service: Service, population: Population, workers: int, asked: Asked) -> Row:
    size = population.size
    settings = {**asked.chosen, "app_id": APP_ID}
    written, redis_bytes, rebuild_s = _rebuilt(service, population, workers, settings, asked.tree)
    with owned_workers(service, population, workers, settings, asked.tree) as (_, take_over_s):
        pass
    stretch = stretch_of(population, asked.events)
    with progress("producing events", asked.events) as advance:
        records = send(service.settings(), live(population, stretch, asked.seed), advance)
    run = run_workers(service, workers, records, settings, asked.tree, (f"{size:,} borrowers", 0))
    return Row(
        size,
        workers,
        round(rebuild_s, 1),
        round(take_over_s, 1),
        round(redis_bytes / size, 1),
        round(written.state_bytes / size, 1),
        round(written.sealed_bytes / size, 1),
        population.waking_until(stretch.until_ms),
        run,
    )


def _typical(service: Service, population: Population, asked: Asked) -> Typical:
    size = population.size
    settings = {**asked.chosen, "app_id": APP_ID}
    written, redis_bytes, _ = _rebuilt(service, population, 1, settings, asked.tree)
    each = (round(count / size, 1) for count in (redis_bytes, written.state_bytes, written.sealed_bytes))
    return Typical(size, *each)


def _rebuilt(
    service: Service, population: Population, workers: int, settings: Mapping[str, str], tree: Path | None
) -> tuple[Written, int, float]:
    """Write the log and let workers copy it: what was written, what Redis' memory has grown by, the seconds it took."""
    before = _used_bytes(service)
    with progress(f"writing {population.size:,} borrowers", population.size) as advance:
        written = write_log(service.node.bootstrap, population, advance)
    with owned_workers(service, population, workers, settings, tree) as (_, rebuild_s):
        pass
    # Without the buffers of clients, which are gone.
    return written, _used_bytes(service) - before, rebuild_s


@contextmanager
def owned_workers(
    service: Service, population: Population, count: int, settings: Mapping[str, str], tree: Path | None
) -> Iterator[tuple[list[WorkerProcess], float]]:
    """Workers that have taken all tasks over, and the seconds from their start until they had."""
    began_s = time.time()
    with service.workers(count, settings, tree) as workers, redis.Redis.from_url(service.store.url) as client:
        with progress("taking over", population.size) as advance:
            owned_s = owned_at_s(workers, _told(lambda: int(client.dbsize()), advance))
        yield workers, owned_s - began_s


def _told(count: Callable[[], int], advance: Callable[[int], None]) -> Callable[[], int]:
    """Ask `count`, and show how much more it is than before."""
    last = 0

    def ask() -> int:
        nonlocal last
        before, last = last, count()
        advance(last - before)
        return last

    return ask


def _used_bytes(service: Service) -> int:
    """What Redis uses when it does nothing besides."""
    with redis.Redis.from_url(service.store.url) as client:
        rewriting = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
        wait_until(lambda: not any(map(client.info("persistence").get, rewriting)), "Redis' log is written", _REDIS_S)
        return int(client.info("memory")["used_memory"])


# --- what is shown ----------------------------------------------------------------------------------------------------


_OF_SIZE: Final[tuple[tuple[str, Callable[[Row], str]], ...]] = (
    ("rebuild s", lambda row: f"{row.rebuild_s:,.1f}"),
    ("take-over s", lambda row: f"{row.take_over_s:,.1f}"),
    ("Redis B each", lambda row: f"{row.redis_bytes_per_borrower:,.0f}"),
    ("packed B", lambda row: f"{row.state_bytes:,.0f}"),
    ("sealed B", lambda row: f"{row.sealed_bytes:,.0f}"),
)
_OF_EVENTS: Final[tuple[tuple[str, Callable[[Row], str]], ...]] = (
    ("events/s", lambda row: f"{row.run.events_per_s:,.0f}"),
    ("CPU us/event", lambda row: f"{row.run.cpu_us_per_event[OWN]:,.1f}"),
    ("Redis", lambda row: f"{row.run.cpu_us_per_event.get('redis', 0.0):,.1f}"),
    ("MiB", lambda row: f"{row.run.peak_mib[OWN]:,.0f}"),
    ("commits", lambda row: str(row.run.commits)),
    ("waking", lambda row: f"{row.waking:,}"),
)


def show_growth(result: Growth, console: Console) -> None:
    """Print what counts of it."""
    for columns in (_OF_SIZE, _OF_EVENTS):
        table = Table(box=None, pad_edge=False)
        for title in ("borrowers", "workers", *(title for title, _ in columns)):
            table.add_column(title, justify="right", no_wrap=True)
        for row in result.rows:
            table.add_row(f"{row.borrowers:,}", str(row.workers), *(cell(row) for _, cell in columns))
        console.print(table)
        console.print()
    if result.typical is not None:
        one = result.typical
        console.print(
            f"a typical borrower: {one.bytes_per_typical_borrower:,.0f} bytes of Redis, {one.state_bytes:,.0f} packed, "
            f"{one.sealed_bytes:,.0f} sealed ({one.borrowers:,} of them)",
            highlight=False,
            soft_wrap=True,
        )
    if result.events_per_s_ratio is not None:
        console.print(f"events/s at {LARGE:,} over {SMALL:,}: {result.events_per_s_ratio}", highlight=False)
