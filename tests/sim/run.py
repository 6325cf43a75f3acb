"""One seed, and what came of it."""

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

from streams.engine.state import unpack_task
from streams.worker.commitlog import Committed
from tests.sim.check import check, commit_log
from tests.sim.world import World, surroundings


class Result(NamedTuple):
    wrong: list[str]
    counts: Counter[str]


def run(seed: int, trace: bool = False, harsh: bool = False) -> Result:
    """Run a seed; the same seed gives the same run."""
    world = World(seed, trace, harsh)
    with surroundings(world.plan.part_bytes):
        world.run()
        wrong = check(world)
    logs = [] if wrong else [commit_log(world.broker, server.partition) for server in world.servers]
    kinds = Counter(entry.record.kind for log in logs for entry in log)
    return Result(
        wrong,
        Counter(
            claims=kinds["claim"],
            chunks=kinds["chunk"],
            beside=sum(_beside(log) for log in logs),
            killed=world.kills,
            stopped=world.stops,
            superseded=len(world.failures),
        ),
    )


def _beside(log: list[Committed]) -> int:
    """How many commits took records while a sweep was open."""
    tasks = [unpack_task(packed) for entry in log if (packed := entry.record.packed_task) is not None]
    # The engine's clock counts records.
    return sum(before.sweep is not None and before.clock_ms != after.clock_ms for before, after in pairwise(tasks))
