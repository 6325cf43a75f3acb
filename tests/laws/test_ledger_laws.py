"""The ledger held to its laws on random histories, and to a naive ledger that shares no code with it.

``DUEWATCH_HISTORIES`` sets how many histories are drawn (default 100), ``DUEWATCH_SEED`` where they start.
"""

import copy
import os
import random
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from schemas import inbound as wire
from streams.engine import delinquency, ledger
from streams.engine.calendar import Calendar, date_of, iso_day
from streams.engine.history import known_by
from streams.engine.journal import DUPLICATE, Applied, Outcome, Refused
from streams.engine.ledger import Loan
from streams.engine.loan import COMPONENTS, DAY, ENTRY, NONE, REVERSAL, WAIVER, unapplied_minor
from streams.engine.loan_facts import is_written_off
from streams.engine.spells import spells
from streams.policy import model
from tests.oracle.histories import Recorded, random_history
from tests.oracle.naive import NaiveLedger, bucket_of

HISTORIES = int(os.environ.get("DUEWATCH_HISTORIES", "100"))
SEED = int(os.environ.get("DUEWATCH_SEED", "0"))
CHUNK = 25
CALENDAR = Calendar("Asia/Shanghai")
BORROWER_EVENTS = wire.Repayments | wire.PlanAccepted

ALL_GROUPS = ("past_due", "due_today", "in_advance")
INTEREST_FIRST = ("interest", "principal", "fee", "penalty")
# Policy facts by name: (groups by method, component order, DPD of a due date, materiality in basis points).
POLICIES: dict[str, tuple[dict[str, tuple[str, ...]], tuple[str, ...], int, int]] = {
    "standard": ({}, COMPONENTS, 0, 100),
    "due date is day 1": ({}, COMPONENTS, 1, 100),
    "debits pay nothing in advance": (
        {"auto_debit": ("past_due", "due_today"), "transfer": ("past_due",)},
        COMPONENTS,
        0,
        100,
    ),
    "interest first, newest debts first": (
        {"manual": ("in_advance", "due_today", "past_due"), "settlement": ("due_today", "in_advance")},
        INTEREST_FIRST,
        0,
        1500,
    ),
}


def facts_of(name: str) -> model.Facts:
    groups, components, counts_as, relative_bp = POLICIES[name]
    orders = {
        method: {"groups": groups.get(method, ALL_GROUPS), "components": components}
        for method in ("auto_debit", "manual", "transfer", "settlement")
    }
    return msgspec.convert(
        {
            "calendar": {"zone": "Asia/Shanghai"},
            "allocation": {"default": orders["manual"], "by_method": orders},
            "dpd": {"due_date_counts_as": counts_as},
            "material": {
                "absolute_minor": {"CNY": 80_000, "EUR": 10_000},
                "default_absolute_minor": 10_000,
                "relative_bp": relative_bp,
            },
            "attribution": {"platform": ["timeout"], "borrower": ["insufficient_funds"]},
        },
        type=model.Facts,
    )


def naive_of(name: str) -> NaiveLedger:
    groups, components, counts_as, relative_bp = POLICIES[name]
    return NaiveLedger(
        due_date_counts_as=counts_as,
        groups_by_method=groups,
        component_order=components,
        material_relative_bp=relative_bp,
    )


def history_of(seed: int) -> list[Recorded]:
    rng = random.Random(seed)
    return random_history(rng, loans=2, days=rng.choice((120, 250, 400)))


def typed(event: dict[str, Any]) -> Any:
    return msgspec.convert(event, type=BORROWER_EVENTS)


