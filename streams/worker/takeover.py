"""Taking a task over: fence the predecessor, put our claim into its commit log, bring the store up to it.

    InitProducerId ── end of the commit log ── CLAIM ── fence the store ── copy what it lacks ── check positions

After the first step nobody else can write the task's commit log, so that its end is the end. Whoever claims later
makes our next transaction fail, whoever claimed earlier is refused by the store.
"""

import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import COMMITS
from streams.config import Settings, kafka_options
from streams.store.contract import Meta, Store
from streams.worker.commitlog import ORIGIN, CommitRecord, Committed, Position, Reader, encode
from streams.worker.producer import Message, Transactions

_FIRST_SEQ = 1
_TAIL_OFFSETS = 16
_POLL_MS = 200
_FETCH_BYTES = 256 * 1024
"""Of a commit log in one answer. All tasks of a worker may copy theirs at a time, each holds an answer three times over
(as received, as records, and the next one): larger ones are read no faster."""
_PROGRESS_S = 5.0

log = structlog.get_logger(__name__)


class TakeoverError(Exception):
    """A task that cannot be taken over without losing something: one line, what and how to mend it."""


class Owned(NamedTuple):
    """A task as taken over: the store stands at our claim, whose offset is the fence.

    Reading goes on at `positions`; `task` is the packed task state, None before the first chunk.
    """

    producer: Transactions
    claim: Committed
    positions: Mapping[str, Position]
    task: bytes | None


class LogReader(Protocol):
    """A consumer without a group that reads what is committed: what is needed of `AIOKafkaConsumer`."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assign(self, partitions: list[TopicPartition]) -> None: ...

    def seek(self, partition: TopicPartition, offset: int) -> None: ...

    async def position(self, partition: TopicPartition) -> int: ...

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int) -> Mapping[TopicPartition, Sequence[Any]]: ...

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]: ...

    async def end_offsets(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]: ...


class Broker(Protocol):
    """Where a take-over gets its connections from."""

    async def transactions(self, transactional_id: str) -> Transactions:
        """Begun: see `Transactions.begin`."""

    def reader(self, client_id: str) -> LogReader:
        """Not started yet."""


class KafkaBroker:
    """`Broker` over aiokafka; `check_crcs`: whether to check the checksums of what the broker sends."""

    def __init__(self, settings: Settings, *, check_crcs: bool = True) -> None:
        self._settings = settings
        self._check_crcs = check_crcs

    async def transactions(self, transactional_id: str) -> Transactions:
        return await Transactions.begin(self._settings, transactional_id)

    def reader(self, client_id: str) -> LogReader:
        reader: LogReader = AIOKafkaConsumer(
            **kafka_options(self._settings),
            client_id=client_id,
            isolation_level="read_committed",
            auto_offset_reset="none",
            enable_auto_commit=False,
            check_crcs=self._check_crcs,
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
        return reader


class CommitLog:
    """One task's commit log, read with a consumer of its own (no group)."""

    def __init__(self, consumer: LogReader, partition: int) -> None:
        self._consumer = consumer
        self._tp = TopicPartition(COMMITS, partition)
        self._consumer.assign([self._tp])

    @property
    def partition(self) -> int:
        return int(self._tp.partition)

    async def reach(self) -> tuple[int, int]:
        """First offset kept and last stable offset."""
        start = await self._consumer.beginning_offsets([self._tp])
        end = await self._consumer.end_offsets([self._tp])
        return int(start[self._tp]), int(end[self._tp])

    async def last(self) -> Committed | None:
        """The newest record; None in an empty log."""
        start, end = await self.reach()
        back = _TAIL_OFFSETS
        while start < end:
            first = max(start, end - back)
            last = None
            async for committed in self.records(first, end):
                last = committed
            if last is not None or first == start:
                return last
            back *= 8
        return None

    async def records(self, first: int, end: int) -> AsyncIterator[Committed]:
        """Records whose last part stands in [first, end), the first of them as far as it starts there too."""
        reader = Reader(self.partition)
        self._consumer.seek(self._tp, first)
        while await self._consumer.position(self._tp) < end:
            brought = await self._consumer.getmany(self._tp, timeout_ms=_POLL_MS)
            for message in brought.get(self._tp, ()):
                if message.offset >= end:
                    return
                committed = reader.feed(message.offset, message.value)
                if committed is not None:
                    yield committed


