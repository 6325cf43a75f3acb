"""Plays the tables in `decisions` through a replay: what is decided about one borrower, day by day.

The clock ticks at 01:00 of every day from the first row of a story to its last; events are of noon, unless a row tells
the time. All that is decided must stand in the table, on the day it speaks of and in its order, and nothing else may.
In every story the limit chain must be whole, and what is undone must have been done.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from streams.replay.explain import explain
from tests.replay.tape import SHANGHAI
from tests.stories.moves import check_moves
from tests.stories.telling import ACTIVATION, policy_of, tape_of
from tests.stories.test_stories import Story, stories

LIMITS = ("draws_restricted", "limit_decreased", "limit_frozen", "limit_zeroed", "limit_restored", "limit_rebased")


def reminded(event: dict[str, Any]) -> str:
    by = "+".join(event["channels"])
    if event["kind"] == "before_due":
        return f"reminder of {event['instalment_no']} in {event['days_to_due']} days, {minor_text(event)} by {by}"
    if event["kind"] == "payment_failed":
        return f"reminder after a failed payment of {event['instalment_no']}, {minor_text(event)} by {by}"
    if event["kind"] == "education":
        due, income = (Decimal(event[f"{name}_30d_minor"]) / 100 for name in ("due", "income"))
        return f"budget: {due:.2f} due of {income:.2f} by {by}"
    return f"check-in by {by}"


def minor_text(event: dict[str, Any]) -> str:
    return f"{Decimal(event['amount_minor']) / 100:.2f}"


def told(event: dict[str, Any], before: dict[str, dict[str, Any]], shadow: str | None) -> str:
    """An output in the words of a table."""
    kind = event["type"]
    words = kind.replace("_", " ")
    loan = event.get("loan_id", "A")
    if kind == "bucket_changed":
        words = f"{event['from']} to {event['to']}"
    elif kind == "classification_changed":
        classes = (event["contractual_bucket"], f"stage {event['ifrs9_stage']}", event["five_tier"], event["ffiec"])
        words = ", ".join(classes).replace("_", " ") + (", in default" if event["default_flag"] else "")
    elif kind in ("warning_raised", "warning_escalated", "warning_lowered"):
        words = f"{words} to {event['level']}"
    elif kind in LIMITS:
        words = f"{words} to {Decimal(event['to_minor']) / 100:.2f}"
        if kind in ("limit_restored", "limit_rebased"):
            words += f" {event['to_status']}"
    elif kind == "reminder_due":
        words = reminded(event)
    elif kind == "due_date_shifted":
        words = f"due date of {event['instalment_no']} shifted to {event['to_on']}"
    elif kind == "waiver_proposed":
        words = f"waiver of {event['component']} {Decimal(event['amount_minor']) / 100:.2f} on {event['instalment_no']}"
    elif kind == "review_requested":
        words = f"{words}: {event['why'].replace('_', ' ')}"
        if event["proposed"] is not None:
            words += f" (proposes {event['proposed']['type'].replace('_', ' ')})"
    if event.get("macro", {}).get("shift_points"):
        words += f" (thresholds {event['macro']['shift_points']:+})"
    if "compensates" in event:
        words += f" (undoes {before[event['compensates']]['type'].replace('_', ' ')})"
    if "incident_id" in event:
        words += f" by {event['incident_id']}"
    words = words if loan == "A" else f"{loan}: {words}"
    return words if shadow is None else f"shadow {shadow}: {words}"


def by_day(events: Iterable[dict[str, Any]], shadows: Iterable[dict[str, Any]] = ()) -> dict[str, list[str]]:
    """What was decided on each day: what is live, then what shadows would have decided."""
    days: dict[str, list[str]] = {}
    before: dict[str, dict[str, Any]] = {}
    for event, shadow in [*((event, None) for event in events), *((event, event["policy"]["id"]) for event in shadows)]:
        day = datetime.fromtimestamp(event["at_ms"] / 1000, SHANGHAI).date().isoformat()
        days.setdefault(day, []).append(told(event, before, shadow))
        before[event["event_id"]] = event
    return days


def expected_by_day(story: Story) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for on, _, expected in story.rows:
        wanted.setdefault(on.isoformat(), []).extend(item for item in expected.split("; ") if item)
    return {day: items for day, items in wanted.items() if items}


def check_chain(events: Iterable[dict[str, Any]]) -> None:
    chain = [event for event in events if event["type"] in LIMITS]
    assert [event["limit_seq"] for event in chain] == list(range(1, len(chain) + 1))
    for one, next_one in pairwise(chain):
        assert (next_one["from_minor"], next_one["from_status"]) == (one["to_minor"], one["to_status"])


def check_reasons(events: Iterable[dict[str, Any]]) -> None:
    """Whatever is decided against a borrower says why, with proof."""
    for event in events:
        if event["type"] in ("warning_raised", "warning_escalated", *LIMITS[:4]):
            assert 1 <= len(event["reasons"]) <= 4, event
            assert all(reason["evidence"] for reason in event["reasons"]), event
            assert event["recovery"]["action"]


def unspoken(story: Story) -> set[str]:
    """What tables leave out: classes have stories of their own, and so have reminders."""
    return (
        {"classification_changed"}
        if story.name.startswith("reminders: ")
        else {"classification_changed", "reminder_due"}
    )


@pytest.mark.parametrize("story", stories(Path(__file__).parent / "decisions"), ids=lambda story: story.name)
def test_decisions(story: Story, tmp_path: Path) -> None:
    activated = any(ACTIVATION.fullmatch(happening) for _, happening, _ in story.rows)
    policy = "recorded" if activated else policy_of(story.policy, tmp_path)
    tape = tape_of(story, policy, tmp_path / "so-far.jsonl")
    found = explain(tape.write(tmp_path / "story.jsonl"), "b1", policy=policy)
    events = [json.loads(bytes(raw)) for raw in found.decisions]
    events = [event for event in events if event["type"] not in unspoken(story)]
    shadows = [json.loads(bytes(raw)) for raw in found.shadow_decisions]
    assert by_day(events, shadows) == expected_by_day(story)
    check_chain(events)
    check_moves(events)
    check_reasons(events)
