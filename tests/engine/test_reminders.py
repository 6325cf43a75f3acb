"""What a reminder says beside its date; when reminders are due is told in tests/stories/decisions/reminders.md."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.replay.explain import explain
from tests.replay.tape import Tape


def reminders(tape: Tape, tmp_path: Path) -> list[dict[str, Any]]:
    found = explain(tape.write(tmp_path / "tape.jsonl"), "b1")
    events = [json.loads(bytes(raw)) for raw in found.decisions]
    return [event for event in events if event["type"] == "reminder_due"]


def consequences(event: dict[str, Any]) -> list[str]:
    return [f"{one['on']} {one['what']}" for one in event["consequences"]]


def test_a_reminder_tells_what_lateness_would_lead_to_and_when(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 12:00")
    tape.loan("2026-01-01 12:00")
    tape.days("2026-01-02", "2026-01-25")
    (event,) = reminders(tape, tmp_path)
    assert (event["kind"], event["due_on"], event["days_to_due"]) == ("before_due", "2026-01-31", 7)
    assert consequences(event) == [
        "2026-02-01 warning",
        "2026-02-04 draws_restricted",
        "2026-02-15 limit_decreased",
        "2026-03-03 limit_frozen",
        "2026-05-01 limit_zeroed",
    ]
    assert event["cause"]["event_id"].startswith("tick-")


def test_who_is_late_already_hears_of_what_is_ahead_alone(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 12:00")
    tape.loan("2026-01-01 12:00")
    tape.days("2026-01-02", "2026-02-05")
    attempt = {"attempt_id": "T1", "amount_minor": 105_000, "method": "auto_debit", "channel": "bank_a"}
    tape.event("2026-02-05 12:00", "repayment_failed", loan_id="L1", code="insufficient_funds", **attempt)
    event = reminders(tape, tmp_path)[-1]
    assert (event["kind"], event["instalment_no"], event["days_to_due"]) == ("payment_failed", 1, -5)
    # Draws are restricted since the day before; the failed debit has raised the level to amber: the next one is red.
    assert consequences(event) == [
        "2026-02-15 limit_decreased",
        "2026-03-03 limit_frozen",
        "2026-03-03 warning",
        "2026-05-01 limit_zeroed",
    ]


def test_without_a_limit_nothing_is_said_of_it(tmp_path: Path) -> None:
    tape = Tape()
    tape.loan("2026-01-01 12:00")
    tape.days("2026-01-02", "2026-01-25")
    assert [consequences(event) for event in reminders(tape, tmp_path)] == [["2026-02-01 warning"]]


@pytest.mark.parametrize("last", ["2026-01-24", "2026-01-25"])
def test_nobody_is_reminded_ahead_of_the_hour(tmp_path: Path, last: str) -> None:
    tape = Tape()
    tape.loan("2026-01-01 12:00")
    tape.days("2026-01-02", last)
    assert len(reminders(tape, tmp_path)) == (last == "2026-01-25")
