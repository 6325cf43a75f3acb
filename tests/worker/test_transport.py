"""The private parts of Faust that are replaced: each is still there to be replaced, and does what tasks rest on.

What they do together on a broker is in tests/integration/test_worker_transport.py.
"""

import asyncio
import inspect
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, NoOffsetForPartitionError
from aiokafka.record.default_records import DefaultRecordBatch
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from schemas.topics import COMMITS, OUTPUTS
from streams.config import load_settings
from streams.engine.order import LogRecord
from streams.worker.producer import KafkaWire
from streams.worker.transport import ChunkApp, ChunkConsumer, ChunkThread, ChunkTransport, Fetched, OutOfGroup

LOGINS, CONTROL = TopicPartition("logins", 0), TopicPartition("control", 0)


@pytest.fixture
async def app() -> ChunkApp:
    return ChunkApp(load_settings(app_id="hooks"), lambda: {TP("logins", 0): 5})


@pytest.fixture
def thread(app: ChunkApp) -> ChunkThread:
    thread: ChunkThread = app.consumer._thread
    return thread


class Fetching:
    """An aiokafka consumer as far as a hand-over looks at it."""

    def __init__(self) -> None:
        self.states: dict[TopicPartition, Any] = {}
        assignment = SimpleNamespace(state_value=self.states.get)
        self._subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))

    def at(self, tp: TopicPartition, position: int | None, lso: int | None, highwater: int | None = None) -> None:
        self.states[tp] = SimpleNamespace(
            has_valid_position=position is not None, position=position, lso=lso, highwater=highwater
        )

    def assignment(self) -> set[TopicPartition]:
        return set(self.states)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.at(tp, offset, None)


@pytest.fixture
def fetching(thread: ChunkThread) -> Fetching:
    fetching = Fetching()
    thread._ensure_consumer = lambda: fetching
    return fetching


def records(*offsets: int) -> list[LogRecord]:
    return [LogRecord("logins", 0, offset, 0, b"k", b"v") for offset in offsets]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
        (driver.AIOKafkaConsumerThread, "_fetch_records"),
        (driver.AIOKafkaConsumerThread, "__post_init__"),
        (driver.Consumer, "_new_consumer_thread"),
        (driver.ConsumerRebalanceListener, "on_partitions_revoked"),
        (FaustConsumer, "getmany"),
        (FaustConsumer, "seek_to_committed"),
        (FaustConsumer, "force_commit"),
        (FaustConsumer, "on_buffer_full"),
        (FaustConsumer, "on_buffer_drop"),
        (FaustConsumer, "verify_event_path"),
        (FaustConsumer, "on_partitions_revoked"),
        (ChunkApp.__base__, "_new_transport"),
        (ChunkApp.__base__, "_create_directories"),
    ],
)
def test_what_is_replaced_is_still_there_with_the_same_arguments(owner: type, name: str) -> None:
    replaced = next(
        kind
        for kind in (ChunkThread, ChunkConsumer, ChunkConsumer.RebalanceListener, ChunkApp)
        if issubclass(kind, owner) and name in vars(kind)
    )
    ours, theirs = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (replaced, owner))
    assert ours == theirs


async def test_the_app_uses_them(app: ChunkApp) -> None:
    assert isinstance(app.transport, ChunkTransport)
    assert isinstance(app.consumer, ChunkConsumer)
    assert isinstance(app.consumer._thread, ChunkThread)


async def test_only_what_was_sought_is_handed_over(thread: ChunkThread, fetching: Fetching) -> None:
    fetching.at(LOGINS, 3, 9)
    assert thread._hand_over(fetching, {LOGINS: records(1, 2)}) == []
    await thread.seek_in_thread({TP("logins", 0): 4}, 7)
    fetching.at(LOGINS, 6, 9)
    found = records(4, 5)
    assert thread._hand_over(fetching, {LOGINS: found}) == [Fetched("logins", 0, 7, 4, 6, 9, found)]


