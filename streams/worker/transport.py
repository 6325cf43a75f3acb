"""The chunk transport: how records come from Kafka to a task. Every private part of Faust that is replaced is
replaced here.

Faust hands over one message per record, commits offsets by itself and seeks to what it has committed. Here

- one Faust message carries all that one fetch brought for a topic-partition (`Fetched`), with how far it reaches and
  where the log ends (last stable offset) as of that fetch: without it a task cannot know that a topic has nothing
  more to say;
- reading starts where a task says (`Inlet.seek`), and only there: nothing is handed over before, and each seek begins
  a
  new session, so that records fetched for an earlier one are recognised;
- group offsets are written for lag tools only.

Faust's consumer lives in a thread with a loop of its own (it keeps the group membership alive while the engine
computes); methods whose name ends in `_in_thread` run there.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError, NoOffsetForPartitionError
from aiokafka.structs import OffsetAndMetadata
from faust.app.base import BootStrategy
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.config import Settings, kafka_options
from streams.engine.order import Record
from streams.worker.assignor import TaskAssignor

_UNSOUGHT_S = 0.02
_POLL_S = 0.2
_FETCH_WAIT_MS = 250
_FETCH_RECORDS = 8_000
_FETCH_PARTITION_BYTES = 1024 * 1024
_FETCH_BYTES = 16 * 1024 * 1024
_QUEUED_MESSAGES = 16
_MAX_POLL_INTERVAL_S = 120.0
_OFFSETS_EVERY_S = 5.0

T = TypeVar("T")


class OutOfGroup(Exception):
    """Nothing keeps this worker in the group any more: no task would ever come to it."""


class Fetched(NamedTuple):
    """What one fetch brought for a topic-partition.

    It covers the offsets from `start` up to `position` (exclusive), markers and aborted records included; `records`
    are the committed ones among them. `end` is the last stable offset as of the newest fetch response, None while
    there was none.
    """

    topic: str
    partition: int
    session: int
    start: int
    position: int
    end: int | None
    records: Sequence[Record]


class _Stand(NamedTuple):
    session: int
    position: int
    end: int | None


class ChunkThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, fetching whole chunks for the partitions that have been sought."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._stands: dict[TopicPartition, _Stand] = {}

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        settings: Settings = self.app.settings
        session_ms = int(settings.session_timeout_s * 1000)
        self._assignor = TaskAssignor()
        return AIOKafkaConsumer(
            **kafka_options(settings),
            client_id=settings.app_id,
            group_id=settings.app_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            # Positions are ours. Where one is gone the worker stops and says so; it never jumps.
            auto_offset_reset="none",
            isolation_level="read_committed",
            check_crcs=self.app.check_crcs,
            max_poll_records=_FETCH_RECORDS,
            max_partition_fetch_bytes=_FETCH_PARTITION_BYTES,
            fetch_max_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(300, session_ms // 10),
            rebalance_timeout_ms=max(session_ms, 10_000),
            max_poll_interval_ms=int(_MAX_POLL_INTERVAL_S * 1000),
            request_timeout_ms=40_000,
        )

    def forget_in_thread(self) -> None:
        """Hand over nothing more until the next seek: the partitions are no longer ours."""
        self._stands.clear()

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> list[Fetched]:
        if not self.consumer.flow_active:
            return []
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            # Of a partition that is ours anew and not sought yet aiokafka looks for a position of its own, and answers
            # with an error where the group has none.
            sought = active_partitions & self._stands.keys()
            # With no partition asked for aiokafka would return those of all; but the poll keeps us in the group.
            if not sought:
                if active_partitions:
                    await asyncio.sleep(_UNSOUGHT_S)
                return []
            try:
                brought = await fetcher.fetched_records(sought, timeout=timeout, max_records=max_records)
            except NoOffsetForPartitionError:
                # The group has been shared out anew while this waited, and what was sought is not any more.
                return []
        return self._hand_over(consumer, brought)

    def _hand_over(self, consumer: AIOKafkaConsumer, brought: Mapping[TopicPartition, list[Any]]) -> list[Fetched]:
        """Nothing else runs in this loop since `brought` was drained: positions and ends belong to it."""
        subscription = consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return []
        fetched = []
        for tp, stand in self._stands.items():
            state = assignment.state_value(tp)
            if state is None or not state.has_valid_position:
                continue
            now = _Stand(stand.session, state.position, _end_of(state))
            records = brought.get(tp, ())
            if now == stand and not records:
                continue
            self._stands[tp] = now
            fetched.append(Fetched(tp.topic, tp.partition, now.session, stand.position, now.position, now.end, records))
        return fetched

    async def seek_in_thread(self, positions: Mapping[TP, int], session: int) -> None:
        consumer = self._ensure_consumer()
        for tp, offset in positions.items():
            consumer.seek(TopicPartition(*tp), offset)
            self._stands[TopicPartition(*tp)] = _Stand(session, offset, None)

    async def member_in_thread(self) -> bool:
        coordinator = self._ensure_consumer()._coordinator
        return bool(coordinator.generation > 0 and await coordinator._do_heartbeat())

    @property
    def group_error(self) -> BaseException | None:
        """What has ended the routine of aiokafka that joins the group and stays in it, or holds it up for good; None
        while it runs.

        It ends at an answer it does not expect, such as a broker that names no node while it comes up. At an error of
        Kafka's, such as a group we may not join, it waits until somebody asks by aiokafka's own ways of fetching, which
        are not ours.
        """
        coordinator = getattr(self._consumer, "_coordinator", None)
        if coordinator is None:
            return None
        routine = coordinator._coordination_task
        ended: BaseException | None = None if not routine.done() or routine.cancelled() else routine.exception()
        pending: BaseException | None = coordinator._pending_exception
        return ended or pending

    async def ends_in_thread(self, tps: Iterable[TP]) -> dict[TP, int]:
        ends = await self._ensure_consumer().end_offsets([TopicPartition(*tp) for tp in tps])
        return {TP(*tp): offset for tp, offset in ends.items()}

    async def commit_in_thread(self, positions: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        ours = consumer.assignment()
        offsets = {
            TopicPartition(*tp): OffsetAndMetadata(offset, "")
            for tp, offset in positions.items()
            if TopicPartition(*tp) in ours
        }
        if offsets:
            # Nothing rests on these offsets, and the group may have moved on.
            with suppress(KafkaError, IllegalStateError):
                await consumer.commit(offsets)


def _end_of(state: Any) -> int | None:
    """The last stable offset of a fetch state; brokers that know none (or report -1) have their high watermark."""
    if state.lso is not None and state.lso >= 0:
        return int(state.lso)
    return None if state.highwater is None else int(state.highwater)


class _Listener(driver.ConsumerRebalanceListener):
    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> Any:
        self._thread.forget_in_thread()
        return super().on_partitions_revoked(revoked)


class ChunkConsumer(driver.Consumer):
    """Faust's consumer, yielding one message per fetched chunk, and the tasks' inlet (`Inlet`)."""

    RebalanceListener = _Listener

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._open: set[TP] = set()
        self._opened = asyncio.Event()
        # Faust drops messages whose offset does not rise; ours are numbered as they are handed over.
        self._numbers = itertools.count()
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> ChunkThread:
        return ChunkThread(self, loop=self.loop, beacon=self.beacon)

    # --- what tasks ask for ------------------------------------------------------------------------------------------

    async def seek(self, positions: Mapping[TP, int], session: int) -> None:
        """Read on from `positions`; what is fetched from now on belongs to `session`.

        Raises:
            IllegalStateError: a partition is not ours any more.
        """
        await self._in_thread(self._thread.seek_in_thread(positions, session))

    def open(self, tps: Iterable[TP]) -> None:
        """Hand over what is fetched for these."""
        self._open.update(tps)
        self._opened.set()

    def shut(self, tps: Iterable[TP]) -> None:
        """Hand over nothing more for these, but what the poll under way brings, until they are opened again."""
        self._open.difference_update(tps)

    async def is_member(self) -> bool:
        """Whether the group still counts us in, asked now."""
        return await self._in_thread(self._thread.member_in_thread())

    def check_group(self) -> None:
        """Raises:
        OutOfGroup: what keeps us in the group has ended.
        """
        error = self._thread.group_error
        if error is not None:
            raise OutOfGroup(f"the membership of the group has ended: {type(error.__cause__ or error).__name__}")

    async def ends(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Last stable offsets, asked now, whatever the fetcher does."""
        return await self._in_thread(self._thread.ends_in_thread(list(tps)))

    async def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._thread.thread_loop))

    # --- what Faust calls --------------------------------------------------------------------------------------------

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        if self.should_stop:
            return
        generation = self.app.consumer_generation_id
        asked = set(self._open)
        consumer = self._thread._ensure_consumer()
        fetched = await self._in_thread(
            self._thread._fetch_records(consumer, asked, min(timeout, _POLL_S), _FETCH_RECORDS)
        )
        if not asked:
            self._opened.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._opened.wait(), _POLL_S)
        for chunk in fetched:
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            tp = TP(chunk.topic, chunk.partition)
            yield tp, self._message(tp, chunk, generation)

    def _message(self, tp: TP, chunk: Fetched, generation: int) -> ConsumerMessage:
        number = next(self._numbers)
        return ConsumerMessage(
            tp.topic, tp.partition, number, 0.0, 0, (), None, chunk, None, 0, 0, tp, generation_id=generation
        )

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Faust seeks after a rebalance; the tasks do that themselves, once they have been taken over."""
        return {}

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        if not self.app.rebalancing:
            await self._in_thread(self._thread.commit_in_thread(self.app.committed_positions()))
        return True

    def on_buffer_full(self, tp: TP) -> None:
        """Faust would pause and later resume the partition by its own count of messages; the tasks decide that."""

    def on_buffer_drop(self, tp: TP) -> None:
        """See `on_buffer_full`."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust only logs what it takes for a stall, from offsets that mean nothing here; see
        `streams.worker.watchdog`."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._open.clear()
        await super().on_partitions_revoked(revoked)


