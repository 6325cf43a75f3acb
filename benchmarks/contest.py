"""The whole service against the floor, round after round on the same input, interleaved."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from benchmarks.commits import read_commits, window_of
from benchmarks.floor import Floor
from benchmarks.recordings import PARTITIONS
from benchmarks.result import Machine, Result, Run, result_of, this_machine
from benchmarks.service import Service, WorkerProcess, open_service
from benchmarks.usage import Usage
from schemas.topics import CONTROL
from streams.replay.progress import progress
from streams.worker.observer import Stage
from tests.parts import BrokenPart

FLOOR: Final = "floor"
WORKERS: Final = {"one_worker": 1, "two_workers": 2}
RATIOS: Final = (
    ("one_worker_vs_floor", "one_worker", FLOOR),
    ("two_workers_vs_floor", "two_workers", FLOOR),
    ("two_workers_vs_one", "two_workers", "one_worker"),
)
_SAMPLE_S = 0.25
_ASK_S = 2.0
_STUCK_S = 120.0


def compete(
    recording: Path,
    rounds: int,
    chosen: Mapping[str, str],
    configuration: Mapping[str, str | int],
    tree: Path | None,
) -> Result:
    """All contestants in each of `rounds`.

    Args:
        tree: a folder with the packages that workers run; None for these sources.
        chosen: settings of the workers that differ from the defaults, by name.

    Raises:
        MissingPart: Kafka or Redis cannot be had here.
        BrokenPart: a part, or a worker, did not do what it must.
    """
    machine = this_machine()
    with open_service() as service:
        contest = _Contest(service, service.fill(recording), chosen, tree)
        found = [contest.round(number) for number in range(rounds)]
        return _summed_up(machine, found, service, {**configuration, **contest.configuration()})


def _summed_up(
    machine: Machine, rounds: Sequence[Sequence[Run]], service: Service, configuration: Mapping[str, str | int | float]
) -> Result:
    told = {(run.outputs, run.dead_letters) for runs in rounds for run in runs if run.contestant != FLOOR}
    if len(told) > 1:
        raise BrokenPart(f"outputs and dead letters differ between rounds: {sorted(told)}")
    return result_of(rounds, machine, configuration, service.versions, RATIOS)


class _Contest:
    def __init__(
        self, service: Service, records: Mapping[str, int], chosen: Mapping[str, str], tree: Path | None
    ) -> None:
        self._service = service
        self._records = sum(records.values())
        self._events = self._records - records.get(CONTROL, 0)
        self._chosen = dict(chosen)
        self._tree = tree
        self._used = False

    def configuration(self) -> dict[str, str | int | float]:
        return {
            "partitions": PARTITIONS,
            "events": self._events,
            "ticks": self._records - self._events,
            "engine": "interpreted" if self._tree is None else "compiled",
            **{f"worker.{name}": value for name, value in self._chosen.items()},
        }

    def round(self, number: int) -> list[Run]:
        """One run of each, every other round in the opposite order."""
        order = [FLOOR, *WORKERS]
        runs = {name: self._run(name, number) for name in (order if number % 2 == 0 else reversed(order))}
        return [runs[name] for name in order]

    def _run(self, contestant: str, number: int) -> Run:
        what = f"round {number + 1}, {contestant.replace('_', ' ')}"
        if contestant == FLOOR:
            with progress(what, None):
                return self._floor(number)
        if self._used:
            self._service.clear()
        self._used = True
        return self._worked(contestant, number, what)

    # --- the floor ----------------------------------------------------------------------------------------------------

    def _floor(self, number: int) -> Run:
        command = [sys.executable, "-m", "benchmarks.floor", self._service.node.bootstrap, str(PARTITIONS)]
        usage = Usage(self._service.pids)
        reading = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            while reading.poll() is None:
                time.sleep(_SAMPLE_S)
                usage.sample()
            told, _ = reading.communicate()
        finally:
            reading.kill()
            reading.wait()
        if reading.returncode != 0:
            raise BrokenPart("the floor did not read to the end")
        floor = msgspec.json.decode(told, type=Floor)
        cpu_s = {"reader": floor.cpu_s, **usage.cpu_s(floor.from_s, floor.until_s)}
        return _run_of(FLOOR, number, floor.events, floor.until_s - floor.from_s, cpu_s)

    # --- the service --------------------------------------------------------------------------------------------------

    def _worked(self, contestant: str, number: int, what: str) -> Run:
        with self._service.workers(WORKERS[contestant], self._chosen, self._tree) as workers:
            usage = Usage({"workers": [worker.pid for worker in workers], **self._service.pids})
            with progress(what, self._records) as advance:
                done = 0
                for reached in self._until_done(workers, usage):
                    advance(reached - done)
                    done = reached
            figures = [worker.figures() for worker in workers]
            peak_mib = usage.peak_mib()
        window = window_of(read_commits(self._service.node.bootstrap, PARTITIONS))
        from_s, until_s = window.from_ms / 1000, window.until_ms / 1000
        return _run_of(
            contestant,
            number,
            window.events,
            until_s - from_s,
            usage.cpu_s(from_s, until_s),
            stage_share=_stage_share(figures),
            peak_mib=peak_mib,
            commits=window.commits,
            outputs=_total(figures, "duewatch_outputs_total"),
            dead_letters=_total(figures, "duewatch_dead_letters_total"),
        )

    def _until_done(self, workers: Sequence[WorkerProcess], usage: Usage) -> Iterator[int]:
        """Sample until all records are folded; gives how many are."""
        reached, moved_s, asked_s = 0, time.monotonic(), 0.0
        while reached < self._records:
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
                raise BrokenPart(f"{reached} of {self._records} records were folded, then none for {_STUCK_S:g} s")
            yield reached


def _run_of(contestant: str, number: int, events: int, seconds: float, cpu_s: Mapping[str, float], **more: Any) -> Run:
    cpu_us = {name: round(used / events * 1e6, 2) for name, used in cpu_s.items()}
    return Run(contestant, number, events, round(seconds, 3), round(events / seconds, 1), cpu_us, **more)


def _total(figures: Sequence[Mapping[tuple[str, str], float]], name: str) -> int:
    return int(sum(value for found in figures for (told, _), value in found.items() if told == name))


def _stage_share(figures: Sequence[Mapping[tuple[str, str], float]]) -> dict[str, float]:
    """Of all the time that chunks spent in one stage or the other; tasks of one worker wait for each other in it."""
    name = "duewatch_chunk_stage_seconds_sum"
    seconds = {stage: sum(found.get((name, stage), 0.0) for found in figures) for stage in get_args(Stage)}
    whole = sum(seconds.values())
    return {stage: round(spent / whole, 4) for stage, spent in seconds.items()}