async def test_nothing_is_asked_of_partitions_that_are_not_sought(
    app: ChunkApp, thread: ChunkThread, fetching: Fetching
) -> None:
    """After a rebalance aiokafka has an error for each that the group has no offset of, until a task seeks."""

    class Fetcher:
        _closed = False
        _subscriptions = SimpleNamespace(fetch_context=nullcontext)

        async def fetched_records(self, asked: set[TP], **_: Any) -> dict[TopicPartition, list[LogRecord]]:
            if TP("control", 0) in asked:
                raise NoOffsetForPartitionError(CONTROL)
            return {LOGINS: records(5)}

    fetching.__dict__.update(_closed=False, _fetcher=Fetcher())
    app.flow_control.resume()
    open_ones = {TP("logins", 0), TP("control", 0)}
    assert await thread._fetch_records(fetching, open_ones, 0.1) == []
    await thread.seek_in_thread({TP("logins", 0): 5}, 1)
    fetching.at(LOGINS, 6, 6)
    assert await thread._fetch_records(fetching, open_ones, 0.1) == [Fetched("logins", 0, 1, 5, 6, 6, records(5))]


async def test_a_rebalance_during_a_fetch_is_no_error(app: ChunkApp, thread: ChunkThread, fetching: Fetching) -> None:
    """What was sought when the fetch began is without a position once the group is shared out anew."""

    class Fetcher:
        _closed = False
        _subscriptions = SimpleNamespace(fetch_context=nullcontext)

        async def fetched_records(self, asked: set[TP], **_: Any) -> dict[TopicPartition, list[LogRecord]]:
            thread.forget_in_thread()
            raise NoOffsetForPartitionError(LOGINS)

    fetching.__dict__.update(_closed=False, _fetcher=Fetcher())
    app.flow_control.resume()
    await thread.seek_in_thread({TP("logins", 0): 5}, 1)
    assert await thread._fetch_records(fetching, {TP("logins", 0)}, 0.1) == []


async def test_what_is_revoked_is_forgotten_before_anything_else(thread: ChunkThread, fetching: Fetching) -> None:
    await thread.seek_in_thread({TP("logins", 0): 4}, 7)
    listener = ChunkConsumer.RebalanceListener(thread)
    listener.on_partitions_revoked([LOGINS]).close()
    fetching.at(LOGINS, 6, 9)
    assert thread._hand_over(fetching, {LOGINS: records(4, 5)}) == []
    thread.app.on_rebalance_end()


async def test_an_end_that_moves_is_told_once(thread: ChunkThread, fetching: Fetching) -> None:
    await thread.seek_in_thread({TP("logins", 0): 4, TP("control", 0): 0}, 7)
    fetching.at(LOGINS, 4, 4)
    fetching.at(CONTROL, 0, None, None)
    assert thread._hand_over(fetching, {}) == [Fetched("logins", 0, 7, 4, 4, 4, ())]
    assert thread._hand_over(fetching, {}) == []
    # A marker went by: no record, but a position and an end.
    fetching.at(LOGINS, 5, 5)
    assert thread._hand_over(fetching, {}) == [Fetched("logins", 0, 7, 4, 5, 5, ())]


@pytest.mark.parametrize(
    ("lso", "highwater", "end"), [(5, 9, 5), (None, 9, 9), (-1, 9, 9), (None, None, None), (0, 9, 0)]
)
async def test_the_end_is_the_last_stable_offset_where_the_broker_knows_it(
    thread: ChunkThread, fetching: Fetching, lso: int | None, highwater: int | None, end: int | None
) -> None:
    await thread.seek_in_thread({TP("logins", 0): 4}, 7)
    fetching.at(LOGINS, 5, lso, highwater)
    assert [chunk.end for chunk in thread._hand_over(fetching, {LOGINS: records(4)})] == [end]


async def test_messages_are_numbered_so_that_faust_drops_none(app: ChunkApp) -> None:
    tp = TP("logins", 0)
    later, earlier = (Fetched("logins", 0, 1, start, start + 1, 9, records(start)) for start in (8, 2))
    numbers = [app.consumer._message(tp, chunk, 1).offset for chunk in (later, earlier)]
    assert numbers[0] < numbers[1]


async def test_faust_seeks_nowhere(app: ChunkApp) -> None:
    assert await app.consumer.seek_to_committed() == {}


