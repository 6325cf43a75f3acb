"""The benchmark command: what it writes can be read by a program, and its figures are of what was asked."""

from pathlib import Path

import msgspec
import pytest

from benchmarks import fold, recordings
from benchmarks.commits import Commit, window_of
from benchmarks.result import Result, write
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
    assert window == (2_500, 4_500, 50, 2)


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
    assert window == (1_100, 1_600, 300, 1)
