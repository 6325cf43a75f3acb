"""Control events under an id that was taken before: a repeat changes nothing, other content is a dead letter."""

import json
from typing import Any

from streams.engine.chunk import Folded, TaskState
from streams.engine.fold import CONTROL_SEEN_MAX, Engine
from streams.engine.order import LogRecord
from streams.policy.loader import load
from tests.replay.tape import ms

ENGINE = Engine(load("standard"))


def opened(event_id: str, **fields: Any) -> dict[str, Any]:
    body = {"type": "incident_opened", "event_id": event_id, "at_ms": ms("2026-01-03 10:00"), "incident_id": event_id}
    body |= {"scope": {"channel": "bank_a"}, "from_ms": ms("2026-01-01"), "grace_days": 3, "cause": "outage"}
    return body | fields


def fold(task: TaskState, *events: dict[str, Any]) -> Folded:
    records = [
        LogRecord("control", 0, offset, event["at_ms"], None, json.dumps(event).encode())
        for offset, event in enumerate(events)
    ]
    return ENGINE.fold(task, [(record.timestamp, "control", record.offset, record) for record in records], {}, [])


def outcomes(folded: Folded) -> dict[str, int]:
    return {outcome: count for (_, outcome), count in folded.counts.items()}


def test_an_id_with_other_content_is_a_dead_letter_and_changes_nothing() -> None:
    repeated = dict(reversed(opened("i-7").items()))
    folded = fold(TaskState(), opened("i-7"), repeated, opened("i-7", grace_days=30))
    assert outcomes(folded) == {"accepted": 1, "duplicate": 1, "dead_letter": 1}
    (letter,) = folded.dead_letters
    assert (letter.reason, letter.stage, letter.record.offset) == ("conflicting_duplicate", "fold", 2)
    assert folded.task == fold(TaskState(), opened("i-7")).task


def test_what_was_refused_may_come_again_under_its_id() -> None:
    closed = {"type": "incident_closed", "event_id": "c-1", "at_ms": ms("2026-01-04"), "incident_id": "i-7"}
    closed["until_ms"] = ms("2026-01-03")
    folded = fold(TaskState(), closed, opened("i-7"), closed)
    assert [letter.reason for letter in folded.dead_letters] == ["unknown_incident"]
    assert outcomes(folded) == {"accepted": 2, "dead_letter": 1}


def test_an_id_that_an_older_release_noted_counts_as_the_same_event() -> None:
    task = fold(TaskState(control_seen=["i-1", "i-2"]), opened("i-3")).task
    folded = fold(task, opened("i-2"), opened("i-3"), opened("i-1", grace_days=9), opened("i-3", grace_days=9))
    assert outcomes(folded) == {"duplicate": 3, "dead_letter": 1}
    assert folded.dead_letters[0].record.offset == 3


def test_the_oldest_ids_are_forgotten_with_their_contents() -> None:
    factors = [
        {"type": "macro_set", "event_id": f"m-{number}", "at_ms": ms("2026-01-03"), "factor": number / 10_000}
        for number in range(CONTROL_SEEN_MAX + 1)
    ]
    task = fold(TaskState(control_seen=["m-old"]), *factors).task
    assert len(task.control_seen) == len(task.control_digests) == CONTROL_SEEN_MAX
    assert outcomes(fold(task, factors[1] | {"factor": 0.5})) == {"dead_letter": 1}
    assert outcomes(fold(task, factors[1], factors[-1])) == {"duplicate": 2}
    assert outcomes(fold(task, factors[0] | {"factor": 0.5})) == {"accepted": 1}
