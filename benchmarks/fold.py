"""The engine alone over a recording: no Kafka, no Redis, the states in memory."""

import cProfile
import pstats
import resource
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.result import OWN, Result, Run, result_of, this_machine
from schemas.topics import CONTROL
from streams.engine.fold import Engine
from streams.policy.loader import load
from streams.replay.cycle import LocalTask, chunks
from streams.replay.progress import progress
from streams.replay.recording import Recording
from streams.worker import collector

CONTESTANT = "fold"
_PROFILE_ROWS = 40


def fold(
    recording: Path,
    rounds: int,
    chunk_records: int,
    configuration: Mapping[str, str | int | float],
    profile: cProfile.Profile | None = None,
) -> Result:
    """Fold the whole of a recording `rounds` times, each from empty states.

    Only the fold is timed, with what it needs around it (`LocalTask.fold`): reading and merging are not.
    """
    machine = this_machine()
    with Recording.open(recording) as opened:
        found = [[_fold_once(opened, number, chunk_records, profile)] for number in range(rounds)]
    return result_of(found, machine, {**configuration, "chunk_records": chunk_records}, {})


def _fold_once(recording: Recording, number: int, chunk_records: int, profile: cProfile.Profile | None) -> Run:
    engine = Engine(load("standard"), partitions=recording.partition_count())
    events = commits = outputs = dead_letters = 0
    wall_s = cpu_s = 0.0
    with progress(f"round {number + 1}, fold", recording.manifest.records) as advance:
        for partition in recording.partitions():
            task = LocalTask(engine)
            for chunk in chunks(recording, partition, chunk_records):
                began_s, began_cpu_s = time.perf_counter(), time.process_time()
                if profile is not None:
                    profile.enable()
                with collector.folding():
                    folded = list(task.fold(chunk))
                if profile is not None:
                    profile.disable()
                wall_s += time.perf_counter() - began_s
                cpu_s += time.process_time() - began_cpu_s
                events += sum(topic != CONTROL for _, topic, _, _ in chunk)
                commits += len(folded)
                outputs += sum(len(one.outputs) for one in folded)
                dead_letters += sum(len(one.dead_letters) for one in folded)
                advance(len(chunk))
    return Run(
        CONTESTANT,
        number,
        events,
        round(wall_s, 3),
        round(events / wall_s, 1),
        {OWN: round(cpu_s / events * 1e6, 2)},
        peak_mib={OWN: round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)},
        commits=commits,
        outputs=outputs,
        dead_letters=dead_letters,
    )


def show_profile(profile: cProfile.Profile) -> None:
    """Print where the time went. Profiling itself weighs on small functions: compare runs by their rates."""
    pstats.Stats(profile).sort_stats("tottime").print_stats(_PROFILE_ROWS)
