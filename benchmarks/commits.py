"""From when to when how many events were committed, as the commit logs tell."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

from benchmarks.committed import FROM_START, committed_of
from benchmarks.window import WARM, Sample, Window, steady
from schemas.topics import COMMITS, CONTROL
from streams.worker.commitlog import Reader


class Commit(NamedTuple):
    """`at_ms`: when its transaction was about to end. `events`: how far it took a task on, ticks not counted."""

    at_ms: int
    claim: bool
    events: int


def window_of(commits: Iterable[Commit], after: float = WARM) -> tuple[Window, int]:
    """The steady part of the stretch with the most events in which no task changed hands, and its number of commits.

    Args:
        after: what part of the stretch's events is not counted, see `steady`.

    Raises:
        BrokenPart: there are not two commits that brought events in any stretch.
    """
    known = list(commits)
    claims = sorted(commit.at_ms for commit in known if commit.claim)
    stretches: dict[int, list[Commit]] = {}
    for commit in known:
        if commit.events:
            stretches.setdefault(bisect_right(claims, commit.at_ms), []).append(commit)
    in_order = [sorted(stretch) for stretch in stretches.values()]
    best = max(in_order, key=lambda stretch: sum(commit.events for commit in stretch[1:]), default=[])
    reached = accumulate(commit.events for commit in best)
    samples = [Sample(commit.at_ms / 1000, events) for commit, events in zip(best, reached, strict=True)]
    window = steady(samples, after)
    return window, sum(window.from_s < commit.at_ms / 1000 for commit in best)


def read_commits(bootstrap: str, partitions: int, first: Mapping[int, int] = FROM_START) -> Iterator[Commit]:
    """Every commit of every task, task by task; reading them checks that they follow each other.

    Args:
        first: by partition the offset to read from; not named: the start. No task may have events committed before it.
    """
    logs = {partition: Reader(partition) for partition in range(partitions)}
    before = dict.fromkeys(range(partitions), 0)
    for message in committed_of(bootstrap, COMMITS, partitions, first):
        partition = message.partition()
        committed = logs[partition].feed(message.offset(), message.value())
        if committed is not None:
            record = committed.record
            reached = sum(offset for topic, (offset, _) in record.positions.items() if topic != CONTROL)
            yield Commit(message.timestamp()[1], record.kind == "claim", reached - before[partition])
            before[partition] = reached
