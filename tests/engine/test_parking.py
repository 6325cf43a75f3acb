"""Events that come before their loan: they wait within bounds, and are applied when it appears, or refused."""

from streams.engine.chunk import DeadLetter
from streams.engine.fold import Engine
from streams.engine.order import LogRecord, Ordered
from streams.engine.state import unpack
from streams.policy.loader import load
from streams.replay.cycle import LocalTask
from tests.replay.tape import Tape

STANDARD = load("standard")
ROOM = STANDARD.facts.parked_events_max


def ordered(records: list[LogRecord]) -> list[Ordered]:
    return [(record.timestamp, record.topic, record.offset, record) for record in records]


def fold(task: LocalTask, tape: Tape) -> list[DeadLetter]:
    letters = [letter for folded in task.fold(ordered(tape.records)) for letter in folded.dead_letters]
    tape.records.clear()
    return letters


def test_what_waits_is_bounded_and_is_applied_when_the_loan_appears() -> None:
    task, tape = LocalTask(Engine(STANDARD)), Tape()
    tape.tick("2026-01-01 01:00")
    for number in range(ROOM + 2):
        tape.pays("2026-01-01 02:00", 100, payment_id=f"p{number}")
    letters = fold(task, tape)
    assert [letter.reason for letter in letters] == ["parking_full", "parking_full"]
    tape.loan("2026-01-01 03:00")
    assert fold(task, tape) == []
    state = task.state("b1")
    assert state is not None
    facts = unpack(state).facts
    assert facts.parked == []
    assert facts.loans["L1"].received_minor == ROOM * 100


def test_what_waits_longer_than_the_allowed_lateness_is_refused_and_may_come_again() -> None:
    task, tape = LocalTask(Engine(STANDARD)), Tape()
    tape.tick("2026-01-01 01:00")
    tape.pays("2026-01-01 02:00", 100, payment_id="p", event_id="e")
    tape.days("2026-01-02", "2026-01-07")
    assert fold(task, tape) == []
    tape.days("2026-01-08", "2026-01-09")
    assert [(letter.reason, letter.record.topic) for letter in fold(task, tape)] == [("unknown_loan", "repayments")]
    tape.loan("2026-01-09 03:00")
    tape.pays("2026-01-09 04:00", 100, payment_id="p", event_id="e")
    assert fold(task, tape) == []
    state = task.state("b1")
    assert state is not None
    assert unpack(state).facts.loans["L1"].received_minor == 100
