"""The benchmark command: what it writes can be read by a program, and its figures are of what was asked."""

import io
import json
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks import fold, programs, recordings
from benchmarks.commits import Commit, window_of
from benchmarks.contestants import rule
from benchmarks.contestants.ours import SmallFold
from benchmarks.contestants.program import read_setup
from benchmarks.field import PROGRAMS, RATIOS, TARGETS, WORKERS
from benchmarks.latency import waits
from benchmarks.reference import Reference, digest_of, reference_of
from benchmarks.result import Latency, Result, Run, Spread, result_of, show, this_machine, write
from benchmarks.window import Sample, steady
from streams.replay.cycle import LocalTask, chunks
from streams.replay.recording import Recording
from tests.parts import BrokenPart


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(recordings, "_CACHE", tmp_path / "cache")
    return recordings.recording_of(1, 20, 600)


def test_a_recording_is_made_once(recording: Path) -> None:
    made = recording.stat().st_mtime_ns
    assert recordings.recording_of(1, 20, 600) == recording
    assert recording.stat().st_mtime_ns == made


def test_the_result_of_a_fold_keeps_to_its_schema(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "fold.json"
    write(fold.fold(recording, 2, 100, {"seed": 1}), out)
    result = msgspec.json.decode(out.read_bytes(), type=Result)
    with Recording.open(recording) as opened:
        ticks = sum(entry.records for entry in opened.manifest.files if entry.topic == "control")
        events = opened.manifest.records - ticks
    assert [[run.events for run in runs] for runs in result.rounds] == [[events], [events]]
    spread = result.events_per_s["fold"]
    assert 0 < spread.lowest <= spread.median <= spread.highest
    assert result.configuration == {"seed": 1, "chunk_records": 100}
    assert result.machine.cores >= 1
    assert {"python", "duewatch", "aiokafka"} <= result.versions.keys()


def test_a_window_leaves_out_what_was_done_before_all_tasks_were_owned() -> None:
    window = window_of(
        [
            Commit(1_000, True, 0),
            Commit(1_100, False, 500),
            Commit(2_000, True, 0),
            Commit(2_500, False, 70),
            Commit(3_000, False, 30),
            Commit(4_500, False, 20),
            Commit(9_000, False, 0),
        ]
    )
    assert window == ((2.5, 4.5, 50), 2)


def test_a_window_of_one_commit_is_none() -> None:
    with pytest.raises(BrokenPart, match="more events"):
        window_of([Commit(1_000, True, 0), Commit(2_500, False, 70)])


def test_a_window_ends_where_a_task_changes_hands() -> None:
    window = window_of(
        [
            Commit(1_000, True, 0),
            Commit(1_100, False, 500),
            Commit(1_600, False, 300),
            Commit(2_000, True, 0),
            Commit(2_500, False, 70),
        ]
    )
    assert window == ((1.1, 1.6, 300), 1)


def test_a_window_begins_where_a_tenth_is_done() -> None:
    samples = [Sample(1.0, 5), Sample(2.0, 99), Sample(3.0, 100), Sample(5.0, 600), Sample(8.0, 1_000)]
    assert steady(samples) == (3.0, 8.0, 900)
    assert steady(samples, 0.5) == (5.0, 8.0, 400)


@pytest.mark.parametrize("samples", [[], [Sample(1.0, 0)], [Sample(1.0, 0), Sample(2.0, 900)]])
def test_what_is_done_between_two_looks_is_not_measured(samples: list[Sample]) -> None:
    with pytest.raises(BrokenPart, match="more events"):
        steady(samples)


# --- the small fold ---------------------------------------------------------------------------------------------------

_events = st.tuples(st.sampled_from(sorted(rule.PLACES)), st.integers(0, 10**12), st.integers(0, 10**12))


@given(st.lists(_events, max_size=40), st.integers(1, 10**12))
def test_a_window_holds_what_is_not_older_than_its_length(events: list[tuple[str, int, int]], length_ms: int) -> None:
    state = rule.EMPTY
    lists: dict[str, list[tuple[int, int]]] = {topic: [] for topic in rule.PLACES}
    for topic, at_ms, amount in events:
        state, total = rule.moved(state, rule.PLACES[topic], at_ms, amount, length_ms)
        window = lists[topic]
        while window and window[0][0] < at_ms - length_ms:
            window.pop(0)
        window.append((at_ms, amount))
        assert total == sum(amount for _, amount in window)
    entries = sum(map(len, lists.values()))
    assert len(state) == len(rule.EMPTY) + 16 * entries


@pytest.mark.parametrize("chunk_records", [1, 7, 600])
def test_our_engine_puts_out_what_the_reference_says(recording: Path, chunk_records: int) -> None:
    reference = reference_of(recording)
    engine = SmallFold("warnings")
    found: list[bytes] = []
    with Recording.open(recording) as opened:
        for partition in opened.partitions():
            task = LocalTask(engine)
            for chunk in chunks(opened, partition, chunk_records):
                found += [output.value for folded in task.fold(chunk) for output in folded.outputs]
    assert len(found) == reference.warnings > 0
    assert digest_of(found) == reference.sha256


def test_warnings_are_compared_whatever_their_order_but_each_counts_once() -> None:
    assert digest_of([b"a", b"b"]) == digest_of([b"b", b"a"])
    assert digest_of([b"a", b"b"]) != digest_of([b"a", b"b", b"b"])


def test_other_warnings_than_expected_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Reference(10, 2, digest_of([b"a", b"b"]), 100)
    monkeypatch.setattr(programs, "read_warnings", lambda bootstrap, topic: [b"a", b"b"])
    assert programs.checked("nowhere:1", "warnings", reference, "peer") == 2
    monkeypatch.setattr(programs, "read_warnings", lambda bootstrap, topic: [b"a"])
    with pytest.raises(BrokenPart, match="peer put out 1 warnings that are not the 2 expected"):
        programs.checked("nowhere:1", "warnings", reference, "peer")


def test_a_program_refuses_rules_that_are_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = {"windows_ms": rule.WINDOW_MS, "threshold_minor": rule.THRESHOLD_MINOR}
    monkeypatch.setattr(sys, "argv", ["program", json.dumps(setup)])
    assert read_setup() == setup
    monkeypatch.setattr(sys, "argv", ["program", json.dumps({**setup, "threshold_minor": 1})])
    with pytest.raises(ValueError, match="other rules"):
        read_setup()


# --- the result -------------------------------------------------------------------------------------------------------


def test_every_ratio_is_of_contestants_that_run() -> None:
    assert {name for pair in RATIOS.values() for name in pair} <= {*PROGRAMS, *WORKERS}
    assert TARGETS.keys() <= RATIOS.keys()


def test_a_ratio_is_taken_within_a_round_and_held_against_its_target() -> None:
    rounds = [
        [Run("a", number, 1, 1.0, ours, {}), Run("b", number, 1, 1.0, theirs, {})]
        for number, (ours, theirs) in enumerate([(30.0, 10.0), (80.0, 20.0), (10.0, 5.0)])
    ]
    result = result_of(rounds, this_machine(), {}, {}, {"a_vs_b": ("a", "b"), "b_vs_a": ("b", "a")}, {"a_vs_b": 3.0})
    assert result.ratios["a_vs_b"] == Spread(3.0, 2.0, 4.0)
    assert "a_vs_b 3.0 (2.0 to 4.0); target >= 3: met" in _shown(result)
    assert "target >= 3.1: not met" in _shown(msgspec.structs.replace(result, targets={"a_vs_b": 3.1}))


def test_a_latency_is_held_against_its_targets() -> None:
    result = result_of([[Run("a", 0, 1, 1.0, 5.0, {})]], this_machine(), {}, {})
    late = msgspec.structs.replace(result, latency={"idle": Latency(300, 0.0, 60.0, 200.1, 300.0, 60.0, 200.0)})
    shown = _shown(late)
    assert "latency idle, p50: 60.0 ms; target <= 60: met" in shown
    assert "latency idle, p99: 200.1 ms; target <= 200: not met" in shown


def test_an_event_waits_from_when_it_was_due_until_the_first_commit_behind_it() -> None:
    reached = {("logins", 0): [(1.0, 2), (3.0, 3), (7.0, 5)], ("control", 0): [(9.0, 1)]}
    due_s = {("logins", 0): [0.0, 0.5, 2.0, 4.0, 6.5], ("control", 0): [0.0]}
    assert list(waits(reached, due_s, {("logins", 0): 1})) == [0.5, 1.0, 3.0, 0.5]


def _shown(result: Result) -> str:
    told = io.StringIO()
    show(result, Console(file=told, width=200))
    return told.getvalue()
