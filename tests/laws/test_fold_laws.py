"""Ways to fold that must not show: what comes out is the same bytes."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from streams.engine.calendar import DAY_MS
from streams.engine.cases import Cases
from streams.engine.chunk import SWEEP_LIMIT, DeadLetter, Output, Sweep, TaskState, Wake
from streams.engine.decide import Judge
from streams.engine.fold import CONTROL, Engine
from streams.engine.incidents import borrower_of
from streams.engine.order import LogRecord, Ordered
from streams.policy.loader import load
from streams.policy.model import Policy
from streams.replay.cycle import chunks
from streams.replay.recording import Recording
from streams.replay.simulate.writing import simulate
from streams.store.memory import FailureIndex

BORROWERS, EVENTS = 40, 12_000
FACTORS: list[dict[str, Any]] = [
    {"factor": 0.3, "indicator": "gdp"},
    {"factor": 0.7, "scope": {"segment": "worker"}},
    {"factor": -0.8, "scope": {"segment": "student"}},
    {"factor": 0.6, "indicator": "gdp"},
    {"factor": 0.0, "scope": {"segment": "worker"}},
    {"factor": 0.9, "scope": {"product": "cash"}},
    {"factor": 0.0, "indicator": "gdp"},
]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Ordered]:
    """Some months of a small population, in a task's order."""
    out: Path = tmp_path_factory.mktemp("laws") / "recording"
    simulate(seed=11, borrowers=BORROWERS, events=EVENTS, out=out, partitions=1)
    with Recording.open(out) as recording:
        usual = [record for chunk in chunks(recording, 0) for record in chunk]
    return with_factors(usual)


def with_factors(records: Sequence[Ordered]) -> list[Ordered]:
    """The records, and after some of them factors that shift thresholds: set, changed, lifted, for a month."""
    told: list[Ordered] = []
    apart = len(records) // len(FACTORS)
    for at, one in enumerate(records):
        told.append(one)
        if at % apart == apart // 2:
            number, order_ms = at // apart, one[0]
            body = {"type": "macro_set", "event_id": f"macro-{number}", "at_ms": order_ms} | FACTORS[number]
            body |= {"until_ms": order_ms + 30 * DAY_MS} if number % 2 else {}
            record = LogRecord(CONTROL, 0, 1_000_000 + number, order_ms, None, json.dumps(body).encode())
            told.append((order_ms, CONTROL, 1_000_000 + number, record))
    return told


class Folding:
    """One way to fold: chunks of a size, with or without keeping what was opened. `gives` says whether a pass is given
    records while a sweep is open, to go beside it; `beside` counts the passes that took some."""

    def __init__(
        self, chunk: int, kept: int, gives: Callable[[Sweep], bool] = lambda _: False, policy: Policy | None = None
    ) -> None:
        self.beside = 0
        self.outputs: list[Output] = []
        self.letters: list[DeadLetter] = []
        self.states: dict[str, bytes] = {}
        self.wakes: dict[str, int] = {}
        self.task = TaskState()
        self.failures = FailureIndex()
        self._chunk = chunk
        self._cases = Cases(kept)
        self._gives = gives
        self._policy = load("standard") if policy is None else policy

    def run(self, records: Sequence[Ordered]) -> "Folding":
        engine = Engine(self._policy, partitions=1)
        for chunk in self._pieces(records):
            rest = chunk
            while rest or self.task.sweep is not None:
                rest = self._fold(engine, rest)
        return self

    def _pieces(self, records: Sequence[Ordered]) -> Iterator[Sequence[Ordered]]:
        return (records[at : at + self._chunk] for at in range(0, len(records), self._chunk))

    def _fold(self, engine: Engine, rest: Sequence[Ordered]) -> Sequence[Ordered]:
        sweep = self.task.sweep
        chunk = rest if sweep is None or self._gives(sweep) else ()
        needs = engine.needs(self.task, chunk, self._cases)
        due: list[Wake] = []
        if needs.due_until_ms is not None:
            due = sorted((ms, name) for name, ms in self.wakes.items() if ms <= needs.due_until_ms)[: SWEEP_LIMIT + 1]
        failures = [] if needs.failures is None else self.failures.within(needs.failures, SWEEP_LIMIT + 1)
        names = [*needs.borrowers, *(name for _, name in due), *map(borrower_of, failures)]
        blobs = {name: self.states.get(name) for name in names}
        folded = engine.fold(self.task, chunk, blobs, due, self._cases, failures)
        for name in folded.erased:
            self.states.pop(name, None)
            self.wakes.pop(name, None)
            self.failures.forget(name)
        self.failures.change(folded.failures, folded.failures_from)
        self.beside += sweep is not None and folded.taken > 0
        self.outputs += folded.outputs
        self.letters += folded.dead_letters
        self.states.update(folded.changed)
        for name, ms in folded.wakes.items():
            if ms is None:
                self.wakes.pop(name, None)
            else:
                self.wakes[name] = ms
        self.task = folded.task
        return rest[folded.taken :]


@pytest.fixture(scope="module")
def usual(records: list[Ordered]) -> Folding:
    return Folding(chunk=2_000, kept=10_000).run(records)


def test_the_population_gives_the_laws_something_to_hold(usual: Folding) -> None:
    kinds = {output.kind for output in usual.outputs}
    assert {"bucket_changed", "warning_raised", "warning_escalated", "warning_cleared", "draws_restricted"} <= kinds
    shifts = {
        json.loads(output.value)["macro"]["shift_points"] for output in usual.outputs if b'"macro"' in output.value
    }
    assert {20, 40} <= shifts


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
