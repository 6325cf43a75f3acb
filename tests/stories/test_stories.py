"""Plays the tables of this folder on the ledger, under the shipped policy or what a story says of its own.

A story is a heading, perhaps a line `policy: ...`, and a table: day | event | expect. Rows are played from top to
bottom: what happens on the day, then what must be true at its end. Several things stand beside each other with `;` in
an expectation. A row without a loan's name is about loan A. What a row may say is in the README beside the tables.
"""

import re
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import inbound as wire
from streams.engine import delinquency, ledger, loan_facts
from streams.engine.calendar import Calendar, day_of
from streams.engine.journal import Applied, Refused
from streams.engine.loan import ATTRIBUTIONS, COMPONENTS, Loan
from streams.policy import model
from streams.policy.loader import load

NOON_MS = 12 * 3_600_000
ON = r"(\d{4}-\d\d-\d\d)"
MONEY = r"(\d+\.\d\d)"
MANY = re.compile(r"(\d+) times: (.+)")
EVERY = re.compile(rf"every (?:(\d+) days|day) until {ON}: (.+)")
FROM_NOW_ON = "from now on the policy says: "
DPD_NAMES = {"dpd": "contractual", "managed": "managed", "material": "material"}
COMPONENT_DPD = {"principal dpd": "principal", "interest dpd": "interest"}

# What a row may tell: pattern, type, fields in the order of the groups, fields that go without saying.
EVENTS: tuple[tuple[str, str, tuple[str, ...], dict[str, Any]], ...] = (
    (r"paid out in ([A-Z]{3}): (.+)", "loan_disbursed", ("currency", "schedule"), {"product": "cash"}),
    (
        rf"pays (\w+) {MONEY}(?: by (\w+))?(?: valued {ON})?",
        "repayment_received",
        ("payment_id", "amount_minor", "method", "value_on"),
        {"channel": "app"},
    ),
    (r"(\w+) bounces", "repayment_reversed", ("payment_id",), {"code": "bounced"}),
    (rf"(penalty|fee) {MONEY} on (\d+)", "charge_added", ("component", "amount_minor", "instalment_no"), {}),
    (rf"waived (\w+) {MONEY} on (\d+)", "amount_waived", ("component", "amount_minor", "instalment_no"), {}),
    (rf"waived (\w+) {MONEY}", "amount_waived", ("component", "amount_minor"), {}),
    (r"rescheduled: (.+)", "loan_rescheduled", ("schedule",), {"distressed": False}),
    (r"rescheduled in distress: (.+)", "loan_rescheduled", ("schedule",), {"distressed": True}),
    (rf"accepts plan (\w+) until {ON}: (.+)", "plan_accepted", ("plan_id", "until_on", "schedule"), {}),
    (r"breaks plan (\w+)", "plan_broken", ("plan_id",), {}),
    (r"completes plan (\w+)", "plan_completed", ("plan_id",), {}),
    (r"declines plan (\w+)", "plan_declined", ("plan_id",), {}),
    (rf"paused {ON} to {ON}", "pause_set", ("from_on", "until_on"), {}),
    (
        rf"attempt (\w+) of {MONEY} fails: (\w+)",
        "repayment_failed",
        ("attempt_id", "amount_minor", "code"),
        {"method": "auto_debit", "channel": "bank_a"},
    ),
    (r"attempt (\w+) blamed on (\w+)", "failure_reattributed", ("attempt_id", "attribution"), {}),
    (
        rf"(stage[23]) rebutted until {ON}",
        "presumption_rebutted",
        ("which", "until_on"),
        {"evidence": "file 7"},
    ),
    (r"closed", "loan_closed", (), {}),
    (r"written off", "loan_written_off", (), {}),
)


Row = tuple[date, str, str]


class Story(msgspec.Struct):
    name: str
    policy: str
    rows: list[Row]


