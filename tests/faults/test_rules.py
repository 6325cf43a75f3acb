"""Rows in which nothing breaks but what is fed in or what folds it: records of a bad release, and rules that fail or
hang."""

from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from schemas.topics import DLQ_SUFFIX
from streams.engine.order import LogRecord
from streams.worker.watchdog import STALLED_EXIT
from tests.faults.ailments import DEAF, HANGS, failing_rule
from tests.faults.checks import reason_of
from tests.faults.cluster import Cluster
from tests.faults.conftest import MakeStage
from tests.faults.points import Point
from tests.faults.stage import Stage
from tests.integration.live import replayed

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

POISONED = "signals"
_POISON = 250
"""Bad records for each task, more than it has good ones in that topic."""
_LEAST = 60


def poison(stage: Stage) -> None:
    """One producer's release writes nothing that can be read."""
    last_ms = max(record.timestamp for record in stage.script.records)
    ends = stage.ends()
    for task in range(stage.partitions):
        offsets = count(ends[POISONED, task])
        bad = LogRecord(POISONED, task, 0, last_ms, b"b-1", b'{"type": "profile_set"', [])
        stage.send(bad._replace(offset=next(offsets)) for _ in range(_POISON))


def test_a_bad_release_upstream(make_stage: MakeStage, one_node: Cluster) -> None:
    """The workers stop before they make a whole topic dead letters, and stop again when they are started again; told to
    go on they do."""
    stage = make_stage(one_node)
    stage.produce_all(stage.script.recording)
    poison(stage)
    stage.worker_settings |= {"dead_letter_least": _LEAST}
    told = f"records of {POISONED} are refused, now mostly for malformed_json"
    letters = []
    for _ in range(2):
        worker = stage.hire()
        stage.wait_for(lambda worker=worker: worker.exit_code is not None, "too much is refused")  # type: ignore[misc]
        assert worker.exit_code == 1
        assert told in worker.log
        letters.append(sum(map(len, stage.read(POISONED + DLQ_SUFFIX))))
        stage.give_up_seats()
    assert letters[1] < stage.partitions * _POISON / 2, "a whole topic became dead letters"
    stage.supervise(2, dead_letter_least=1_000_000)
    stage.finish(recorded=True)


def test_a_rule_that_fails(make_stage: MakeStage, one_node: Cluster, tmp_path: Path) -> None:
    """Whoever it fails on is in quarantine and all others go on, whatever dies meanwhile."""
    stage = make_stage(one_node)
    stage.produce_all(stage.script.recording)
    with failing_rule():
        wanted = replayed(stage.script.recording, tmp_path / "failing")
    deaths = [[Point("cycle.sent", hit=9)], [Point("cycle.committed", hit=7)]]
    stage.faults["FAULTS_AILMENT"] = "fails"
    stage.supervise(2, deaths, quarantine_most=1_000)
    stage.finish(wanted=wanted)
    found = [reason_of(headers) for letters in stage.outcome().letters.values() for _, _, headers in letters]
    assert found.count(b"quarantined") > 10
    assert found.count(b"quarantined") < stage.total / 2


class Hang(NamedTuple):
    """What is noted when it begins, and how the watchdog ends it: exit code, and what it tells."""

    mark: str
    exit_code: int
    told: str


_HANGS = {
    "sleeps": Hang(HANGS, STALLED_EXIT, "in _a_rule_that_sleeps"),
    "holds_the_interpreter": Hang(HANGS, 1, "in _a_rule_that_holds_the_interpreter"),
    "goes_deaf": Hang(DEAF, STALLED_EXIT, "there is work, but nothing was committed"),
}


@pytest.mark.parametrize("ailment", _HANGS)
def test_a_worker_that_hangs(make_stage: MakeStage, one_node: Cluster, ailment: str) -> None:
    """The watchdog ends it, with its stacks; who comes after goes on where it was."""
    stage = make_stage(one_node)
    stage.produce_all(stage.script.recording)
    stage.pace(0.05)
    hang = _HANGS[ailment]
    ill = stage.hire(faults={"FAULTS_AILMENT": ailment}, stall_s=8)
    stage.wait_for_mark(hang.mark)
    stage.tell("it hangs")
    stage.wait_for(lambda: ill.exit_code is not None, "the watchdog ends it", 60)
    assert ill.exit_code == hang.exit_code
    assert hang.told in ill.log
    stage.supervise(2)
    stage.finish()


_NO_GROUP = {"finds_no_group": "AssertionError", "may_not_join": "GroupAuthorizationFailedError"}


@pytest.mark.parametrize("ailment", _NO_GROUP)
def test_a_worker_without_its_group(make_stage: MakeStage, one_node: Cluster, ailment: str) -> None:
    """What keeps it in the group ends before anything is assigned: it ends too, instead of waiting for ever."""
    stage = make_stage(one_node)
    stage.produce_all(stage.script.recording)
    lost = stage.hire(faults={"FAULTS_AILMENT": ailment})
    stage.wait_for(lambda: lost.exit_code is not None, "it ends", 60)
    assert lost.exit_code == 1
    assert f"the membership of the group has ended: {_NO_GROUP[ailment]}" in lost.log
    stage.supervise(2)
    stage.finish()
