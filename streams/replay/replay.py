"""Replay: a recording through the engine, into files.

The same recording and policy give the same bytes, whatever the size of a chunk and the number of processes.
"""

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from schemas.topics import COMMITS, INPUTS
from streams.engine.blacklist import Signer
from streams.engine.fold import Engine
from streams.policy import loader
from streams.policy.model import Policy
from streams.replay.cycle import CHUNK_RECORDS, LocalTask, pieces
from streams.replay.outputs import PartWriter, PolicyUsed, Summary, join_parts, output_folder, write_summary
from streams.replay.progress import progress
from streams.replay.recording import Recording, RecordingError, RecordingWriter

RECORDED = "recorded"
"""In the place of a policy: the recorded activations, from the first one on; until then `standard`."""


class Rules(Struct, frozen=True):
    """Under which policy a recording is replayed; `recorded`: until a recorded activation replaces it."""

    policy: Policy
    recorded: bool


class Replayed(Struct, frozen=True):
    """What one task came to; `outputs` by topic, `dead_letters` by reason."""

    partition: int
    events: int
    outputs: dict[str, int]
    dead_letters: dict[str, int]


def rules_of(policy: str) -> Rules:
    """The rules that a name (`standard`, `recorded`) or a path stands for.

    Raises:
        PolicyError: there is no such policy, or it is refused.
    """
    if policy == RECORDED:
        return Rules(loader.load("standard"), True)
    return Rules(loader.load(policy), False)


def tasks_of(recording: Recording) -> list[int]:
    """The partitions that hold input records, in order."""
    return sorted({partition for topic in INPUTS for partition in recording.partitions(topic)})


class _Job(Struct, frozen=True):
    """What every task of one replay has in common. `partitions` as in `Engine`."""

    rules: Rules
    partitions: int | None
    folder: Path
    chunk_records: int
    signer: Signer | None

    def engine(self) -> Engine:
        return Engine(
            self.rules.policy,
            partitions=self.partitions,
            recorded_policies=self.rules.recorded,
            signer=self.signer,
        )


def replay(
    source: str | Path,
    policy: str,
    out: str | Path,
    workers: int = 1,
    chunk_records: int = CHUNK_RECORDS,
    signer: Signer | None = None,
) -> Summary:
    """Replay the recording at `source` into the folder `out`, which appears whole or not at all.

    Args:
        policy: `standard`, a path, or `recorded`.
        workers: processes that share the tasks.
        chunk_records: most records in one fold, where no commit says which.
        signer: makes the subject tokens of the blacklist; None: placeholders.

    Raises:
        PolicyError, RecordingError, CommitLogError: the policy, the recording or its commit log cannot be used, or
            `out` holds something else than the output of a replay.
    """
    rules = rules_of(policy)
    with Recording.open(source) as recording, output_folder(Path(out)) as folder:
        job = _Job(rules, recording.partition_count(), folder, chunk_records, signer)
        tasks = tasks_of(recording)
        counts = [entry.records for entry in recording.manifest.files if entry.topic in INPUTS]
        started_s = time.perf_counter()
        with progress("replaying", sum(counts) or None) as advance:
            if workers == 1 or len(tasks) < 2:
                engine = job.engine()
                replayed = [_replay_task(recording, engine, task, job, advance) for task in tasks]
            else:
                replayed = _share_out(recording, tasks, job, workers, advance)
        elapsed_s = time.perf_counter() - started_s
        summary = _sum_up(replayed, rules, join_parts(folder, tasks), elapsed_s)
        write_summary(folder, summary)
    return summary


def _replay_task(
    recording: Recording, engine: Engine, partition: int, job: _Job, advance: Callable[[int], None]
) -> Replayed:
    task = LocalTask(engine)
    writer = PartWriter(job.folder, partition)
    events = 0
    try:
        for records, committed in pieces(recording, partition, job.chunk_records):
            for folded in task.fold(records, committed):
                writer.write(folded.outputs, folded.dead_letters)
            events += len(records)
            advance(len(records))
    finally:
        writer.close()
    return Replayed(partition, events, writer.outputs, writer.dead_letters)


def _sum_up(replayed: Sequence[Replayed], rules: Rules, sha256: str, elapsed_s: float) -> Summary:
    by_topic: dict[str, int] = {}
    by_reason: dict[str, int] = {}
    for one in replayed:
        for topic, count in one.outputs.items():
            by_topic[topic] = by_topic.get(topic, 0) + count
        for reason, count in one.dead_letters.items():
            by_reason[reason] = by_reason.get(reason, 0) + count
    events = sum(one.events for one in replayed)
    return Summary(
        events=events,
        outputs=sum(by_topic.values()),
        dead_letters=sum(by_reason.values()),
        events_per_s=round(events / elapsed_s, 1),
        output_sha256=sha256,
        by_topic=dict(sorted(by_topic.items())),
        dead_letters_by_reason=dict(sorted(by_reason.items())),
        policy=PolicyUsed(rules.policy.id, loader.digest(rules.policy)),
    )


# --- several processes --------------------------------------------------------------------------------------------


@contextmanager
def _as_folder(recording: Recording) -> Iterator[Path]:
    """The recording as a folder that several processes can read: a copy, where it is JSON Lines."""
    if recording.path.is_dir():
        yield recording.path
        return
    copied = Path(tempfile.mkdtemp(prefix="duewatch-replay-"))
    try:
        with RecordingWriter(copied / "recording") as writer:
            for topic in sorted({*INPUTS, COMMITS}.intersection(recording.topics())):
                for partition in recording.partitions(topic):
                    for record in recording.records(topic, partition):
                        writer.write(record)
        yield copied / "recording"
    finally:
        shutil.rmtree(copied, ignore_errors=True)


def _largest_first(recording: Recording, tasks: Sequence[int]) -> list[int]:
    """The order in which tasks are begun, so that the longest ones do not end last."""
    sizes: dict[int, int] = {}
    for entry in recording.manifest.files:
        sizes[entry.partition] = sizes.get(entry.partition, 0) + entry.size_bytes
    return sorted(tasks, key=lambda task: -sizes.get(task, 0))


def _share_out(
    recording: Recording, tasks: Sequence[int], job: _Job, workers: int, advance: Callable[[int], None]
) -> list[Replayed]:
    # Not forked: Arrow and the progress line run threads.
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    replayed: list[Replayed] = []
    with (
        _as_folder(recording) as path,
        ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=begin_process) as pool,
    ):
        try:
            futures = [pool.submit(_replay_alone, path, task, job) for task in _largest_first(recording, tasks)]
            for future in as_completed(futures):
                replayed.append(future.result())
                advance(replayed[-1].events)
        except BaseException as error:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                raise RecordingError(f"{path}: a process died (out of memory?): give fewer --workers") from None
            raise
    return replayed


def begin_process() -> None:
    """Ctrl-C reaches every process of a terminal, but only the first one is to speak of it; and none outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _replay_alone(path: Path, partition: int, job: _Job) -> Replayed:
    with Recording.open(path) as recording:
        return _replay_task(recording, job.engine(), partition, job, lambda _: None)
