"""An engine that notices everything: what it puts out tells each record's place in its borrower's history.

A borrower's state is a count, a running checksum of all that happened to it, and its next wake-up, later than the last
tick. So a record lost, doubled or out of order changes all that comes after it. It keeps what it has opened between
folds and changes it in place, fires wake-ups at ticks in bounded passes, folds events beside them, and refuses some
records, as the real one does.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from msgspec import structs

from streams.engine.cases import Cases
from streams.engine.chunk import DeadLetter, Folded, Output, Span, Sweep, TaskState, Wake, goes_beside
from streams.engine.order import Ordered, Record

OUTPUT = "early-warnings"
CONTROL = "control"
BAD = b"bad"
SWEEP = 2
"""Wake-ups in one pass."""
TICKED = "ticked"
"""Under this name a task's state holds the last tick."""


class Known:
    """One borrower's state."""

    __slots__ = ("checksum", "count", "wake_ms")

    def __init__(self, blob: bytes | None) -> None:
        self.count, self.checksum, wake_ms = (0, 0, -1) if blob is None else map(int, blob.split(b":"))
        self.wake_ms = None if wake_ms < 0 else wake_ms

    def pack(self) -> bytes:
        return b"%d:%d:%d" % (self.count, self.checksum, -1 if self.wake_ms is None else self.wake_ms)

    def happens(self, what: bytes) -> bytes:
        """One more thing happens to the borrower: what is told of it."""
        self.count += 1
        self.checksum = crc32(what, self.checksum)
        return b"%b #%d %d" % (what, self.count, self.checksum)


def told_of(record: Record) -> bytes:
    return b"%b/%d/%d" % (record.topic.encode(), record.partition, record.offset)


def take(known: Known, now_ms: int, record: Record) -> bytes:
    told = known.happens(told_of(record))
    known.wake_ms = now_ms + 5 + known.checksum % 20
    return told


def wake(known: Known, wake_ms: int) -> bytes:
    told = known.happens(b"wake %d" % wake_ms)
    known.wake_ms = wake_ms + 50 if known.checksum % 3 else None
    return told


class Needs(NamedTuple):
    borrowers: list[str]
    due_until_ms: int | None
    failures: Span | None = None


class Engine:
    """`streams.worker.task.FoldEngine`."""

    def needs(self, task: TaskState, chunk: Sequence[Ordered], cases: Cases) -> Needs:
        if task.sweep is not None and not goes_beside(task.sweep, chunk):
            return Needs([], task.sweep.at_ms)
        kept = _kept(cases)
        names = {record.key.decode(): None for _, topic, _, record in chunk if topic != CONTROL and record.key}
        ticks = [order_ms for order_ms, topic, _, _ in chunk if topic == CONTROL]
        due_until_ms = max(ticks, default=None) if task.sweep is None else None
        return Needs([name for name in names if name not in kept], due_until_ms)

    def fold(
        self,
        task: TaskState,
        chunk: Sequence[Ordered],
        blobs: Mapping[str, bytes | None],
        due: Sequence[Wake],
        cases: Cases,
        failures: Sequence[str],
    ) -> Folded:
        run = _Run(task, blobs, due, _kept(cases))
        run.fold(chunk)
        return run.folded


