"""Millions of borrowers from a recording of thousands: each is a clone of one whom the engine has folded.

Folding what five million people do takes hours and gives nothing that a few thousand do not. So the first half of a
recording is folded once, and every clone gets the packed state, the wake-up and the failures of its template under a
name of its own, as commit records that a worker could have left. What a clone's name decides, its partition, is its
own. The store stays empty: to copy the log into it is the worker's work.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import structs

from benchmarks.recordings import PARTITIONS
from benchmarks.sender import Sender
from schemas.partitioning import partition_of
from schemas.topics import COMMITS, CONTROL, INPUTS
from streams.engine.breaker import Granted
from streams.engine.calendar import Calendar
from streams.engine.chunk import TaskState
from streams.engine.erasure import uncount
from streams.engine.fold import Engine
from streams.engine.incidents import borrower_of
from streams.engine.loan import ROW, is_ended
from streams.engine.order import LogRecord, Ordered
from streams.engine.state import pack_task, unpack
from streams.policy.loader import load
from streams.replay.cycle import LocalTask, chunks
from streams.replay.progress import Advance
from streams.replay.recording import Recording
from streams.store.seal import seal
from streams.worker.commitlog import ORIGIN, CommitRecord, Encoded, Roll, encode
from tests.parts import BrokenPart

RECORD_STATES: Final = 2_000
"""About as many as a busy worker commits at once."""
SNAPSHOT_HOUR: Final = 10
"""Business hour: what wakes up on a day has woken up by then, so that the next hours hold events and no sweep."""
_TYPICAL_INSTALMENTS: Final = 12
_LOG_NAME: Final = "population"
_WAITING_PARTS: Final = 64


class Template(NamedTuple):
    """A borrower as folded: packed state, next wake-up (epoch ms, None: none), and how its entries in the index of
    failures begin, before the name."""

    name: str
    state: bytes
    wake_ms: int | None
    failures: tuple[str, ...]


class Snapshot(NamedTuple):
    """What the first part of a recording leads to, and what comes after it.

    `task` is what a task knows besides its borrowers; `after` are the borrowers' events of the second part and `ticks`
    its ticks, each in order with its order time (epoch ms). `calendar` is that of the policy.
    """

    templates: list[Template]
    task: TaskState
    after: list[tuple[int, LogRecord]]
    ticks: list[LogRecord]
    calendar: Calendar

    @property
    def clock_ms(self) -> int:
        assert self.task.clock_ms is not None, "a snapshot is taken at a tick"
        return self.task.clock_ms

    def typical(self) -> "Snapshot":
        """Of the templates those with one open loan of twelve instalments who log in and spend."""
        day = self.calendar.day(self.clock_ms)
        return self._replace(templates=[one for one in self.templates if _is_typical(one.state, day)])


def _is_typical(state: bytes, day: int) -> bool:
    facts = unpack(state).facts
    if len(facts.loans) != 1 or facts.windows.logins is None or facts.windows.spending is None:
        return False
    (loan,) = facts.loans.values()
    return len(loan.rows) == _TYPICAL_INSTALMENTS * ROW and not is_ended(loan, day)


# --- folding ----------------------------------------------------------------------------------------------------------


def snapshot_of(path: Path, advance: Advance) -> Snapshot:
    """Fold the first half of a recording, up to a tick at SNAPSHOT_HOUR that every partition has.

    Raises:
        BrokenPart: the second half has no such tick.
    """
    engine = Engine(load("standard"), partitions=PARTITIONS)
    calendar = engine.judge_of(TaskState()).calendar
    with Recording.open(path) as recording:
        cut_ms, ticks = _cut(recording, calendar)
        templates: list[Template] = []
        after: list[tuple[int, LogRecord]] = []
        for partition in recording.partitions():
            task = LocalTask(engine)
            for chunk in chunks(recording, partition):
                before, rest = _divided(chunk, cut_ms)
                for _ in task.fold(before):
                    pass
                after += [
                    (order_ms, LogRecord(topic, partition, offset, record.timestamp, record.key, record.value))
                    for order_ms, topic, offset, record in rest
                    if topic != CONTROL
                ]
                advance(len(chunk))
            templates += _templates(task)
    # The clones' events are all told by their recorded time, whatever partition their template was on.
    after.sort(key=lambda found: found[0])
    return Snapshot(templates, task.task, after, ticks, calendar)


def _cut(recording: Recording, calendar: Calendar) -> tuple[int, list[LogRecord]]:
    """When the snapshot is taken (epoch ms), and the ticks behind it."""
    manifest = recording.manifest
    middle_ms = ((manifest.first_ms or 0) + (manifest.last_ms or 0)) // 2
    ticks = [record for record in recording.records(CONTROL, 0) if b'"type":"tick"' in (record.value or b"")]
    hours = ((tick, calendar.hour(tick.timestamp) % 24) for tick in ticks if tick.timestamp >= middle_ms)
    cut = next((tick for tick, hour in hours if hour == SNAPSHOT_HOUR), None)
    if cut is None:
        raise BrokenPart(f"{recording.path}: no tick at {SNAPSHOT_HOUR}:00 behind its middle: take more events")
    return cut.timestamp, [tick for tick in ticks if tick.timestamp > cut.timestamp]


def _divided(chunk: list[Ordered], cut_ms: int) -> tuple[list[Ordered], list[Ordered]]:
    """What comes up to the tick, and what comes behind it: of its own moment, control events come first."""
    at = next((at for at, (order_ms, topic, _, _) in enumerate(chunk) if (order_ms, topic) > (cut_ms, CONTROL)), None)
    return (chunk, []) if at is None else (chunk[:at], chunk[at:])


def _templates(task: LocalTask) -> Iterator[Template]:
    beginnings: dict[str, list[str]] = defaultdict(list)
    for entry in task.failures():
        name = borrower_of(entry)
        beginnings[name].append(entry.removesuffix(name))
    wakes = task.wakes()
    for name in task.borrowers():
        state = task.state(name)
        assert state is not None, "who is named has a state"
        yield Template(name, state, wakes.get(name), tuple(beginnings[name]))


# --- clones -----------------------------------------------------------------------------------------------------------


class Population:
    """`size` clones, numbered from 0; clone n is one of template n modulo the number of templates.

    A byte a clone is kept, its partition; all else is made as it is asked for.
    """

    def __init__(self, snapshot: Snapshot, size: int) -> None:
        if not snapshot.templates:
            raise BrokenPart("nobody to clone: take more events")
        self.snapshot = snapshot
        self.size = size
        self._templates = snapshot.templates
        self._partitions = bytes(partition_of(self.name(clone).encode(), PARTITIONS) for clone in range(size))
        self._numbers = {template.name: number for number, template in enumerate(self._templates)}

    def name(self, clone: int) -> str:
        """The borrower id of a clone."""
        return f"c{clone:08d}-{self._template(clone).name}"

    def partition(self, clone: int) -> int:
        return self._partitions[clone]

    def clones_of(self, template: str) -> range:
        """All clones of a template; none of a borrower who is no template."""
        number = self._numbers.get(template, self.size)
        return range(number, self.size, len(self._templates))

    def waking_until(self, moment_ms: int) -> int:
        """How many clones have a wake-up due by then."""
        due = (one.name for one in self._templates if one.wake_ms is not None and one.wake_ms <= moment_ms)
        return sum(len(self.clones_of(name)) for name in due)

    def state_bytes(self) -> int:
        """Of how many bytes all packed states are."""
        return sum(len(one.state) * len(self.clones_of(one.name)) for one in self._templates)

    def _template(self, clone: int) -> Template:
        return self._templates[clone % len(self._templates)]

    def commits(self, partition: int) -> Iterator[CommitRecord]:
        """The commit records of a task: a claim, then its clones in order; the last one tells the task's state."""
        positions = dict.fromkeys(INPUTS, (0, self.snapshot.clock_ms))
        counted: Counter[int] = Counter()
        seq = 1
        yield CommitRecord("claim", seq, _LOG_NAME)
        for clones in self._batches(partition):
            seq += 1
            counted.update(clone % len(self._templates) for clone in clones)
            named = [(self.name(clone), self._template(clone)) for clone in clones]
            yield CommitRecord(
                "chunk",
                seq,
                _LOG_NAME,
                positions=positions,
                changed={name: seal(name, template.state) for name, template in named},
                wakes={name: template.wake_ms for name, template in named if template.wake_ms is not None},
                failures=[begin + name for name, template in named for begin in template.failures],
                roll=Roll(borrowers=counted.total()),
            )
        yield CommitRecord(
            "chunk",
            seq + 1,
            _LOG_NAME,
            positions=positions,
            task=seal("", pack_task(self._task(counted))),
            roll=Roll(borrowers=counted.total()),
        )

    def _batches(self, partition: int) -> Iterator[list[int]]:
        clones: list[int] = []
        at = self._partitions.find(partition)
        while at >= 0:
            clones.append(at)
            if len(clones) == RECORD_STATES:
                yield clones
                clones = []
            at = self._partitions.find(partition, at + 1)
        if clones:
            yield clones

    def _task(self, counted: Mapping[int, int]) -> TaskState:
        """What a task knows that has so many clones of each template."""
        total = _nothing()
        for number, count in counted.items():
            one = _nothing()
            uncount(unpack(self._templates[number].state), one)
            _add(total, one, -count)
        return structs.replace(
            self.snapshot.task,
            loans={currency: dict(by_bucket) for currency, by_bucket in total.loans.items()},
            levels=dict(total.levels),
            statuses=dict(total.statuses),
            reviews=dict(total.reviews),
            lying=total.lying,
            overturned={},
            granted=Granted(),
        )


