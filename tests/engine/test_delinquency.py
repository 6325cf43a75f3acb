"""Days past due: looking ahead, looking back, and the events that prove arrears."""

from datetime import date
from typing import Any

import msgspec
import pytest

from schemas import inbound as wire
from streams.engine import delinquency, ledger
from streams.engine.calendar import Calendar, day_of, iso_day
from streams.engine.ledger import Loan
from streams.policy import model
from streams.policy.loader import load

FACTS = load("standard").facts
CALENDAR = Calendar("Asia/Shanghai")
MANAGED, CONTRACTUAL = (1, 31, 61, 90), (31, 90, 91)


def at(on: str) -> int:
    return CALENDAR.start_ms(day(on)) + 43_200_000


def day(on: str) -> int:
    return day_of(date.fromisoformat(on))


def new_loan(facts: model.Facts = FACTS, *amounts: int) -> Loan:
    """A loan paid out on 2026-01-01 with instalments due at the ends of the months, of 1,000.00 each unless told."""
    dues = (date(2026, 1, 31), date(2026, 2, 28), date(2026, 3, 31))
    schedule = [
        wire.Instalment(number, due_on, principal, 0, 0)
        for number, (due_on, principal) in enumerate(zip(dues, amounts or (100_000, 100_000), strict=False), 1)
    ]
    event = wire.LoanDisbursed(
        event_id="d1",
        at_ms=at("2026-01-01"),
        borrower_id="b1",
        loan_id="l1",
        product="cash",
        currency="CNY",
        principal_minor=200_000,
        schedule=schedule,
    )
    return ledger.disburse(event, facts, CALENDAR)


def tell(loan: Loan, kind: type[Any], event_id: str, on: str, **fields: Any) -> ledger.Outcome:
    event = kind(event_id=event_id, at_ms=at(on), borrower_id="b1", loan_id="l1", **fields)
    return ledger.apply(loan, event, CALENDAR, FACTS)


def pay(loan: Loan, payment_id: str, on: str, amount_minor: int, **fields: Any) -> None:
    terms = {"method": "manual", "channel": "app", "amount_minor": amount_minor} | fields
    tell(loan, wire.RepaymentReceived, f"e-{payment_id}", on, payment_id=payment_id, **terms)


def changed_facts(**sections: Any) -> model.Facts:
    document = msgspec.to_builtins(FACTS)
    for name, section in sections.items():
        document[name] |= section
    return msgspec.convert(document, type=model.Facts)


def edges(loan: Loan, start: str, facts: model.Facts = FACTS, material: tuple[int, ...] = ()) -> list[str]:
    """Every edge after a date, walked one after another."""
    found: list[str] = []
    on: int | None = day(start)
    while True:
        assert on is not None
        on = delinquency.next_edge_day(loan, on, MANAGED, CONTRACTUAL, facts, material)
        if on is None:
            return found
        found.append(iso_day(on))


# --- the next day that can matter ---------------------------------------------------------------------------------


def test_edges_are_due_dates_passed_and_thresholds_reached() -> None:
    expected = ["2026-02-01", "2026-03-01", "2026-03-03", "2026-04-02", "2026-05-01", "2026-05-02"]
    assert edges(new_loan(), "2026-01-01") == expected


def test_before_it_is_paid_out_a_loan_is_nothing_and_its_first_edge_is_that_day() -> None:
    loan = new_loan()
    place = delinquency.position(loan, day("2025-12-31"), FACTS)
    assert (place.outstanding, place.contractual, place.ended) == ((0, 0, 0, 0), 0, False)
    assert edges(loan, "2025-12-30")[0] == "2026-01-01"


def test_a_paid_loan_and_an_ended_one_have_no_edges() -> None:
    loan = new_loan()
    pay(loan, "p1", "2026-01-15", 200_000)
    assert edges(loan, "2026-01-15") == []
    ended = new_loan()
    tell(ended, wire.LoanClosed, "c1", "2026-02-10")
    assert edges(ended, "2026-01-01") == ["2026-02-01", "2026-02-10", "2026-03-01"]