def stories(folder: Path) -> list[Story]:
    found: list[Story] = []
    for path in sorted(folder.glob("*.md")):
        if path.name == "README.md":
            continue
        for part in path.read_text(encoding="utf-8").split("\n## ")[1:]:
            title, *lines = part.splitlines()
            policy = "".join(line.removeprefix("policy: ") for line in lines if line.startswith("policy: "))
            cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if re.match(rf"\| *{ON}", line)]
            told = [(date.fromisoformat(day), happening, expected) for day, happening, expected in cells]
            rows = [row for several in told for row in spread(*several)]
            found.append(Story(f"{path.stem}: {title}", policy, rows))
    return found


def spread(on: date, happening: str, expected: str) -> list[Row]:
    """The rows that one row stands for; what it expects must hold after the last of them."""
    every, many = EVERY.fullmatch(happening), MANY.fullmatch(happening)
    if every is not None:
        days, until_on, what = every.groups()
        count = (date.fromisoformat(until_on) - on).days // int(days or 1) + 1
        moments = [on + timedelta(days=number * int(days or 1)) for number in range(count)]
    elif many is not None:
        what, moments = many.group(2), [on] * int(many.group(1))
    else:
        return [(on, happening, expected)]
    return [(moment, what, "") for moment in moments[:-1]] + [(moments[-1], what, expected)]


def facts_of(changes: str) -> model.Facts:
    """The facts section of the shipped policy, with a story's changes."""
    document = msgspec.to_builtins(load("standard").facts)
    for change in filter(None, changes.split("; ")):
        name, _, value = change.partition(" = ")
        at: Any = document
        *path, last = name.split(".")
        for step in path:
            at = at.setdefault(step, {})
        at[last] = int(value) if value.isdigit() else value.split()
    return msgspec.convert(document, type=model.Facts)


def minor(text: str) -> int:
    return int(Decimal(text) * 100)


def schedule_of(text: str) -> list[dict[str, Any]]:
    rows = []
    for part in text.split(", "):
        no, _, due_on, *amounts = part.split()
        row = {"no": int(no), "due_on": due_on, "principal_minor": 0, "interest_minor": 0, "fee_minor": 0}
        for component, amount in zip(amounts[::2], amounts[1::2], strict=True):
            row[f"{component}_minor"] = minor(amount)
        rows.append(row)
    return rows


