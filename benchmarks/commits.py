"""From when to when how many events were committed, as the commit logs tell."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from schemas.topics import COMMITS, CONTROL
from streams.worker.commitlog import Reader
from tests.parts import BrokenPart


class Commit(NamedTuple):
    """`at_ms`: when its transaction was about to end. `events`: how far it took a task on, ticks not counted."""

    at_ms: int
    claim: bool
    events: int


class Window(NamedTuple):
    """What was done from the end of one commit to the end of another, in epoch ms."""

    from_ms: int
    until_ms: int
    events: int
    commits: int


def window_of(commits: Iterable[Commit]) -> Window:
    """The stretch with the most events in which no task changed hands: from one commit to the last before a claim.

    Raises:
        BrokenPart: there are not two commits that brought events in any stretch.
    """
    known = list(commits)
    claims = sorted(commit.at_ms for commit in known if commit.claim)
    stretches: dict[int, list[Commit]] = {}
    for commit in known:
        if commit.events:
            stretches.setdefault(bisect_right(claims, commit.at_ms), []).append(commit)
    windows = [_window(sorted(stretch)) for stretch in stretches.values()]
    best = max(windows, key=lambda window: window.events, default=None)
    if best is None or best.from_ms == best.until_ms:
        raise BrokenPart("all was done before the last task was taken over: take more events")
    return best


def _window(chunks: list[Commit]) -> Window:
    events = sum(commit.events for commit in chunks[1:])
    return Window(chunks[0].at_ms, chunks[-1].at_ms, events, len(chunks) - 1)


def read_commits(bootstrap: str, partitions: int) -> Iterator[Commit]:
    """Every commit of every task, task by task; reading them checks that they follow each other."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "benchmark",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        for partition in range(partitions):
            consumer.assign([TopicPartition(COMMITS, partition, 0)])
            yield from _commits_of(consumer, partition)
    finally:
        consumer.close()


def _commits_of(consumer: Consumer, partition: int) -> Iterator[Commit]:
    log = Reader(partition)
    before = 0
    while True:
        for message in consumer.consume(100, 0.1):
            if message.error() is not None:
                return
            committed = log.feed(message.offset(), message.value())
            if committed is not None:
                record = committed.record
                reached = sum(offset for topic, (offset, _) in record.positions.items() if topic != CONTROL)
                yield Commit(message.timestamp()[1], record.kind == "claim", reached - before)
                before = reached
