"""One tick that wakes very many borrowers at once, while events come in: how long it takes, and what they wait for.

See docs/growth.md.
"""

import itertools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct
from rich.console import Console

from benchmarks.committed import ends_of
from benchmarks.growth import APP_ID, Asked, owned_workers
from benchmarks.latency import Sent, Tail, waits
from benchmarks.population import Population, Snapshot, write_log
from benchmarks.recordings import PARTITIONS
from benchmarks.result import Machine, this_machine, versions
from benchmarks.sender import Sender
from benchmarks.service import Service, open_service
from benchmarks.traffic import told_of
from schemas.inbound import Tick
from schemas.topics import COMMITS, CONTROL
from streams.engine.calendar import DAY_MS
from streams.engine.order import LogRecord
from streams.engine.state import unpack_task
from streams.replay.produce import SLICE_RECORDS
from streams.replay.progress import progress
from streams.worker.commitlog import CommitRecord
from tests.parts import BrokenPart

SWEEP: Final = Path(__file__).parent / "results" / "sweep.json"
WAKES: Final = 200_000
_AFTER_S: Final = 3.0
_LONGEST_S: Final = 1_800.0
_SLICE_S: Final = 0.01


class Wanted(NamedTuple):
    """About how many wake-ups are due at the tick, how many logins come a second, and how many workers there are."""

    wakes: int
    rate: float
    workers: int


class Swept(Struct, frozen=True):
    """The result file. `wakes` were due; the tick's sweep was done after `seconds` on the slowest partition, and
    `seconds_by_partition` on each. The latencies are those of `logins` that came meanwhile and a little longer, from
    when each was due until its commit could be read."""

    machine: Machine
    versions: dict[str, str]
    configuration: dict[str, str | int | float]
    borrowers: int
    workers: int
    wakes: int
    seconds: float
    seconds_by_partition: list[float]
    wakes_per_s: float
    logins: int
    logins_per_s: float
    p50_ms: float
    p99_ms: float
    highest_ms: float


def sweep(asked: Asked, wanted: Wanted) -> Swept:
    """Measure on Kafka and Redis of their own.

    Raises:
        MissingPart: Kafka or Redis cannot be had here.
        BrokenPart: a part, or a worker, did not do what it must.
    """
    machine = this_machine()
    snapshot = asked.snapshot()
    population = Population(snapshot, size_for(snapshot, wanted.wakes))
    settings = {**asked.chosen, "app_id": APP_ID}
    with open_service() as service:
        service.renew()
        with progress(f"writing {population.size:,} borrowers", population.size) as advance:
            write_log(service.node.bootstrap, population, advance)
        with owned_workers(service, population, wanted.workers, settings, asked.tree):
            measured = _measured(service, population, wanted.rate, asked.seed)
        return _summed_up(machine, versions(service.versions), asked, wanted, population, measured)


def size_for(snapshot: Snapshot, wakes: int) -> int:
    """How many borrowers there must be for about so many wake-ups in the next 24 hours.

    Raises:
        BrokenPart: nobody wakes up in them.
    """
    count = len(snapshot.templates)
    waking = Population(snapshot, count).waking_until(snapshot.clock_ms + DAY_MS)
    if waking == 0:
        raise BrokenPart("nobody wakes up within a day of the snapshot: take more events")
    return max(1, round(wakes * count / waking))


class _Measured(NamedTuple):
    """Seconds that each partition's sweep took, and those that each login waited."""

    swept_s: list[float]
    waited_s: list[float]


def _measured(service: Service, population: Population, rate: float, seed: int) -> _Measured:
    tick_ms = population.snapshot.clock_ms + DAY_MS
    first = ends_of(service.node.bootstrap, COMMITS, PARTITIONS)
    with SweepTail(service.node.bootstrap, first, tick_ms) as tail, progress("sweeping", None):
        return _drive(service, tail, logins(population, tick_ms, rate, seed), rate)


