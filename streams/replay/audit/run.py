"""The audit of a range of commits, task by task.

    commit log ── states before ── inputs of the commit's range ── engine ── compare ── states after (by the log)
                                                                     │
                                              outputs, dead letters ─┴─ compare with what was published

Each commit is made again from the states that the log holds before it, so that one wrong commit is told once and the
next ones are judged by themselves.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack

from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Struct, structs
from redis.asyncio import Redis

from schemas.topics import COMMITS, CONTROL, DLQ_SUFFIX, DLQS, INPUTS, OUTPUTS, TOPICS
from streams.blacklist_keys import load_keys
from streams.config import Settings
from streams.engine.chunk import TaskState, Wake
from streams.engine.fold import Engine
from streams.engine.order import Ordered
from streams.engine.state import pack_task, unpack_task
from streams.policy.model import Policy
from streams.replay.audit.book import Book, Bounds, event_id_of
from streams.replay.audit.held import Follow, StoreAudit
from streams.replay.audit.logs import CLOCKS_APART_MS, Commits, Inputs, Published, Timed
from streams.replay.audit.report import Audit, AuditError, Difference, Flaw, Kind, TaskAudit
from streams.replay.cycle import LocalTask
from streams.replay.moment import parse_moment
from streams.store.redis_store import RedisStore, open_redis
from streams.worker.commitlog import CommitRecord, Position
from streams.worker.tasklogs import open_log_consumer
from streams.worker.topics import open_admin

_FIRST_SEQ = 1

Advance = Callable[[int], None]


class Range(Struct, frozen=True):
    """Commits from an offset of the commit log or a moment (epoch ms, by the worker's clock) on, to before another."""

    from_offset: int | None = None
    from_ms: int | None = None
    until_offset: int | None = None
    until_ms: int | None = None

    def holds(self, commit: Timed) -> bool:
        """Whether it is in the range."""
        at, at_ms = commit.committed.last, commit.at_ms
        return (
            (self.from_offset is None or at >= self.from_offset)
            and (self.from_ms is None or at_ms >= self.from_ms)
            and (self.until_offset is None or at < self.until_offset)
            and (self.until_ms is None or at_ms < self.until_ms)
        )


def parse_range(since: str | None, until: str | None) -> Range:
    """The range of `--from` and `--until`: each an offset, or a moment in ISO 8601.

    Raises:
        RecordingError: one is neither.
    """
    bounds: dict[str, int] = {}
    for flag, name, text in (("--from", "from", since), ("--until", "until", until)):
        if text is not None and text.isdigit():
            bounds[f"{name}_offset"] = int(text)
        elif text is not None:
            bounds[f"{name}_ms"] = parse_moment(flag, text)
    return Range(**bounds)


async def offsets(settings: Settings, tasks: Iterable[int]) -> int:
    """How many offsets the commit logs of `tasks` hold now."""
    async with open_log_consumer(settings) as consumer:
        places = [TopicPartition(COMMITS, task) for task in tasks]
        starts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        return sum(ends[place] - starts[place] for place in places)


async def audit(
    settings: Settings,
    policy: Policy,
    tasks: Sequence[int],
    wanted: Range,
    told: Audit,
    advance: Advance,
) -> None:
    """Audit `tasks` one after the other into `told`.

    Args:
        policy: the one the workers were started with.
        advance: told of offsets of the commit log passed.

    Raises:
        AuditError: a range cannot be audited at all.
        CommitLogError: a commit log is damaged.
        StoreError, BrokerError: store or broker do not answer.
    """
    async with open_admin(settings) as admin:
        described = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    missing = [name for name in TOPICS if name not in described]
    if missing:
        raise AuditError(f"topics are missing ({', '.join(missing)}): is {settings.broker} the right broker?")
    signer = None if settings.blacklist_keys is None else load_keys(settings.blacklist_keys)
    engine = Engine(policy, partitions=described[CONTROL], signer=signer)
    redis = open_redis(settings)
    try:
        for task in tasks:
            told.tasks.append(TaskAudit(task))
            async with AsyncExitStack() as stack:
                consumers = [await stack.enter_async_context(open_log_consumer(settings)) for _ in range(3)]
                one = _TaskAudit(settings, engine, described, told.tasks[-1], wanted, consumers, redis)
                await one.run(advance)
    finally:
        await redis.aclose()


class _TaskAudit:
    """The audit of one task."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        partitions: Mapping[str, int],
        told: TaskAudit,
        wanted: Range,
        consumers: Sequence[AIOKafkaConsumer],
        redis: Redis,
    ) -> None:
        task = told.task
        self._told = told
        self._wanted = wanted
        self._partitions = partitions
        self._local = LocalTask(engine)
        self._book = Book(task, partitions)
        self._store = RedisStore(redis, settings.app_id, task)
        of_commits, of_inputs, self._of_outputs = consumers
        of_commits.assign([TopicPartition(COMMITS, task)])
        of_inputs.assign([TopicPartition(topic, task) for topic in INPUTS])
        self._commits = Commits(of_commits, task)
        self._inputs = Inputs(of_inputs, task)
        self._input_starts: Mapping[str, int] = {}
        self._positions: Mapping[str, Position] = {}
        self._begin: Mapping[str, Position] = {}
        self._end: Mapping[str, Position] = {}
        self._open_sweep_at_end = TaskState().sweep
        self._span_ms: tuple[int, int] | None = None
        self._written: dict[str, int] = {}
        self._log_start = 0
        self._whole_from: int | None = None
        self._from_start = True
        self._skipped = 0

    async def run(self, advance: Advance) -> None:
        start, end = await self._commits.reach()
        self._log_start = start
        self._input_starts = await self._inputs.starts()
        behind = await self._store_at(end)
        reached = start
        async for timed in self._commits.until(end):
            await self._take(timed)
            self._begin_with(timed)
            advance(timed.committed.last + 1 - reached)
            reached = timed.committed.last + 1
            if timed.committed.last == behind and await self._store_rests(behind):
                await self._compare_store(self._stay)
        last = self._commits.last
        if last is None:
            self._told.notes.append("the commit log is empty: no worker has owned this task")
            return
        if self._whole_from is None:
            self._told.notes.append(
                f"the commit log begins at offset {start} and holds no whole round of the rolling snapshot: nothing "
                "can be compared"
            )
            return
        if self._skipped:
            starts = ", ".join(f"{topic} at {offset}" for topic, offset in self._input_starts.items() if offset)
            self._told.notes.append(f"{self._skipped} commits not made again: inputs begin later ({starts})")
        await self._compare_published()
        if self._told.stored is None and not await self._compare_store(self._follow):
            self._told.notes.append(
                "the store moves on faster than the commit log can be read, or is being copied: compared in part; "
                "audit again when there is less load"
            )
        elif behind is not None and behind < last.last and await self._store_rests(behind):
            self._told.notes.append(
                f"the store stands at commit {behind}, the log ends at {last.last}: the next take-over copies the rest"
            )

    # --- commit by commit ---------------------------------------------------------------------------------------------

    def _begin_with(self, timed: Timed) -> None:
        """Note from where on the states are whole: at once, or where the log has been cut, after the first round of the
        rolling snapshot that it holds from its start."""
        record = timed.committed.record
        if self._whole_from is None and (record.seq == _FIRST_SEQ or record.roll.whole_after + 1 >= self._log_start):
            self._whole_from = timed.committed.last
            if record.seq != _FIRST_SEQ:
                self._told.notes.append(
                    f"the commit log begins at offset {self._log_start} (older commits have been deleted) and is whole "
                    f"from commit {self._whole_from} on: audited behind that"
                )

    async def _take(self, timed: Timed) -> None:
        record = timed.committed.record
        wanted = record.kind == "chunk" and self._whole_from is not None and self._wanted.holds(timed)
        if wanted and self._has_inputs(record):
            await self._make_again(timed)
        else:
            self._follow_record(record, timed.committed.last)
            if record.kind == "chunk" and self._told.first is None:
                self._from_start = False
            self._skipped += wanted
        if record.positions:
            self._positions = record.positions

    def _has_inputs(self, record: CommitRecord) -> bool:
        return all(
            self._positions.get(topic, (0, 0))[0] >= self._input_starts[topic]
            for topic, (end, _) in record.positions.items()
            if topic in self._positions and end > self._positions[topic][0]
        )

    def _follow_record(self, record: CommitRecord, at: int) -> None:
        """Take over what a commit says, as the store does."""
        self._keep(record, record.packed_states, at)
        self._local.reopen()

    def _keep(self, record: CommitRecord, states: Mapping[str, bytes], at: int, due: Sequence[Wake] = ()) -> None:
        """`states` are those of the record, opened."""
        failures = record.carried_failures + record.failures
        self._local.keep(
            states,
            record.moments,
            self._task_of(record),
            due,
            failures,
            record.failures_from,
            record.erased,
        )
        self._written.update(dict.fromkeys(states, at))

    def _task_of(self, record: CommitRecord) -> TaskState:
        packed = record.packed_task
        return self._local.task if packed is None else unpack_task(packed)

    async def _make_again(self, timed: Timed) -> None:
        told, at, record = self._told, timed.committed.last, timed.committed.record
        if told.first is None:
            told.first, self._begin = at, self._positions
        chunk = await self._inputs.take(self._positions, record.positions)
        folded, due = self._local.fold_once(chunk)
        before = told.differences
        if folded.taken != len(chunk):
            self._tell("records", "differs", at, f"{folded.taken} of {len(chunk)} records are folded at once")
        states, packed_task = record.packed_states, record.packed_task
        changed = {name: states[name] for name in record.changed}
        for name in sorted(folded.changed.keys() | changed.keys()):
            if folded.changed.get(name) != changed.get(name):
                self._tell("state", _flaw(name, folded.changed, changed), at, "", chunk, name)
        for name in sorted(folded.wakes.keys() | record.wakes.keys()):
            if folded.wakes.get(name, "none") != record.wakes.get(name, "none"):
                self._tell("wake-up", _flaw(name, folded.wakes, record.wakes), at, "", chunk, name)
        if folded.erased != record.erased:
            self._tell("state", "differs", at, "others are erased than the engine says")
        for name in record.carried:
            if states[name] != self._local.state(name):
                self._tell("state", "differs", at, "carried on otherwise than it was", (), name)
        if packed_task is not None and pack_task(folded.task) != packed_task:
            self._tell("task state", "differs", at, _unlike(folded.task, unpack_task(packed_task)))
        if (folded.failures, folded.failures_from) != (record.failures, record.failures_from):
            self._tell("task state", "differs", at, "the index of failures gets other entries")
        self._book.expect(at, folded.outputs, folded.dead_letters)
        self._keep(record, states, at, due)
        if told.differences > before:
            self._local.reopen()
        told.last, self._end, self._open_sweep_at_end = at, record.positions, self._local.task.sweep
        told.commits += 1
        told.records += len(chunk)
        told.outputs += len(folded.outputs)
        told.dead_letters += len(folded.dead_letters)
        first_ms = timed.at_ms if self._span_ms is None else self._span_ms[0]
        self._span_ms = first_ms, timed.at_ms

    def _tell(
        self,
        kind: Kind,
        flaw: Flaw,
        commit: int,
        what: str,
        chunk: Sequence[Ordered] = (),
        borrower: str | None = None,
    ) -> None:
        key = None if borrower is None else borrower.encode()
        # Woken by a tick, where no record of its own is in the chunk.
        own = [record for _, _, _, record in chunk if record.key == key]
        ticks = [record for _, topic, _, record in chunk if topic == CONTROL]
        cause = next(iter(own or ticks), None)
        self._told.add(
            Difference(
                self._told.task,
                kind,
                flaw,
                commit=commit,
                topic=None if cause is None else cause.topic,
                partition=None if cause is None else cause.partition,
                offset=None if cause is None else cause.offset,
                event_id=None if cause is None else event_id_of(cause.value),
                what=what,
                borrower_id=borrower,
            )
        )

    # --- what was published -------------------------------------------------------------------------------------------

    async def _compare_published(self) -> None:
        if self._span_ms is None:
            return
        told = self._told
        places = {TopicPartition(dlq, told.task) for dlq in DLQS}
        for topic in OUTPUTS:
            count = self._partitions[topic]
            by_borrower = TOPICS[topic].key == "borrower_id" and count == self._partitions[CONTROL]
            numbers = [told.task] if by_borrower else range(count)
            places |= {TopicPartition(topic, number) for number in numbers}
        self._of_outputs.assign(sorted(places))
        published = Published(self._of_outputs, places)
        bounds = Bounds(told.task, self._begin, self._end, self._open_sweep_at_end)
        first_ms, last_ms = self._span_ms
        from_ms = None if self._from_start else first_ms - CLOCKS_APART_MS
        starts = await published.starts()
        async for record in published.records(from_ms, last_ms + CLOCKS_APART_MS, DLQS):
            difference = self._book.found(record, bounds)
            if difference is not None:
                told.add(difference)
        for difference in self._book.missing(starts):
            told.add(difference)
        cut = sorted({topic for (topic, _), start in starts.items() if start and not topic.endswith(DLQ_SUFFIX)})
        if cut and self._from_start:
            told.notes.append(f"what the retention of {', '.join(cut)} has deleted was not compared")

    # --- the store ----------------------------------------------------------------------------------------------------

    async def _store_at(self, end: int) -> int | None:
        """Where the store stands. Raises AuditError where that is behind the end of the log."""
        applied = (await self._store.meta()).applied
        if applied is not None and applied >= end:
            # A worker may have committed since the log's end was asked for.
            _, end = await self._commits.reach()
            if applied >= end:
                raise AuditError(
                    f"task {self._told.task}: the store is at commit {applied}, beyond the end of the commit log: the "
                    "log has lost its end, or it is another one"
                )
        return applied

    async def _store_rests(self, applied: int) -> bool:
        return (await self._store.meta()).applied == applied

    async def _compare_store(self, follow: Follow) -> bool:
        last = self._commits.last
        assert last is not None
        comparison = StoreAudit(self._store, self._local, self._written, follow, self._told)
        done = await comparison.run(last.record.incarnation)
        if not done and follow == self._stay:
            self._told.stored = None
        return done

    async def _stay(self, applied: int) -> bool:
        last = self._commits.last
        return last is not None and last.last == applied

    async def _follow(self, applied: int) -> bool:
        """Read the log on to the commit at `applied`."""
        async for timed in self._commits.until(applied + 1):
            self._follow_record(timed.committed.record, timed.committed.last)
        last = self._commits.last
        return last is not None and last.last == applied


def _flaw(name: str, ours: Mapping[str, object], theirs: Mapping[str, object]) -> Flaw:
    """What is wrong with `theirs`."""
    if name not in theirs:
        return "missing"
    return "unexpected" if name not in ours else "differs"


def _unlike(ours: TaskState, theirs: TaskState) -> str:
    """The names of the fields that differ."""
    one, other = structs.asdict(ours), structs.asdict(theirs)
    return ", ".join(name for name in one if one[name] != other[name]) + " differ"