class _Run:
    def __init__(
        self, task: TaskState, blobs: Mapping[str, bytes | None], due: Sequence[Wake], kept: dict[str, Known]
    ) -> None:
        self.folded = Folded(structs.replace(task))
        self._blobs = blobs
        self._kept = kept
        self._due = list(due)
        self._touched: dict[str, int | None] = {}

    def fold(self, chunk: Sequence[Ordered]) -> None:
        folded = self.folded
        beside = folded.task.sweep
        if beside is not None and not goes_beside(beside, chunk):
            self._sweep(beside.at_ms)
        else:
            for order_ms, topic, _, record in chunk:
                if beside is not None and topic == CONTROL:
                    break
                folded.taken += 1
                if topic == CONTROL:
                    folded.task.statuses = {TICKED: order_ms}
                    self._sweep(order_ms)
                    if folded.task.sweep is not None:
                        break
                elif record.value == BAD:
                    folded.dead_letters.append(DeadLetter(record, "malformed_json", "not JSON", "decode"))
                else:
                    name = (record.key or b"").decode()
                    known = self._open(name)
                    if beside is not None:
                        self._fire_ahead(name, known, beside.at_ms)
                    self._put(name, take(known, max(order_ms, folded.task.statuses.get(TICKED, 0)), record))
                    self._due = sorted([wake for wake in self._due if wake[1] != name] + [(known.wake_ms or 0, name)])
        for name, before in self._touched.items():
            known = self._kept[name]
            folded.changed[name] = known.pack()
            if known.wake_ms != before:
                folded.wakes[name] = known.wake_ms
        folded.task.clock_ms = (folded.task.clock_ms or 0) + folded.taken

    def _sweep(self, at_ms: int) -> None:
        for _ in range(SWEEP):
            if not self._due or self._due[0][0] > at_ms:
                break
            wake_ms, name = self._due.pop(0)
            known = self._open(name)
            self._put(name, wake(known, wake_ms))
            if known.wake_ms is not None:
                self._due = sorted([*self._due, (known.wake_ms, name)])
        more = bool(self._due) and self._due[0][0] <= at_ms
        self.folded.task.sweep = Sweep(at_ms, 0, 0, "tick") if more else None

    def _fire_ahead(self, name: str, known: Known, at_ms: int) -> None:
        while known.wake_ms is not None and known.wake_ms <= at_ms:
            self._put(name, wake(known, known.wake_ms))

    def _open(self, name: str) -> Known:
        known = self._kept.get(name)
        if known is None:
            known = self._kept[name] = Known(self._blobs[name])
        self._touched.setdefault(name, known.wake_ms)
        return known

    def _put(self, name: str, told: bytes) -> None:
        self.folded.outputs.append(Output(OUTPUT, name.encode(), told, "told"))


def _kept(cases: Cases) -> dict[str, Known]:
    kept: dict[str, Known] = vars(cases).setdefault("opened", {}) if cases._limit else {}
    return kept


class Oracle:
    """The same said once more, record by record, without chunks or kept states.

    Args:
        most: how many wake-ups a tick fires, and each pass of its sweep that `go_on` tells of; the rest waits.
    """

    def __init__(self, most: int) -> None:
        self.known: dict[str, Known] = {}
        self.outputs: list[tuple[str, bytes]] = []
        self.dead: list[Any] = []
        self.sweeping = False
        self.overtaken = False
        """Whether a control record did not wait for the end of a sweep."""
        self._most = most
        self._ticked_ms = 0

    def take(self, order_ms: int, record: Record) -> None:
        if record.topic == CONTROL:
            self.overtaken |= self.sweeping
            self._ticked_ms = order_ms
            self.go_on()
        elif record.value == BAD:
            self.dead.append((record.topic, record.offset))
        else:
            name = (record.key or b"").decode()
            known = self.known.setdefault(name, Known(None))
            while self.sweeping and known.wake_ms is not None and known.wake_ms <= self._ticked_ms:
                self.outputs.append((name, wake(known, known.wake_ms)))
            self.outputs.append((name, take(known, max(order_ms, self._ticked_ms), record)))

    def go_on(self) -> None:
        """One more pass of the sweep."""
        for _ in range(self._most):
            if not self._due():
                break
            wake_ms, name = min(self._due())
            self.outputs.append((name, wake(self.known[name], wake_ms)))
        self.sweeping = bool(self._due())

    def _due(self) -> list[Wake]:
        return [
            (known.wake_ms, name)
            for name, known in self.known.items()
            if known.wake_ms is not None and known.wake_ms <= self._ticked_ms
        ]