def _drive(service: Service, tail: "SweepTail", coming: Iterator[LogRecord], rate: float) -> _Measured:
    sent = Sent()
    with Sender(service.node.bootstrap) as sender:
        began_s = time.monotonic()
        ticks = [tick_of(tail.tick_ms, partition) for partition in range(PARTITIONS)]
        sender.send(ticks)
        sent.note(ticks, [began_s] * len(ticks))
        done = 0
        ends_s: float | None = None
        while ends_s is None or time.monotonic() < ends_s:
            time.sleep(_SLICE_S)
            now_s = time.monotonic()
            due = min(int((now_s - began_s) * rate), done + SLICE_RECORDS)
            slice_ = list(itertools.islice(coming, due - done))
            sender.send(slice_)
            sent.note(slice_, [began_s + number / rate for number in range(done, due)])
            done = due
            if ends_s is None and len(tail.ended_s) == PARTITIONS:
                ends_s = now_s + _AFTER_S
            if now_s - began_s > _LONGEST_S:
                raise BrokenPart(f"the sweep was not done within {_LONGEST_S:g} s")
        tail.wait_for(sent.ends)
    swept_s = [tail.ended_s[partition] - began_s for partition in range(PARTITIONS)]
    return _Measured(swept_s, list(waits(tail.reached, sent.due_s, {})))


def _summed_up(
    machine: Machine,
    of: dict[str, str],
    asked: Asked,
    wanted: Wanted,
    population: Population,
    measured: _Measured,
) -> Swept:
    seconds = max(measured.swept_s)
    wakes = population.waking_until(population.snapshot.clock_ms + DAY_MS)
    cut = quantiles(measured.waited_s, n=100)
    return Swept(
        machine,
        of,
        {name: value for name, value in asked.configuration.items() if name != "events"},
        population.size,
        wanted.workers,
        wakes,
        round(seconds, 3),
        [round(each, 3) for each in measured.swept_s],
        round(wakes / seconds, 1),
        len(measured.waited_s),
        wanted.rate,
        *(round(value * 1000, 1) for value in (cut[49], cut[98], max(measured.waited_s))),
    )


def tick_of(tick_ms: int, partition: int) -> LogRecord:
    """The tick that wakes them."""
    value = msgspec.json.encode(Tick(event_id=f"tick-{tick_ms}", at_ms=tick_ms))
    return LogRecord(CONTROL, partition, 0, tick_ms, None, value)


def logins(population: Population, tick_ms: int, rate: float, seed: int) -> Iterator[LogRecord]:
    """Logins of clones taken at random, from the tick on, at `rate` a second; there is no end of them."""
    random = Random(seed)
    known = [
        (record, msgspec.json.decode(record.value or b""))
        for _, record in population.snapshot.after
        if record.topic == "logins" and population.clones_of((record.key or b"").decode())
    ]
    if not known:
        raise BrokenPart("nobody logs in after the snapshot: take more events")
    for number in itertools.count():
        record, event = random.choice(known)
        at_ms = tick_ms + int(number * 1000 / rate)
        again = event | {"event_id": f"{event['event_id']}-{number}", "at_ms": at_ms}
        clone = random.choice(population.clones_of((record.key or b"").decode()))
        yield told_of(record._replace(timestamp=at_ms), again, population, clone)


class SweepTail(Tail):
    """Notes when the sweep of the tick at `tick_ms` has ended on each partition (`time.monotonic`)."""

    def __init__(self, bootstrap: str, first: Mapping[int, int], tick_ms: int) -> None:
        super().__init__(bootstrap, first)
        self.tick_ms = tick_ms
        self.ended_s: dict[int, float] = {}

    def note(self, partition: int, at_s: float, record: CommitRecord) -> None:
        packed = None if partition in self.ended_s else record.packed_task
        if packed is None:
            return
        task = unpack_task(packed)
        if task.clock_ms == self.tick_ms and task.sweep is None:
            self.ended_s[partition] = at_s


def show_sweep(found: Swept, console: Console) -> None:
    """Print what counts of it."""
    each = ", ".join(f"{seconds:g}" for seconds in found.seconds_by_partition)
    console.print(
        f"{found.wakes:,} wake-ups of {found.borrowers:,} borrowers at one tick, workers: {found.workers}: "
        f"{found.seconds:g} s (by partition: {each}), {found.wakes_per_s:,.0f} a second",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"{found.logins:,} logins meanwhile, {found.logins_per_s:g} a second: p50 {found.p50_ms:g} ms, "
        f"p99 {found.p99_ms:g} ms, highest {found.highest_ms:g} ms",
        highlight=False,
        soft_wrap=True,
    )
