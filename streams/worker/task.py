"""One task: partition p of every input topic, one owner, one order, one clock, one transaction per chunk.

    fetched ── merge ── load (touched borrowers) ── fold ── commit (one Kafka transaction) ── apply (to the store)

The store is only a copy of what has been committed: nothing is computed from a state that is not exactly at our last
commit, and nothing is folded before the last commit has been copied. Whatever leaves a transaction's outcome open
ends in a take-over, which reads the outcome from the commit log.

While a sweep of wake-ups is open, its passes and short chunks of what comes in take turns, a transaction each. The
commits tell which was which: a pass of the sweep takes no records.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Literal, NamedTuple, Protocol, TypeVar

import structlog
from aiokafka.errors import IllegalStateError, KafkaError
from faust.types import TP

from schemas.topics import COMMITS
from streams.engine.cases import Cases
from streams.engine.chunk import SWEEP_LIMIT, Folded, Span, Sweep, TaskState, Wake, goes_beside
from streams.engine.order import Merge, Ordered
from streams.engine.state import pack_task, unpack_task
from streams.store.contract import Corrupted, Stale, Store, Unavailable
from streams.store.seal import seal, seal_all
from streams.worker import collector
from streams.worker.commitlog import CommitRecord, Committed, Position, encode
from streams.worker.deadletter import dead_letter_message
from streams.worker.observer import Observer, Stage
from streams.worker.pace import Pace
from streams.worker.producer import Ambiguous, Message, Refused
from streams.worker.refusals import PoisonLimit, counted
from streams.worker.roll import carried_on
from streams.worker.takeover import Owned
from streams.worker.transport import Fetched

_BUFFER_BYTES = 8 * 1024 * 1024
_REFUSALS_MOST = 5
_PAUSE_LEAST_S = 0.1
_PAUSE_MOST_S = 5.0

_sessions = itertools.count(1)

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Needed(Protocol):
    """What a fold needs to be given: states of `borrowers`, the wake-ups due until `due_until_ms` (None: none), and the
    index of failures within `failures` (None: nothing of it)."""

    @property
    def borrowers(self) -> Sequence[str]: ...
    @property
    def due_until_ms(self) -> int | None: ...
    @property
    def failures(self) -> Span | None: ...


class FoldEngine(Protocol):
    """What a task needs of `streams.engine.fold.Engine`."""

    def needs(self, task: TaskState, chunk: Sequence[Ordered], cases: Cases) -> Needed: ...

    def fold(
        self,
        task: TaskState,
        chunk: Sequence[Ordered],
        blobs: Mapping[str, bytes | None],
        due: Sequence[Wake],
        cases: Cases,
        failures: Sequence[str],
    ) -> Folded: ...


class Inlet(Protocol):
    """What a task needs of the consumer (`streams.worker.transport.ChunkConsumer`)."""

    async def seek(self, positions: Mapping[TP, int], session: int) -> None: ...

    def open(self, tps: Iterable[TP]) -> None: ...

    def shut(self, tps: Iterable[TP]) -> None: ...

    async def is_member(self) -> bool: ...


class Refusing(Exception):
    """The broker refuses what this worker writes, again and again."""


class HandoverError(Exception):
    """Something was lost between the fetcher and the task."""


class Limits(NamedTuple):
    """`records` in one chunk at most, `fill_s` for how long one may wait to fill while a topic is behind, `cases` for
    how many borrowers the opened state is kept between chunks, `poison` for how much may be refused,
    `carry_bytes` for how much of the rolling snapshot one commit may carry."""

    records: int
    fill_s: float
    cases: int
    poison: PoisonLimit
    carry_bytes: int = 65_536


class _Source:
    """One input topic of the task, and how far it has been handed over."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.end: int | None = None
        self.asked_end = 0
        self.shut = False

    @property
    def read_to_end(self) -> bool:
        return self.end is not None and self.position >= self.end

    @property
    def unread(self) -> int:
        """How many offsets there are known to be that have not been handed over."""
        return max(0, max(self.end or 0, self.asked_end) - self.position)


