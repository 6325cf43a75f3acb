"""How many zeroings and listings an hour lets through, and that it does not depend on where a chunk ends."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.partitioning import partition_of
from schemas.topics import CONTROL
from streams.engine.breaker import Granted, close_hours, grant, share_of
from streams.engine.calendar import HOUR_MS
from streams.engine.fold import Engine
from streams.engine.order import LogRecord
from streams.policy import model
from streams.policy.loader import body, load
from streams.replay.cycle import LocalTask
from streams.replay.explain import explain
from tests.engine.test_blacklist import nobody_pays
from tests.replay.tape import Tape

STANDARD = load("standard")
BORROWERS = [f"b{number}" for number in range(7)]


def policy(per_hour: int) -> model.Policy:
    limits = msgspec.structs.replace(STANDARD.limits, breaker=model.Breaker(per_hour))
    return msgspec.structs.replace(STANDARD, limits=limits)


def fold(tape: Tape, per_hour: int, chunk: int, partitions: int | None = None) -> list[dict[str, Any]]:
    task = LocalTask(Engine(policy(per_hour), partitions=partitions))
    records = sorted(tape.records, key=lambda record: (record.timestamp, record.topic == CONTROL, record.topic))
    ordered = [(record.timestamp, record.topic, record.offset, record) for record in records]
    told = []
    for at in range(0, len(ordered), chunk):
        told += [output.value for folded in task.fold(ordered[at : at + chunk]) for output in folded.outputs]
    return [json.loads(value) for value in told]


def many() -> Tape:
    """All of them 90 days past due on the same day."""
    tape = Tape()
    for borrower in BORROWERS[:-1]:
        nobody_pays("2026-01-01", borrower=borrower, tape=tape)
    return nobody_pays("2026-05-03", borrower=BORROWERS[-1], tape=tape)


@pytest.mark.parametrize("most", [0, 1, 5, 12, 13, 200])
def test_the_shares_of_all_tasks_are_the_whole(most: int) -> None:
    shares = [share_of(most, task, 12) for task in range(12)]
    assert sum(shares) == most
    assert max(shares) - min(shares) <= 1


def test_so_many_an_hour_and_segment_and_kind() -> None:
    granted, rules = Granted(), model.Breaker(2, {"student": 1})

    def asked(kind: str, segment: str, at_ms: int) -> bool:
        return grant(granted, rules, kind, segment, at_ms, (0, 1), sweeping=False)

    assert [asked("zeroed", "worker", 1) for _ in range(3)] == [True, True, False]
    assert [asked("zeroed", "student", 2) for _ in range(2)] == [True, False]
    assert asked("blacklisted", "worker", HOUR_MS - 1)
    assert [asked("zeroed", "worker", HOUR_MS) for _ in range(3)] == [True, True, False]


def test_while_a_sweep_is_open_each_hour_counts_by_itself_and_then_the_newest_alone() -> None:
    granted, rules = Granted(), model.Breaker(2)

    def asked(hour: int) -> bool:
        return grant(granted, rules, "zeroed", "worker", hour * HOUR_MS, (0, 1), sweeping=True)

    assert [asked(hour) for hour in (5, 9, 5, 5, 9, 9, 6, 5)] == [True, True, True, False, True, False, True, False]
    assert granted == Granted(9, {"5|zeroed|worker": 2, "zeroed|worker": 2, "6|zeroed|worker": 1})
    close_hours(granted)
    assert granted == Granted(9, {"zeroed|worker": 2})


def test_the_rest_goes_to_a_person_with_the_event_as_it_would_have_been() -> None:
    told = fold(many(), 4, 1_000)
    zeroed = [event for event in told if event["type"] == "limit_zeroed"]
    asked = [event for event in told if event["type"] == "review_requested" and event["why"] == "breaker_open"]
    assert len(zeroed) == 4
    assert len([event for event in told if event["type"] == "blacklisted"]) == 4
    assert sorted({event["borrower_id"] for event in zeroed + asked}) == BORROWERS
    for event in asked:
        proposed = event["proposed"]
        assert (proposed["type"], proposed["to_minor"], proposed["limit_seq"]) == ("limit_zeroed", 0, 4)
        assert proposed["reasons"] == [
            reason | {"evidence": proposed["reasons"][0]["evidence"]} for reason in zeroed[0]["reasons"]
        ]


@pytest.mark.parametrize("chunk", [1, 7])
def test_what_is_let_through_does_not_depend_on_where_a_chunk_ends(chunk: int) -> None:
    assert fold(many(), 4, chunk) == fold(many(), 4, 1_000)


def test_a_task_grants_its_own_share() -> None:
    mine = [name for name in (f"c{number}" for number in range(40)) if partition_of(name.encode(), 3) == 1][:4]
    tape = Tape()
    for name in mine[:-1]:
        nobody_pays("2026-01-01", borrower=name, tape=tape)
    nobody_pays("2026-05-03", borrower=mine[-1], tape=tape)
    tape.records = [
        LogRecord(record.topic, 1, record.offset, record.timestamp, record.key, record.value) for record in tape.records
    ]
    told = fold(tape, 5, 1_000, partitions=3)
    assert len([event for event in told if event["type"] == "limit_zeroed"]) == 2


def test_explain_tells_of_each_borrower_what_the_replay_of_all_did(tmp_path: Path) -> None:
    recording = many().write(tmp_path / "tape.jsonl")
    file = tmp_path / "policy.json"
    file.write_text(body(policy(4)))
    told = fold(many(), 4, 1_000)
    for borrower in BORROWERS:
        found = explain(recording, borrower, policy=str(file))
        decided = [json.loads(bytes(raw)) for raw in found.decisions]
        assert [event for event in decided if "borrower_id" in event] == [
            event for event in told if event.get("borrower_id") == borrower
        ]
        assert found.people.listed == any("subject_token" in event for event in decided)
