"""What can be read of a topic with `isolation.level=read_committed`, up to its present end."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

FROM_START: Final[Mapping[int, int]] = MappingProxyType({})


def committed_of(
    bootstrap: str, topic: str, partitions: int, first: Mapping[int, int] = FROM_START
) -> Iterator[Message]:
    """Every committed message, partition by partition.

    Args:
        first: by partition the offset to read from; not named: the start.

    Raises:
        KafkaException: the broker answers with an error.
    """
    consumer = reader_of(bootstrap)
    try:
        for partition in range(partitions):
            consumer.assign([TopicPartition(topic, partition, first.get(partition, 0))])
            yield from _until_end(consumer)
    finally:
        consumer.close()


def ends_of(bootstrap: str, topic: str, partitions: int) -> dict[int, int]:
    """Where each partition ends now."""
    consumer = reader_of(bootstrap)
    try:
        ends = (consumer.get_watermark_offsets(TopicPartition(topic, number)) for number in range(partitions))
        return {number: int(end) for number, (_, end) in enumerate(ends)}
    finally:
        consumer.close()


def reader_of(bootstrap: str) -> Consumer:
    """A consumer of what is committed; it is told by an error of its own where a partition ends."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "benchmark",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 500,
        }
    )


def is_end(message: Message) -> bool:
    """Whether it tells of the end of a partition instead of being a record.

    Raises:
        KafkaException: it tells of an error.
    """
    error = message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:
        raise KafkaException(error)
    return error is not None


def _until_end(consumer: Consumer) -> Iterator[Message]:
    while True:
        for message in consumer.consume(1_000, 0.1):
            if is_end(message):
                return
            yield message