def test_a_pause_moves_managed_thresholds_and_leaves_contractual_ones() -> None:
    loan = new_loan(FACTS, 100_000)
    dates = {"from_on": date(2026, 2, 1), "until_on": date(2026, 2, 10)}
    tell(loan, wire.PauseSet, "s1", "2026-01-20", **dates)
    # managed 1, contractual 31, managed 31, contractual 90, 91, managed 61, 90
    expected = ["2026-02-01", "2026-02-11", "2026-03-03", "2026-03-13", "2026-04-12", "2026-05-01", "2026-05-02"]
    assert edges(loan, "2026-01-20") == [*expected, "2026-05-11"]


def test_entries_and_pauses_dated_ahead_are_edges() -> None:
    loan = new_loan(FACTS, 100_000)
    pay(loan, "p1", "2026-01-02", 1_000, value_on=date(2026, 1, 9))
    dates = {"from_on": date(2026, 5, 1), "until_on": date(2026, 5, 1)}
    tell(loan, wire.PauseSet, "s1", "2026-01-12", **dates)
    assert edges(loan, "2026-01-02")[:3] == ["2026-01-09", "2026-01-12", "2026-02-01"]


def test_credit_that_waits_makes_due_dates_edges() -> None:
    orders = {"by_method": {"auto_debit": {"groups": ["past_due", "due_today"]}}}
    facts = changed_facts(allocation=orders)
    loan = new_loan(facts, 100_000, 100_000)
    pay(loan, "p1", "2026-01-02", 150_000, method="auto_debit")
    assert edges(loan, "2026-01-02", facts)[:3] == ["2026-01-31", "2026-02-28", "2026-03-01"]


def test_material_thresholds_are_edges_where_asked_for() -> None:
    loan = new_loan(FACTS, 50_000, 50_000)  # material only once both are overdue
    assert "2026-05-30" not in edges(loan, "2026-01-01")
    assert "2026-05-30" in edges(loan, "2026-01-01", material=(1, 91))
    assert delinquency.position(loan, day("2026-05-30"), FACTS).material == 91


def test_thresholds_come_a_day_earlier_where_the_due_date_counts_as_one() -> None:
    facts = changed_facts(dpd={"due_date_counts_as": 1})
    loan = new_loan(facts, 100_000)
    expected = ["2026-01-31", "2026-02-01", "2026-03-02", "2026-04-01", "2026-04-30", "2026-05-01"]
    assert edges(loan, "2026-01-01", facts) == expected


# --- the past -----------------------------------------------------------------------------------------------------


def test_looking_back_knows_what_came_late_and_leaves_the_loan_alone() -> None:
    loan = new_loan()
    assert delinquency.position(loan, day("2026-03-10"), FACTS).contractual == 38
    pay(loan, "p1", "2026-03-10", 100_000, value_on=date(2026, 2, 5))
    assert delinquency.position(loan, day("2026-03-10"), FACTS).contractual == 10
    packed = msgspec.msgpack.encode(loan)
    past = [delinquency.position_as_of(loan, day(on), FACTS).contractual for on in ("2026-02-04", "2026-02-05")]
    assert past == [4, 0]
    assert delinquency.position(loan, day("2026-02-04"), FACTS).contractual == 4
    assert msgspec.msgpack.encode(loan) == packed


def test_a_bounce_is_in_all_of_history_from_its_own_day_on() -> None:
    loan = new_loan()
    pay(loan, "p1", "2026-01-31", 100_000)
    tell(loan, wire.RepaymentReversed, "r1", "2026-03-08", payment_id="p1", code="bounced")

    def seen(on: str) -> tuple[int, int, int]:
        place = delinquency.position_as_of(loan, day(on), FACTS)
        return place.contractual, place.material, len(delinquency.episode_days(loan, day(on), 365, FACTS))

    delinquency.position(loan, day("2026-03-07"), FACTS)
    assert (seen("2026-02-10"), seen("2026-03-07")) == ((0, 0, 0), (7, 7, 0))
    delinquency.position(loan, day("2026-03-08"), FACTS)
    assert (seen("2026-02-10"), seen("2026-03-07"), seen("2026-03-08")) == ((10, 10, 0), (35, 35, 1), (36, 36, 1))


