"""How long an event takes through the service: from when it is due to be sent until its commit can be read.

Outputs and commit are one transaction, so that the commit record tells when either can be read by a consumer that reads
what is committed.
"""

import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final, NamedTuple, Self

import msgspec
from confluent_kafka import TopicPartition

from benchmarks.committed import FROM_START, is_end, reader_of
from benchmarks.recordings import PARTITIONS
from benchmarks.result import Latency
from benchmarks.sender import Sender
from benchmarks.service import open_service
from schemas.topics import COMMITS, CONTROL, INPUTS
from streams.engine.order import LogRecord
from streams.replay.produce import SLICE_RECORDS, in_order
from streams.replay.progress import progress
from streams.replay.recording import Recording
from streams.worker.commitlog import CommitRecord, Reader
from tests.parts import wait_until

IDLE: Final = "idle"
HALF: Final = "half of the top rate"
_PAUSES_S: Final = (0.02, 0.05, 0.11)
_SLICE_S: Final = 0.01
_CATCH_UP_S: Final = 600.0
_IDLE_TARGETS_MS: Final = (60.0, 200.0)
_HALF_TARGETS_MS: Final = (None, 500.0)

Place = tuple[str, int]
"""(topic, partition)."""


class Load(NamedTuple):
    """How many events are sent `alone`; then how many a second, and for how long."""

    alone: int
    events_per_s: float
    seconds: float