class Takeover:
    """How tasks are taken over.

    Args:
        broker: where the logs are.
        app_id: names the transactional ids.
        topics: every input topic.
        progressed: called whenever the take-over of a task has got on, so that nobody takes a long one for a stall.
    """

    def __init__(self, broker: Broker, app_id: str, topics: Iterable[str], progressed: Callable[[int], None]) -> None:
        self._broker = broker
        self._app_id = app_id
        self._topics = tuple(topics)
        self._progressed = progressed

    async def take(self, store: Store, *, anew: bool = False) -> Owned:
        """Take over the task of `store`; `anew` copies all of the commit log, whatever the store holds.

        Raises:
            TransactionError, Unavailable: broker or store do not answer; try again.
            Fenced, Foreign, TakeoverError, CommitLogError: the worker must stop.
        """
        partition = store.partition
        producer = await self._broker.transactions(f"{self._app_id}-{partition}")
        consumer = self._broker.reader(f"{self._app_id}-{partition}-takeover")
        try:
            await consumer.start()
            commits = CommitLog(consumer, partition)
            claim = await self._claim(commits, producer)
            await self._copy(commits, store, claim, anew)
            positions = await self._positions(consumer, partition, claim.record.positions)
            task = await store.task_blob(claim.last, claim.last)
        except BaseException:
            await producer.close()
            raise
        finally:
            await consumer.stop()
        return Owned(producer, claim, positions, task)

    async def _claim(self, commits: CommitLog, producer: Transactions) -> Committed:
        last = await commits.last()
        if last is None:
            start, _ = await commits.reach()
            if start > 0:
                raise TakeoverError(
                    f"task {commits.partition}: its commit log is empty but began before offset {start}: records were "
                    "deleted; restore the topic, or make it anew and empty the store"
                )
            record, previous = CommitRecord("claim", _FIRST_SEQ, uuid.uuid4().hex), ORIGIN
        else:
            before = last.record
            record = CommitRecord(
                "claim",
                before.seq + 1,
                before.incarnation,
                positions=before.positions,
                refused=before.refused,
                roll=before.roll,
            )
            previous = last.digest
        encoded = encode(record, previous)
        parts = [Message(COMMITS, commits.partition, None, value) for value in encoded.values]
        offsets = await producer.commit((), parts)
        self._progressed(commits.partition)
        return Committed(record, offsets[0], offsets[-1], encoded.digest)

    async def _copy(self, commits: CommitLog, store: Store, claim: Committed, anew: bool) -> None:
        """Bring the store to our claim under its fence."""
        fence = claim.last
        meta = await store.claim(fence, claim.record.incarnation)
        start, _ = await commits.reach()
        applied, first = await self._from_where(store, meta, fence, start, anew)
        expected = _FIRST_SEQ if applied is None else None
        from_start = applied is None
        copied, told = 0, time.monotonic()
        async for committed in commits.records(first, fence + 1):
            if expected is not None and committed.record.seq != expected and start > claim.record.roll.whole_after + 1:
                raise TakeoverError(
                    f"task {commits.partition}: the store has to be copied from the start, but the commit log begins "
                    f"at commit {committed.record.seq}: restore the older part of the topic, or a backup of the store"
                )
            expected = None
            if applied is not None and committed.last <= applied:
                continue
            await store.apply(fence, applied, committed.change)
            applied = committed.last
            copied += 1
            self._progressed(commits.partition)
            if time.monotonic() - told > _PROGRESS_S:
                told = time.monotonic()
                log.info("copying the commit log", task=commits.partition, offset=applied, until=fence, records=copied)
        if applied != fence:
            raise TakeoverError(
                f"task {commits.partition}: its commit log ends before our own claim at offset {fence}: another "
                "program deletes records there; stop it"
            )
        if from_start:
            await self._check_whole(store, claim)

    async def _check_whole(self, store: Store, claim: Committed) -> None:
        """Nobody who was committed may be missing in a store copied from the start of the log."""
        copied = (await store.roll(claim.last, claim.last, None, 0)).total
        if copied != claim.record.roll.borrowers:
            raise TakeoverError(
                f"task {store.partition}: the commit log gives {copied} borrowers where {claim.record.roll.borrowers} "
                "were committed: it has lost records; restore it, or a backup of the store"
            )

    async def _from_where(self, store: Store, meta: Meta, fence: int, start: int, anew: bool) -> tuple[int | None, int]:
        """Where the store stands and where to read on; None, and the store is empty, where all has to be copied."""
        if meta.applied is not None and meta.applied > fence:
            raise TakeoverError(
                f"task {store.partition}: the store is at commit {meta.applied}, beyond our claim at {fence}: the "
                "commit log has lost its end; restore it, or begin anew with both of them empty"
            )
        if not anew and meta.applied is not None and meta.applied + 1 >= start:
            return meta.applied, max(start, meta.read_from or 0)
        if fence > start:
            log.warning("copying the whole commit log", task=store.partition, store_at=meta.applied, log_from=start)
        await store.wipe(fence)
        return None, start

    async def _positions(
        self, consumer: LogReader, partition: int, committed: Mapping[str, Position]
    ) -> dict[str, Position]:
        """Where reading goes on in every input; a topic not read before is read from its start."""
        tps = {topic: TopicPartition(topic, partition) for topic in self._topics}
        consumer.assign(list(tps.values()))
        starts = await consumer.beginning_offsets(list(tps.values()))
        ends = await consumer.end_offsets(list(tps.values()))
        positions: dict[str, Position] = {}
        for topic, tp in tps.items():
            position, order_ms = committed.get(topic, (starts[tp], 0))
            if position < starts[tp]:
                raise TakeoverError(
                    f"task {partition}: {topic} was read up to offset {position} but now begins at {starts[tp]}: "
                    "records were deleted unread; restore them, or begin anew with commit log and store empty"
                )
            if position > ends[tp]:
                raise TakeoverError(
                    f"task {partition}: {topic} was read up to offset {position} but ends at {ends[tp]}: the topic "
                    "has lost records or is another one; restore it, or begin anew with commit log and store empty"
                )
            positions[topic] = (position, order_ms)
        return positions