async def test_no_offsets_are_committed_in_a_rebalance(app: ChunkApp) -> None:
    app.rebalancing = True
    # Outside of one this would ask the consumer thread, which does not run here.
    assert await app.consumer.force_commit()


async def test_faust_neither_pauses_nor_resumes_nor_judges(app: ChunkApp) -> None:
    consumer, tp = app.consumer, TP("logins", 0)
    consumer._active_partitions = set()
    consumer.on_buffer_full(tp)
    consumer.on_buffer_drop(tp)
    assert consumer._active_partitions == set()
    assert consumer._buffered_partitions == set()
    assert consumer.verify_event_path(0.0, tp) is None


async def test_no_producer_no_web_and_no_folder(app: ChunkApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app.finalize()
    app._create_directories()
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240 - nothing else runs here
    assert list(app.boot_strategy.kafka_producer()) == []
    assert list(app.boot_strategy.web_server()) == []
    assert not app.conf.topic_allow_declare
    assert app.conf.processing_guarantee.value == "at_least_once"
    # Messages are whole chunks: few of them may wait.
    assert app.conf.stream_buffer_maxsize <= 16
    assert not app.chunks_of(["logins"]).acks


async def test_the_consumer_reads_committed_records_and_never_jumps(app: ChunkApp, thread: ChunkThread) -> None:
    consumer = thread._create_worker_consumer(app.transport)
    assert consumer._isolation_level == "read_committed"
    assert consumer._auto_offset_reset == "none"
    assert consumer._enable_auto_commit is False
    await consumer.stop()


class Coordinating:
    """What aiokafka does to keep us in the group, as far as we look at it: `routine` runs until `end`."""

    def __init__(self) -> None:
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._coordination_task = asyncio.ensure_future(self.end)
        self._pending_exception: Exception | None = None


async def test_a_membership_that_ended_or_waits_for_good_is_noticed(app: ChunkApp, thread: ChunkThread) -> None:
    app.check_group()
    thread._consumer = SimpleNamespace(_coordinator=Coordinating())
    app.check_group()
    coordinating = thread._consumer._coordinator
    coordinating._pending_exception = GroupAuthorizationFailedError("the group")
    with pytest.raises(OutOfGroup, match="ended: GroupAuthorizationFailedError"):
        app.check_group()
    coordinating._pending_exception = None
    coordinating.end.set_exception(KafkaError("unexpected"))
    await asyncio.wait({coordinating._coordination_task})
    with pytest.raises(OutOfGroup, match="ended: KafkaError"):
        app.check_group()


async def test_a_membership_given_up_by_ourselves_is_none_that_ended(app: ChunkApp, thread: ChunkThread) -> None:
    thread._consumer = SimpleNamespace(_coordinator=Coordinating())
    thread._consumer._coordinator.end.set_result(None)
    await asyncio.sleep(0)
    app.check_group()
    thread._consumer = SimpleNamespace(_coordinator=Coordinating())
    thread._consumer._coordinator._coordination_task.cancel()
    await asyncio.sleep(0)
    app.check_group()


async def test_where_aiokafka_keeps_what_has_become_of_the_membership() -> None:
    consumer = AIOKafkaConsumer(group_id="hooks")
    consumer._coordinator = coordinator = GroupCoordinator(consumer._client, consumer._subscription, group_id="hooks")
    assert not coordinator._coordination_task.done()
    assert coordinator._pending_exception is None
    coordinator._coordination_task.cancel()


async def test_commit_records_which_are_compressed_already_are_not_compressed_again() -> None:
    wire = KafkaWire(load_settings(app_id="hooks"), "hooks-0")
    codecs = {}
    for topic in (COMMITS, OUTPUTS[0]):
        batch = wire._batch_for(topic)
        batch.append(timestamp=0, key=None, value=b"x" * 1_000)
        attributes = int.from_bytes(bytes(batch._build())[21:23], "big")
        codecs[topic] = attributes & DefaultRecordBatch.CODEC_MASK
    assert codecs == {COMMITS: DefaultRecordBatch.CODEC_NONE, OUTPUTS[0]: DefaultRecordBatch.CODEC_ZSTD}
    await wire.close()
