"""Recordings into a real Kafka and out of it again."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from schemas.topics import INPUTS
from streams.config import Settings, load_settings
from streams.engine.order import LogRecord
from streams.replay.produce import TopicSink, produce
from streams.replay.record import record
from streams.replay.recording import Recording, RecordingError, RecordingWriter
from streams.replay.simulate.writing import simulate, simulate_into_kafka
from streams.worker.topics import BrokerError
from tests.parts.kafka import Kafka

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: Kafka) -> Settings:
    return load_settings(broker=kafka.bootstrap)


def renamed(source: Path, path: Path, prefix: str) -> list[str]:
    """A recording with other topic names, so that tests can share a broker; its topics."""
    with Recording.open(source) as old, RecordingWriter(path, partitions=2) as new:
        for topic in old.topics():
            for partition in old.partitions(topic):
                for held in old.records(topic, partition):
                    new.write(LogRecord(f"{prefix}-{topic}", *held[1:]))
        return [f"{prefix}-{topic}" for topic in old.topics()]


def content(path: Path) -> list[LogRecord]:
    with Recording.open(path) as recording:
        parts = [(topic, partition) for topic in recording.topics() for partition in recording.partitions(topic)]
        return [found for part in parts for found in recording.records(*part)]


async def test_what_is_produced_is_recorded_as_it_was(
    kafka: Kafka, settings: Settings, unique: str, tmp_path: Path
) -> None:
    simulate(3, 60, 4_000, tmp_path / "plain", partitions=2)
    topics = renamed(tmp_path / "plain", tmp_path / "first", unique)
    kafka.create_topics(topics, partitions=2)
    with Recording.open(tmp_path / "first") as recording:
        produced = await produce(recording, settings, topics)
    assert produced.same_offsets
    assert await record(settings, tmp_path / "again", topics) == produced.records
    assert content(tmp_path / "again") == content(tmp_path / "first")
    with Recording.open(tmp_path / "again") as recording:
        assert recording.manifest.partitions == dict.fromkeys(topics, 2)


async def test_only_what_is_committed_and_within_the_bounds_is_recorded(
    kafka: Kafka, settings: Settings, unique: str, tmp_path: Path
) -> None:
    kafka.create_topics([unique], partitions=1)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=unique)
    await producer.start()
    try:
        for number, kept in enumerate((True, False, True, True)):
            await producer.begin_transaction()
            headers = [("n", b"%d" % number)]
            await producer.send_and_wait(
                unique, b"v", key=None, partition=0, timestamp_ms=1_000 * number, headers=headers
            )
            await (producer.commit_transaction() if kept else producer.abort_transaction())
        await record(settings, tmp_path / "all", [unique])
        await record(settings, tmp_path / "some", [unique], from_ms=500, until_ms=3_000)
    finally:
        await producer.stop()
    # Each transaction leaves a marker, which takes an offset.
    assert [(found.offset, found.timestamp, found.headers) for found in content(tmp_path / "all")] == [
        (0, 0, (("n", b"0"),)),
        (4, 2_000, (("n", b"2"),)),
        (6, 3_000, (("n", b"3"),)),
    ]
    assert [found.offset for found in content(tmp_path / "some")] == [4]


async def test_offsets_that_cannot_be_kept_are_told(
    kafka: Kafka, settings: Settings, unique: str, tmp_path: Path
) -> None:
    kafka.create_topics([unique], partitions=1)
    with RecordingWriter(tmp_path / "r") as writer:
        for offset in (0, 2):
            writer.append(unique, 0, 1_000, b"k", None, offset=offset)
    with Recording.open(tmp_path / "r") as recording:
        assert not (await produce(recording, settings, [unique])).same_offsets


async def test_a_topic_that_is_missing_or_too_small_is_named(
    kafka: Kafka, settings: Settings, unique: str, tmp_path: Path
) -> None:
    with RecordingWriter(tmp_path / "r") as writer:
        writer.append(unique, 1, 1_000, b"k", b"v")
    with Recording.open(tmp_path / "r") as recording:
        with pytest.raises(RecordingError, match=f"no topic {unique}: "):
            await produce(recording, settings, [unique])
        kafka.create_topics([unique], partitions=1)
        with pytest.raises(RecordingError, match=f"topic {unique} has 1 partitions, 2 are needed"):
            await produce(recording, settings, [unique])
    with pytest.raises(RecordingError, match=f"no topic {unique}-x"):
        await record(settings, tmp_path / "none", [f"{unique}-x"])
    assert not (tmp_path / "none").exists()


async def test_a_broker_that_is_not_there_is_named(tmp_path: Path) -> None:
    gone = load_settings(broker="127.0.0.1:1")
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1: KafkaConnectionError: is it up"):
        await record(gone, tmp_path / "r")
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1: KafkaConnectionError: is it up"):
        await TopicSink(gone).start()


async def test_a_live_simulation_is_the_recorded_one(make_kafka: Callable[[], Kafka], tmp_path: Path) -> None:
    kafka = make_kafka()
    kafka.create_topics(INPUTS, partitions=2)
    settings = load_settings(broker=kafka.bootstrap)
    moments: list[int] = []
    produced = await simulate_into_kafka(
        settings, 3, 60, days_per_s=20, events=3_000, warm_up_days=5, on_sent=lambda _, at_ms: moments.append(at_ms)
    )
    assert produced.records >= 3_000
    assert moments == sorted(moments)
    await record(settings, tmp_path / "live", INPUTS)
    simulate(3, 60, produced.records, tmp_path / "recorded", partitions=2)
    assert content(tmp_path / "live") == content(tmp_path / "recorded")

    endless = asyncio.create_task(simulate_into_kafka(settings, 4, 10, rate=500))
    await asyncio.sleep(0.5)
    endless.cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless
