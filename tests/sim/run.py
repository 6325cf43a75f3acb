"""One seed, and what came of it."""

from collections import Counter
from typing import NamedTuple

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
            killed=world.kills,
            stopped=world.stops,
            superseded=len(world.failures),
        ),
    )
