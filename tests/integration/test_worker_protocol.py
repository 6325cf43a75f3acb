"""Transactions and take-overs on a real broker: what every way of failing leaves behind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import RequestTimedOutError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import EndTxnRequest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place
from msgspec import structs

from schemas.topics import COMMITS, INPUTS
from streams.config import Settings, load_settings
from streams.store.contract import Fenced, Foreign
from streams.store.memory import MemoryStore
from streams.store.seal import seal, seal_all
from streams.worker.commitlog import CommitRecord, Committed, encode
from streams.worker.producer import Ambiguous, Message, Refused, Superseded, Transactions
from streams.worker.takeover import KafkaBroker, Owned, Takeover, TakeoverError
from tests.integration.rig import Rig, recording
from tests.parts.kafka import Kafka
from tests.store.changes import change

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: Kafka, unique: str) -> Settings:
    return load_settings(app_id=unique, broker=kafka.bootstrap)


def values(kafka: Kafka, topic: str) -> list[bytes]:
    """What a consumer downstream reads of partition 0, up to the last stable offset."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([Place(topic, 0, 0)])
    found: list[bytes] = []
    while (message := consumer.poll(20)) is not None and message.error() is None:
        found.append(message.value() or b"")
    consumer.close()
    return found


def said(topic: str, *values: bytes) -> list[Message]:
    return [Message(topic, 0, b"k", value) for value in values]


# --- transactions -----------------------------------------------------------------------------------------------------


async def test_a_transaction_is_visible_whole_and_tells_the_offsets_of_its_last(
    kafka: Kafka, settings: Settings, unique: str
) -> None:
    kafka.create_topics([unique, f"{unique}-log"], partitions=1)
    producer = await Transactions.begin(settings, unique)
    many = [b"%d" % n + b"x" * 2_000 for n in range(1_000)]
    assert await producer.commit(said(unique, *many), said(f"{unique}-log", b"a", b"b" * 700_000, b"c")) == [0, 1, 2]
    # A marker stands between the transactions.
    assert await producer.commit((), said(f"{unique}-log", b"d")) == [4]
    await producer.close()
    assert values(kafka, unique) == many
    assert [value[:1] for value in values(kafka, f"{unique}-log")] == [b"a", b"b", b"c", b"d"]


async def test_what_is_refused_leaves_nothing_and_holds_nobody_up(
    kafka: Kafka, settings: Settings, unique: str
) -> None:
    kafka.create_topics([unique], partitions=1)
    kafka.create_topics([f"{unique}-small"], partitions=1, config={"max.message.bytes": "500"})
    producer = await Transactions.begin(settings, unique)
    with pytest.raises(Refused):
        await producer.commit([*said(unique, b"ok"), *said(f"{unique}-small", Random(1).randbytes(9_000))])
    await producer.close()
    # Aborted, not left open: a reader gets to the end of the topic at once.
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "x", "isolation.level": "read_committed"})
    stable = consumer.get_watermark_offsets(Place(unique, 0), timeout=10)
    consumer.close()
    assert values(kafka, unique) == []
    assert stable[1] == 2


async def test_a_successor_supersedes(kafka: Kafka, settings: Settings, unique: str) -> None:
    kafka.create_topics([unique], partitions=1)
    first = await Transactions.begin(settings, unique)
    await first.commit(said(unique, b"1"))
    second = await Transactions.begin(settings, unique)
    with pytest.raises(Superseded):
        await first.commit(said(unique, b"2"))
    await first.close()
    await second.commit(said(unique, b"3"))
    await second.close()
    assert values(kafka, unique) == [b"1", b"3"]


@pytest.mark.parametrize(("lost", "visible"), [(EndTxnRequest, [b"1"]), (ProduceRequest, [])])
async def test_a_lost_answer_is_never_taken_for_an_outcome(
    kafka: Kafka,
    settings: Settings,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
    lost: type,
    visible: list[bytes],
) -> None:
    kafka.create_topics([unique], partitions=1)
    from aiokafka.client import AIOKafkaClient

    send = AIOKafkaClient.send

    async def losing(self: AIOKafkaClient, node: int, request: Any, **rest: Any) -> Any:
        answer = await send(self, node, request, **rest)
        if isinstance(request, lost):
            raise RequestTimedOutError
        return answer

    monkeypatch.setattr(AIOKafkaClient, "send", losing)
    producer = await Transactions.begin(settings, unique)
    with pytest.raises(Ambiguous, match=lost.__name__):
        await producer.commit(said(unique, b"1"))
    monkeypatch.undo()
    await producer.close()
    successor = await Transactions.begin(settings, unique)
    await successor.close()
    assert values(kafka, unique) == visible