class Task:
    """The chunk cycle of one partition, from its take-over until it is stopped.

    Args:
        topics: every input topic.
        take: takes the task over; called again after each end that leaves the outcome open. Its argument: whether
            to copy all of the commit log anew.
        failed: told of the exception that the worker must stop for.
        monotonic_s: a clock that never goes back.
    """

    def __init__(
        self,
        store: Store,
        engine: FoldEngine,
        inlet: Inlet,
        observer: Observer,
        limits: Limits,
        topics: Sequence[str],
        take: Callable[[bool], Awaitable[Owned]],
        failed: Callable[[BaseException], None],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.partition = store.partition
        self._monotonic_s = monotonic_s
        self.progress_s = monotonic_s()
        self.ready = False
        self._store = store
        self._engine = engine
        self._inlet = inlet
        self._observer = observer
        self._limits = limits
        self._topics = tuple(topics)
        self._take = take
        self._failed = failed
        self._pace = Pace(limits.records)
        self._changed = asyncio.Event()
        self._stopping = False
        self._anew = False
        self._refusals = 0
        self._pause_s = _PAUSE_LEAST_S
        self._owned: Owned | None = None
        self._session = 0
        self._sources: dict[str, _Source] = {}
        self._positions: dict[str, Position] = {}
        self._front: list[Ordered] = []
        self._sweeps_turn = False
        self._running: asyncio.Task[None] | None = None

    # --- from outside ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name=f"task-{self.partition}")

    async def stop(self, grace_s: float) -> None:
        """End after the chunk under way, or without it where it takes longer than `grace_s`."""
        self._stopping = True
        self._changed.set()
        running = self._running
        if running is None:
            return
        await asyncio.wait({running}, timeout=grace_s)
        if not running.done():
            running.cancel()
            await asyncio.wait({running})

    def deliver(self, fetched: Fetched) -> None:
        """Take what one fetch brought."""
        if fetched.session != self._session:
            return
        source = self._sources[fetched.topic]
        if fetched.start != source.position:
            gap = f"{fetched.topic} went on at offset {fetched.start} instead of {source.position}"
            self._fail(HandoverError(f"task {self.partition}: {gap}"))
            return
        source.position = fetched.position
        source.end = fetched.end
        if fetched.records:
            self._merge.push(fetched.topic, fetched.records)
            self._throttle(fetched.topic, source)
        self._changed.set()

    def told_end(self, topic: str, end: int) -> None:
        """Note where a topic ends, as asked past the fetcher, so that work is known of that never came."""
        source = self._sources.get(topic)
        if source is not None:
            source.asked_end = end

    def stalled_s(self, now_s: float) -> float:
        """For how long there has been work without progress; asked several times a minute, so that idling does not
        count."""
        if not self._behind:
            self.progress_s = now_s
        return now_s - self.progress_s

    @property
    def _behind(self) -> bool:
        """Whether there is anything to do that is known of: a take-over, records, or a topic not read to its end."""
        if not self.ready or self._front or self._state.sweep is not None:
            return True
        return any(self._merge.buffered(topic) or source.unread for topic, source in self._sources.items())

    @property
    def positions(self) -> dict[TP, int]:
        """The next offset of each topic after the last commit."""
        return {TP(topic, self.partition): position for topic, (position, _) in self._positions.items()}

    @property
    def spare_before(self) -> int:
        """The offset before which the commit log is not needed any more; 0 where that is not known."""
        return self._committed.record.roll.whole_after + 1 if self.ready else 0

    # --- life --------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while not self._stopping:
                try:
                    await self._own()
                    while not self._stopping:
                        await self._cycle(await self._next_chunk())
                except (Ambiguous, Refused, Stale, Corrupted, Unavailable, KafkaError, IllegalStateError) as error:
                    await self._give_up_what_is_open(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._fail(error)
        finally:
            self.ready = False
            await self._release()

    async def _own(self) -> None:
        """Take the task over and start reading."""
        began = self._monotonic_s()
        if not await self._inlet.is_member():
            raise IllegalStateError(f"task {self.partition}: the group does not count this worker in")
        self._owned = owned = await self._take(self._anew)
        self._anew = False
        self._committed = owned.claim
        self._state = TaskState() if owned.task is None else unpack_task(owned.task)
        # Nothing that a failed cycle has opened is ever used again.
        self._cases = Cases(self._limits.cases)
        self._positions = dict(owned.positions)
        self._front = []
        self._merge = Merge(self._topics, {topic: order_ms for topic, (_, order_ms) in owned.positions.items()})
        self._sources = {topic: _Source(position) for topic, (position, _) in owned.positions.items()}
        tps = self.positions
        # Known before the seek: what the fetcher has to tell of the new session may be here before its answer.
        self._session = next(_sessions)
        await self._inlet.seek(tps, self._session)
        self._inlet.open(tps)
        self.ready = True
        self.progress_s = self._monotonic_s()
        self._observer.taken_over(self.partition, self.progress_s - began, self._state)
        log.info(
            "task taken over", task=self.partition, fence=owned.claim.last, seconds=round(self.progress_s - began, 3)
        )

    async def _give_up_what_is_open(self, error: Exception) -> None:
        """Throw away what the failed cycle has left, wait a little, and let the next round take over."""
        self.ready = False
        await self._release()
        if self._stopping:
            return
        self._refusals = self._refusals + 1 if isinstance(error, Refused) else self._refusals
        if self._refusals >= _REFUSALS_MOST:
            raise Refusing(f"refused {self._refusals} times in a row: {error}") from error
        if isinstance(error, Corrupted):
            self._anew = True
        self._observer.retried(self.partition, _reason(error))
        log.warning("task is taken over again", task=self.partition, because=str(error) or type(error).__name__)
        await self._rest()

    async def _release(self) -> None:
        self._session = 0
        self._inlet.shut({TP(topic, self.partition) for topic in self._topics})
        owned, self._owned = self._owned, None
        if owned is not None:
            self._observer.released(self.partition)
            await owned.producer.close()

    async def _rest(self) -> None:
        """A pause that doubles until something succeeds; a stop ends it."""
        self._changed.clear()
        if not self._stopping:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._pause_s)
        self._pause_s = min(self._pause_s * 2, _PAUSE_MOST_S)

    def _fail(self, error: BaseException) -> None:
        self._stopping = True
        self._failed(error)

    # --- what is next ------------------------------------------------------------------------------------------------

    async def _next_chunk(self) -> list[Ordered]:
        """The records to fold next; none only where an open sweep goes on or the task stops."""
        filling_since: float | None = None
        while not self._stopping:
            if self._state.sweep is not None:
                return self._beside(self._state.sweep)
            self._changed.clear()
            waiting = sum(self._merge.buffered(topic) for topic in self._topics)
            timeout = None
            if waiting and not self._front:
                if filling_since is None:
                    filling_since = self._monotonic_s()
                timeout = self._worth_waiting(waiting, filling_since)
                if timeout is None:
                    self._take_in(self._most_records())
            if self._front:
                return self._front
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout)
        return []

    def _beside(self, sweep: Sweep) -> list[Ordered]:
        """What is folded next of what is there while a sweep is open; none where it is the sweep's turn, or there is
        nothing that may go beside it."""
        if self._sweeps_turn or not sweep.of_wakes:
            return []
        # However much waits, it is not to hold up the sweep for longer than that holds it up.
        most = self._pace.records(0)
        if not self._front:
            self._take_in(most)
        return self._front[:most] if goes_beside(sweep, self._front) else []

    def _worth_waiting(self, waiting: int, since: float) -> float | None:
        """For how long a chunk may still fill; None: take it now."""
        sources = self._sources.values()
        if any(source.shut for source in sources) or all(source.read_to_end for source in sources):
            return None
        if waiting >= self._most_records():
            return None
        left = since + self._limits.fill_s - self._monotonic_s()
        return left if left > 0 else None

    def _take_in(self, most: int) -> None:
        """Take what comes next out of the merge; it stays in front until it is committed."""
        with self._timed("merge"):
            ended = [topic for topic, source in self._sources.items() if source.read_to_end]
            self._front = self._merge.take(ended, most)
            for topic, source in self._sources.items():
                self._throttle(topic, source)

    def _most_records(self) -> int:
        waiting = sum(self._merge.buffered(topic) + source.unread for topic, source in self._sources.items())
        return self._pace.records(waiting)

    def _throttle(self, topic: str, source: _Source) -> None:
        """Shut a topic whose buffer is full, open it at half. The topic that a merge waits for is empty, hence open."""
        records, size = self._merge.buffered(topic), self._merge.buffered_bytes(topic)
        full = records >= self._limits.records or size >= _BUFFER_BYTES
        low = records <= self._limits.records // 2 and size <= _BUFFER_BYTES // 2
        if full and not source.shut:
            source.shut = True
            self._inlet.shut({TP(topic, self.partition)})
        elif low and source.shut:
            source.shut = False
            self._inlet.open({TP(topic, self.partition)})

    # --- the cycle ---------------------------------------------------------------------------------------------------

    async def _cycle(self, chunk: list[Ordered]) -> None:
        """Fold and commit as much of `chunk`, the beginning of what is in front, as goes into one transaction."""
        if not chunk and self._state.sweep is None:
            return
        assert self._owned is not None
        fence = self._owned.claim.last
        needs = self._engine.needs(self._state, chunk, self._cases)
        with self._timed("load"):
            loaded = await self._from_store(
                lambda: self._store.load(
                    fence,
                    self._committed.last,
                    needs.borrowers,
                    needs.due_until_ms,
                    SWEEP_LIMIT + 1,
                    needs.failures,
                )
            )
            at, roll = self._committed.last, self._committed.record.roll
            rolled = await self._from_store(
                lambda: self._store.roll(fence, at, roll.borrowers_after, self._limits.carry_bytes, roll.failures_after)
            )
        with self._timed("fold"), collector.folding():
            began = self._monotonic_s()
            folded = self._engine.fold(self._state, chunk, loaded.blobs, loaded.due, self._cases, loaded.failures)
            self._pace.note(folded.taken, self._monotonic_s() - began)
        refused = counted(self._committed.record.refused, chunk, folded, self._limits.poison, self.partition)
        front = self._front[folded.taken :]
        positions = self._positions_after(chunk[: folded.taken], front)
        carried = carried_on(self.partition, self._committed, rolled, folded, loaded.blobs)
        applied = self._committed.last
        with self._timed("commit"):
            record = CommitRecord(
                "chunk",
                self._committed.record.seq + 1,
                self._committed.record.incarnation,
                positions=positions,
                changed=seal_all(folded.changed),
                wakes=folded.wakes,
                task=seal("", pack_task(folded.task)),
                refused=dict(refused),
                failures=folded.failures,
                failures_from=folded.failures_from,
                carried=carried.states,
                carried_failures=carried.failures,
                erased=folded.erased,
                roll=carried.roll,
            )
            await self._commit(record, folded)
        with self._timed("apply"):
            change = self._committed.change
            await self._from_store(lambda: self._store.apply(fence, applied, change))
        self._front = front
        self._sweeps_turn = self._state.sweep is not None and folded.taken > 0
        self._state = folded.task
        self._positions = positions
        self._done(folded)

    async def _commit(self, record: CommitRecord, folded: Folded) -> None:
        assert self._owned is not None
        encoded = encode(record, self._committed.digest)
        offsets = await self._owned.producer.commit(
            _messages(folded), [Message(COMMITS, self.partition, None, value) for value in encoded.values]
        )
        self._committed = Committed(record, offsets[0], offsets[-1], encoded.digest)

    async def _from_store(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call the store until it answers; there is no next chunk before it has."""
        while True:
            try:
                result = await call()
            except Unavailable as error:
                if self._stopping:
                    raise
                self._observer.retried(self.partition, "store")
                log.warning("store does not answer", task=self.partition, because=str(error))
                await self._rest()
            else:
                return result

    def _positions_after(self, taken: Sequence[Ordered], front: Sequence[Ordered]) -> dict[str, Position]:
        positions = dict(self._positions)
        for order_ms, topic, offset, _ in taken:
            positions[topic] = (offset + 1, order_ms)
        unread = {topic for _, topic, _, _ in front}
        for topic, source in self._sources.items():
            # Markers and aborted records at the end are behind us too.
            if topic not in unread and not self._merge.buffered(topic):
                positions[topic] = (source.position, positions[topic][1])
        return positions

    def _done(self, folded: Folded) -> None:
        self.progress_s = self._monotonic_s()
        self._refusals = 0
        self._pause_s = _PAUSE_LEAST_S
        for failure in folded.quarantined:
            log.error(
                "a rule failed twice: its borrower is in quarantine",
                task=self.partition,
                topic=failure.topic,
                offset=failure.offset,
                because=failure.what,
                stack=failure.stack,
            )
        self._observer.chunk_done(self.partition, folded.taken, folded)
        newest = max(order_ms for _, order_ms in self._positions.values())
        self._observer.watermark(self.partition, folded.task.clock_ms, newest)

    @contextmanager
    def _timed(self, stage: Stage) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._observer.stage_done(stage, time.perf_counter() - began)


def _reason(error: Exception) -> Literal["store", "transaction", "stale"]:
    if isinstance(error, Stale | Corrupted):
        return "stale"
    return "store" if isinstance(error, Unavailable) else "transaction"


def _messages(folded: Folded) -> Iterator[Message]:
    for output in folded.outputs:
        yield Message(output.topic, None, output.key, output.value)
    for letter in folded.dead_letters:
        yield dead_letter_message(letter)
