"""`python -m benchmarks.digest RECORDING`: one line that changes with any byte of what a fold gives."""

import hashlib
import sys
from pathlib import Path

from streams.engine.fold import Engine
from streams.policy.loader import load
from streams.replay.cycle import LocalTask, chunks
from streams.replay.recording import Recording


def digest_of(path: Path) -> str:
    """SHA-256 over outputs, dead letters, states, wake-ups and task states, in their order."""
    digest = hashlib.sha256()
    with Recording.open(path) as recording:
        engine = Engine(load("standard"), partitions=recording.partition_count())
        for partition in recording.partitions():
            task = LocalTask(engine)
            for chunk in chunks(recording, partition, 1_000):
                for folded in task.fold(chunk):
                    for output in folded.outputs:
                        digest.update(output.value)
                    told = (
                        folded.dead_letters,
                        sorted(folded.changed.items()),
                        sorted(folded.wakes.items()),
                        folded.task,
                    )
                    digest.update(repr(told).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    print(digest_of(Path(sys.argv[1])))
