"""Erasing a borrower: nothing of it is left, nobody else is touched, and what comes later is of somebody new."""

import msgspec
import pytest

from streams.engine.chunk import Folded
from streams.engine.fold import Engine
from streams.engine.order import LogRecord, Merge
from streams.engine.state import unpack
from streams.policy.loader import load
from streams.replay.cycle import LocalTask
from tests.replay.tape import Tape

TOPICS = ("control", "logins", "repayments", "reviews", "signals", "transactions")


def life(tape: Tape, borrower: str) -> None:
    """Ninety days of arrears of a borrower with a failed debit: warned, restricted, in the index of failures."""
    tape.profile("2026-01-01 09:00", borrower)
    tape.loan("2026-01-01 10:00", borrower, loan_id=f"loan-{borrower}", due="2026-02-01")


def erase(tape: Tape, at: str, borrower: str = "b1", event_id: str = "erase-1") -> None:
    tape.event(at, "borrower_erased", borrower, event_id=event_id, reviewer="u1")


def folded(records: list[LogRecord], chunk: int = 1_000) -> tuple[LocalTask, list[Folded]]:
    merge = Merge(TOPICS, {})
    for topic in TOPICS:
        merge.push(topic, [record for record in records if record.topic == topic])
    task = LocalTask(Engine(load("standard")))
    told: list[Folded] = []
    while taken := merge.take(TOPICS, chunk):
        told += task.fold(taken)
    return task, told


def outputs(told: list[Folded], borrower: str) -> list[bytes]:
    return [output.value for one in told for output in one.outputs if output.key == borrower.encode()]


def counts(task: LocalTask) -> tuple[object, ...]:
    """The task's gauges, without those that stand at nothing."""
    state = task.task
    loans = {
        currency: {bucket: pair for bucket, pair in by.items() if pair != [0, 0]}
        for currency, by in state.loans.items()
    }
    loans = {currency: counted for currency, counted in loans.items() if counted}
    levels = {name: count for name, count in state.levels.items() if count}
    statuses = {name: count for name, count in state.statuses.items() if count}
    return loans, levels, statuses, {why: count for why, count in state.reviews.items() if count}, state.lying


@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_nothing_is_left_and_nobody_else_is_touched(chunk: int) -> None:
    both, other = Tape(), Tape()
    for tape in (both, other):
        life(tape, "b2")
    life(both, "b1")
    for tape in (both, other):
        tape.days("2026-01-02", "2026-05-10")
    erase(both, "2026-05-10 12:00")
    for tape in (both, other):
        tape.days("2026-05-11", "2026-06-10")
    with_b1, told = folded(both.records, chunk)
    alone, wanted = folded(other.records, chunk)
    assert len(outputs(told, "b1")) > 5
    assert list(with_b1.borrowers()) == ["b2"]
    assert with_b1.wakes() == alone.wakes()
    assert counts(with_b1) == counts(alone)
    assert counts(alone)[1]
    assert [msgspec.json.decode(value)["event_id"] for value in outputs(told, "b2")] == [
        msgspec.json.decode(value)["event_id"] for value in outputs(wanted, "b2")
    ]
    assert [one.erased for one in told if one.erased] == [["b1"]]
    # Nothing is said about who is gone.
    last = max(msgspec.json.decode(value)["at_ms"] for value in outputs(told, "b1"))
    assert last < max(msgspec.json.decode(value)["at_ms"] for value in outputs(told, "b2"))


@pytest.mark.parametrize("chunk", [1, 50])
def test_what_comes_later_is_of_somebody_new(chunk: int) -> None:
    tape = Tape()
    life(tape, "b1")
    tape.days("2026-01-02", "2026-05-10")
    erase(tape, "2026-05-10 12:00")
    tape.profile("2026-05-10 13:00", "b1", limit_minor=70_000)
    tape.days("2026-05-11", "2026-05-12")
    task, told = folded(tape.records, chunk)
    blob = task.state("b1")
    assert blob is not None
    borrower = unpack(blob)
    assert borrower.facts.loans == {}
    assert borrower.standing.limit is not None
    assert (borrower.standing.limit.minor, borrower.standing.limit.seq) == (70_000, 0)
    assert [one.erased for one in told if one.erased] == [["b1"]]
    assert counts(task)[2] == {"normal": 1}


def test_told_twice_it_does_not_erase_who_came_in_between() -> None:
    tape = Tape()
    life(tape, "b1")
    tape.tick("2026-01-02 01:00")
    erase(tape, "2026-01-03 12:00")
    tape.profile("2026-01-03 13:00", "b1")
    erase(tape, "2026-01-03 12:00")
    task, told = folded(tape.records)
    assert list(task.borrowers()) == ["b1"]
    assert told[-1].counts["reviews", "duplicate"] == 1
    # Another request is another matter; one under the same id with other content is refused.
    erase(tape, "2026-01-04 12:00", event_id="erase-2")
    tape.event("2026-01-04 13:00", "borrower_erased", "b1", event_id="erase-2", reviewer="somebody else")
    task, told = folded(tape.records)
    assert list(task.borrowers()) == []
    assert [letter.reason for one in told for letter in one.dead_letters] == ["conflicting_duplicate"]


def test_who_is_not_known_is_erased_without_a_trace() -> None:
    tape = Tape()
    tape.tick("2026-01-02 01:00")
    erase(tape, "2026-01-03 12:00")
    task, told = folded(tape.records)
    assert list(task.borrowers()) == []
    assert told[0].erased == []
    assert told[0].changed == {}
    assert told[0].dead_letters == []


def test_who_came_and_went_in_one_chunk_was_never_there() -> None:
    tape = Tape()
    tape.tick("2026-01-02 01:00")
    tape.profile("2026-01-03 09:00", "b1")
    erase(tape, "2026-01-03 12:00")
    task, told = folded(tape.records)
    assert (told[0].erased, told[0].changed, told[0].wakes) == ([], {}, {})
    assert list(task.borrowers()) == []
    assert counts(task) == ({}, {}, {}, {}, 0)


def test_open_reviews_are_counted_no_more() -> None:
    tape = Tape()
    life(tape, "b1")
    tape.days("2026-01-02", "2026-04-20")
    tape.event("2026-04-20 12:00", "appeal_filed", "b1", about_event_id="e1", text_code="wrong")
    tape.days("2026-04-21", "2026-05-20")
    task, _ = folded(tape.records)
    assert counts(task)[3]
    assert counts(task)[4]
    erase(tape, "2026-05-20 12:00")
    task, _ = folded(tape.records)
    assert counts(task) == ({}, {}, {}, {}, 0)


def test_a_legal_hold_keeps_its_borrower() -> None:
    tape = Tape()
    life(tape, "b1")
    tape.tick("2026-01-02 01:00")
    tape.event("2026-01-03 09:00", "hold_set", "b1", kind="legal", reviewer="u1")
    erase(tape, "2026-01-03 12:00")
    task, told = folded(tape.records)
    assert list(task.borrowers()) == ["b1"]
    assert [(letter.reason, letter.stage) for one in told for letter in one.dead_letters] == [("legal_hold", "fold")]
    tape.event("2026-01-04 09:00", "hold_lifted", "b1", kind="legal", reviewer="u1")
    erase(tape, "2026-01-04 12:00", event_id="erase-2")
    task, _ = folded(tape.records)
    assert list(task.borrowers()) == []