class Play:
    """One borrower's loans while a story is played."""

    def __init__(self, facts: model.Facts) -> None:
        self.facts = facts
        self.calendar = Calendar(facts.calendar.zone)
        self.loans: dict[str, Loan] = {}
        self.told = 0

    def tell(self, on: date, happening: str) -> str:
        if happening.startswith(FROM_NOW_ON):
            self.facts = facts_of(happening.removeprefix(FROM_NOW_ON))
            return ""
        name, text = happening.split(": ", 1) if re.match(r"[A-Z]: ", happening) else ("A", happening)
        event = self.event_of(on, name, text)
        if name not in self.loans:
            assert isinstance(event, wire.LoanDisbursed)
            self.loans[name] = ledger.disburse(event, self.facts, self.calendar)
            return ""
        outcome = ledger.apply(self.loans[name], event, self.calendar, self.facts)
        if isinstance(outcome, Refused):
            return f"refused {outcome.reason}"
        if isinstance(outcome, Applied):
            return "changes the past" if outcome.retroactive else ""
        return "duplicate"

    def event_of(self, on: date, name: str, text: str) -> Any:
        for pattern, kind, names, others in EVENTS:
            found = re.fullmatch(pattern, text)
            if found is None:
                continue
            self.told += 1
            at_ms = self.calendar.start_ms(day_of(on)) + NOON_MS + self.told
            fields: dict[str, Any] = {"type": kind, "event_id": f"e{self.told}", "at_ms": at_ms, "borrower_id": "b1"}
            fields |= {"loan_id": name} | others
            for field, value in zip(names, found.groups(), strict=True):
                if field == "schedule":
                    fields[field] = schedule_of(value)
                    if kind == "loan_disbursed":
                        fields["principal_minor"] = max(1, sum(row["principal_minor"] for row in fields[field]))
                elif field.endswith("_minor"):
                    fields[field] = minor(value)
                elif field == "method":
                    fields[field] = value or "manual"
                else:
                    fields[field] = int(value) if field == "instalment_no" else value
            return msgspec.convert(fields, type=wire.Repayments | wire.Reviews)
        raise ValueError(f"no such event in a story: {text}")

    def seen(self, on: date, text: str) -> str:
        """What is true of what an expectation asks for, in the words of the expectation."""
        name, _, asked = text.partition(": ") if re.match(r"[A-Z]: ", text) else ("A", "", text)
        prefix = text[: len(text) - len(asked)]
        back = re.match(rf"on {ON} ", asked)
        if back is not None:
            then = self.seen(date.fromisoformat(back.group(1)), prefix + asked[back.end() :])
            return prefix + back.group() + then.removeprefix(prefix)
        loan, day = self.loans[name], day_of(on)
        place = delinquency.position(loan, day, self.facts)
        what = asked.rsplit(" ", 1)[0]
        if what in DPD_NAMES:
            return f"{prefix}{what} {getattr(place, DPD_NAMES[what])}"
        if what in COMPONENT_DPD:
            return f"{prefix}{what} {getattr(place, COMPONENT_DPD[what])}"
        return f"{prefix}{what} {self.other(what, loan, place, day)}"

    def other(self, what: str, loan: Loan, place: delinquency.Position, day: int) -> str:
        first, _, rest = what.partition(" ")
        if first in ("owes", "overdue"):
            amounts = place.outstanding if first == "owes" else place.overdue
            amount = amounts[COMPONENTS.index(rest)] if rest else sum(amounts)
            return f"{Decimal(amount) / 100:.2f}"
        amounts_kept = {
            "credit": place.unapplied_minor,
            "received": loan.received_minor,
            "reversed": loan.reversed_minor,
            "allocated": loan.allocated_minor,
        }
        if first in amounts_kept:
            return f"{Decimal(amounts_kept[first]) / 100:.2f}"
        if first == "bucket":
            return next(
                bucket.name
                for bucket in load("standard").buckets
                if bucket.to_day is None or place.managed <= bucket.to_day
            )
        if first == "worst":
            return str(max(delinquency.position(each, day, self.facts).contractual for each in self.loans.values()))
        if first == "episodes":
            return str(len(delinquency.episode_days(loan, day, 365, self.facts)))
        if first == "plan":
            return str(loan_facts.plan_state(loan, rest))
        if first == "keeps":
            return str(loan_facts.plan_kept(loan, day))
        if first == "attempt":
            at = loan.attempt_ids.index(rest) * loan_facts.ATTEMPT
            return ATTRIBUTIONS[loan.attempts[at + loan_facts.ATTRIBUTION]]
        if first == "proof":
            return ",".join(delinquency.arrears_evidence(loan, day))
        raise ValueError(f"nothing to expect of a loan: {what}")


@pytest.mark.parametrize("story", stories(Path(__file__).parent), ids=lambda story: story.name)
def test_story(story: Story) -> None:
    play = Play(facts_of(story.policy))
    wrong = []
    for on, happening, expected in story.rows:
        wanted = [item for item in expected.split("; ") if item]
        verdict = play.tell(on, happening) if happening else ""
        told = [item for item in wanted if item.startswith(("refused", "duplicate", "changes"))]
        if [verdict] != told and verdict + "".join(told) not in ("", "changes the past"):
            wrong.append(f"{on} {happening}: {verdict or 'taken'}")
        for item in wanted:
            if item not in told and play.seen(on, item) != item:
                wrong.append(f"{on}: {play.seen(on, item)}, not {item}")
    assert wrong == []
