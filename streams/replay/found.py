"""Finds one borrower in a recording: its state as of a moment, and all that was told of it until then.

Of a borrower that was erased nothing from before is told: it was to be forgotten, and is in force no more.

Only this borrower's events and the control events are folded: borrowers are independent of each other, but for the
breaker, so that what comes out for this one is what a replay writes, byte for byte.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from schemas.inbound import BorrowerErased, Inbound, ReviewDecided
from schemas.outbound import Cause
from schemas.partitioning import partition_of
from schemas.topics import CONTROL, INPUTS
from streams.engine.blacklist import Signer
from streams.engine.calendar import DAY_MS
from streams.engine.chunk import Folded, Output
from streams.engine.decode import BadInput, decode
from streams.engine.fold import Engine
from streams.engine.order import Ordered
from streams.engine.state import Borrower, unpack
from streams.replay.cycle import LocalTask, Piece, pieces
from streams.replay.moment import iso_moment
from streams.replay.recording import Recording, RecordingError
from streams.replay.replay import rules_of, tasks_of

REVIEWS: Final = "reviews"
REFUSED_SHOWN: Final = 20
"""Of the events that were refused so many are named, the newest."""


class ExplainError(Exception):
    """There is nothing to explain; the message is one line: what is missing, how to mend it."""


class Erasure(NamedTuple):
    """When a borrower was erased, by the order of the log, and by which event."""

    at_ms: int
    cause: Cause


class Refused(NamedTuple):
    """A record that became a dead letter: where it stands, its timestamp, and why."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    reason: str
    message: str


class Refusals(NamedTuple):
    """How many records under the borrower's key were refused, and the newest of them, the oldest first."""

    total: int = 0
    newest: tuple[Refused, ...] = ()


def place(topic: str, partition: int, offset: int) -> str:
    """Where a record stands in the log, as it is told to people."""
    return f"{topic}/{partition} offset {offset}"


class Found(NamedTuple):
    """A borrower as of `as_of_ms` in its task, and `told`, every output about it until then, and what was `refused`;
    where it was `erased`, since the last time. `reviewers` are who decided, by the event that told it."""

    borrower: Borrower
    task: LocalTask
    told: list[Output]
    as_of_ms: int
    erased: Erasure | None = None
    refused: Refusals = Refusals()
    reviewers: Mapping[str, str] = MappingProxyType({})


class _Told:
    """What is told of one borrower, fold by fold."""

    def __init__(self, borrower_id: str) -> None:
        self._borrower_id, self._key = borrower_id, borrower_id.encode()
        self.outputs: list[Output] = []
        self.erased: Erasure | None = None
        self.as_of_ms = 0
        self.reviewers: dict[str, str] = {}
        self._refused = 0
        self._newest: deque[Refused] = deque(maxlen=REFUSED_SHOWN)

    @property
    def refused(self) -> Refusals:
        return Refusals(self._refused, tuple(self._newest))

    def add(self, folded: Folded) -> None:
        for output in folded.outputs:
            if output.key == self._key or output.about == self._borrower_id:
                self.outputs.append(output)
        for letter in folded.dead_letters:
            record = letter.record
            if record.key == self._key:
                where = record.topic, record.partition, record.offset
                self._newest.append(Refused(*where, record.timestamp, letter.reason, letter.message))
                self._refused += 1

    def forget(self, erased: Erasure) -> None:
        self.outputs.clear()
        self._newest.clear()
        self._refused = 0
        self.erased = erased


def find(source: str | Path, borrower_id: str, at_ms: int | None, policy: str, signer: Signer | None = None) -> Found:
    """The borrower after every record with an order time up to `at_ms` (None: of the whole recording).

    What the breaker lets through depends on what it has let through of others: a borrower for whom it was asked is
    found out of the whole of its task.

    Args:
        signer: makes the subject tokens of the blacklist; None: placeholders.

    Raises:
        ExplainError: nothing is known of the borrower, then or at all, or the recording does not reach that moment.
        PolicyError, RecordingError, CommitLogError: the policy, the recording or its commit log cannot be used.
    """
    rules = rules_of(policy)
    with Recording.open(source) as recording:
        zone = ZoneInfo(rules.policy.facts.calendar.zone)
        _check_reached(recording, at_ms, zone)
        partition = _task_of(recording, borrower_id)
        engine = Engine(
            rules.policy, partitions=recording.partition_count(), recorded_policies=rules.recorded, signer=signer
        )
        task, told = _folded(engine, recording, partition, borrower_id, at_ms, False)
        if task.task.granted.counts:
            task, told = _folded(engine, recording, partition, borrower_id, at_ms, True)
        blob = task.state(borrower_id)
        if blob is None:
            raise ExplainError(_nothing(told, zone))
        as_of_ms = told.as_of_ms if at_ms is None else at_ms
        return Found(unpack(blob), task, told.outputs, as_of_ms, told.erased, told.refused, told.reviewers)