def latency(recording: Path, load: Load, chosen: Mapping[str, str], tree: Path | None) -> dict[str, Latency]:
    """Measure on Kafka and Redis of their own, with one worker, first idle and then under load.

    Before it, the worker folds half of the recording, so that there are states; the load is what comes next in it.

    Args:
        chosen: settings of the worker that differ from the defaults, by name.
        tree: a folder with the packages that it runs; None for these sources.

    Raises:
        MissingPart: Kafka or Redis cannot be had here.
        BrokenPart: the worker did not come to the end.
    """
    with open_service() as service, Recording.open(recording) as opened:
        service.create_topics()
        records = (record for _, record in in_order(opened, INPUTS))
        before = itertools.islice(records, opened.manifest.records // 2)
        at = service.node.bootstrap
        with service.workers(1, chosen, tree), Tail(at) as tail, Sender(at) as sender:
            return _measure(sender, tail, before, records, load)


def _measure(
    sender: Sender, tail: "Tail", before: Iterator[LogRecord], after: Iterator[LogRecord], load: Load
) -> dict[str, Latency]:
    sent = Sent()
    logins: list[LogRecord] = []
    while slice_ := list(itertools.islice(before, SLICE_RECORDS)):
        sender.send(slice_)
        sent.note(slice_, [0.0] * len(slice_))
        logins = [record for record in slice_ if record.topic == "logins"] or logins
    with progress("latency, catching up", None):
        tail.wait_for(sent.ends)
    with progress("latency, idle", None):
        idle = [_alone(sender, tail, sent, _again(logins, number)) for number in range(load.alone)]
    with progress("latency under load", None):
        loaded = _under_load(sender, tail, sent, after, load)
    return {
        IDLE: _summed_up(idle, 0.0, _IDLE_TARGETS_MS),
        HALF: _summed_up(loaded, load.events_per_s, _HALF_TARGETS_MS),
    }


def _again(logins: list[LogRecord], number: int) -> LogRecord:
    """A login of a known borrower with an id that is new, at the time the recording has reached."""
    known = logins[-1 - number % len(logins)]
    event = msgspec.json.decode(known.value or b"") | {"event_id": f"latency-{number}", "at_ms": logins[-1].timestamp}
    return known._replace(value=msgspec.json.encode(event), timestamp=logins[-1].timestamp)


def _alone(sender: Sender, tail: "Tail", sent: "Sent", record: LogRecord) -> float:
    """Send one event while nothing else happens; returns the seconds until its commit was read."""
    sent_s = time.monotonic()
    sender.send([record])
    sent.note([record], [sent_s])
    tail.wait_for(sent.ends)
    time.sleep(_PAUSES_S[record.offset % len(_PAUSES_S)])
    return tail.at_s - sent_s


def _under_load(sender: Sender, tail: "Tail", sent: "Sent", records: Iterator[LogRecord], load: Load) -> list[float]:
    """Send at a rate; returns each event's seconds from when it was due, so that a late sender does not hide a wait."""
    waiting = list(itertools.islice(records, int(load.events_per_s * load.seconds)))
    first = sent.ends.copy()
    began_s = time.monotonic()
    done = 0
    while done < len(waiting):
        time.sleep(_SLICE_S)
        due = min(len(waiting), int((time.monotonic() - began_s) * load.events_per_s), done + SLICE_RECORDS)
        slice_ = waiting[done:due]
        sender.send(slice_)
        sent.note(slice_, [began_s + number / load.events_per_s for number in range(done, due)])
        done = due
    tail.wait_for(sent.ends)
    return list(waits(tail.reached, sent.due_s, first))


def _summed_up(seconds: list[float], events_per_s: float, targets_ms: tuple[float | None, float]) -> Latency:
    cut = quantiles(seconds, n=100)
    p50_ms, p99_ms, highest_ms = (round(value * 1000, 1) for value in (cut[49], cut[98], max(seconds)))
    return Latency(len(seconds), round(events_per_s, 1), p50_ms, p99_ms, highest_ms, *targets_ms)


class Sent:
    """What has been sent: where each topic-partition ends, and when each of its records was due."""

    def __init__(self) -> None:
        self.ends: dict[Place, int] = {}
        self.due_s: dict[Place, list[float]] = {}

    def note(self, records: list[LogRecord], due_s: list[float]) -> None:
        for record, moment_s in zip(records, due_s, strict=True):
            place = (record.topic, record.partition)
            self.due_s.setdefault(place, []).append(moment_s)
            self.ends[place] = self.ends.get(place, 0) + 1


class Tail:
    """Reads the commit log as it grows, in a thread. `at_s` is when the last commit came (`time.monotonic`).

    Args:
        first: by partition the offset to read from; not named: the start.
    """

    def __init__(self, bootstrap: str, first: Mapping[int, int] = FROM_START) -> None:
        self.at_s = 0.0
        self._first = first
        self._reached: dict[Place, list[tuple[float, int]]] = {}
        self._ended = threading.Event()
        self._error: Exception | None = None
        self._consumer = reader_of(bootstrap)
        self._thread = threading.Thread(target=self._read, name="tail", daemon=True)

    def __enter__(self) -> Self:
        self._consumer.assign(
            [TopicPartition(COMMITS, number, self._first.get(number, 0)) for number in range(PARTITIONS)]
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        try:
            self._follow()
        except Exception as error:
            self._error = error

    def _follow(self) -> None:
        logs = {partition: Reader(partition) for partition in range(PARTITIONS)}
        while not self._ended.is_set():
            message = self._consumer.poll(0.1)
            if message is None or is_end(message):
                continue
            at_s = time.monotonic()
            committed = logs[message.partition()].feed(message.offset(), message.value())
            if committed is not None:
                for topic, (position, _) in committed.record.positions.items():
                    self._reached.setdefault((topic, message.partition()), []).append((at_s, position))
                self.note(message.partition(), at_s, committed.record)
                self.at_s = at_s

    def note(self, partition: int, at_s: float, record: CommitRecord) -> None:
        """Called in the thread, for whoever wants to know more of a commit."""

    def wait_for(self, ends: Mapping[Place, int]) -> None:
        """Wait until everything before `ends` is committed."""
        wait_until(lambda: self._has_reached(ends), "all committed", _CATCH_UP_S)

    def _has_reached(self, ends: Mapping[Place, int]) -> bool:
        if self._error is not None:
            raise self._error
        return all(self._end(place) >= end for place, end in ends.items())

    def _end(self, place: Place) -> int:
        reached = self._reached.get(place)
        return reached[-1][1] if reached else 0

    @property
    def reached(self) -> Mapping[Place, Sequence[tuple[float, int]]]:
        """Of each topic-partition how far commits have come, and when: (moment, offset before which all is done)."""
        return self._reached


def waits(
    reached: Mapping[Place, Sequence[tuple[float, int]]],
    due_s: Mapping[Place, Sequence[float]],
    first: Mapping[Place, int],
) -> Iterator[float]:
    """For each event from the offsets `first` on, the seconds from when it was due until its commit came.

    Args:
        reached: how far commits have come, see `Tail.reached`.
        due_s: when each event was due, by offset.
    """
    for place, moments_s in due_s.items():
        offset = first.get(place, 0)
        if place[0] == CONTROL:
            continue
        for at_s, position in reached.get(place, ()):
            for moment_s in moments_s[offset:position]:
                yield at_s - moment_s
            offset = max(offset, position)
