"""What can be read of a topic with `isolation.level=read_committed`, up to its present end."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tests.parts import wait_until

_NO_LEADER_YET: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
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
    """Where each partition ends now; the broker that leads one may not know of that yet where the topic is new.

    Raises:
        KafkaException: the broker answers with an error.
        BrokenPart: a partition gets no leader.
    """
    consumer = reader_of(bootstrap)
    ends: dict[int, int] = {}

    def told() -> bool:
        try:
            for number in range(len(ends), partitions):
                ends[number] = int(consumer.get_watermark_offsets(TopicPartition(topic, number))[1])
        except KafkaException as error:
            if error.args[0].code() not in _NO_LEADER_YET:
                raise
        return len(ends) == partitions

    try:
        wait_until(told, f"the leaders of {topic}")
        return ends
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