def _nothing(told: _Told, zone: ZoneInfo) -> str:
    """Why nothing is known of a borrower."""
    if told.erased is not None:
        at, by = iso_moment(told.erased.at_ms, zone), told.erased.cause
        where = place(by.topic, by.partition, by.offset)
        return f"this borrower was erased on {at} by {by.event_id} ({where}): ask for an --at before that"
    nothing, refused = "no event of this borrower was accepted up to then", told.refused
    if not refused.total:
        return f"{nothing}: ask for a later --at"
    last = refused.newest[-1]
    where = place(last.topic, last.partition, last.offset)
    return f"{nothing}: {refused.total} refused, the last one {where} ({last.reason}: {last.message})"


def _check_reached(recording: Recording, at_ms: int | None, zone: ZoneInfo) -> None:
    """Refuse a moment of which the recording cannot know: days past due would go on to count while nothing is paid.

    A day of grace, so that who asks for this moment of a recording that has just ended is answered.
    """
    last_ms = recording.manifest.last_ms
    if at_ms is not None and last_ms is not None and at_ms > last_ms + DAY_MS:
        raise ExplainError(
            f"{recording.path}: ends before that --at: its last record is of {iso_moment(last_ms, zone)}; ask for a "
            "moment up to a day after it"
        )


def _folded(
    engine: Engine, recording: Recording, partition: int, borrower_id: str, at_ms: int | None, whole: bool
) -> tuple[LocalTask, _Told]:
    """The task after the records up to `at_ms`, of all borrowers or of one, and what it told of the one."""
    task, key, told = LocalTask(engine), borrower_id.encode(), _Told(borrower_id)
    for last_ms, piece in _pieces(recording, partition, None if whole else key, at_ms):
        told.as_of_ms = max(told.as_of_ms, last_ms)
        told.reviewers |= _reviewers(piece.records, key)
        for records, erasing in _cut(piece.records, key):
            for folded in task.fold(records, piece.committed):
                told.add(folded)
                if erasing is not None and (REVIEWS, "accepted") in folded.counts:
                    told.forget(erasing)
    return task, told


def _reviews(records: list[Ordered], key: bytes) -> Iterator[tuple[int, Inbound]]:
    """The events on `reviews` about a borrower, each with its place among the records."""
    for at, (_, topic, _, record) in enumerate(records):
        if topic == REVIEWS and record.key == key:
            event = decode(topic, key, record.value, record.timestamp)
            if not isinstance(event, BadInput):
                yield at, event


def _reviewers(records: list[Ordered], key: bytes) -> dict[str, str]:
    return {event.event_id: event.reviewer for _, event in _reviews(records, key) if isinstance(event, ReviewDecided)}


def _cut(records: list[Ordered], key: bytes) -> Iterator[tuple[list[Ordered], Erasure | None]]:
    """The same records, but what would erase the borrower apart: a fold tells that it erased, not after which output.

    What comes out does not depend on where a fold ends.
    """
    start = 0
    for at, event in _reviews(records, key):
        if isinstance(event, BorrowerErased):
            if start < at:
                yield records[start:at], None
            order_ms, topic, offset, record = records[at]
            cause = Cause(topic=topic, partition=record.partition, offset=offset, event_id=event.event_id)
            yield records[at : at + 1], Erasure(order_ms, cause)
            start = at + 1
    if start < len(records) or not records:
        yield records[start:], None


def _task_of(recording: Recording, borrower_id: str) -> int:
    """The partition whose task knows the borrower."""
    try:
        key = borrower_id.encode()
    except UnicodeEncodeError:
        # Bytes of a command line that are no UTF-8 arrive as lone surrogates.
        raise ExplainError("--borrower: is not UTF-8, as ids of borrowers are") from None
    count = recording.partition_count()
    among = tasks_of(recording) if count is None else [partition_of(key, count)]
    found = [partition for partition in among if key in _keys(recording, [partition])]
    if not found:
        known = len(_keys(recording, tasks_of(recording)))
        raise ExplainError(f"{recording.path}: holds no event of this borrower (it holds {known} borrowers)")
    if len(found) > 1:
        numbers = ", ".join(map(str, found))
        raise RecordingError(
            f"{recording.path}: has events of this borrower on partitions {numbers}, each with a state of its own: "
            "record its topics with equal partition counts and one partitioner"
        )
    return found[0]


def _keys(recording: Recording, partitions: list[int]) -> set[bytes]:
    return {
        record.key
        for topic in INPUTS
        if topic != CONTROL
        for partition in partitions
        for batch in recording.batches(topic, partition)
        for record in batch
        if record.key is not None
    }


def _pieces(recording: Recording, partition: int, key: bytes | None, at_ms: int | None) -> Iterator[tuple[int, Piece]]:
    """(order time reached, records of `key` and of control, or all), until the first record after `at_ms`; a sweep that
    is open then is worked off."""
    reached_ms = 0
    for records, committed in pieces(recording, partition):
        end = len(records) if at_ms is None else bisect_right(records, at_ms, key=_order_ms)
        taken = records[:end]
        if taken:
            reached_ms = taken[-1][0]
        if key is not None:
            taken = [found for found in taken if found[1] == CONTROL or found[3].key == key]
        yield reached_ms, Piece(taken, committed)
        if end < len(records):
            yield reached_ms, Piece([], False)
            return


def _order_ms(ordered: Ordered) -> int:
    return ordered[0]
