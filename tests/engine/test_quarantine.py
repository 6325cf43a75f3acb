"""A rule fails on one borrower: that one waits for a person, all others go on, and how it was found does not show."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from schemas.inbound import BorrowerEvent, Login
from streams.engine.cases import Case, Cases
from streams.engine.chunk import Folded, Output, TaskState
from streams.engine.decide import Judge
from streams.engine.fold import Engine
from streams.engine.ingest import Ingest
from streams.engine.order import LogRecord, Merge, Ordered
from streams.engine.state import StateError, unpack
from streams.policy.loader import load
from streams.replay.cycle import LocalTask
from tests.replay.tape import Tape, ms

POISON = "poison"
ENGINE = Engine(load("standard"), partitions=1)


def ordered(tape: Tape) -> list[Ordered]:
    topics = sorted({record.topic for record in tape.records})
    merge = Merge(topics, {})
    for topic in topics:
        merge.push(topic, [record for record in tape.records if record.topic == topic])
    return merge.take(topics, len(tape.records))


class Folding:
    """A tape folded in chunks of a size; `dead` are (borrower, reason) of the dead letters."""

    def __init__(self, records: Sequence[Ordered], chunk: int = 1_000) -> None:
        self.task = LocalTask(ENGINE)
        self.folds: list[Folded] = []
        for at in range(0, len(records), chunk):
            self.folds += self.task.fold(records[at : at + chunk])

    @property
    def outputs(self) -> list[Output]:
        return [output for folded in self.folds for output in folded.outputs]

    @property
    def dead(self) -> list[tuple[bytes | None, str]]:
        return [(letter.record.key, letter.reason) for folded in self.folds for letter in folded.dead_letters]

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(output.value) for output in self.outputs if output.kind == kind]

    def quarantine(self, borrower: str) -> Any:
        blob = self.task.state(borrower)
        assert blob is not None
        return unpack(blob).facts.quarantine


@pytest.fixture
def failing_logins(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Logins from the device POISON fail after they have changed half of the state; the call makes them good again."""
    take = Ingest.take

    def failing(self: Ingest, case: Case, event: BorrowerEvent) -> Any:
        taken = take(self, case, event)
        if isinstance(event, Login) and event.device_id == POISON:
            case.borrower.facts.loans.clear()
            case.borrower.facts.windows.logins = None  # type: ignore[assignment]
            return [][len(event.event_id)]
        return taken

    monkeypatch.setattr(Ingest, "take", failing)
    return lambda: monkeypatch.setattr(Ingest, "take", take)


def login(tape: Tape, at: str, borrower: str, device: str = "d1") -> str:
    return tape.event(at, "login", borrower, outcome="ok", device_id=device, channel="app")


def story(poison: str = POISON) -> Tape:
    """Three borrowers over two months; b2 sends the poison in the middle."""
    tape = Tape()
    for borrower in ("b1", "b2", "b3"):
        tape.profile("2026-01-01", borrower)
        tape.loan("2026-01-02", borrower, f"L-{borrower}")
    for day in range(3, 28):
        tape.tick(f"2026-01-{day:02d} 01:00")
        for borrower in ("b1", "b2", "b3"):
            device = poison if (day, borrower) == (20, "b2") else "d1"
            login(tape, f"2026-01-{day:02d} 12:00", borrower, device)
    tape.pays("2026-01-28", 50_000, "b2", "L-b2")
    tape.days("2026-01-29", "2026-02-28")
    return tape


def test_the_borrower_waits_as_it_stood_before_and_a_person_is_asked(failing_logins: Callable[[], None]) -> None:
    folding = Folding(ordered(story()))
    assert folding.dead == [(b"b2", "quarantined")] * 9
    (asked,) = folding.told("review_requested")
    assert (asked["borrower_id"], asked["proposed"], asked["at_ms"]) == ("b2", None, ms("2026-01-20 01:00"))
    assert asked["cause"]["topic"] == "logins"
    assert "IndexError in tests.engine.test_quarantine.failing" in asked["why"]
    mark = folding.quarantine("b2")
    assert (mark.event_id, mark.request_id) == (asked["cause"]["event_id"], asked["event_id"])
    blob = folding.task.state("b2")
    assert blob is not None
    assert list(unpack(blob).facts.loans) == ["L-b2"]
    # Nothing is decided about it any more, while the others went past their due date.
    late = {told["borrower_id"] for told in folding.told("bucket_changed")}
    assert late == {"b1", "b3"}
    assert [failure.offset for folded in folding.folds for failure in folded.quarantined] == [asked["cause"]["offset"]]


