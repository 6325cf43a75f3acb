"""What was published, held against what the engine says: each way in which they can differ."""

import json
from typing import Any

from streams.engine.chunk import DeadLetter, Output, Sweep
from streams.engine.order import LogRecord
from streams.replay.audit.book import Book, Bounds
from streams.replay.audit.report import FIRST, Difference, TaskAudit
from streams.worker.deadletter import dead_letter_message

TASK = 1
TOPIC = "early-warnings"
KEY = b"b1"
"""Of partition 1 of 2."""
BOUNDS = Bounds(TASK, {"logins": (10, 0), "control": (4, 0)}, {"logins": (20, 0), "control": (6, 0)}, None)


def event(event_id: str, topic: str = "logins", offset: int = 12, partition: int = TASK, **more: Any) -> bytes:
    cause = {"topic": topic, "partition": partition, "offset": offset, "event_id": "e"}
    return json.dumps({"event_id": event_id, "cause": cause, **more}).encode()


def published(value: bytes, offset: int = 70, partition: int = TASK, key: bytes = KEY) -> LogRecord:
    return LogRecord(TOPIC, partition, offset, 0, key, value)


def book(*values: bytes) -> Book:
    made = Book(TASK, {TOPIC: 2})
    made.expect(33, [Output(TOPIC, KEY, value, "warning_raised") for value in values], [])
    return made


def flaw(found: Difference | None) -> tuple[str, str | None] | None:
    return None if found is None else (found.flaw, found.event_id)


def test_what_is_as_it_should_be_is_not_told() -> None:
    made = book(event("a"), event("b"))
    assert made.found(published(event("b"), 71), BOUNDS) is None
    assert made.found(published(event("a"), 72), BOUNDS) is None
    assert list(made.missing({})) == []


def test_missing_doubled_changed_and_misplaced() -> None:
    made = book(event("a"), event("b"), event("c"), event("d"))
    assert made.found(published(event("a")), BOUNDS) is None
    doubled = made.found(published(event("a"), 71), BOUNDS)
    assert doubled is not None
    assert (doubled.flaw, doubled.event_id, doubled.offset, doubled.commit) == ("doubled", "a", 71, 33)
    assert flaw(made.found(published(event("b", score=1)), BOUNDS)) == ("differs", "b")
    assert flaw(made.found(published(event("c"), partition=0), BOUNDS)) == ("differs", "c")
    (missing,) = made.missing({})
    assert (missing.flaw, missing.event_id, missing.topic, missing.partition, missing.offset) == (
        "missing",
        "d",
        TOPIC,
        TASK,
        None,
    )


def test_what_nobody_expects_is_told_where_its_cause_was_audited() -> None:
    made = book()
    assert flaw(made.found(published(event("x", offset=10)), BOUNDS)) == ("unexpected", "x")
    assert flaw(made.found(published(event("x", offset=19)), BOUNDS)) == ("unexpected", "x")
    for other in (event("x", offset=9), event("x", offset=20), event("x", partition=0), event("x", topic="reviews")):
        assert made.found(published(other), BOUNDS) is None
    assert flaw(made.found(published(b"{}"), BOUNDS)) == ("unexpected", None)


def test_what_an_open_sweep_will_cause_is_not_unexpected() -> None:
    sweeping = Bounds(TASK, BOUNDS.start, BOUNDS.end, Sweep(0, TASK, 5, "tick"))
    assert book().found(published(event("x", "control", 5)), sweeping) is None
    assert book().found(published(event("x", "control", 5)), BOUNDS) is not None
    assert book().found(published(event("x", "control", 4)), sweeping) is not None


def test_what_retention_has_deleted_is_not_missing() -> None:
    made = book(event("a"), event("b"), event("c"))
    assert made.found(published(event("b")), BOUNDS) is None
    assert [difference.event_id for difference in made.missing({(TOPIC, TASK): 70})] == ["c"]
    assert list(book(event("a")).missing({(TOPIC, TASK): 70})) == []


def letter(offset: int, reason: str = "malformed_json", stage: str = "decode") -> LogRecord:
    refused = LogRecord("logins", TASK, offset, 5, KEY, b"{", [("h", b"1")])
    message = dead_letter_message(DeadLetter(refused, reason, "not JSON", stage))
    return LogRecord(message.topic, TASK, 3, 5, message.key, message.value, message.headers)


def test_dead_letters_are_known_by_the_record_they_are_about() -> None:
    made = Book(TASK, {})
    refused = LogRecord("logins", TASK, 12, 5, KEY, b"{", [("h", b"1")])
    made.expect(33, [], [DeadLetter(refused, "malformed_json", "not JSON", "decode")])
    assert [difference.what for difference in made.missing({})] == ["about logins offset 12"]
    assert made.found(letter(12), BOUNDS) is None
    assert flaw(made.found(letter(12), BOUNDS)) == ("doubled", None)
    assert flaw(made.found(letter(13), BOUNDS)) == ("unexpected", None)
    # Before the range; and what waited for its loan may be refused long after its own commit.
    assert made.found(letter(9), BOUNDS) is None
    assert made.found(letter(13, "unknown_loan", "fold"), BOUNDS) is None
    other = Book(TASK, {})
    other.expect(33, [], [DeadLetter(refused, "malformed_json", "not JSON", "decode")])
    assert flaw(other.found(letter(12, "too_deep"), BOUNDS)) == ("differs", None)


def test_all_are_counted_and_the_first_are_kept() -> None:
    told = TaskAudit(TASK)
    for number in range(FIRST + 5):
        told.add(Difference(TASK, "output", "missing", event_id=str(number)))
    assert told.differences == FIRST + 5
    assert [difference.event_id for difference in told.shown] == [str(number) for number in range(FIRST)]
