"""The chunk transport on a real broker: what is handed over, from where, and how far it is known to reach."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import OffsetOutOfRangeError
from faust.types import TP

from streams.config import Settings, load_settings
from streams.worker.transport import ChunkApp, Fetched
from tests.parts.kafka import Kafka

pytestmark = pytest.mark.kafka


class Reading:
    """An app that reads both partitions of one topic, and all that was handed over."""

    def __init__(self, kafka: Kafka, unique: str) -> None:
        self.topic = unique
        self.tps = [TP(unique, 0), TP(unique, 1)]
        self.settings: Settings = load_settings(app_id=unique, broker=kafka.bootstrap, session_timeout_s=6)
        self.fetched: dict[TP, list[Fetched]] = defaultdict(list)
        self.assigned = asyncio.Event()
        self.committed: dict[TP, int] = {}
        self.app = ChunkApp(self.settings, lambda: self.committed)
        self.app.agent(self.app.chunks_of([unique]), name="chunks")(self._take)
        self.app.on_partitions_assigned.connect(self._on_assigned, weak=False)

    async def _take(self, stream: AsyncIterator[object]) -> None:
        async for event in stream.noack().events():  # type: ignore[attr-defined]
            chunk = event.message.value
            self.fetched[TP(chunk.topic, chunk.partition)].append(chunk)

    async def _on_assigned(self, *_: object, **__: object) -> None:
        self.assigned.set()

    async def start(self) -> None:
        self._starting = asyncio.ensure_future(self.app.start())
        async with asyncio.timeout(30):
            await self.assigned.wait()

    async def stop(self) -> None:
        await self.app.stop()
        self._starting.cancel()

    def offsets(self, tp: TP, session: int) -> list[int]:
        return [record.offset for chunk in self.fetched[tp] if chunk.session == session for record in chunk.records]

    def reached(self, tp: TP) -> tuple[int, int | None]:
        chunks = self.fetched[tp]
        return (chunks[-1].position, chunks[-1].end) if chunks else (-1, None)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


@pytest.fixture
async def reading(kafka: Kafka, unique: str) -> AsyncIterator[Reading]:
    kafka.create_topics([unique], partitions=2)
    reading = Reading(kafka, unique)
    await reading.start()
    yield reading
    await reading.stop()


async def produce(reading: Reading, count: int, transaction: str | None = None, end: str = "commit") -> None:
    """Records for partition 0: plain, or in a transaction that is committed, aborted or left open."""
    options = {} if transaction is None else {"transactional_id": transaction}
    producer = AIOKafkaProducer(bootstrap_servers=reading.settings.broker, **options)
    await producer.start()
    if transaction is not None:
        await producer.begin_transaction()
    futures = [await producer.send(reading.topic, b"%d" % n, partition=0) for n in range(count)]
    await asyncio.gather(*futures)
    if transaction is not None and end == "commit":
        await producer.commit_transaction()
    elif transaction is not None and end == "abort":
        await producer.abort_transaction()
    if end == "open":
        producer._closed = True
        await producer.client.close()
    else:
        await producer.stop()


async def test_chunks_reach_to_the_last_stable_offset(reading: Reading, unique: str) -> None:
    first = reading.tps[0]
    await produce(reading, 3_000)
    await produce(reading, 5, f"{unique}-a", "abort")
    await produce(reading, 7, f"{unique}-b")
    await produce(reading, 9, f"{unique}-c", "open")
    consumer = reading.app.consumer
    await consumer.seek(dict.fromkeys(reading.tps, 0), 1)
    consumer.open(reading.tps)
    stable = 3_000 + 5 + 1 + 7 + 1
    await until(lambda: reading.reached(first) == (stable, stable))
    # Aborted records, markers and the open transaction are not there, all else is, in few messages.
    assert reading.offsets(first, 1) == [*range(3_000), *range(3_006, 3_013)]
    chunks = reading.fetched[first]
    assert len(chunks) < 30
    assert [chunk.start for chunk in chunks] == [0, *(chunk.position for chunk in chunks[:-1])]
    # A topic with nothing in it is known to be read to its end as well.
    await until(lambda: reading.reached(reading.tps[1]) == (0, 0))
    assert await consumer.ends(reading.tps) == {first: stable, reading.tps[1]: 0}
    # What has been committed after all is handed over when the transaction ends, here by its next owner.
    await produce(reading, 1, f"{unique}-c")
    await until(lambda: reading.reached(first)[0] > stable + 9)
    assert reading.offsets(first, 1)[-1] == stable + 10


async def test_only_what_is_open_is_handed_over_and_a_seek_begins_anew(reading: Reading) -> None:
    first = reading.tps[0]
    consumer = reading.app.consumer
    await produce(reading, 10)
    assert not reading.fetched
    await consumer.seek({tp: 4 if tp == first else 0 for tp in reading.tps}, 1)
    consumer.open(reading.tps)
    await until(lambda: reading.offsets(first, 1) == [4, 5, 6, 7, 8, 9])
    consumer.shut([first])
    # The poll under way ends.
    await asyncio.sleep(0.7)
    await produce(reading, 2)
    await asyncio.sleep(0.7)
    assert reading.offsets(first, 1)[-1] == 9
    consumer.open([first])
    await until(lambda: reading.offsets(first, 1)[-1] == 11)
    await consumer.seek({first: 8}, 2)
    await until(lambda: reading.offsets(first, 2) == [8, 9, 10, 11])
    assert reading.fetched[first][-1].position == 12


async def test_group_offsets_are_written_and_never_read(reading: Reading, kafka: Kafka) -> None:
    first = reading.tps[0]
    consumer = reading.app.consumer
    await produce(reading, 10)
    reading.committed = {first: 6, TP("somebody-elses", 0): 3}
    await consumer.force_commit()
    tool = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=reading.settings.app_id)
    await tool.start()
    assert await tool.committed(TopicPartition(*first)) == 6
    await tool.stop()
    assert await consumer.seek_to_committed() == {}
    await consumer.seek(dict.fromkeys(reading.tps, 0), 1)
    consumer.open(reading.tps)
    await until(lambda: reading.offsets(first, 1) == list(range(10)))


async def test_membership_is_asked_of_the_group(reading: Reading) -> None:
    consumer = reading.app.consumer
    assert await consumer.is_member()
    coordinator = consumer._thread._ensure_consumer()._coordinator
    # As after a session that ran out while the process was suspended.
    generation, coordinator.generation = coordinator.generation, coordinator.generation - 1
    assert not await consumer.is_member()
    assert generation > 0


async def test_a_position_that_is_gone_ends_the_app_instead_of_jumping(reading: Reading, kafka: Kafka) -> None:
    first = reading.tps[0]
    await produce(reading, 10)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(*first): RecordsToDelete(before_offset=5)})
    await admin.close()
    consumer = reading.app.consumer
    await consumer.seek(dict.fromkeys(reading.tps, 0), 1)
    consumer.open(reading.tps)
    await until(lambda: reading.app.crashed)
    assert isinstance(reading.app.crash_reason, OffsetOutOfRangeError)
    assert reading.offsets(first, 1) == []
