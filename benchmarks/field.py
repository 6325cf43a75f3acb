"""Who runs: each contestant with what it is tuned with."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import peers

_ROOT = Path(__file__).parents[1]
WHOLE: Final = "whole"
TWO_WORKERS: Final = "two_workers"
WORKERS: Final = {WHOLE: 1, TWO_WORKERS: 2}
"""How many `duewatch worker` each has; every other contestant is a program of benchmarks/contestants."""
FOLD: Final = "fold"
FLOOR: Final = "floor"

Value = str | int | float
Settings = Mapping[str, Value]


class Place(NamedTuple):
    """Where a program runs: a name of its own, an empty folder, the broker."""

    name: str
    folder: str
    bootstrap: str


class Program(NamedTuple):
    """`command` makes the command, but for its argument; `given` are settings that depend on the place."""

    command: Callable[[Path | None], list[str]]
    settings: Settings
    given: Callable[[Place], Settings] = lambda _: {}


def _ours(module: str) -> Callable[[Path | None], list[str]]:
    def command(tree: Path | None) -> list[str]:
        path = _ROOT if tree is None else f"{tree}{os.pathsep}{_ROOT}"
        return ["env", f"PYTHONPATH={path}", sys.executable, "-m", f"benchmarks.contestants.{module}"]

    return command


def _peer(module: str) -> Callable[[Path | None], list[str]]:
    return lambda _: ["env", f"PYTHONPATH={_ROOT}", peers.python(), "-m", f"benchmarks.contestants.{module}"]


def _streams_settings(place: Place) -> Settings:
    return {"application.id": place.name, "bootstrap.servers": place.bootstrap, "state.dir": place.folder}


PROGRAMS: Final = {
    FOLD: Program(_ours("ours"), {"chunk_records": 100_000}),
    FLOOR: Program(_ours("floor"), {"records": 100_000}),
    "kafka_streams_eos": Program(
        lambda _: peers.kafka_streams(),
        {
            "processing.guarantee": "exactly_once_v2",
            "num.stream.threads": 2,
            "commit.interval.ms": 1_000,
            "statestore.cache.max.bytes": 64 << 20,
            "max.poll.records": 4_000,
            "auto.offset.reset": "earliest",
            "replication.factor": 1,
        },
        _streams_settings,
    ),
    "quix_eos": Program(_peer("quix_eos"), {"commit_interval": 5.0}),
    "bytewax": Program(_peer("bytewax_recovery"), {"batch_size": 2_000, "epoch_interval_s": 10}),
    "faust_tables": Program(_peer("faust_tables"), {"store": "memory://", "broker_max_poll_records": 4_000}),
}
RATIOS: Final = {
    "whole_vs_kafka_streams_eos": (WHOLE, "kafka_streams_eos"),
    "two_workers_vs_kafka_streams_eos": (TWO_WORKERS, "kafka_streams_eos"),
    "fold_vs_faust_tables": (FOLD, "faust_tables"),
    "fold_vs_quix_eos": (FOLD, "quix_eos"),
    "fold_vs_bytewax": (FOLD, "bytewax"),
    "fold_vs_floor": (FOLD, FLOOR),
}
"""By name: contestant, and contestant it is divided by."""
TARGETS: Final = {
    "whole_vs_kafka_streams_eos": 1.5,
    "fold_vs_faust_tables": 20.0,
    "fold_vs_quix_eos": 2.0,
    "fold_vs_floor": 0.5,
}
"""What a ratio should be at least."""
