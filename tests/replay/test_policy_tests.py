"""Tests in a policy file, the comparison of two policies on a recording, and the activation that follows them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.topics import CONTROL
from streams.config import load_settings
from streams.engine.chunk import TaskState
from streams.engine.fold import Engine
from streams.engine.order import LogRecord
from streams.policy.loader import SHIPPED, Loaded, PolicyError, digest, load, load_file, read
from streams.replay.policy_diff import Changed, compare
from streams.replay.policy_tests import Difference, run_tests
from streams.worker import activation
from streams.worker.activation import Activation, write_activation
from streams.worker.producer import Ambiguous, Message
from streams.worker.topics import BrokerError
from tests.replay.tape import Tape

STANDARD = SHIPPED["standard"].read_text(encoding="utf-8")
PROFILE = "{day: 0, event: profile_set, with: {limit_minor: 500000}}"
LOAN = "{day: 0, event: loan_disbursed, with: {schedule: [{due_on: 3, principal_minor: 100000}]}}"


def with_tests(*rows: str) -> Loaded:
    lines = "".join(f"      - {row}\n" for row in rows)
    return read(f"{STANDARD[: STANDARD.index('tests:')]}tests:\n  - name: mine\n    rows:\n{lines}", "mine.yaml")


def test_the_shipped_policy_passes_its_own_tests() -> None:
    outcomes = run_tests(load_file("standard"))
    assert len(outcomes) >= 5
    assert [outcome for outcome in outcomes if not outcome.passed] == []


@pytest.mark.parametrize(
    ("rows", "differences"),
    [
        ((PROFILE, LOAN, "{day: 4, expect: [warning_raised watch]}"), []),
        ((PROFILE, LOAN, "{day: 4, expect: [bucket_changed M1, warning_raised watch]}"), []),
        ((PROFILE, LOAN, "{day: 4}"), [Difference(4, [], ["warning_raised watch"], "")]),
        (
            (PROFILE, LOAN, "{day: 4, expect: [warning_raised amber]}"),
            [Difference(4, ["warning_raised amber"], ["warning_raised watch"], "")],
        ),
        (
            (PROFILE, LOAN, "{day: 4, expect: [bucket_changed M2, warning_raised watch]}"),
            [Difference(4, ["bucket_changed M2", "warning_raised watch"], ["warning_raised watch"], "")],
        ),
        (
            ("{day: 0, event: profile_set}",),
            [Difference(0, [], [], "refused (missing_field): limit_minor: is missing")],
        ),
        (
            ("{day: 0, event: loan_disbursed, with: {schedule: [{due_on: 3, principal_minor: much}]}}",),
            [Difference(0, [], [], "refused (wrong_type): schedule[0].principal_minor: must be int")],
        ),
        (
            ("{day: 0, event: login, with: {outcome: '{number} {x}'}}",),
            [Difference(0, [], [], "refused (invalid_value): outcome: is not one of the values allowed")],
        ),
        (
            ("{day: 2, event: repayment_received, with: {amount_minor: -1}}",),
            [Difference(2, [], [], "refused (out_of_range): amount_minor: must be >= 1")],
        ),
    ],
)
def test_what_is_decided_must_stand_in_the_table(rows: Sequence[str], differences: list[Difference]) -> None:
    (outcome,) = run_tests(with_tests(*rows))
    assert outcome.differences == differences
    assert outcome.passed == (not differences)
    assert outcome.place.startswith(f"mine.yaml:{STANDARD[: STANDARD.index('tests:')].count(chr(10)) + 2}: tests[0]")


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ("{day: 0, event: profile_set, with: {onboarded_on: -36526}}", "onboarded_on"),
        (LOAN.replace("due_on: 3", "due_on: 9223372036854775807"), "schedule[0].due_on"),
    ],
)
def test_a_day_that_no_calendar_has(row: str, where: str) -> None:
    with pytest.raises(PolicyError) as refused:
        with_tests(PROFILE, row)
    line = STANDARD[: STANDARD.index("tests:")].count("\n") + 5
    assert str(refused.value).startswith(f"mine.yaml:{line}: tests[0].rows[1].with.{where}: is more than 36525 days")


def test_an_event_that_there_is_not() -> None:
    (outcome,) = run_tests(with_tests("{day: 0, event: paid}"))
    assert outcome.differences[0].problem.startswith("rows[0].event: no event is called 'paid'; use one of: loan_disb")


# --- on a recording -----------------------------------------------------------------------------------------------


def overdue(tmp_path: Path) -> Path:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.loan("2026-01-01 10:00", "b2", "L2")
    tape.days("2026-01-01", "2026-02-20")
    return tape.write(tmp_path / "r.jsonl")


def test_what_would_have_been_decided_differently(tmp_path: Path) -> None:
    mild = read(STANDARD.replace("keep_bp: 7000", "keep_bp: 9000"), "mild").policy
    found = compare(overdue(tmp_path), load("standard"), mild)
    assert (found.decisions_before, found.decisions_after, found.borrowers) == (8, 8, 1)
    (changed,) = found.changed
    assert isinstance(changed, Changed)
    assert (changed.type, changed.segment) == ("limit_decreased", "worker")
    assert (changed.only_before, changed.only_after, changed.both) == (1, 1, 0)
    assert [example.detail for example in changed.examples_before] == ["350000"]
    assert [example.detail for example in changed.examples_after] == ["450000"]
    assert changed.examples_before[0].borrower_id == "b1"


def test_the_same_policy_decides_the_same(tmp_path: Path) -> None:
    found = compare(overdue(tmp_path), load("standard"), load("standard"))
    assert (found.borrowers, found.changed) == (0, [])


# --- activation ---------------------------------------------------------------------------------------------------


class Sent:
    """Stands in for the transactional producer: takes one transaction, or fails."""

    def __init__(self, fails: bool = False) -> None:
        self.messages: list[Message] = []
        self.closed = False
        self._fails = fails

    async def begin(self, *_: Any) -> "Sent":
        return self

    async def partitions(self, topic: str) -> int:
        assert topic == CONTROL
        return 3

    async def commit(self, messages: Sequence[Message], last: Sequence[Message]) -> list[int]:
        if self._fails:
            raise Ambiguous("no answer")
        self.messages = [*messages, *last]
        return [7] * len(last)

    async def close(self) -> None:
        self.closed = True


async def test_an_activation_is_one_transaction_over_all_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent()
    monkeypatch.setattr(activation, "Transactions", sent)
    mine = read(STANDARD.replace("id: standard", "id: mine"), "mine").policy
    written = await write_activation(load_settings(), Activation(mine, "shadow", "ann", "bob"))
    assert (written.offsets, written.policy_id, written.digest, written.mode) == (
        [7, 7, 7],
        "mine",
        digest(mine),
        "shadow",
    )
    assert [(message.topic, message.partition, message.key) for message in sent.messages] == [
        (CONTROL, partition, None) for partition in range(3)
    ]
    assert len({message.value for message in sent.messages}) == 1
    assert sent.closed
    value = sent.messages[0].value
    assert value is not None
    at_ms = json.loads(value)["at_ms"]
    record = LogRecord(CONTROL, 0, 0, at_ms, None, value, ())
    folded = Engine(load("standard")).fold(TaskState(), [(at_ms, CONTROL, 0, record)], {}, [])
    assert folded.dead_letters == []
    assert [policy.policy_id for policy in folded.task.shadows] == ["mine"]


async def test_an_activation_that_failed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent(fails=True)
    monkeypatch.setattr(activation, "Transactions", sent)
    with pytest.raises(BrokerError, match="the activation was not written: no answer"):
        await write_activation(load_settings(), Activation(load("standard"), "live", "ann", "bob"))
    assert sent.closed
