"""What a dead letter looks like on its topic: the record as it came, and headers that tell why it is there."""

import hashlib
from collections.abc import Sequence

from schemas.topics import DLQ_HEADERS, DLQ_SUFFIX
from streams.engine.chunk import DeadLetter
from streams.worker.producer import Message

_REPLAYS = "__dlq.errors.replay.count"


def dead_letter_message(letter: DeadLetter) -> Message:
    """The message for `<topic>.dlq`, on the partition the record was on.

    Key, value and headers are the record's own; the headers of an earlier dead letter (it has been replayed) are
    replaced, only its replay count stays. The fingerprint is the same for all records refused for the same cause.
    """
    record = letter.record
    headers = list(record.headers)
    told = {
        "errors.topic": record.topic,
        "errors.partition": str(record.partition),
        "errors.offset": str(record.offset),
        "errors.reason": letter.reason,
        "errors.message": letter.message,
        "errors.stage": letter.stage,
        "errors.fingerprint": _fingerprint(letter),
        "errors.replay.count": _replays(headers),
    }
    kept = [(name, value) for name, value in headers if name not in DLQ_HEADERS]
    reasons = [(f"__dlq.{name}", value.encode()) for name, value in told.items()]
    return Message(
        record.topic + DLQ_SUFFIX, record.partition, record.key, record.value, kept + reasons, record.timestamp
    )


def _replays(headers: Sequence[tuple[str, bytes]]) -> str:
    """The count a replay left in the headers; they come from outside and may hold anything."""
    count = next((value for name, value in headers if name == _REPLAYS), None)
    return count.decode() if count is not None and count.isdigit() and len(count) < 10 else "0"


def _fingerprint(letter: DeadLetter) -> str:
    cause = "\0".join((letter.record.topic, letter.stage, letter.reason, letter.message))
    return hashlib.sha256(cause.encode()).hexdigest()[:16]