async def test_a_transaction_has_one_deadline(kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka.create_topics([unique], partitions=1)
    settings = load_settings(app_id=unique, broker=kafka.bootstrap, transaction_deadline_ms=1_000)
    producer = await Transactions.begin(settings, unique)

    async def silent(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(producer._wire.producer._sender, "_send_produce_req", silent)
    with pytest.raises(Ambiguous, match="within 1 s"):
        await producer.commit(said(unique, b"1"))
    await producer.close()
    successor = await Transactions.begin(settings, unique)
    await successor.close()
    assert values(kafka, unique) == []


# --- take-over --------------------------------------------------------------------------------------------------------


class Owners:
    """Owners of task 0, one after the other, over one store."""

    def __init__(self, rig: Rig, settings: Settings) -> None:
        self.rig = rig
        self.store = MemoryStore(0)
        self.progress: list[int] = []
        self._takeover = Takeover(KafkaBroker(settings), settings.app_id, INPUTS, self.progress.append)
        self._owned: list[Owned] = []
        self._known: set[str] = set()

    async def take(self, *, anew: bool = False) -> Owned:
        owned = await self._takeover.take(self.store, anew=anew)
        self._owned.append(owned)
        return owned

    async def commit(
        self, owned: Owned, last: Committed, whole_after: int = -1, read_to: int = 2, **changed: bytes
    ) -> Committed:
        """One chunk, committed and not applied."""
        self._known |= changed.keys()
        record = CommitRecord(
            "chunk",
            last.record.seq + 1,
            last.record.incarnation,
            positions=dict.fromkeys(INPUTS, (read_to, 77)),
            changed=seal_all(changed),
            task=seal("", b"task"),
            roll=structs.replace(last.record.roll, whole_after=whole_after, borrowers=len(self._known)),
        )
        encoded = encode(record, last.digest)
        parts = [Message(COMMITS, 0, None, value) for value in encoded.values]
        offsets = await owned.producer.commit((), parts)
        return Committed(record, offsets[0], offsets[-1], encoded.digest)

    async def states(self, owned: Owned, *borrowers: str) -> list[bytes | None]:
        loaded = await self.store.load(owned.claim.last, owned.claim.last, borrowers, None, 10)
        return [loaded.blobs[borrower] for borrower in borrowers]

    async def close(self) -> None:
        for owned in self._owned:
            await owned.producer.close()


@pytest.fixture
async def owners(make_rig: Callable[..., Rig], settings: Settings) -> AsyncIterator[Owners]:
    rig = make_rig(1)
    rig.produce(recording(1, 300, 1))
    owners = Owners(rig, settings)
    yield owners
    await owners.close()


async def delete(kafka: Kafka, topic: str, before: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=before)})
    await admin.close()


async def test_the_first_owner_begins_at_the_start(owners: Owners) -> None:
    owned = await owners.take()
    assert (owned.claim.record.seq, owned.claim.last, owned.task) == (1, 0, None)
    assert owned.positions == dict.fromkeys(INPUTS, (0, 0))
    assert (await owners.store.meta()).fence == 0


async def test_the_next_owner_copies_what_was_committed_and_not_applied(owners: Owners) -> None:
    first = await owners.take()
    one = await owners.commit(first, first.claim, a=b"1", b=b"1")
    await owners.store.apply(first.claim.last, first.claim.last, one.change)
    await owners.commit(first, one, a=b"2" * 2_000_000)
    second = await owners.take()
    assert second.claim.record.seq == 4
    assert second.claim.record.incarnation == first.claim.record.incarnation
    assert second.positions == dict.fromkeys(INPUTS, (2, 77))
    assert second.task == b"task"
    assert await owners.states(second, "a", "b", "c") == [b"2" * 2_000_000, b"1", None]
    # The first is fenced on both sides.
    with pytest.raises(Fenced):
        await owners.store.load(first.claim.last, one.last, ["a"], None, 10)
    with pytest.raises(Superseded):
        await owners.commit(first, one, a=b"3")