@pytest.mark.parametrize(
    "change",
    [
        {"material": {"absolute_minor": {"CNY": 150_000}}},
        {"material": {"relative_bp": 6_000}},
        {"dpd": {"due_date_counts_as": 1}},
    ],
)
def test_thresholds_are_those_of_the_policy_that_asks(change: dict[str, Any]) -> None:
    asked_first, asked_later = new_loan(), new_loan()
    facts = changed_facts(**change)
    on = day("2026-03-10")
    delinquency.position(asked_later, on, FACTS)
    answer = delinquency.position(asked_later, on, facts)
    assert answer == delinquency.position(asked_first, on, facts)
    assert answer != delinquency.position(new_loan(), on, FACTS)


def test_episodes_of_a_past_day_are_counted_with_all_that_is_known() -> None:
    loan = new_loan(FACTS, 100_000)
    assert len(delinquency.episode_days(loan, day("2026-03-02"), 365, FACTS)) == 1
    assert len(delinquency.episode_days(loan, day("2026-06-01"), 365, FACTS)) == 1
    pay(loan, "p1", "2026-06-01", 100_000, value_on=date(2026, 3, 1))
    assert len(delinquency.episode_days(loan, day("2026-06-01"), 365, FACTS)) == 0
    assert len(delinquency.episode_days(loan, day("2026-03-02"), 365, FACTS)) == 0


def test_pauses_keep_an_episode_away() -> None:
    loan = new_loan(FACTS, 100_000)
    tell(loan, wire.PauseSet, "s1", "2026-02-20", from_on=date(2026, 2, 10), until_on=date(2026, 12, 31))
    assert delinquency.position(loan, day("2026-12-31"), FACTS).contractual == 334
    assert len(delinquency.episode_days(loan, day("2026-12-31"), 365, FACTS)) == 0
    assert len(delinquency.episode_days(loan, day("2027-01-20"), 365, FACTS)) == 0
    assert len(delinquency.episode_days(loan, day("2027-01-21"), 365, FACTS)) == 1


def test_a_pause_set_later_does_not_move_the_day_an_episode_was_reached() -> None:
    loan = new_loan(FACTS, 100_000)
    tell(loan, wire.PauseSet, "s1", "2026-03-20", from_on=date(2026, 2, 5), until_on=date(2026, 2, 10))
    assert len(delinquency.episode_days(loan, day("2026-04-01"), 31, FACTS)) == 1
    assert len(delinquency.episode_days(loan, day("2026-04-01"), 30, FACTS)) == 0


# --- proof --------------------------------------------------------------------------------------------------------


def test_proof_names_what_was_owed_what_reopened_it_and_what_was_paid() -> None:
    loan = new_loan()
    assert delinquency.arrears_evidence(loan, day("2026-01-01")) == []
    delinquency.position(loan, day("2026-02-05"), FACTS)
    assert delinquency.arrears_evidence(loan, day("2026-02-05")) == ["d1"]
    pay(loan, "p1", "2026-02-05", 1_000)
    pay(loan, "p2", "2026-02-06", 99_000)
    tell(loan, wire.ChargeAdded, "c1", "2026-02-07", instalment_no=1, component="penalty", amount_minor=500)
    tell(loan, wire.ChargeAdded, "c2", "2026-02-07", instalment_no=2, component="penalty", amount_minor=500)
    tell(loan, wire.RepaymentReversed, "r1", "2026-02-08", payment_id="p2", code="bounced")
    tell(loan, wire.RepaymentReversed, "r2", "2026-02-09", payment_id="never-seen", code="bounced")
    delinquency.position(loan, day("2026-02-10"), FACTS)
    assert delinquency.arrears_evidence(loan, day("2026-02-10")) == ["d1", "c1", "r1", "e-p1"]


def test_nothing_past_due_needs_no_proof() -> None:
    loan = new_loan()
    pay(loan, "p1", "2026-01-31", 100_000)
    delinquency.position(loan, day("2026-02-10"), FACTS)
    assert delinquency.arrears_evidence(loan, day("2026-02-10")) == []