class Book:
    """The loans of one borrower, with events that came before their loan waiting for it."""

    def __init__(self, facts: model.Facts) -> None:
        self.facts = facts
        self.loans: dict[str, Loan] = {}
        self.waiting: dict[str, list[Any]] = {}
        self.taken: list[Any] = []

    def take(self, event: Any) -> Outcome | None:
        """The verdict on an event, None while it waits for its loan."""
        loan = self.loans.get(event.loan_id)
        if loan is None and not isinstance(event, wire.LoanDisbursed):
            self.waiting.setdefault(event.loan_id, []).append(event)
            return None
        if loan is None:
            self.loans[event.loan_id] = ledger.disburse(event, self.facts, CALENDAR)
            self.taken.append(event)
            for waited in self.waiting.pop(event.loan_id, []):
                self.take(waited)
            return Applied(False)
        before = msgspec.msgpack.encode(loan)
        outcome = ledger.apply(loan, event, CALENDAR, self.facts)
        if isinstance(outcome, Applied):
            self.taken.append(event)
        else:
            assert msgspec.msgpack.encode(loan) == before, f"{outcome} changed the loan"
        return outcome


def as_told(loan: Loan, day: int, position: delinquency.Position) -> dict[str, Any]:
    return {
        "loan_id": loan.loan_id,
        "bucket": bucket_of(position.managed),
        "dpd": {
            "contractual": position.contractual,
            "managed": position.managed,
            "material": position.material,
            "principal": position.principal,
            "interest": position.interest,
        },
        "outstanding": {f"{name}_minor": amount for name, amount in zip(COMPONENTS, position.outstanding, strict=True)},
        "overdue": {f"{name}_minor": amount for name, amount in zip(COMPONENTS, position.overdue, strict=True)},
        "unapplied_minor": position.unapplied_minor,
    }


def as_naive(told: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in told.items()
        if name not in ("received_minor", "reversed_minor", "allocated_minor")
    }


def verdict_of(outcome: Outcome | None) -> str:
    if isinstance(outcome, Refused):
        return outcome.reason
    return "duplicate" if outcome is DUPLICATE else "accepted"


def assert_agrees(book: Book, naive: NaiveLedger, day: int, where: str) -> None:
    """Every loan paid out by `day` as of `day`: counters, buckets and amounts; and the totals where it stands there.

    A loan that stands later already is asked with hindsight: what was reversed or waived since never was.
    """
    for loan_id, loan in book.loans.items():
        if loan.disbursed_day > day:
            continue
        stands = max(day, loan.as_of_day)
        expected = next(told for told in naive.loans(date_of(day), date_of(stands)) if told["loan_id"] == loan_id)
        told = as_told(loan, day, delinquency.position(loan, day, book.facts))
        assert told == as_naive(expected), f"{where}: {loan_id} on {iso_day(day)} as seen on {iso_day(stands)}"
        if loan.as_of_day == day:
            totals = (loan.received_minor, loan.reversed_minor, loan.allocated_minor)
            named = ("received_minor", "reversed_minor", "allocated_minor")
            assert totals == tuple(expected[name] for name in named), f"{where}: {loan_id} on {iso_day(day)}"


def assert_conserved(loan: Loan) -> None:
    assert loan.allocated_minor + unapplied_minor(loan) == loan.received_minor - loan.reversed_minor
    assert all(amount >= 0 for amount in loan.outstanding)


