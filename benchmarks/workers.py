"""One run of `duewatch worker`, by one process or several, measured by its commit log."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

from benchmarks.commits import read_commits, window_of
from benchmarks.committed import ends_of
from benchmarks.recordings import PARTITIONS
from benchmarks.result import OWN, Run, run_of
from benchmarks.service import Service, WorkerProcess
from benchmarks.usage import Usage
from schemas.topics import COMMITS
from streams.replay.progress import progress
from streams.worker.observer import Stage
from tests.parts import BrokenPart

_LATE: Final = 0.5
_SAMPLE_S: Final = 0.25
_ASK_S: Final = 2.0
_STUCK_S: Final = 120.0


def run_workers(
    service: Service, count: int, records: int, chosen: Mapping[str, str], tree: Path | None, place: tuple[str, int]
) -> Run:
    """Let workers do all `records` of the topics; no event may have been committed before.

    Args:
        chosen: settings that differ from the defaults, by name.
        tree: a folder with the packages that they run; None for these sources.
        place: contestant and round.
    """
    contestant, number = place
    first = ends_of(service.node.bootstrap, COMMITS, PARTITIONS)
    with service.workers(count, chosen, tree) as workers:
        usage = Usage({OWN: [worker.pid for worker in workers], **service.pids})
        with progress(f"round {number + 1}, {contestant.replace('_', ' ')}", records) as advance:
            done = 0
            for reached in _until_done(workers, usage, records):
                advance(reached - done)
                done = reached
        figures = [worker.figures() for worker in workers]
    committed = list(read_commits(service.node.bootstrap, PARTITIONS, first))
    window, commits = window_of(committed)
    late, _ = window_of(committed, _LATE)
    return run_of(
        place,
        window,
        usage,
        late_events_per_s=round(late.events / (late.until_s - late.from_s), 1),
        stage_share=_stage_share(figures),
        commits=commits,
        outputs=_total(figures, "duewatch_outputs_total"),
        dead_letters=_total(figures, "duewatch_dead_letters_total"),
    )


def _until_done(workers: Sequence[WorkerProcess], usage: Usage, records: int) -> Iterator[int]:
    """Sample until all records are folded; gives how many are."""
    reached, moved_s, asked_s = 0, time.monotonic(), 0.0
    while reached < records:
        time.sleep(_SAMPLE_S)
        usage.sample()
        now_s = time.monotonic()
        if now_s - asked_s < _ASK_S:
            continue
        asked_s = now_s
        before, reached = reached, _total([worker.figures() for worker in workers], "duewatch_chunk_records_sum")
        if reached > before:
            moved_s = now_s
        elif now_s - moved_s > _STUCK_S:
            raise BrokenPart(f"{reached} of {records} records were folded, then none for {_STUCK_S:g} s")
        yield reached


def owned_at_s(workers: Sequence[WorkerProcess], moved: Callable[[], int]) -> float:
    """Wait until every task is taken over and each worker has one; when that was, in epoch seconds.

    Args:
        moved: a figure that changes while a take-over gets on.

    Raises:
        BrokenPart: a worker has ended, or nothing gets on.
    """
    last, moved_s = moved(), time.monotonic()
    while True:
        figures = [worker.figures() for worker in workers if worker.pid]
        owned = [_total([found], "duewatch_task_owned") for found in figures]
        if all(owned) and sum(owned) == PARTITIONS:
            # Of a task that has committed nothing since, it is the end of its take-over.
            taken = "duewatch_last_commit_timestamp_seconds"
            return max(value for found in figures for (name, _), value in found.items() if name == taken)
        reached, now_s = moved(), time.monotonic()
        if reached != last:
            last, moved_s = reached, now_s
        elif now_s - moved_s > _STUCK_S:
            raise BrokenPart(f"{sum(owned)} of {PARTITIONS} tasks are taken over, and nothing moves for {_STUCK_S:g} s")
        time.sleep(_SAMPLE_S)


def _total(figures: Sequence[Mapping[tuple[str, str], float]], name: str) -> int:
    return int(sum(value for found in figures for (told, _), value in found.items() if told == name))


def _stage_share(figures: Sequence[Mapping[tuple[str, str], float]]) -> dict[str, float]:
    """Of all the time that chunks spent in one stage or the other; tasks of one worker wait for each other in it."""
    name = "duewatch_chunk_stage_seconds_sum"
    seconds = {stage: sum(found.get((name, stage), 0.0) for found in figures) for stage in get_args(Stage)}
    whole = sum(seconds.values())
    return {stage: round(spent / whole, 4) for stage, spent in seconds.items()}
