"""A task without Kafka: the records of a recording, chunk by chunk, through the chunk cycle with its state in memory.

Replay, explain and the tests drive the engine through here, and only here. What comes out does not depend on where a
chunk ends: a sweep is worked off before the next record. A worker folds events while a sweep is open; in which order,
its commit log tells. Where the recording holds it, what comes out is the same.
"""

import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from schemas.topics import COMMITS, INPUTS
from streams.engine.cases import Cases
from streams.engine.chunk import SWEEP_LIMIT, Folded, TaskState, Wake
from streams.engine.fold import Engine
from streams.engine.incidents import borrower_of
from streams.engine.order import LogRecord, Merge, Ordered
from streams.replay.recording import Recording
from streams.store.memory import FailureIndex
from streams.worker import commitlog

CHUNK_RECORDS = 20_000
"""Larger than a worker's: a borrower's state is packed once a chunk, and nothing waits for the chunk to end."""
CASES_KEPT = 20_000
"""How many borrowers are kept open between chunks."""

Bounds = Mapping[str, int]
"""Per input topic the offset before which its records may be taken."""


class LocalTask:
    """The state of one task in this process. `task` is what it knows beyond its borrowers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.task = TaskState()
        self._states: dict[str, bytes] = {}
        self._cases = Cases(CASES_KEPT)
        self._moments: dict[str, int] = {}
        self._failures = FailureIndex()
        # Wake-ups by moment; those that were moved since stay in it until their old moment comes up.
        self._wakes: list[Wake] = []

    def fold(self, chunk: Sequence[Ordered], committed: bool = False) -> Iterator[Folded]:
        """Fold the whole chunk, and the sweeps that its ticks begin, in as many passes as that takes.

        Args:
            committed: the chunk is all that one commit of a worker took. It is folded as the worker did: beside the
                open sweep, which goes on by one pass at a commit without records, and is left open.
        """
        rest = chunk
        while rest or self.task.sweep is not None:
            folded = self._pass(rest if committed or self.task.sweep is None else ())
            rest = rest[folded.taken :]
            yield folded
            if committed and not rest:
                return

    def state(self, borrower_id: str) -> bytes | None:
        """The packed state of a borrower, None if it has none."""
        return self._states.get(borrower_id)

    def borrowers(self) -> Iterable[str]:
        """Everybody who has a state."""
        return self._states.keys()

    def wakes(self) -> Mapping[str, int]:
        """The next wake-up of everybody who has one, in epoch ms."""
        return self._moments

    def failures(self) -> list[str]:
        """All entries of the index of failures, in order."""
        return self._failures.behind("", sys.maxsize)

    def _pass(self, chunk: Sequence[Ordered]) -> Folded:
        folded, due = self.fold_once(chunk)
        self.keep(
            folded.changed,
            folded.wakes,
            folded.task,
            due,
            folded.failures,
            folded.failures_from,
            folded.erased,
        )
        return folded

    def fold_once(self, chunk: Sequence[Ordered]) -> tuple[Folded, list[Wake]]:
        """Fold in one pass and leave the state as it was; `keep` must follow, with the wake-ups returned."""
        needs = self.engine.needs(self.task, chunk, self._cases)
        due = [] if needs.due_until_ms is None else self._take_due(needs.due_until_ms)
        failures = [] if needs.failures is None else self._failures.within(needs.failures, SWEEP_LIMIT + 1)
        states = self._states
        blobs = {name: states.get(name) for name in needs.borrowers}
        for _, name in due:
            blobs[name] = states[name]
        for entry in failures:
            name = borrower_of(entry)
            blobs[name] = states[name]
        return self.engine.fold(self.task, chunk, blobs, due, self._cases, failures), due

    def keep(
        self,
        changed: Mapping[str, bytes],
        wakes: Mapping[str, int | None],
        task: TaskState,
        due: Sequence[Wake] = (),
        failures: Sequence[str] = (),
        failures_from: str | None = None,
        erased: Sequence[str] = (),
    ) -> None:
        """Take over what a pass has changed, or what is said to have changed instead (see `reopen`)."""
        for name in erased:
            self._states.pop(name, None)
            self._failures.forget(name)
            self._wake(name, None)
        self._states.update(changed)
        self._failures.change(failures, failures_from)
        for name, moment in wakes.items():
            self._wake(name, moment)
        for moment, name in due:
            if self._moments.get(name) == moment:
                heappush(self._wakes, (moment, name))
        self.task = task

    def reopen(self) -> None:
        """Forget what passes have opened: something else than they came to was kept."""
        self._cases = Cases(CASES_KEPT)

    def _take_due(self, until_ms: int) -> list[Wake]:
        wakes, moments = self._wakes, self._moments
        due: list[Wake] = []
        while wakes and wakes[0][0] <= until_ms and len(due) <= SWEEP_LIMIT:
            wake = heappop(wakes)
            # Moved away and back to the same moment, a wake-up stands in the heap twice.
            if moments.get(wake[1]) == wake[0] and (not due or due[-1] != wake):
                due.append(wake)
        return due

    def _wake(self, name: str, moment: int | None) -> None:
        if moment is None:
            self._moments.pop(name, None)
        else:
            self._moments[name] = moment
            heappush(self._wakes, (moment, name))


class _Source:
    """The records of one topic that have not been taken yet, a batch at a time."""

    def __init__(self, batches: Iterator[list[LogRecord]]) -> None:
        self._batches = batches
        self._next = self._batch()

    def _batch(self) -> list[LogRecord]:
        return next((batch for batch in self._batches if batch), [])

    def ended(self, bound: int | None) -> bool:
        return not self._next or (bound is not None and self._next[0].offset >= bound)

    def read(self, bound: int | None) -> list[LogRecord]:
        batch = self._next
        if bound is None or batch[-1].offset < bound:
            self._next = self._batch()
            return batch
        end = bisect_left(batch, bound, key=_offset)
        self._next = batch[end:]
        return batch[:end]


def _offset(record: LogRecord) -> int:
    return record.offset


class _Feed:
    """The inputs of one task, merged as the worker merges them."""

    def __init__(self, recording: Recording, partition: int) -> None:
        self._sources = {topic: _Source(recording.batches(topic, partition)) for topic in INPUTS}
        self._merge = Merge(INPUTS, {})

    def chunks(self, limit: int, bounds: Bounds | None) -> Iterator[list[Ordered]]:
        """All records within `bounds` in order, at most `limit` at a time."""
        while chunk := self.take(limit, bounds):
            yield chunk

    def within(self, bounds: Bounds, limit: int) -> list[Ordered]:
        """All records within `bounds`, in order; `limit` says how many are merged at a time."""
        return [found for chunk in self.chunks(limit, bounds) for found in chunk]

    def take(self, limit: int, bounds: Bounds | None) -> list[Ordered]:
        """The next records in order, all of them within `bounds`; none when there are no more."""
        complete = []
        for topic, source in self._sources.items():
            bound = None if bounds is None else bounds.get(topic, 0)
            if self._merge.buffered(topic) == 0 and not source.ended(bound):
                self._merge.push(topic, source.read(bound))
            if source.ended(bound):
                complete.append(topic)
        return self._merge.take(complete, limit)


class Piece(NamedTuple):
    """Some records of one task in its order. `committed` as in `LocalTask.fold`."""

    records: list[Ordered]
    committed: bool


def pieces(recording: Recording, partition: int, limit: int = CHUNK_RECORDS) -> Iterator[Piece]:
    """What one task folded, piece by piece.

    Where the recording holds the task's commit log, the range of each commit is a piece, whatever its size: a record
    that arrived late at the worker comes as late here, and a sweep goes on where it went on there. What was committed
    before the log begins comes first, what no commit covers last, at most `limit` records at a time.

    Raises:
        RecordingError: a file of the recording cannot be read.
        CommitLogError: its commit log cannot be read.
    """
    feed = _Feed(recording, partition)
    followed = False
    for record in _commits(recording, partition):
        bounds = {topic: offset for topic, (offset, _) in record.positions.items()}
        if not followed:
            for chunk in feed.chunks(limit, bounds):
                yield Piece(chunk, False)
            followed = True
        elif record.kind == "chunk":
            yield Piece(feed.within(bounds, limit), True)
    if followed:
        # A sweep that the log leaves open.
        yield Piece([], False)
    for chunk in feed.chunks(limit, None):
        yield Piece(chunk, False)


def chunks(recording: Recording, partition: int, limit: int = CHUNK_RECORDS) -> Iterator[list[Ordered]]:
    """The records of one task in the order of its `pieces`, for who does not ask how far a sweep was at each of them.

    Raises:
        RecordingError: a file of the recording cannot be read.
        CommitLogError: its commit log cannot be read.
    """
    return (records for records, _ in pieces(recording, partition, limit) if records)


def _commits(recording: Recording, partition: int) -> Iterator[commitlog.CommitRecord]:
    log = commitlog.Reader(partition)
    for record in recording.records(COMMITS, partition):
        committed = log.feed(record.offset, record.value)
        if committed is not None:
            yield committed.record