@pytest.mark.parametrize("chunk", range((HISTORIES + CHUNK - 1) // CHUNK))
@pytest.mark.parametrize("policy", POLICIES)
def test_the_naive_ledger_agrees(policy: str, chunk: int) -> None:
    for seed in range(SEED + chunk * CHUNK, SEED + (chunk + 1) * CHUNK):
        rng = random.Random(seed + 7)
        book, naive = Book(facts_of(policy)), naive_of(policy)
        history = history_of(seed)
        for number, (record_ms, event) in enumerate(history):
            if event["loan_id"] not in book.loans and event["type"] != "loan_disbursed":
                if naive.accept(event, record_ms) == "parked":
                    book.take(typed(event))
                continue
            verdict = verdict_of(book.take(typed(event)))
            if verdict == "unknown_instalment" and event["type"] == "amount_waived":
                continue  # the naive ledger keeps such a waiver and lets it lower nothing
            assert verdict == naive.accept(event, record_ms), f"{policy}, seed {seed}: event {number} {event}"
            for loan in book.loans.values():
                assert_conserved(loan)
            if rng.random() < 0.03:
                assert_agrees(book, naive, CALENDAR.day(record_ms), f"{policy}, seed {seed}, after event {number}")
        first, last = CALENDAR.day(history[0][0]), CALENDAR.day(history[-1][0]) + 60
        for day in sorted(rng.sample(range(first, last), 5), reverse=rng.random() < 0.5):
            assert_agrees(book, naive, day, f"{policy}, seed {seed}, at the end")


# --- laws of the ledger alone -------------------------------------------------------------------------------------

policies_and_seeds = pytest.mark.parametrize(
    ("policy", "seed"), [(name, SEED + seed) for name in POLICIES for seed in range(0, HISTORIES, 5)]
)


def lived(policy: str, seed: int) -> tuple[Book, int]:
    """A book that took a history as it came, brought forward day by day, and the day it stands at."""
    book = Book(facts_of(policy))
    day = NONE
    for record_ms, event in history_of(seed):
        book.take(typed(event))
        day = max(day, CALENDAR.day(record_ms))
        for loan in book.loans.values():
            ledger.settle(loan, day, book.facts)
    return book, day


@policies_and_seeds
def test_brought_forward_step_by_step_or_computed_afresh_is_the_same(policy: str, seed: int) -> None:
    book, day = lived(policy, seed)
    for loan in book.loans.values():
        afresh = copy.copy(loan)
        afresh.applied = NONE
        ledger.settle(afresh, day, book.facts)
        assert msgspec.structs.asdict(afresh) == msgspec.structs.asdict(loan)


@policies_and_seeds
def test_the_order_of_arrival_does_not_matter(policy: str, seed: int) -> None:
    book, day = lived(policy, seed)
    rng = random.Random(seed)
    left = list(book.taken)
    rng.shuffle(left)
    left.sort(key=lambda event: not isinstance(event, wire.LoanDisbursed))
    other = Book(book.facts)
    while left:  # what names an instalment of a schedule that has not come yet is sent again, as a person would
        refused = [event for event in left if isinstance(other.take(event), Refused)]
        assert len(refused) < len(left)
        left = refused
        for loan in other.loans.values():
            ledger.settle(loan, day - rng.randrange(0, 200), book.facts)
    for loan_id, loan in book.loans.items():
        ledger.settle(other.loans[loan_id], day, book.facts)
        assert msgspec.structs.asdict(other.loans[loan_id]) == msgspec.structs.asdict(loan)


@policies_and_seeds
def test_a_packed_loan_lives_on_as_the_loan_itself(policy: str, seed: int) -> None:
    kept, packed = Book(facts_of(policy)), Book(facts_of(policy))
    for record_ms, event in history_of(seed):
        assert kept.take(typed(event)) == packed.take(typed(event))
        day = CALENDAR.day(record_ms)
        for loan_id, loan in kept.loans.items():
            blob = msgspec.msgpack.encode(packed.loans[loan_id])
            packed.loans[loan_id] = msgspec.msgpack.decode(blob, type=Loan)
            assert delinquency.position(packed.loans[loan_id], day, kept.facts) == delinquency.position(
                loan, day, kept.facts
            )


@policies_and_seeds
def test_a_question_about_the_past_changes_nothing_and_is_answered_as_it_was_then(policy: str, seed: int) -> None:
    """With the same facts known, looking back gives what the loan gave when it stood there."""
    book, day = lived(policy, seed)
    rng = random.Random(seed)
    for loan in book.loans.values():
        forward = copy.copy(loan)
        forward.applied = NONE
        packed = msgspec.msgpack.encode(loan)
        entries = range(0, loan.applied * ENTRY, ENTRY)
        undone = [loan.journal[at + DAY] for at in entries if loan.journal[at] in (REVERSAL, WAIVER)]
        for past in range(loan.disbursed_day, day, rng.randrange(3, 30)):
            looked_back = delinquency.position_as_of(loan, past, book.facts)
            ledger.settle(forward, past, book.facts)
            assert forward.as_of_day == past
            if past >= max(undone, default=past):
                assert delinquency.position(forward, past, book.facts) == looked_back
        assert msgspec.msgpack.encode(loan) == packed


@policies_and_seeds
def test_looking_back_sees_what_was_reversed_and_waived_since(policy: str, seed: int) -> None:
    """The naive ledger says so too, at the end of a history and in the middle of it."""
    book, naive = Book(facts_of(policy)), naive_of(policy)
    rng = random.Random(seed)
    history = history_of(seed)
    for number, (record_ms, event) in enumerate(history, 1):
        book.take(typed(event))
        naive.accept(event, record_ms)
        if number not in (len(history) // 2, len(history)):
            continue
        day = CALENDAR.day(record_ms)
        for loan in book.loans.values():
            ledger.settle(loan, day, book.facts)
        for past in rng.sample(range(CALENDAR.day(history[0][0]), day + 1), 5):
            assert_agrees(book, naive, past, f"{policy}, seed {seed}, after event {number}")


@policies_and_seeds
def test_nothing_crosses_a_threshold_before_the_next_edge_day(policy: str, seed: int) -> None:
    managed_edges, contractual_edges, material_edges = (1, 31, 61, 90), (1, 31, 90, 91, 121), (1, 91)
    book, day = lived(policy, seed)

    def standing(loan: Loan, on: int) -> tuple[object, ...]:
        place = delinquency.position(loan, on, book.facts)
        return (
            sum(place.managed >= edge for edge in managed_edges),
            sum(place.contractual >= edge for edge in contractual_edges),
            sum(place.material >= edge for edge in material_edges),
            place.outstanding,
            place.overdue,
            place.unapplied_minor,
            place.ended,
        )

    for loan in book.loans.values():
        loan.applied = NONE  # stand in the middle of its life: what is dated later is then still to come
        on = loan.disbursed_day + (day - loan.disbursed_day) // 2
        loan.as_of_day = on
        for _ in range(12):
            edge = delinquency.next_edge_day(loan, on, managed_edges, contractual_edges, book.facts, material_edges)
            before = standing(loan, on)
            for quiet in range(on + 1, on + 200 if edge is None else edge):
                assert standing(loan, quiet) == before, f"{loan.loan_id} changed on {iso_day(quiet)}"
            if edge is None:
                break
            on = edge


@policies_and_seeds
def test_episodes_are_the_stretches_of_arrears_that_reach_30_days(policy: str, seed: int) -> None:
    book, day = lived(policy, seed)
    for loan in book.loans.values():
        reached: list[int] = []
        counted = False
        known = known_by(loan, day)
        passed = copy.copy(loan)
        ledger.begin_again(passed, loan.basis, known)
        for on in range(loan.disbursed_day, day + 1):
            ledger.bring_forward(passed, on, known)
            place = delinquency.position(passed, on, book.facts)
            if place.contractual == 0:
                counted = False
            elif place.managed >= 30 and not counted:
                counted = True
                reached.append(on)
        for days in (30, 365, 10_000):
            for on in (day, (loan.disbursed_day + day) // 2):
                wanted = sum(1 for begun in reached if on - days < begun <= on)
                assert len(delinquency.episode_days(loan, on, days, book.facts)) == wanted


@policies_and_seeds
def test_spells_are_the_days_on_which_a_loan_was_so_late(policy: str, seed: int) -> None:
    """Asked day by day what it was with all that is known at the end, it comes to the same stretches."""
    dpds = (1, 30, 60, 90)
    book, day = lived(policy, seed)
    for loan in book.loans.values():
        packed = msgspec.msgpack.encode(loan)
        found = spells(loan, dpds, day, book.facts)
        assert msgspec.msgpack.encode(loan) == packed
        for on in range(loan.disbursed_day, day + 1):
            contractual = delinquency.position_as_of(loan, on, book.facts).contractual
            for dpd, stretches in zip(dpds, found, strict=True):
                late = contractual >= dpd or is_written_off(loan, on)
                assert any(first <= on < end for first, end in stretches) == late, f"{loan.loan_id} on {iso_day(on)}"
        for stretches in found:
            assert all(first < end < later for (first, end), (later, _) in pairwise(stretches))