def test_the_others_are_as_if_nothing_had_happened(failing_logins: Callable[[], None]) -> None:
    def of_others(folding: Folding) -> list[Output]:
        return [output for output in folding.outputs if output.key != b"b2"]

    poisoned, healthy = Folding(ordered(story())), Folding(ordered(story(poison="d1")))
    assert of_others(poisoned) == of_others(healthy)
    assert len(of_others(healthy)) > 4
    for borrower in ("b1", "b3"):
        assert poisoned.task.state(borrower) == healthy.task.state(borrower)


@pytest.mark.parametrize("chunk", [1, 2, 7, 50])
def test_the_size_of_a_chunk_does_not_show(failing_logins: Callable[[], None], chunk: int) -> None:
    tape = story()
    login(tape, "2026-03-01", "b3", POISON)
    tape.event("2026-03-02", "review_decided", "b2", decision="clear", reviewer="r1")
    login(tape, "2026-03-03", "b2", POISON)
    login(tape, "2026-03-04", "b1")
    records = ordered(tape)
    whole, cut = Folding(records), Folding(records, chunk)
    assert [letter.record for folded in cut.folds for letter in folded.dead_letters] == [
        letter.record for folded in whole.folds for letter in folded.dead_letters
    ]
    assert cut.outputs == whole.outputs
    assert cut.task.task == whole.task.task
    for borrower in ("b1", "b2", "b3"):
        assert cut.task.state(borrower) == whole.task.state(borrower)
    assert Counter(told["borrower_id"] for told in whole.told("review_requested")) == {"b2": 2, "b3": 1}


@pytest.mark.parametrize("about", ["nothing", "the request"])
def test_a_review_lifts_it_and_what_time_passed_is_judged(failing_logins: Callable[[], None], about: str) -> None:
    tape = story()
    request = Folding(ordered(tape)).told("review_requested")[0]["event_id"]
    mended = {"about_event_id": request} if about == "the request" else {}
    tape.event("2026-03-01", "review_decided", "b2", decision="uphold", reviewer="r1", **mended)
    tape.event("2026-03-01", "review_decided", "b2", decision="clear", reviewer="r1", about_event_id="another")
    tape.event("2026-03-01 12:00", "review_decided", "b2", decision="clear", reviewer="r1", **mended)
    tape.pays("2026-03-02", 1_000, "b2", "L-b2")
    folding = Folding(ordered(tape))
    assert folding.dead == [(b"b2", "quarantined")] * 11
    assert folding.quarantine("b2") is None
    assert [told["to"] for told in folding.told("bucket_changed") if told["borrower_id"] == "b2"] == ["M1"]
    # It is woken again.
    tape.days("2026-03-05", "2026-03-20")
    later = Folding(ordered(tape))
    assert [told["to"] for told in later.told("bucket_changed") if told["borrower_id"] == "b2"] == ["M1", "M2"]


def test_what_was_refused_can_be_sent_again_once_the_rule_is_mended(failing_logins: Callable[[], None]) -> None:
    tape = story()
    folding = Folding(ordered(tape))
    failing_logins()
    tape.event("2026-03-01", "review_decided", "b2", decision="clear", reviewer="r1")
    again = [letter.record for folded in folding.folds for letter in folded.dead_letters]
    for record in again:
        tape.raw(record.topic, "2026-03-01 01:00", record.key, record.value)
    tail = [found for found in ordered(tape) if found[0] >= ms("2026-03-01")]
    folding.folds += folding.task.fold(tail)
    assert len(folding.dead) == 9
    blob = folding.task.state("b2")
    assert blob is not None
    assert unpack(blob).facts.loans["L-b2"].received_minor == 50_000


def test_a_duplicate_of_what_was_taken_before_is_a_duplicate(failing_logins: Callable[[], None]) -> None:
    tape = story()
    first = next(record for record in tape.records if record.key == b"b2" and record.topic == "logins")
    last_taken = [record for record in tape.records if record.key == b"b2" and record.topic == "logins"][16]
    tape.raw("logins", "2026-01-22 12:00", first.key, last_taken.value)
    tape.records.sort(key=lambda record: record.timestamp)
    assert len(Folding(ordered(tape)).dead) == 9