def _nothing() -> TaskState:
    """A task that has counted nobody, ready to count whatever comes."""
    return TaskState(
        loans=defaultdict(lambda: defaultdict(lambda: [0, 0])),
        levels=defaultdict(int),
        statuses=defaultdict(int),
        reviews=defaultdict(int),
    )


def _add(total: TaskState, one: TaskState, times: int) -> None:
    for currency, by_bucket in one.loans.items():
        for bucket, (loans, balance_minor) in by_bucket.items():
            pair = total.loans[currency][bucket]
            pair[0] += times * loans
            pair[1] += times * balance_minor
    for to, of in ((total.levels, one.levels), (total.statuses, one.statuses), (total.reviews, one.reviews)):
        for name, count in of.items():
            to[name] += times * count
    total.lying += times * one.lying


# --- the log ----------------------------------------------------------------------------------------------------------


class Written(NamedTuple):
    """What a population's commit logs hold: bytes of all packed states, and of the same sealed, as they are kept."""

    state_bytes: int
    sealed_bytes: int


def encoded_of(records: Iterator[CommitRecord]) -> Iterator[tuple[CommitRecord, Encoded]]:
    """Each record as the commit log has it, one after the other in the chain."""
    digest = ORIGIN
    for record in records:
        encoded = encode(record, digest)
        digest = encoded.digest
        yield record, encoded


def write_log(bootstrap: str, population: Population, advance: Advance) -> Written:
    """Write the commit logs of all tasks into their topic, one record in memory at a time.

    Raises:
        BrokenPart: the broker did not take all of it.
    """
    sealed_bytes = 0
    with Sender(bootstrap, _WAITING_PARTS) as sender:
        for partition in range(PARTITIONS):
            for record, encoded in encoded_of(population.commits(partition)):
                sender.send(LogRecord(COMMITS, partition, 0, 0, None, value) for value in encoded.values)
                sealed_bytes += sum(map(len, record.changed.values()))
                advance(len(record.changed))
    return Written(population.state_bytes(), sealed_bytes)