class ChunkTransport(driver.Transport):
    Consumer = ChunkConsumer


class _Boot(BootStrategy):
    # Outputs have a producer per task; Faust's own would only hold a connection. Metrics have their own server.
    enable_kafka_producer = False
    enable_web = False


class ChunkApp(faust.App):
    """A Faust app over the chunk transport.

    Args:
        settings: where the broker is and how to talk to it.
        committed_positions: gives what all tasks have committed, for lag tools.
        check_crcs: whether to check the checksums of what the broker sends.
    """

    BootStrategy = _Boot

    def __init__(
        self, settings: Settings, committed_positions: Callable[[], Mapping[TP, int]], *, check_crcs: bool = True
    ) -> None:
        self.settings = settings
        self.check_crcs = check_crcs
        self.committed_positions = committed_positions
        super().__init__(
            settings.app_id,
            broker=[f"kafka://{server}" for server in settings.broker.split(",")],
            store="memory://",
            cache="memory://",
            processing_guarantee="at_least_once",
            stream_buffer_maxsize=_QUEUED_MESSAGES,
            stream_wait_empty=False,
            stream_publish_on_commit=False,
            broker_commit_interval=_OFFSETS_EVERY_S,
            broker_session_timeout=settings.session_timeout_s,
            broker_request_timeout=max(90.0, settings.session_timeout_s),
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            autodiscover=False,
            value_serializer="raw",
            key_serializer="raw",
        )

    def check_group(self) -> None:
        """Raises:
        OutOfGroup: what keeps us in the group has ended.
        """
        if self._consumer is not None:
            self._consumer.check_group()

    def chunks_of(self, topics: Iterable[str]) -> Any:
        """The channel of all `topics`; its messages are never acknowledged to Faust."""
        return self.topic(
            *topics, key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes, acks=False
        )

    def _new_transport(self) -> ChunkTransport:
        return ChunkTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Nothing is kept on disk: the container may be read-only."""
