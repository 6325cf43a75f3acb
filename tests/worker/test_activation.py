"""An activation on a real broker: on every partition, with every field, whole."""

import asyncio

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas.inbound import PolicyActivated
from streams.config import load_settings
from streams.policy.loader import digest, load, loads
from streams.worker import activation
from streams.worker.activation import Activation, write_activation
from tests.parts.kafka import Kafka

PARTITIONS = 3


@pytest.mark.kafka
def test_on_a_real_broker(kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka.create_topics([unique], partitions=PARTITIONS)
    monkeypatch.setattr(activation, "CONTROL", unique)
    settings = load_settings(app_id=unique, broker=kafka.bootstrap)
    standard = load("standard")
    written = [
        asyncio.run(write_activation(settings, Activation(standard, mode, "ann", "bob"))) for mode in ("shadow", "live")
    ]
    assert [one.partitions for one in written] == [PARTITIONS, PARTITIONS]
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": unique,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    for partition in range(PARTITIONS):
        consumer.assign([TopicPartition(unique, partition, 0)])
        events = []
        while (message := consumer.poll(20)) is not None and message.error() is None:
            assert message.key() is None
            value = message.value()
            assert value is not None
            events.append(msgspec.json.decode(value, type=PolicyActivated))
        assert [event.event_id for event in events] == [one.event_id for one in written]
        assert [event.mode for event in events] == ["shadow", "live"]
        assert all(loads(event.body, "body") == standard and event.digest == digest(standard) for event in events)
    consumer.close()
