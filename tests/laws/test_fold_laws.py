"""Ways to fold that must not show: what comes out is the same bytes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from streams.engine.cases import Cases
from streams.engine.chunk import SWEEP_LIMIT, Output, TaskState, Wake
from streams.engine.decide import Judge
from streams.engine.fold import Engine
from streams.engine.incidents import borrower_of
from streams.engine.order import Ordered
from streams.policy.loader import load
from streams.replay.cycle import chunks
from streams.replay.recording import Recording
from streams.replay.simulate.writing import simulate
from streams.store.memory import FailureIndex

BORROWERS, EVENTS = 40, 12_000


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Ordered]:
    """Some months of a small population, in a task's order."""
    out: Path = tmp_path_factory.mktemp("laws") / "recording"
    simulate(seed=11, borrowers=BORROWERS, events=EVENTS, out=out, partitions=1)
    with Recording.open(out) as recording:
        return [record for chunk in chunks(recording, 0) for record in chunk]


class Folding:
    """One way to fold: chunks of a size, with or without keeping what was opened."""

    def __init__(self, chunk: int, kept: int) -> None:
        self.outputs: list[Output] = []
        self.states: dict[str, bytes] = {}
        self.wakes: dict[str, int] = {}
        self.task = TaskState()
        self.failures = FailureIndex()
        self._chunk = chunk
        self._cases = Cases(kept)

    def run(self, records: Sequence[Ordered]) -> "Folding":
        engine = Engine(load("standard"), partitions=1)
        for chunk in self._pieces(records):
            rest = chunk
            while rest or self.task.sweep is not None:
                rest = self._fold(engine, rest)
        return self

    def _pieces(self, records: Sequence[Ordered]) -> Iterator[Sequence[Ordered]]:
        return (records[at : at + self._chunk] for at in range(0, len(records), self._chunk))

    def _fold(self, engine: Engine, chunk: Sequence[Ordered]) -> Sequence[Ordered]:
        needs = engine.needs(self.task, chunk, self._cases)
        due: list[Wake] = []
        if needs.due_until_ms is not None:
            due = sorted((ms, name) for name, ms in self.wakes.items() if ms <= needs.due_until_ms)[: SWEEP_LIMIT + 1]
        failures = [] if needs.failures is None else self.failures.within(needs.failures, SWEEP_LIMIT + 1)
        names = [*needs.borrowers, *(name for _, name in due), *map(borrower_of, failures)]
        blobs = {name: self.states.get(name) for name in names}
        folded = engine.fold(self.task, chunk, blobs, due, self._cases, failures)
        self.failures.change(folded.failures, folded.failures_from)
        self.outputs += folded.outputs
        self.states.update(folded.changed)
        for name, ms in folded.wakes.items():
            if ms is None:
                self.wakes.pop(name, None)
            else:
                self.wakes[name] = ms
        self.task = folded.task
        return chunk[folded.taken :]


@pytest.fixture(scope="module")
def usual(records: list[Ordered]) -> Folding:
    return Folding(chunk=2_000, kept=10_000).run(records)


def test_the_population_gives_the_laws_something_to_hold(usual: Folding) -> None:
    kinds = {output.kind for output in usual.outputs}
    assert {"bucket_changed", "warning_raised", "warning_escalated", "warning_cleared", "draws_restricted"} <= kinds


@pytest.mark.parametrize(("chunk", "kept"), [(1, 10_000), (97, 0), (2_000, 3), (10**9, 10_000)])
def test_chunk_size_and_kept_cases_do_not_show(records: list[Ordered], usual: Folding, chunk: int, kept: int) -> None:
    other = Folding(chunk, kept).run(records)
    assert other.outputs == usual.outputs
    assert other.states == usual.states
    assert other.wakes == usual.wakes
    assert other.task == usual.task


def test_ending_a_judgement_before_the_decision_does_not_show(
    records: list[Ordered], usual: Folding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "_only_windows_moved", lambda *_: False)
    thorough = Folding(chunk=2_000, kept=10_000).run(records)
    assert thorough.outputs == usual.outputs
    assert thorough.wakes == usual.wakes
    assert thorough.task == usual.task


def test_many_wake_ups_at_one_tick_fire_in_the_same_order_in_any_number_of_passes(
    records: list[Ordered], usual: Folding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.engine.fold.SWEEP_LIMIT", 3)
    monkeypatch.setattr(f"{__name__}.SWEEP_LIMIT", 3)
    piecewise = Folding(chunk=2_000, kept=10_000).run(records)
    assert piecewise.outputs == usual.outputs
    assert piecewise.states == usual.states
    assert piecewise.wakes == usual.wakes
