"""What a borrower is told: what happened, why, and the way back; nothing of rules, points, ids or other people."""

import json
import re
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from streams.engine.chunk import Output
from streams.engine.features import FEATURES
from streams.engine.fold import Engine
from streams.engine.order import LogRecord, Ordered
from streams.engine.score_fall import FEATURES as FALLS
from streams.engine.state import unpack
from streams.policy.loader import load
from streams.policy.model import LEVELS
from streams.replay.borrower_words import NEUTRAL, WHAT, Language
from streams.replay.cycle import LocalTask, chunks
from streams.replay.explained_borrower import ToldToBorrower, render, tell, untold_codes
from streams.replay.found import Found, find
from streams.replay.recording import Recording
from streams.replay.simulate.writing import simulate
from tests.replay.tape import Tape, ms

STANDARD = load("standard")
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def told(path: Path, on: str, language: Language = "en", borrower: str = "b1") -> ToldToBorrower:
    return tell(borrower, find(path, borrower, ms(f"{on} 12:00"), "standard"), language)


def overdue() -> Tape:
    """Due on 2026-01-31, never paid; ticks until 2026-05-05."""
    tape = Tape()
    tape.event(
        "2026-01-01 09:00", "profile_set", segment="worker", limit_minor=500_000, currency="CNY",
        onboarded_on="2025-01-01", identity_token="T1",
    )  # fmt: skip
    tape.loan("2026-01-01 10:00")
    tape.days("2026-01-01", "2026-05-05")
    return tape


def test_in_english(tmp_path: Path) -> None:
    path = overdue().write(tmp_path / "r.jsonl")
    found = told(path, "2026-02-16")
    assert found.account == ["Your limit: 3,500.00 CNY", "Overdue: 1,050.00 CNY"]
    assert [(decision.on, decision.what[0]) for decision in found.decisions] == [
        ("2026-02-01", "We see signs that your payments may become difficult."),
        ("2026-02-04", "New draws are restricted: at most 2 in 30 days, at least 72 hours apart."),
        ("2026-02-08", "The signs that your payments may become difficult have become stronger."),
        ("2026-02-15", "The signs that your payments may become difficult have become stronger."),
        ("2026-02-15", "Your limit was lowered from 5,000.00 CNY to 3,500.00 CNY."),
    ]
    assert "A payment was not made on its due date." in found.decisions[0].why
    assert [bool(decision.way_back) for decision in found.decisions] == [False, False, False, True, True]
    assert found.decisions[-1].way_back == [
        "Pay what is overdue: 1,050.00 CNY.", "Pay it by 2026-03-01.",
        "The whole limit can be restored from 2026-05-16.",
    ]  # fmt: skip


def test_in_chinese(tmp_path: Path) -> None:
    found = told(overdue().write(tmp_path / "r.jsonl"), "2026-02-16", "zh")
    assert found.account == ["您的额度：3,500.00 CNY", "逾期金额：1,050.00 CNY"]
    assert found.decisions[-1].what == ["您的额度由5,000.00 CNY下调至3,500.00 CNY。"]
    assert found.decisions[-1].way_back[0] == "请支付逾期款项：1,050.00 CNY。"


def test_zeroed_listed_and_offered_a_plan(tmp_path: Path) -> None:
    decisions = told(overdue().write(tmp_path / "r.jsonl"), "2026-05-05").decisions
    what = [text for decision in decisions for text in decision.what]
    assert "Your limit was withdrawn." in what
    assert any(text.startswith("You are offered a payment plan: in 12 instalments until ") for text in what)
    (listed,) = (decision for decision in decisions if "register" in decision.what[0])
    assert listed.why == [STANDARD.reasons["long_overdue"].en]


def test_what_is_undone_is_said_to_be(tmp_path: Path) -> None:
    tape = overdue()
    tape.pays("2026-05-05 11:00", 105_000, value_on="2026-01-31")
    found = told(tape.write(tmp_path / "r.jsonl"), "2026-05-05")
    undone = [decision.what for decision in found.decisions if len(decision.what) == 2]
    assert "An earlier decision was undone, because what it rested on did not hold." in undone[0]
    assert found.decisions[-1].what[-1].startswith("The entry about you")
    assert found.account == ["Your limit: 5,000.00 CNY", "Nothing is overdue."]


