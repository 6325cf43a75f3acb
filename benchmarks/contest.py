"""Ours, the peers and the floor, one after the other on the same input, round after round."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import peers
from benchmarks.field import PROGRAMS, RATIOS, TARGETS, TWO_WORKERS, WORKERS
from benchmarks.programs import run_program
from benchmarks.recordings import PARTITIONS
from benchmarks.reference import Reference, reference_of
from benchmarks.result import Machine, Result, Run, result_of, this_machine
from benchmarks.service import Service, open_service
from benchmarks.workers import run_workers
from schemas.topics import CONTROL
from streams.replay.progress import progress
from tests.parts import BrokenPart, MissingPart

_REQUIRED: Final = "DUEWATCH_REQUIRE_REAL"


class Contest(NamedTuple):
    """What is to be measured.

    `tree` is a folder with the packages that ours runs, None for these sources. `chosen` are settings of the workers
    that differ from the defaults, by name. After `longest_s` a program is stopped and measured by what it did. `short`
    leaves two workers out, and a peer that cannot be had may be missing.
    """

    recording: Path
    rounds: int
    chosen: Mapping[str, str]
    tree: Path | None
    longest_s: float
    short: bool


def compete(contest: Contest, configuration: Mapping[str, str | int | float]) -> Result:
    """All contestants in each round.

    Raises:
        MissingPart: Kafka or Redis cannot be had here, or a peer where it must.
        BrokenPart: a part, or a contestant, did not do what it must.
    """
    machine = this_machine()
    names, missing = _had(contest.short)
    with open_service() as service:
        with progress("folding plainly, to compare", None):
            reference = reference_of(contest.recording)
        runner = _Runner(contest, service, service.fill(contest.recording), reference)
        found = [runner.round(number, names) for number in range(contest.rounds)]
        told = {**configuration, **runner.configuration(names), **missing}
        # So few events are of cold starts: nothing to hold against a target.
        return _summed_up(machine, found, service, told, {} if contest.short else TARGETS)


def _had(short: bool) -> tuple[list[str], dict[str, str]]:
    """The contestants that can run here, and why others cannot, as entries of the configuration."""
    names = [name for name in WORKERS if not (short and name == TWO_WORKERS)]
    missing: dict[str, str] = {}
    for name, program in PROGRAMS.items():
        try:
            with progress(f"preparing {name.replace('_', ' ')}", None):
                program.command(None)
        except MissingPart as reason:
            if os.environ.get(_REQUIRED) == "1" and not short:
                raise
            missing[f"missing.{name}"] = str(reason)
        else:
            names.append(name)
    return names, missing


def _summed_up(
    machine: Machine,
    rounds: Sequence[Sequence[Run]],
    service: Service,
    configuration: Mapping[str, str | int | float],
    targets: Mapping[str, float],
) -> Result:
    told = {(run.outputs, run.dead_letters) for runs in rounds for run in runs if run.contestant in WORKERS}
    if len(told) > 1:
        raise BrokenPart(f"outputs and dead letters differ between rounds: {sorted(told)}")
    ran = {run.contestant for run in rounds[0]}
    ratios = {name: pair for name, pair in RATIOS.items() if ran.issuperset(pair)}
    servers = {**service.versions, **peers.versions()}
    return result_of(rounds, machine, configuration, servers, ratios, targets)


class _Runner:
    def __init__(self, contest: Contest, service: Service, records: Mapping[str, int], reference: Reference) -> None:
        self._contest = contest
        self._service = service
        self._records = sum(records.values())
        self._ticks = records.get(CONTROL, 0)
        self._reference = reference
        self._used = False

    def configuration(self, names: Sequence[str]) -> dict[str, str | int | float]:
        return {
            "partitions": PARTITIONS,
            "events": self._records - self._ticks,
            "events_of_fold": self._reference.events,
            "ticks": self._ticks,
            "warnings_of_fold": self._reference.warnings,
            "engine": "interpreted" if self._contest.tree is None else "compiled",
            **{f"worker.{name}": value for name, value in self._contest.chosen.items()},
            **{
                f"{name}.{setting}": value
                for name in names
                if name in PROGRAMS
                for setting, value in PROGRAMS[name].settings.items()
            },
        }

    def round(self, number: int, names: Sequence[str]) -> list[Run]:
        """One run of each, every other round in the opposite order."""
        runs = {name: self._run(name, number) for name in (names if number % 2 == 0 else reversed(names))}
        return [runs[name] for name in names]

    def _run(self, contestant: str, number: int) -> Run:
        if self._used:
            self._service.clear()
        self._used = True
        place = (contestant, number)
        tree = self._contest.tree
        if contestant in WORKERS:
            return run_workers(self._service, WORKERS[contestant], self._records, self._contest.chosen, tree, place)
        longest_s = self._contest.longest_s
        return run_program(self._service, PROGRAMS[contestant], self._reference, longest_s, tree, place)
