"""Dead letters as they stand in their topics: what there is, one of them, and sending them again.

Sent again, a letter is the record it was: key, value, headers, timestamp and partition, in the order in which it was
refused. Its replay count rises by one, so that what is refused again and again ends somewhere.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from aiokafka import TopicPartition
from msgspec import Struct

from schemas.topics import DLQ_HEADERS, DLQ_SUFFIX
from streams.config import Settings
from streams.worker.producer import Message, Transactions
from streams.worker.tasklogs import TaskError, open_log_consumer
from streams.worker.topics import open_admin

MOST_REPLAYS = 3
_REPLAYS = "__dlq.errors.replay.count"
_SLICE = 500
_POLL_MS = 500


class Letter(Struct, frozen=True):
    """A dead letter at `offset` of a partition of `<topic>.dlq`, of the record at `of_offset` of the topic."""

    topic: str
    partition: int
    offset: int
    of_offset: int
    reason: str
    message: str
    stage: str
    fingerprint: str
    replays: int
    timestamp_ms: int


class Held(Struct, frozen=True):
    """A dead letter with what it holds: personal data."""

    letter: Letter
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Wanted(Struct, frozen=True):
    """Which letters; what is None does not matter."""

    reason: str | None = None
    fingerprint: str | None = None
    borrower: str | None = None

    def matches(self, held: Held) -> bool:
        letter = held.letter
        return (
            self.reason in (None, letter.reason)
            and self.fingerprint in (None, letter.fingerprint)
            and (self.borrower is None or held.key == self.borrower.encode())
        )


class Pile(Struct):
    """Letters of one topic that were refused for the same cause; offsets are those of the first and the last found."""

    topic: str
    reason: str
    message: str
    fingerprint: str
    letters: int = 0
    first: tuple[int, int] | None = None
    last: tuple[int, int] | None = None


class Replayed(Struct):
    """What was sent again; `left` were sent too often already."""

    sent: int = 0
    left: int = 0


async def letters(settings: Settings, topics: Iterable[str]) -> AsyncGenerator[Held, None]:
    """Every dead letter of these input topics at this moment, by topic and partition, in the order of refusal.

    Raises:
        BrokerError: the broker does not answer, or refuses.
        TaskError: a dead-letter topic is not there.
    """
    async with open_admin(settings) as admin:
        counts = {found["topic"]: len(found["partitions"]) for found in await admin.describe_topics()}
    async with open_log_consumer(settings) as consumer:
        for topic in topics:
            if topic + DLQ_SUFFIX not in counts:
                raise TaskError(f"there is no topic {topic}{DLQ_SUFFIX}: duewatch topics create")
            for number in range(counts[topic + DLQ_SUFFIX]):
                place = TopicPartition(topic + DLQ_SUFFIX, number)
                consumer.assign([place])
                end = (await consumer.end_offsets([place]))[place]
                consumer.seek(place, (await consumer.beginning_offsets([place]))[place])
                while await consumer.position(place) < end:
                    brought = await consumer.getmany(place, timeout_ms=_POLL_MS)
                    for record in brought.get(place, ()):
                        if record.offset < end:
                            yield _held(topic, record)


def _held(topic: str, record: Any) -> Held:
    told = {name: value.decode("utf-8", "replace") for name, value in record.headers if name in DLQ_HEADERS}
    letter = Letter(
        topic,
        record.partition,
        record.offset,
        _number(told.get("__dlq.errors.offset")),
        told.get("__dlq.errors.reason", ""),
        told.get("__dlq.errors.message", ""),
        told.get("__dlq.errors.stage", ""),
        told.get("__dlq.errors.fingerprint", ""),
        _number(told.get(_REPLAYS)),
        record.timestamp,
    )
    return Held(letter, record.key, record.value, list(record.headers))


def _number(text: str | None) -> int:
    """Headers come from outside and may hold anything."""
    return int(text) if text is not None and text.isdecimal() and len(text) < 19 else 0


async def piles(settings: Settings, topics: Iterable[str], wanted: Wanted) -> list[Pile]:
    """The letters there are, by topic and cause, the largest pile first. Raises as `letters` does."""
    found: dict[tuple[str, str], Pile] = {}
    async with aclosing(letters(settings, topics)) as held_letters:
        async for held in held_letters:
            if wanted.matches(held):
                letter = held.letter
                pile = found.setdefault(
                    (letter.topic, letter.fingerprint),
                    Pile(letter.topic, letter.reason, letter.message, letter.fingerprint),
                )
                pile.letters += 1
                pile.last = (letter.partition, letter.offset)
                pile.first = pile.first or pile.last
    return sorted(found.values(), key=lambda pile: (-pile.letters, pile.topic, pile.fingerprint))


async def letter_at(settings: Settings, topic: str, partition: int, offset: int) -> Held:
    """One letter.

    Raises:
        TaskError: there is none.
        BrokerError: the broker does not answer, or refuses.
    """
    async with aclosing(letters(settings, [topic])) as held_letters:
        async for held in held_letters:
            if (held.letter.partition, held.letter.offset) == (partition, offset):
                return held
    raise TaskError(f"{topic}{DLQ_SUFFIX} has no dead letter at partition {partition}, offset {offset}")


async def replay(settings: Settings, topics: Sequence[str], wanted: Wanted) -> Replayed:
    """Send letters again, each to the topic and partition it came from.

    Raises:
        BrokerError, TaskError: as `letters`.
        TransactionError: the broker does not take them; `duewatch dlq replay` again sends what was sent once more.
    """
    done = Replayed()
    producer = await Transactions.begin(settings, f"{settings.app_id}-dlq")
    try:
        waiting: list[Message] = []
        async with aclosing(letters(settings, topics)) as held_letters:
            async for held in held_letters:
                if not wanted.matches(held):
                    continue
                if held.letter.replays >= MOST_REPLAYS:
                    done.left += 1
                    continue
                waiting.append(sent_again(held))
                if len(waiting) == _SLICE:
                    await producer.commit(waiting)
                    done.sent += len(waiting)
                    waiting = []
        if waiting:
            await producer.commit(waiting)
            done.sent += len(waiting)
    finally:
        await producer.close()
    return done


def sent_again(held: Held) -> Message:
    """The record that a letter was, with its replay count."""
    letter = held.letter
    headers = [(name, value) for name, value in held.headers if name not in DLQ_HEADERS]
    headers.append((_REPLAYS, str(letter.replays + 1).encode()))
    return Message(letter.topic, letter.partition, held.key, held.value, headers, letter.timestamp_ms)
