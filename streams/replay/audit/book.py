"""What should have been published, held against what was.

An output is known by its topic and `event_id`, a dead letter by the record it is about. Of what is expected only a
64-bit hash is kept: about 300 bytes each.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from schemas.partitioning import partition_of
from schemas.topics import CONTROL, DLQ_SUFFIX
from streams.engine.chunk import DeadLetter, Output, Sweep
from streams.engine.order import Record
from streams.replay.audit.report import Difference, Flaw, Kind
from streams.worker.commitlog import Position
from streams.worker.deadletter import dead_letter_message

Place = tuple[str, str]
"""(topic, event_id) of an output, (dead-letter topic, offset of the record refused) of a dead letter."""
_DECODE_STAGE = "decode"
_ERRORS = "__dlq.errors."


class Expected(Struct):
    """`times` it should be there, `found` how often it was; `digest` is over all that must be equal."""

    digest: int
    partition: int
    commit: int
    event_id: str | None
    borrower: str | None
    times: int = 1
    found: int = 0


class _Cause(Struct):
    topic: str
    partition: int
    offset: int


class _Told(Struct):
    event_id: str
    cause: _Cause | None = None


class _Refused(Struct):
    event_id: str


_told = msgspec.json.Decoder(_Told)
_refused = msgspec.json.Decoder(_Refused)


class Bounds(Struct, frozen=True):
    """The input offsets that the audited commits cover. What the tick of an `open_sweep` causes goes on behind them."""

    task: int
    start: Mapping[str, Position]
    end: Mapping[str, Position]
    open_sweep: Sweep | None

    def covers(self, topic: str, partition: int, offset: int) -> bool:
        """Whether what this record causes must be among what is expected."""
        if partition != self.task or topic not in self.end:
            return False
        if self.open_sweep is not None and topic == CONTROL and offset == self.open_sweep.offset:
            return False
        return self.start.get(topic, (0, 0))[0] <= offset < self.end[topic][0]


class Book:
    """What the commits of `task` should have published.

    Args:
        task: the task.
        partitions: of each topic.
    """

    def __init__(self, task: int, partitions: Mapping[str, int]) -> None:
        self._task = task
        self._partitions = partitions
        self._expected: dict[Place, Expected] = {}

    def expect(self, commit: int, outputs: Iterable[Output], letters: Iterable[DeadLetter]) -> None:
        """Note what the commit at that offset should have published, in order."""
        for output in outputs:
            partition = partition_of(output.key, self._partitions[output.topic])
            place, event_id = _place_of(output.topic, output.value)
            borrower = output.key.decode("utf-8", "replace")
            digest = hash((output.key, output.value))
            self._note(place, Expected(digest, partition, commit, event_id, borrower))
        for letter in letters:
            message = dead_letter_message(letter)
            digest = _letter_digest(message.key, message.value, message.headers)
            whose = None if message.key is None else message.key.decode("utf-8", "replace")
            expected = Expected(digest, letter.record.partition, commit, event_id_of(message.value), whose)
            self._note((message.topic, str(letter.record.offset)), expected)

    def _note(self, place: Place, expected: Expected) -> None:
        before = self._expected.get(place)
        if before is not None and before.digest == expected.digest:
            before.times += 1
        else:
            self._expected[place] = expected

    def topics(self) -> set[str]:
        """The topics on which something is expected."""
        return {topic for topic, _ in self._expected}

    def found(self, record: Record, bounds: Bounds) -> Difference | None:
        """Hold a published record against what is expected."""
        if record.topic.endswith(DLQ_SUFFIX):
            return self._found_letter(record, bounds)
        try:
            told = _told.decode(record.value or b"")
        except msgspec.MsgspecError:
            return self._differs("output", "unexpected", record, None, "not one of our events")
        expected = self._expected.get((record.topic, told.event_id))
        if expected is None:
            cause = told.cause
            if cause is None or not bounds.covers(cause.topic, cause.partition, cause.offset):
                return None
            return self._differs("output", "unexpected", record, None, "", told.event_id)
        return self._matched("output", expected, record, hash((record.key, record.value)))

    def _found_letter(self, record: Record, bounds: Bounds) -> Difference | None:
        headers = {
            name.removeprefix("__dlq.errors."): value.decode("utf-8", "replace") for name, value in record.headers
        }
        offset = headers.get("offset", "")
        if not offset.isdigit() or headers.get("partition") != str(self._task):
            return None
        expected = self._expected.get((record.topic, offset))
        if expected is not None:
            digest = _letter_digest(record.key, record.value, record.headers)
            return self._matched("dead letter", expected, record, digest)
        topic = record.topic.removesuffix(DLQ_SUFFIX)
        # What waits for its loan may be refused long after its own commit.
        if headers.get("stage") == _DECODE_STAGE and bounds.covers(topic, self._task, int(offset)):
            what = f"about {topic} offset {offset}"
            return self._differs("dead letter", "unexpected", record, None, what, event_id_of(record.value))
        return None

    def _matched(self, kind: Kind, expected: Expected, record: Record, digest: int) -> Difference | None:
        expected.found += 1
        if expected.found > expected.times:
            return self._differs(kind, "doubled", record, expected, "")
        if record.partition != expected.partition:
            what = f"it belongs on partition {expected.partition}"
            return self._differs(kind, "differs", record, expected, what)
        if digest != expected.digest:
            return self._differs(kind, "differs", record, expected, "published otherwise than the engine says")
        return None

    def _differs(
        self,
        kind: Kind,
        flaw: Flaw,
        record: Record,
        expected: Expected | None,
        what: str,
        event_id: str | None = None,
    ) -> Difference:
        key = None if record.key is None else record.key.decode("utf-8", "replace")
        return Difference(
            self._task,
            kind,
            flaw,
            commit=None if expected is None else expected.commit,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            event_id=event_id if expected is None else expected.event_id,
            what=what,
            borrower_id=key,
        )

    def missing(self, starts: Mapping[tuple[str, int], int]) -> Iterator[Difference]:
        """What was not found, in the order in which it should have been published.

        Args:
            starts: the first offset there is of each topic and partition: of one that begins later than 0, what was
                expected before the first that was found has been deleted by its retention.
        """
        begun: set[tuple[str, int]] = set()
        for (topic, place), expected in self._expected.items():
            where = topic, expected.partition
            if expected.found:
                begun.add(where)
            elif starts.get(where, 0) == 0 or where in begun:
                is_letter = topic.endswith(DLQ_SUFFIX)
                yield Difference(
                    self._task,
                    "dead letter" if is_letter else "output",
                    "missing",
                    commit=expected.commit,
                    topic=topic,
                    partition=expected.partition,
                    event_id=expected.event_id,
                    what=f"about {topic.removesuffix(DLQ_SUFFIX)} offset {place}" if is_letter else "",
                    borrower_id=expected.borrower,
                )


def _place_of(topic: str, value: bytes) -> tuple[Place, str]:
    event_id = _told.decode(value).event_id
    return (topic, event_id), event_id


def event_id_of(value: bytes | None) -> str | None:
    """The id of an event that may be anything."""
    try:
        return _refused.decode(value or b"").event_id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _letter_digest(key: bytes | None, value: bytes | None, headers: Iterable[Any]) -> int:
    return hash((key, value, tuple((name, content) for name, content in headers)))
