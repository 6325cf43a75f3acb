"""Dead letters are counted, shown and sent again as what they were."""

import asyncio

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streams.config import load_settings
from streams.engine.chunk import DeadLetter
from streams.engine.order import LogRecord
from streams.worker.deadletter import dead_letter_message
from streams.worker.dlq import MOST_REPLAYS, Held, Letter, Wanted, letter_at, piles, replay, sent_again
from streams.worker.tasklogs import TaskError
from tests.parts.kafka import Kafka


def held(replays: int = 0) -> Held:
    letter = Letter("logins", 1, 7, 3, "missing_field", "amount_minor: is missing", "decode", "f1", replays, 5)
    return Held(letter, b"b1", b"{}", [("trace", b"\x01"), ("__dlq.errors.reason", b"missing_field")])


def test_what_is_sent_again_is_the_record_with_its_count() -> None:
    message = sent_again(held(replays=1))
    assert message == ("logins", 1, b"b1", b"{}", [("trace", b"\x01"), ("__dlq.errors.replay.count", b"2")], 5)
    # The worker keeps the count when it refuses it again.
    record = LogRecord("logins", 1, 9, 5, b"b1", b"{}", message.headers)
    again = dict(dead_letter_message(DeadLetter(record, "missing_field", "m", "decode")).headers)
    assert again["__dlq.errors.replay.count"] == b"2"


def test_wanted() -> None:
    assert Wanted().matches(held())
    assert Wanted("missing_field", "f1", "b1").matches(held())
    for other in (Wanted(reason="too_deep"), Wanted(fingerprint="f2"), Wanted(borrower="b2")):
        assert not other.matches(held())


@pytest.mark.kafka
def test_on_a_real_broker(kafka: Kafka, unique: str) -> None:
    kafka.create_topics([unique, f"{unique}.dlq"], partitions=2)
    settings = load_settings(app_id=unique, broker=kafka.bootstrap)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(5):
        count = (("__dlq.errors.replay.count", b"%d" % MOST_REPLAYS),) if number == 4 else ()
        record = LogRecord(unique, number % 2, number, 1_000 + number, b"b%d" % (number % 2), b"%d" % number, count)
        reason = "quarantined" if number % 2 else "missing_field"
        letter = dead_letter_message(DeadLetter(record, reason, "why", "fold"))
        producer.produce(
            letter.topic,
            letter.value,
            letter.key,
            letter.partition,
            timestamp=letter.timestamp_ms,
            headers=list(letter.headers),
        )
    assert producer.flush(20) == 0

    found = asyncio.run(piles(settings, [unique], Wanted()))
    assert [(pile.reason, pile.letters, pile.first, pile.last) for pile in found] == [
        ("missing_field", 3, (0, 0), (0, 2)),
        ("quarantined", 2, (1, 0), (1, 1)),
    ]
    shown = asyncio.run(letter_at(settings, unique, 1, 1))
    assert (shown.letter.of_offset, shown.letter.replays, shown.value) == (3, 0, b"3")
    with pytest.raises(TaskError, match="no dead letter at partition 1, offset 9"):
        asyncio.run(letter_at(settings, unique, 1, 9))

    assert asyncio.run(replay(settings, [unique], Wanted(borrower="b1"))).sent == 2
    done = asyncio.run(replay(settings, [unique], Wanted(reason="missing_field")))
    assert (done.sent, done.left) == (2, 1)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": unique, "enable.partition.eof": True})
    sent = []
    for partition in range(2):
        consumer.assign([TopicPartition(unique, partition, 0)])
        while (message := consumer.poll(20)) is not None and message.error() is None:
            sent.append((partition, message.key(), message.value(), message.timestamp()[1], message.headers()))
    consumer.close()
    told = [("__dlq.errors.replay.count", b"1")]
    assert sent == [
        (0, b"b0", b"0", 1_000, told),
        (0, b"b0", b"2", 1_002, told),
        (1, b"b1", b"1", 1_001, told),
        (1, b"b1", b"3", 1_003, told),
    ]