def test_where_something_was_refused_nothing_is_said_to_be_all(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00", currency="yuan")
    tape.days("2026-01-01", "2026-03-01")
    path = tape.write(tmp_path / "r.jsonl")
    assert told(path, "2026-03-01").account == [
        "Your limit: 5,000.00 CNY",
        "Some of what was sent to us about this account could not be taken in. This may not be all.",
    ]
    assert told(path, "2026-03-01", "zh").account[1:] == ["与该账户有关的部分信息未能录入，以上内容可能不完整。"]


def test_who_was_erased_is_told_nothing_from_before(tmp_path: Path) -> None:
    tape = overdue()
    tape.event("2026-05-05 11:00", "borrower_erased", reviewer="u1")
    tape.profile("2026-05-05 11:30")
    path = tape.write(tmp_path / "r.jsonl")
    assert told(path, "2026-05-05").decisions == []
    assert told(path, "2026-05-05").account[-1] == "What was kept of you before 2026-05-05 was erased."
    assert told(path, "2026-05-05", "zh").account[-1] == "2026-05-05之前保存的您的资料已删除。"


def test_a_waiver_is_told_with_its_amount(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.days("2026-01-01", "2026-01-31")
    tape.fails("2026-01-31 12:00")
    tape.penalty("2026-02-01 12:00", 700)
    tape.outage("2026-02-02 12:00", "2026-01-31", "2026-02-02")
    tape.days("2026-02-03", "2026-02-05")
    what = [decision.what for decision in told(tape.write(tmp_path / "r.jsonl"), "2026-02-05").decisions]
    assert [WHAT["waiver_proposed"].en.format(money="7.00 CNY")] in what


def test_suspicions_and_other_people_are_told_by_a_neutral_text(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.tick("2026-01-02 01:00")
    for number, status in enumerate(("fraud", "overdue", "blacklisted", "adverse")):
        tape.event(
            "2026-01-02 10:00", "link_reported", linked_borrower_id=f"friend-{number}", relation="contact",
            status=status,
        )  # fmt: skip
    tape.event("2026-01-02 11:00", "fraud_reported", kind="stolen_identity", confirmed=False)
    tape.event("2026-01-02 11:00", "violation_reported", kind="cash_out", confirmed=True)
    tape.tick("2026-01-03 01:00")
    path = tape.write(tmp_path / "r.jsonl")
    for language in LANGUAGES:
        found = told(path, "2026-01-03", language)
        neutral = NEUTRAL.en if language == "en" else NEUTRAL.zh
        assert {tuple(decision.why) for decision in found.decisions} >= {(neutral,)}
        assert len(found.decisions) > 1
        for word in ("friend", "fraud", "欺诈", "looked into", "核实"):
            assert word not in text_of(found)


def test_every_reason_of_the_policy_has_a_text_that_says_nothing_of_points_or_levels() -> None:
    for code, text in STANDARD.reasons.items():
        said = NEUTRAL if code in untold_codes(STANDARD) else text
        assert not set(re.findall(r"[a-z]+", said.en.lower())) & {"points", "score", "tier", "fraudulent", *LEVELS[2:]}
    assert {"links_strained", "fraud_suspected", "listed_elsewhere"} <= untold_codes(STANDARD)


# --- a whole population -------------------------------------------------------------------------------------------


def text_of(found: ToldToBorrower) -> str:
    console = Console(record=True, width=500, file=StringIO())
    console.print(render(found))
    return console.export_text()


def with_signals(records: Sequence[Ordered]) -> Iterator[Ordered]:
    """The records of a population, and among them what others tell: links to people in trouble, suspicions, fraud."""
    people = sorted({(record.key or b"").decode() for _, _, _, record in records} - {""})
    told: dict[bytes, int] = {}
    for one in records:
        yield one
        order_ms, key = one[0], one[3].key
        if key is None:
            continue
        told[key] = told.get(key, 0) + 1
        number = people.index(key.decode())
        for at, fields in enumerate(signals(told[key], number, people)):
            event_id = f"told-{number}-{told[key]}-{at}"
            body = {"event_id": event_id, "at_ms": order_ms, "borrower_id": key.decode()} | fields
            offset = 1_000_000 * (number + 1) + told[key] * 10 + at
            yield order_ms, "signals", offset, LogRecord("signals", 0, offset, order_ms, key, json.dumps(body).encode())


def signals(turn: int, number: int, people: Sequence[str]) -> list[dict[str, Any]]:
    """What is told of the `number`-th of `people` when it has done something for the `turn`-th time."""
    others = [people[(number + step) % len(people)] for step in (1, 2, 3)]
    statuses = ("fraud", "overdue", "blacklisted")
    if turn == 60:
        return [
            {"type": "link_reported", "linked_borrower_id": other, "relation": "contact", "status": status}
            for other, status in zip(others, statuses, strict=True)
        ]
    if turn == 100 and number % 2:
        return [{"type": "fraud_reported", "kind": "ring", "confirmed": False}]
    if turn == 150 and number % 6 == 1:
        return [{"type": "fraud_reported", "kind": "ring", "confirmed": True}]
    return []


class Population:
    """A simulated one, some of whose borrowers are linked, suspected or overdue; every output of each."""

    def __init__(self, out: Path) -> None:
        simulate(seed=4, borrowers=40, events=12_000, out=out, partitions=1)
        self.told: dict[str, list[Output]] = {}
        self.task = LocalTask(Engine(STANDARD))
        with Recording.open(out) as recording:
            records = list(with_signals([record for chunk in chunks(recording, 0) for record in chunk]))
        self.bodies = [json.loads(record.value or b"{}") for _, _, _, record in records]
        for folded in self.task.fold(records):
            for output in folded.outputs:
                self.told.setdefault(output.about or output.key.decode(), []).append(output)

    def found(self, borrower: str) -> Found:
        state = self.task.state(borrower)
        assert state is not None
        return Found(unpack(state), self.task, self.told[borrower], self.task.task.clock_ms or 0)

    def secrets(self) -> set[str]:
        """What nobody may be told: ids of people, events and accounts, codes and names of features."""
        names = {feature.name for feature in (*FEATURES, *FALLS)} | set(STANDARD.reasons)
        for body in self.bodies:
            names |= {str(body.get(name, "")) for name in ("event_id", "borrower_id", "linked_borrower_id")}
        for output in (output for outputs in self.told.values() for output in outputs):
            event = json.loads(output.value)
            names |= {event["event_id"], event["policy"]["digest"], event.get("subject_token", "")}
        return names - {""}


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Population:
    return Population(tmp_path_factory.mktemp("told") / "recording")


def test_nobody_of_a_population_is_told_what_nobody_may_be_told(population: Population) -> None:
    secrets, untold = population.secrets(), untold_codes(STANDARD)
    hidden, whats = 0, set()
    for borrower, outputs in population.told.items():
        events = [json.loads(output.value) for output in outputs]
        hidden += sum(reason["code"] in untold for event in events for reason in event.get("reasons", []))
        for language in LANGUAGES:
            found = tell(borrower, population.found(borrower), language)
            text = text_of(found)
            whats |= {sentence for decision in found.decisions for sentence in decision.what}
            assert {name for name in secrets if name in text} == set()
            own = json.loads(msgspec.json.encode(found))
            assert own.pop("borrower_id") == borrower
            assert {name for name in secrets if name in json.dumps(own, ensure_ascii=False)} == set()
            assert numbers_told(text, events) == set()
    assert hidden > 20
    assert {WHAT["warning_raised"].en, WHAT["limit_zeroed"].zh, WHAT["warning_cleared"].zh} <= whats


def numbers_told(text: str, events: list[dict[str, Any]]) -> set[str]:
    """The numbers in a text but amounts, dates, what the policy's texts say, and how a plan or a restriction reads."""
    text = re.sub(r"\d[\d,]*\.\d\d [A-Z]{3}|\d{4}-\d\d-\d\d", "", text)
    for reason in STANDARD.reasons.values():
        text = text.replace(reason.en, "").replace(reason.zh, "")
    allowed = {"30"}
    for event in events:
        allowed |= {str(number) for number in event.get("draws", {}).values()}
        allowed |= {str(len(option["schedule"])) for option in event.get("options", [])}
    return set(re.findall(r"\d+", text)) - allowed
