"""Plays the tables in `decisions` through a replay: what is decided about one borrower, day by day.

The clock ticks at 01:00 of every day from the first row of a story to its last; events are of noon. All that is decided
must stand in the table, on the day it speaks of and in its order, and nothing else may. In every story the limit chain
must be whole, and what is undone must have been done.
"""

import json
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.inbound import BorrowerEvent
from schemas.topics import CONTROL
from streams.policy.loader import body, digest, load, loads
from streams.replay.explain import explain
from tests.replay.tape import SHANGHAI, TOPIC_OF, Tape, ms
from tests.stories.moves import check_moves
from tests.stories.test_stories import MONEY, ON, Play, Story, minor, stories

LIMITS = ("draws_restricted", "limit_decreased", "limit_frozen", "limit_zeroed", "limit_restored", "limit_rebased")
DECIDED = ("reviewer", "decision", "about_event_id", "expires_at_ms")
OTHER_EVENTS: tuple[tuple[str, str, tuple[str, ...], dict[str, Any]], ...] = (
    (
        rf"limit {MONEY} for a (\w+)",
        "profile_set",
        ("limit_minor", "segment"),
        {"currency": "CNY", "onboarded_on": "2025-01-01", "identity_token": "T1"},
    ),
    (
        rf"limit {MONEY} for a (\w+) without identity",
        "profile_set",
        ("limit_minor", "segment"),
        {"currency": "CNY", "onboarded_on": "2025-01-01"},
    ),
    (
        rf"income {MONEY}",
        "transaction",
        ("amount_minor",),
        {"transaction_id": "t", "direction": "in", "currency": "CNY", "category": "income"},
    ),
    (r"fraud (\w+) confirmed", "fraud_reported", ("kind",), {"confirmed": True}),
    (r"fraud (\w+) suspected", "fraud_reported", ("kind",), {"confirmed": False}),
    (r"violation (\w+) suspected", "violation_reported", ("kind",), {"confirmed": False}),
    (r"violation (\w+) confirmed", "violation_reported", ("kind",), {"confirmed": True}),
    (r"listed by (\w+)", "blacklist_reported", ("source",), {"listed": True}),
    (r"hardship (\w+) reported", "hardship_reported", ("kind",), {}),
    (r"(legal|manual) hold set", "hold_set", ("kind",), {"reviewer": "R1"}),
    (r"(legal|manual) hold lifted", "hold_lifted", ("kind",), {"reviewer": "R1"}),
    (r"appeals against the (.+)", "appeal_filed", ("about_event_id",), {"text_code": "wrong"}),
    (rf"(\w+) (approve|uphold|overturn)s the (.+?)(?: until {ON})?", "review_decided", DECIDED, {}),
    (
        rf"(\w+) sets the limit to {MONEY}(?: until {ON})?",
        "review_decided",
        ("reviewer", "limit_minor", "expires_at_ms"),
        {"decision": "set_limit"},
    ),
    (
        rf"(\w+) (clear|exempt)s(?: until {ON})?",
        "review_decided",
        ("reviewer", "decision", "expires_at_ms"),
        {},
    ),
)


ACTIVATION = re.compile(r"policy (\w+) (goes live|runs as a shadow|is retired)(?: with (.+))?")
MODES = {"goes live": "live", "runs as a shadow": "shadow", "is retired": "retired"}
SCOPE = r"(?:(channel|product|platform) (\w+)|everything)"
INCIDENT_OPENED = rf"incident (\w+) of {SCOPE} from {ON}(?: until {ON})? with (\d+) days of grace"
INCIDENT_CLOSED = rf"incident (\w+) closed, it ended {ON}"
FACTOR = rf"factor (-?[\d.]+)(?: for (product|segment|industry|region) (\w+))?(?: because of (\w+))?(?: until {ON})?"
MEANT: dict[str, Callable[[Any, str], Any]] = {
    "limit_minor": lambda teller, text: minor(text),
    "amount_minor": lambda teller, text: minor(text),
    "about_event_id": lambda teller, text: teller.latest(text),
    "expires_at_ms": lambda teller, text: ms(text),
}
"""What a word of a story stands for in the event."""


def policy_of(changes: str, tmp_path: Path) -> str:
    """The shipped policy, or a file with a story's changes of it."""
    if not changes:
        return "standard"
    file = tmp_path / "policy.json"
    file.write_text(changed("changed", changes.split("; ")))
    return str(file)


def changed(name: str, changes: Iterable[str]) -> str:
    """The shipped policy under another name, with these changes."""
    document = json.loads(body(load("standard")))
    for change in changes:
        path, _, value = change.partition(" = ")
        at = document
        *steps, last = path.split(".")
        for step in steps:
            at = at[int(step)] if isinstance(at, list) else at[step]
        at[last] = json.loads(value)
    text = json.dumps(document | {"id": name})
    loads(text, "story")
    return text


