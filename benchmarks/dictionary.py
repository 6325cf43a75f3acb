"""`python -m benchmarks.dictionary OUT`: the dictionary that states are compressed with (`streams.store.seal`).

It is trained on states of a simulated population as they get older. States stand in commit logs and stores for years,
and are read with the dictionary they were written with: a new one never replaces `states.zdict`, it is put beside it,
and both are read.
"""

import sys
from pathlib import Path

import zstandard

from benchmarks.recordings import recording_of
from streams.engine.fold import Engine
from streams.policy.loader import load
from streams.replay.cycle import LocalTask, chunks
from streams.replay.recording import Recording

_BORROWERS, _EVENTS = 3_000, 300_000
_BYTES = 8 * 1024
_SAMPLED = 7
"""Every so many of the states that a chunk changes are looked at."""


def trained() -> bytes:
    """A dictionary for states of a policy like the shipped one."""
    samples: list[bytes] = []
    with Recording.open(recording_of(1, _BORROWERS, _EVENTS)) as recording:
        engine = Engine(load("standard"), partitions=recording.partition_count())
        for partition in recording.partitions():
            task = LocalTask(engine)
            for chunk in chunks(recording, partition):
                changed = [state for folded in task.fold(chunk) for state in folded.changed.values()]
                samples += changed[::_SAMPLED]
    return zstandard.train_dictionary(_BYTES, [*samples], threads=1).as_bytes()


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(trained())