@pytest.mark.parametrize("anew", [True, False])
async def test_an_empty_or_damaged_store_is_copied_from_the_start(owners: Owners, anew: bool) -> None:
    owned = await owners.take()
    last = owned.claim
    for number in range(40):
        last = await owners.commit(owned, last, **{f"b{number}": b"%d" % number})
    if not anew:
        owners.store = MemoryStore(0)
    owned = await owners.take(anew=anew)
    assert await owners.states(owned, "b0", "b39") == [b"0", b"39"]
    assert len(owners.progress) > 40


async def test_the_last_commit_is_found_behind_many_aborted_ones(owners: Owners, settings: Settings) -> None:
    owned = await owners.take()
    last = await owners.commit(owned, owned.claim, a=b"1")
    await owned.producer.close()
    for _ in range(12):
        producer = await Transactions.begin(settings, f"{settings.app_id}-0")
        await producer._wire.begin()
        await producer._wire.producer.send_and_wait(COMMITS, b"never", partition=0)
        producer._in_transaction = True
        await producer.close()
    assert (await owners.take()).claim.record.seq == last.record.seq + 1


async def test_inputs_deleted_past_our_position_stop_the_worker(owners: Owners, kafka: Kafka) -> None:
    owned = await owners.take()
    await owners.commit(owned, owned.claim, a=b"1")
    await delete(kafka, "logins", 2)
    await owners.take()
    await delete(kafka, "logins", 3)
    with pytest.raises(TakeoverError, match="logins was read up to offset 2 but now begins at 3"):
        await owners.take()


async def test_an_input_that_is_shorter_than_it_was_stops_the_worker(owners: Owners) -> None:
    owned = await owners.take()
    await owners.commit(owned, owned.claim, read_to=10_000, a=b"1")
    with pytest.raises(TakeoverError, match=r"was read up to offset 10000 but ends at \d+: the topic has lost records"):
        await owners.take()


async def test_a_commit_log_that_is_shorter_than_it_was_stops_the_worker(owners: Owners) -> None:
    owned = await owners.take()
    fence = owned.claim.last
    await owners.store.apply(fence, fence, change(to_applied=10_000, read_from=9_999))
    with pytest.raises(
        TakeoverError, match=r"the store is at commit 10000, beyond our claim at .*: the commit log has lost"
    ):
        await owners.take()
    assert (await owners.store.meta()).applied == 10_000


async def test_a_commit_log_without_its_start_cannot_fill_an_empty_store(owners: Owners, kafka: Kafka) -> None:
    owned = await owners.take()
    await owners.commit(owned, owned.claim, a=b"1")
    # All behind what the store holds is there: nothing is missed.
    await delete(kafka, COMMITS, 1)
    await owners.take()
    await delete(kafka, COMMITS, 4)
    assert (await owners.states(await owners.take(), "a")) == [b"1"]
    owners.store = MemoryStore(0)
    with pytest.raises(TakeoverError, match="begins at commit 3"):
        await owners.take()


async def test_a_commit_log_cut_by_its_leave_fills_an_empty_store(owners: Owners, kafka: Kafka) -> None:
    owned = await owners.take()
    one = await owners.commit(owned, owned.claim, a=b"1", b=b"1")
    two = await owners.commit(owned, one, b=b"2")
    last = await owners.commit(owned, two, whole_after=one.last, a=b"3" * 2_000_000)
    await delete(kafka, COMMITS, one.last + 1)
    owners.store = MemoryStore(0)
    owned = await owners.take()
    assert await owners.states(owned, "a", "b") == [b"3" * 2_000_000, b"2"]
    assert owned.claim.record.roll == last.record.roll
    # Not further: b would be missing.
    await delete(kafka, COMMITS, two.last + 1)
    owners.store = MemoryStore(0)
    with pytest.raises(TakeoverError, match="begins at commit"):
        await owners.take()


async def test_a_borrower_that_the_log_has_lost_is_missed(owners: Owners) -> None:
    owned = await owners.take()
    owners._known.add("lost")
    await owners.commit(owned, owned.claim, a=b"1")
    owners.store = MemoryStore(0)
    with pytest.raises(TakeoverError, match="gives 1 borrowers where 2 were committed"):
        await owners.take()


async def test_a_store_of_another_log_is_not_touched(owners: Owners, make_rig: Callable[..., Rig]) -> None:
    owned = await owners.take()
    await owners.commit(owned, owned.claim, a=b"1")
    make_rig(1)
    with pytest.raises(Foreign):
        await owners.take()