class Teller:
    """Writes the rows of a story down as records; knows what has been decided so far."""

    def __init__(self, policy: str, path: Path | None) -> None:
        self.tape = Tape()
        self._policy = policy
        self._path = path

    def latest(self, words: str) -> str:
        """The id of the last event of a type told so far; of a review with a reason, where one is given."""
        if self._path is None or not any(record.key for record in self.tape.records):
            return words.replace(" ", "-")
        kind, _, why = words.partition(": ")
        self._path.unlink(missing_ok=True)
        found = explain(self.tape.write(self._path), "b1", policy=self._policy)
        for raw in reversed(found.decisions):
            event = json.loads(bytes(raw))
            if event["type"] == kind.replace(" ", "_") and (not why or event["why"] == why.replace(" ", "_")):
                return str(event["event_id"])
        return words.replace(" ", "-")


def tape_of(story: Story, policy: str = "standard", path: Path | None = None) -> Tape:
    """The rows of a story as records, with ticks in between; `path` is where what was told so far is written, for a
    story that speaks of earlier decisions."""
    teller = Teller(policy, path)
    play, tape = Play(load("standard").facts), teller.tape
    day, silent_until = story.rows[0][0], story.rows[0][0]
    for on, happening, _ in story.rows:
        while day <= on:
            if day >= silent_until:
                tape.tick(f"{day} 01:00")
            day += timedelta(days=1)
        silence = re.fullmatch(rf"no tick before {ON}", happening)
        if silence is not None:
            silent_until = date.fromisoformat(silence.group(1))
        elif (activation := ACTIVATION.fullmatch(happening)) is not None:
            name, mode, changes = activation.groups()
            activate(name, MODES[mode], changed(name, [] if changes is None else changes.split(" and ")), on, tape)
        elif happening:
            tell(happening, on, play, teller)
    return tape


def activate(name: str, mode: str, text: str, on: date, tape: Tape) -> None:
    event = {
        "type": "policy_activated", "event_id": f"{mode}-{name}", "at_ms": ms(f"{on} 12:00"), "policy_id": name,
        "digest": digest(loads(text, name)), "mode": mode, "body": text, "author": "ann", "approver": "bob",
    }  # fmt: skip
    tape.raw(CONTROL, f"{on} 12:00", None, json.dumps(event).encode())


def tell(happening: str, on: date, play: Play, teller: Teller) -> None:
    control = control_event(happening)
    if control is not None:
        teller.tape.control(f"{on} 12:00", control.pop("type"), **control)
        return
    late = re.match(rf"late, of {ON}: ", happening)
    at = date.fromisoformat(late.group(1)) if late else on
    happening = happening[late.end() :] if late else happening
    fields = other_event(happening, teller)
    if fields is None:
        name, text = happening.split(": ", 1) if re.match(r"[A-Z]: ", happening) else ("A", happening)
        fields = msgspec.to_builtins(play.event_of(at, name, text))
    fields = {name: value for name, value in fields.items() if value is not None}
    kind = fields.pop("type")
    assert issubclass(BorrowerEvent, msgspec.Struct)
    assert kind in TOPIC_OF
    for common in ("event_id", "at_ms", "borrower_id"):
        fields.pop(common, None)
    teller.tape.event(f"{at} 12:00", kind, received=f"{on} 12:00", **fields)


def control_event(text: str) -> dict[str, Any] | None:
    """An incident of whole days: from 00:00 of the first to 23:59 of the last; a factor until 00:00 of a day."""
    opened = re.fullmatch(INCIDENT_OPENED, text)
    if opened is not None:
        incident_id, kind, name, from_on, until_on, days = opened.groups()
        until = {} if until_on is None else {"until_ms": ms(f"{until_on} 23:59")}
        scope = {"all": True} if kind is None else {kind: name}
        fields = {"scope": scope, "from_ms": ms(f"{from_on} 00:00"), "grace_days": int(days), "cause": "outage"}
        return {"type": "incident_opened", "incident_id": incident_id} | fields | until
    told_factor = re.fullmatch(FACTOR, text)
    if told_factor is not None:
        factor, kind, name, indicator, until_on = told_factor.groups()
        given = {"indicator": indicator, "until_ms": None if until_on is None else ms(f"{until_on} 00:00")}
        scope = {} if kind is None else {"scope": {kind: name}}
        return {"type": "macro_set", "factor": float(factor)} | given | scope
    closed = re.fullmatch(INCIDENT_CLOSED, text)
    if closed is not None:
        return {"type": "incident_closed", "incident_id": closed.group(1), "until_ms": ms(f"{closed.group(2)} 23:59")}
    return None


def other_event(text: str, teller: Teller) -> dict[str, Any] | None:
    for pattern, kind, names, others in OTHER_EVENTS:
        found = re.fullmatch(pattern, text)
        if found is not None:
            values = dict(zip(names, found.groups(), strict=True))
            for name, value in values.items():
                if value is not None and name in MEANT:
                    values[name] = MEANT[name](teller, value)
            return {"type": kind} | values | others
    return None


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