def test_a_wake_up_that_fails_puts_into_quarantine_and_wakes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge.judge

    def failing(self: Judge, case: Case, as_of_ms: int, *rest: Any) -> None:
        judge(self, case, as_of_ms, *rest)
        if case.borrower_id == "b2" and as_of_ms >= ms("2026-02-01"):
            case.borrower.facts.loans.clear()
            raise ZeroDivisionError("b2 has no income")

    monkeypatch.setattr(Judge, "judge", failing)
    folding = Folding(ordered(story()))
    assert folding.dead == []
    (asked,) = folding.told("review_requested")
    assert (asked["cause"]["topic"], asked["at_ms"]) == ("control", ms("2026-02-01"))
    assert "no income" not in asked["why"]
    assert {told["borrower_id"] for told in folding.told("bucket_changed")} == {"b1", "b3"}
    blob = folding.task.state("b2")
    assert blob is not None
    assert unpack(blob).wake_ms is None
    assert "L-b2" in unpack(blob).facts.loans


def test_many_failing_at_once_cost_three_folds(
    failing_logins: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = Tape()
    for number in range(50):
        login(tape, "2026-01-03", f"b{number}", "d1")
    for number in range(50):
        login(tape, "2026-01-04", f"b{number}", POISON)
    passes: list[None] = []
    judge_of = Engine.judge_of

    def counted(self: Engine, task: TaskState) -> Judge:
        passes.append(None)
        return judge_of(self, task)

    monkeypatch.setattr(Engine, "judge_of", counted)
    folding = Folding(ordered(tape))
    assert Counter(reason for _, reason in folding.dead) == {"quarantined": 50}
    assert len(passes) == 3


class Flickering:
    """Raises one after the other when an event is taken, and then no more."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        take = Ingest.take

        def taken(ingest: Ingest, case: Case, event: BorrowerEvent) -> Any:
            if self._errors:
                raise self._errors.pop(0)
            return take(ingest, case, event)

        monkeypatch.setattr(Ingest, "take", taken)


def test_what_fails_once_alone_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = Folding(ordered(story()))
    Flickering(OSError()).install(monkeypatch)
    flickered = Folding(ordered(story()))
    assert flickered.outputs == healthy.outputs
    assert flickered.dead == []


@pytest.mark.parametrize(
    "errors", [(KeyError(), ValueError()), (MemoryError(),)], ids=["otherwise the second time", "the machine"]
)
def test_what_is_no_rule_stops_the_process(errors: tuple[Exception, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    tape = Tape()
    login(tape, "2026-01-03", "b1")
    Flickering(*errors).install(monkeypatch)
    with pytest.raises(type(errors[-1])):
        Folding(ordered(tape))


def test_a_state_that_cannot_be_read_is_no_rules_failure() -> None:
    record = LogRecord("logins", 0, 0, ms("2026-01-03"), b"b1", body(), ())
    with pytest.raises(StateError):
        ENGINE.fold(TaskState(), [(record.timestamp, "logins", 0, record)], {"b1": b"\xc1"}, [], Cases(10))


def body() -> bytes:
    event = {"event_id": "e1", "borrower_id": "b1", "at_ms": ms("2026-01-03"), "type": "login"}
    return msgspec.json.encode(event | {"outcome": "ok", "device_id": "d1", "channel": "app"})


def test_kept_cases_are_as_before_after_a_fold_that_was_thrown_away(failing_logins: Callable[[], None]) -> None:
    """What a chunk before has opened is changed by the fold that fails, and must not be used half changed."""
    tape = story()
    records = ordered(tape)
    at = next(n for n, found in enumerate(records) if POISON.encode() in (found[3].value or b""))
    cases, task = Cases(100), TaskState()
    names = ["b1", "b2", "b3"]
    first = ENGINE.fold(task, records[:at], dict.fromkeys(names), [], cases)
    kept = {name: cases.get(name) for name in names}
    second = ENGINE.fold(first.task, records[at : at + 2], {}, [], cases)
    assert kept["b2"] is not None
    alone = ENGINE.fold(first.task, records[at : at + 2], dict(first.changed), [], Cases(100))
    assert second.changed == alone.changed
    assert second.outputs == alone.outputs
