"""Runs the tests of a policy file: tables of one borrower's days, through the same fold as everything else.

The clock ticks at 01:00 of every day from the first row to the last; events are of noon. Everything that is decided
(warnings, limits, offers, reviews, listings) must stand in the table, on the day it speaks of and in its order. What
else is told of a day (buckets, reminders) may stand in it too, and must then be true.
"""

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

from msgspec import Struct

from schemas.topics import CONTROL, INPUTS, input_types
from streams.engine.calendar import HOUR_MS, Calendar, day_of, iso_day
from streams.engine.fold import Engine
from streams.engine.order import LogRecord, Ordered
from streams.policy.loader import Loaded
from streams.policy.tables import Row, Table
from streams.replay.cycle import LocalTask

FIRST_DAY = day_of(date(2026, 1, 1))
BORROWER = "b1"
DECISIONS = frozenset(("early-warnings", "limit-adjustments", "offers", "review-requests", "blacklist"))
DETAIL = {"early-warnings": "level", "limit-adjustments": "to_minor", "delinquency": "to", "review-requests": "why"}
"""What is told of an event beside its type, by topic."""

TOPIC_OF = {
    str(kind.__struct_config__.tag): topic for topic in INPUTS if topic != CONTROL for kind in input_types(topic)
}
_LOAN = {"loan_id": "A"}
_PAID = {"method": "manual", "channel": "app", "payment_id": "p{number}"}
GOES_WITHOUT_SAYING: dict[str, dict[str, Any]] = {
    "profile_set": {"segment": "worker", "currency": "CNY", "onboarded_on": -365, "identity_token": "T"},
    "loan_disbursed": {"product": "cash", "currency": "CNY"},
    "repayment_received": _PAID,
    "repayment_failed": {"attempt_id": "a{number}", "method": "auto_debit", "channel": "bank", "amount_minor": 1},
    "repayment_reversed": {"code": "bounced"},
    "loan_rescheduled": {"distressed": False},
    "login": {"outcome": "ok", "device_id": "d1", "channel": "app"},
    "transaction": {"transaction_id": "t{number}", "currency": "CNY", "direction": "out", "category": "purchase"},
    "plan_accepted": {"plan_id": "P"},
    "plan_declined": {"plan_id": "P"},
    "plan_broken": {"plan_id": "P"},
    "plan_completed": {"plan_id": "P"},
    "hold_set": {"reviewer": "R"},
    "hold_lifted": {"reviewer": "R"},
    "review_decided": {"reviewer": "R"},
}
"""Fields that a row need not tell, by type; every event of a loan is about loan A, if nothing else is said."""


class Difference(Struct, frozen=True):
    """A day on which something else was decided than the table says, or on which a row could not be taken."""

    day: int
    expected: list[str]
    decided: list[str]
    problem: str


class Outcome(Struct, frozen=True):
    """One test: where it stands in the file, and where it differs (nowhere: it passed)."""

    name: str
    place: str
    differences: list[Difference]

    @property
    def passed(self) -> bool:
        return not self.differences


def run_tests(loaded: Loaded) -> list[Outcome]:
    """Every test of a policy file, in its order."""
    engine = Engine(loaded.policy, recorded_policies=False)
    return [
        Outcome(table.name, loaded.place(("tests", at)), list(_differences(table, engine)))
        for at, table in enumerate(loaded.tests)
    ]


def _differences(table: Table, engine: Engine) -> Iterator[Difference]:
    """Day by day."""
    decided: dict[int, list[str]] = {}
    told: dict[int, list[str]] = {}
    calendar = Calendar(engine.initial.facts.calendar.zone)
    try:
        records = _records(table, calendar)
    except ValueError as error:
        yield Difference(0, [], [], str(error))
        return
    task = LocalTask(engine)
    for folded in task.fold(records):
        for letter in folded.dead_letters:
            day = calendar.day(letter.record.timestamp) - FIRST_DAY
            yield Difference(day, [], [], f"refused ({letter.reason}): {letter.message}")
        for output in folded.outputs:
            event = json.loads(output.value)
            day = calendar.day(event["at_ms"]) - FIRST_DAY if "at_ms" in event else 0
            detail = event.get(DETAIL.get(output.topic, ""))
            words = event["type"] if detail is None else f"{event['type']} {detail}"
            (decided if output.topic in DECISIONS else told).setdefault(day, []).append(words)
    expected: dict[int, list[str]] = {}
    for row in table.rows:
        expected.setdefault(row.day, []).extend(row.expect)
    for day in sorted({*expected, *decided}):
        wanted, found = expected.get(day, []), decided.get(day, [])
        besides = told.get(day, [])
        if [item for item in wanted if item not in besides] != found:
            yield Difference(day, wanted, found + [item for item in wanted if item in besides], "")


def _records(table: Table, calendar: Calendar) -> list[Ordered]:
    """The rows as records in the order of a task, with the ticks between them.

    Raises:
        ValueError: a row cannot be told as an event.
    """
    records: list[Ordered] = []
    rows = sorted(enumerate(table.rows), key=lambda numbered: (numbered[1].day, numbered[0]))
    if not rows:
        return []
    for day in range(rows[0][1].day, rows[-1][1].day + 1):
        start_ms = calendar.start_ms(FIRST_DAY + day)
        tick_ms = start_ms + HOUR_MS
        tick = {"type": "tick", "event_id": f"tick-{tick_ms}", "at_ms": tick_ms}
        records.append(_ordered(CONTROL, tick_ms, len(records), None, tick))
        for number, row in rows:
            if row.day == day and row.event:
                at_ms = start_ms + 12 * HOUR_MS + number
                topic, event = _event(row, number, at_ms)
                records.append(_ordered(topic, at_ms, len(records), BORROWER.encode(), event))
    return records


def _ordered(topic: str, at_ms: int, offset: int, key: bytes | None, event: dict[str, Any]) -> Ordered:
    return at_ms, topic, offset, LogRecord(topic, 0, offset, at_ms, key, json.dumps(event).encode(), ())


def _event(row: Row, number: int, at_ms: int) -> tuple[str, dict[str, Any]]:
    topic = TOPIC_OF.get(row.event)
    if topic is None:
        raise ValueError(f"rows[{number}].event: no event is called {row.event!r}; use one of: {', '.join(TOPIC_OF)}")
    given = GOES_WITHOUT_SAYING.get(row.event, {}) | row.fields
    if topic in ("repayments", "reviews") and row.event not in ("review_decided", "appeal_filed", "hold_set"):
        given = _LOAN | given
    event: dict[str, Any] = {"type": row.event, "event_id": f"e{number}", "at_ms": at_ms, "borrower_id": BORROWER}
    event |= {name: _value(name, value, number) for name, value in given.items()}
    if row.event == "loan_disbursed" and "principal_minor" not in event:
        rows = event.get("schedule")
        parts = [part["principal_minor"] for part in rows] if isinstance(rows, list) else []
        event["principal_minor"] = sum(part for part in parts if isinstance(part, int))
    return topic, event


def _value(name: str, value: Any, number: int) -> Any:
    if name == "schedule" and isinstance(value, list):
        nothing = {"principal_minor": 0, "interest_minor": 0, "fee_minor": 0}
        return [
            {"no": at + 1} | nothing | {key: _value(key, part, number) for key, part in row.items()}
            for at, row in enumerate(value)
            if isinstance(row, dict)
        ]
    if name.endswith("_on") and isinstance(value, int):
        return iso_day(FIRST_DAY + value)
    return value.replace("{number}", str(number)) if isinstance(value, str) else value
