"""Features at the edges of their definitions, and the same with and without a cache."""

import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import inbound as wire
from streams.engine import delinquency, ledger, windows
from streams.engine.behaviour import Windows
from streams.engine.calendar import DAY_MS, HOUR_MS, Calendar, day_of
from streams.engine.features import CAP_BP, FEATURE_INDEX, FEATURES, FeatureCache, evaluate
from streams.engine.loan import Loan
from streams.policy.loader import load

CALENDAR = Calendar("Asia/Shanghai")
FACTS = load("standard").facts


def day(on: str) -> int:
    """`on` is MM-DD of 2026, or a whole ISO date."""
    return day_of(datetime.date.fromisoformat(on if len(on) > 5 else f"2026-{on}"))


def noon(on: str) -> int:
    return CALENDAR.start_ms(day(on)) + 12 * HOUR_MS


def a_loan(loan_id: str, taken: str, due: list[str], each_minor: int = 1_000, currency: str = "CNY") -> Loan:
    schedule = [
        wire.Instalment(
            number, datetime.date.fromordinal(day(on) + datetime.date(1970, 1, 1).toordinal()), each_minor, 0, 0
        )
        for number, on in enumerate(due, 1)
    ]
    event = wire.LoanDisbursed(
        event_id=f"taken-{loan_id}",
        at_ms=noon(taken),
        borrower_id="b",
        loan_id=loan_id,
        product="cash",
        currency=currency,
        principal_minor=each_minor * len(due),
        schedule=schedule,
    )
    return ledger.disburse(event, FACTS, CALENDAR)


def pay(loan: Loan, on: str, amount_minor: int) -> None:
    reference = f"{loan.loan_id}-{on}"
    event = wire.RepaymentReceived(
        event_id=reference,
        at_ms=noon(on),
        borrower_id="b",
        loan_id=loan.loan_id,
        payment_id=reference,
        amount_minor=amount_minor,
        method="manual",
        channel="app",
    )
    ledger.apply(loan, event, CALENDAR, FACTS)


def fail(loan: Loan, on: str, code: str) -> None:
    event = wire.RepaymentFailed(
        event_id=f"f-{on}-{code}",
        at_ms=noon(on),
        borrower_id="b",
        loan_id=loan.loan_id,
        attempt_id=f"{on}-{code}",
        amount_minor=1,
        method="auto_debit",
        channel="bank",
        code=code,
    )
    ledger.apply(loan, event, CALENDAR, FACTS)


def move(state: Windows, on_ms: int, direction: Any, amount_minor: int, category: Any, currency: str = "CNY") -> int:
    event = wire.Transaction(
        event_id=f"{on_ms}-{category}",
        at_ms=on_ms,
        borrower_id="b",
        transaction_id="t",
        direction=direction,
        amount_minor=amount_minor,
        currency=currency,
        category=category,
    )
    return windows.observe_transaction(state, CALENDAR, event)


def in_yuan() -> Windows:
    state = Windows()
    windows.observe_currency(state, "CNY")
    return state


def of(name: str, state: Windows, loans: list[Loan], as_of_ms: int) -> int | None:
    today = CALENDAR.day(as_of_ms)
    for loan in loans:
        delinquency.position(loan, today, FACTS)
    return evaluate(state, loans, as_of_ms, CALENDAR, None, None)[FEATURE_INDEX[name]]


# --- from loans ---------------------------------------------------------------------------------------------------

DUE = ["01-10", "02-10", "03-10", "04-10", "05-10", "06-10", "07-10", "08-10"]


@pytest.mark.parametrize(
    ("paid_on", "as_of", "on_time", "lateness", "episodes"),
    [
        ([], "01-10", None, None, 0),  # due today is not late yet
        ([], "01-11", 0, 1, 1),
        ([], "02-05", 0, 26, 1),
        (["01-10"], "01-11", 10_000, 0, 0),
        (["01-09"], "01-11", 10_000, 0, 0),
        (["01-11"], "01-20", 0, 1, 1),
        (["01-10", "02-10", "03-13"], "03-20", 6_666, 1, 1),
        (["01-10", "02-12", "03-13"], "03-20", 3_333, 1, 2),  # (0 + 2 + 3) / 3, rounded down
        # What is paid when the next is overdue already does not separate the two.
        (["02-12", "02-12"], "02-20", 0, 17, 1),
        (["02-10", "02-11"], "02-20", 0, 16, 2),  # nothing was overdue at the end of 02-10
        # Only the last six of seven due dates: the late first one is out, as an episode it is still in.
        (["01-20", "02-10", "03-10", "04-10", "05-10", "06-10", "07-10"], "07-11", 10_000, 0, 1),
        (["01-20", "02-10", "03-10", "04-10", "05-10", "06-10"], "06-11", 8_333, 1, 1),
        (["01-20", "02-10", "03-10", "04-10", "05-10", "06-10", "07-10", "08-10"], "2027-01-19", 10_000, 0, 1),
        (["01-20", "02-10", "03-10", "04-10", "05-10", "06-10", "07-10", "08-10"], "2027-01-20", 10_000, 0, 0),
    ],
)
def test_punctuality(paid_on: list[str], as_of: str, on_time: int | None, lateness: int | None, episodes: int) -> None:
    loan = a_loan("l", "01-01", DUE)
    for on in sorted(set(paid_on)):
        pay(loan, on, 1_000 * paid_on.count(on))
    assert of("on_time_ratio_bp", in_yuan(), [loan], noon(as_of)) == on_time
    assert of("mean_lateness_days", in_yuan(), [loan], noon(as_of)) == lateness
    assert of("overdue_episodes_365d", in_yuan(), [loan], noon(as_of)) == episodes


def test_loans_late_at_the_same_time_are_one_episode_and_a_due_date_is_as_late_as_its_latest_loan() -> None:
    first, second = a_loan("1", "01-01", ["02-01"]), a_loan("2", "01-01", ["02-01", "02-05", "03-01"])
    pay(first, "02-04", 1_000)
    pay(second, "02-09", 2_000)
    as_of = noon("02-28")
    assert of("overdue_episodes_365d", in_yuan(), [first, second], as_of) == 1
    assert of("mean_lateness_days", in_yuan(), [first, second], as_of) == (8 + 4) // 2
    assert of("overdue_episodes_365d", in_yuan(), [first, second], noon("03-02")) == 2


def test_a_loan_that_has_ended_is_not_late_for_ever() -> None:
    loan = a_loan("l", "01-01", ["01-10", "03-10"])
    end = wire.LoanWrittenOff(event_id="w", at_ms=noon("01-30"), borrower_id="b", loan_id="l")
    ledger.apply(loan, end, CALENDAR, FACTS)
    assert of("mean_lateness_days", in_yuan(), [loan], noon("05-01")) == (20 + 0) // 2
    assert of("due_to_income_bp", in_yuan(), [loan], noon("05-01")) is None


@pytest.mark.parametrize(
    ("failures", "as_of", "expected"),
    [
        ([], "03-01", 0),
        ([("02-01", "insufficient_funds")], "02-01", 1),
        ([("02-01", "insufficient_funds")], "03-02", 1),
        ([("02-01", "insufficient_funds")], "03-03", 0),
        ([("02-01", "timeout")], "02-01", 0),
        ([("02-01", "no_such_code")], "02-01", 0),
        ([("02-01", "timeout"), ("02-01", "card_closed"), ("02-02", "card_closed")], "02-03", 2),
    ],
)
def test_failed_debits_count_only_where_the_borrower_caused_them(
    failures: list[tuple[str, str]], as_of: str, expected: int
) -> None:
    loan = a_loan("l", "01-01", DUE)
    for on, code in failures:
        fail(loan, on, code)
    assert of("failed_debits_30d", in_yuan(), [loan], noon(as_of)) == expected


def test_a_failure_that_turns_out_the_platforms_counts_no_more() -> None:
    loan = a_loan("l", "01-01", DUE)
    fail(loan, "02-01", "insufficient_funds")
    event = wire.FailureReattributed(
        event_id="r",
        at_ms=noon("02-02"),
        borrower_id="b",
        loan_id="l",
        attempt_id="02-01-insufficient_funds",
        attribution="platform",
    )
    ledger.apply(loan, event, CALENDAR, FACTS)
    assert of("failed_debits_30d", in_yuan(), [loan], noon("02-03")) == 0


@pytest.mark.parametrize(
    ("paid_off", "again", "amount", "as_of", "expected"),
    [
        ("02-01", "02-01", 1_000, "02-02", 1),
        ("02-01", "02-04", 1_000, "02-05", 1),
        ("02-01", "02-05", 1_000, "02-06", 0),  # four days later
        ("02-01", "01-31", 1_000, "02-06", 0),  # taken before
        ("02-01", "02-02", 1_200, "02-03", 1),
        ("02-01", "02-02", 1_201, "02-03", 0),
        ("02-01", "02-02", 800, "02-03", 1),
        ("02-01", "02-02", 799, "02-03", 0),
        ("02-01", "02-02", 1_000, "05-02", 1),
        ("02-01", "02-02", 1_000, "05-03", 0),  # out of the 90 days
    ],
)
def test_borrowing_in_cycles(paid_off: str, again: str, amount: int, as_of: str, expected: int) -> None:
    first = a_loan("1", "01-01", ["03-01"], 1_000)
    pay(first, paid_off, 1_000)
    second = a_loan("2", again, ["12-01"], amount)
    assert of("reborrow_cycles_90d", in_yuan(), [first, second], noon(as_of)) == expected


def test_a_loan_not_paid_off_and_another_currency_make_no_cycle() -> None:
    first = a_loan("1", "01-01", ["03-01"], 1_000)
    pay(first, "02-01", 999)
    assert of("reborrow_cycles_90d", in_yuan(), [first, a_loan("2", "02-02", ["12-01"])], noon("02-03")) == 0
    pay(first, "02-02", 1)
    assert of("reborrow_cycles_90d", in_yuan(), [first, a_loan("2", "02-02", ["12-01"])], noon("02-03")) == 1
    assert (
        of("reborrow_cycles_90d", in_yuan(), [first, a_loan("2", "02-02", ["12-01"], 1_000, "EUR")], noon("02-03")) == 0
    )


@pytest.mark.parametrize(
    ("due", "income_on", "expected"),
    [
        (["03-01"], "02-25", 1_000),  # due today: 1,000 of 10,000
        (["03-30"], "02-25", 1_000),
        (["03-31"], "02-25", 0),  # the 31st day
        (["02-28"], "02-25", 0),  # overdue already, not due
        (["03-01", "03-08"], "02-25", 2_000),
        (["03-01"], "01-26", 1_166),  # 35 days at the rate of 30: 1,000 of 8,571
        (["03-01"], "01-25", CAP_BP),
        (["04-01"], "01-25", 0),
    ],
)
def test_what_is_due_against_income(due: list[str], income_on: str, expected: int) -> None:
    state = in_yuan()
    move(state, noon("2025-12-01"), "in", 1, "income")
    move(state, noon(income_on), "in", 10_000, "income")
    loan = a_loan("l", "01-01", due)
    assert of("due_to_income_bp", state, [loan], noon("03-01")) == expected
    assert of("due_to_income_bp", state, [a_loan("l", "01-01", due, 1_000, "EUR")], noon("03-01")) is None
    assert of("due_to_income_bp", state, [], noon("03-01")) is None


# --- from windows -------------------------------------------------------------------------------------------------


def test_the_last_day_of_a_long_month_is_no_fall_of_income() -> None:
    """Paid on the 1st: on 31 December the last pay is 30 days back, out of the 30 days."""
    state = in_yuan()
    for month in range(4, 13):
        move(state, noon(f"2026-{month:02d}-01"), "in", 600_000, "income")
    assert of("income_30d_minor", state, [], noon("12-31")) == 0
    fall = of("income_fall_bp", state, [], noon("12-31"))
    assert fall is not None
    assert fall < 2_000
    lost = of("income_fall_bp", state, [], noon("2027-01-06"))
    assert lost == 10_000


@pytest.mark.parametrize(
    ("paid_in", "as_of", "without", "variation"),
    [
        ([1, 2, 3], "04-15", None, None),  # only February and March have been seen whole
        ([1, 2, 3, 4], "05-15", 0, 0),
        ([1, 3, 4], "05-15", 1, 7_070),
        ([1, 2], "07-15", 4, 20_000),
        ([1], "05-15", 3, None),
        ([1, 2, 3, 4, 5, 6, 7, 8], "08-15", 0, 0),
    ],
)
def test_whole_months(paid_in: list[int], as_of: str, without: int | None, variation: int | None) -> None:
    state = in_yuan()
    for month in paid_in:
        move(state, noon(f"2026-{month:02d}-05"), "in", 500, "income")
    assert of("months_without_income_6m", state, [], noon(as_of)) == without
    assert of("income_variation_6m_bp", state, [], noon(as_of)) == variation


def test_a_sudden_large_spend_is_measured_against_the_days_before() -> None:
    state = in_yuan()
    for number in range(91):
        move(state, noon("01-01") + number * DAY_MS, "out", 1_000, "purchase")
    spree = noon("01-01") + 91 * DAY_MS
    move(state, spree, "out", 9_000, "purchase")
    assert of("spend_24h_to_mean_bp", state, [], spree) == 90_000
    assert of("spend_24h_deviations", state, [], spree) == 8_000  # a tenth of the mean is the least deviation
    assert of("spend_24h_to_mean_bp", state, [], spree + 23 * HOUR_MS) == 90_000
    assert of("spend_24h_to_mean_bp", state, [], spree + 24 * HOUR_MS) == 0


def test_paying_back_a_loan_is_no_spending_spree() -> None:
    state = in_yuan()
    for number in range(90):
        move(state, noon("01-01") + number * DAY_MS, "out", 1_000, "purchase")
    end = noon("01-01") + 91 * DAY_MS
    move(state, end, "out", 500_000, "credit_outflow")
    assert of("spend_24h_to_mean_bp", state, [], end) == 0


@pytest.mark.parametrize(("hours", "expected"), [(-1, 0), (0, 10_000), (48, 10_000), (49, 0)])
def test_money_repaid_with_credit_arrives_within_48_hours(hours: int, expected: int) -> None:
    state, loan = in_yuan(), a_loan("l", "01-01", DUE)
    windows.observe_loan_taken(state, CALENDAR, noon("02-03"), "taken")
    at_ms = noon("02-03") + hours * HOUR_MS
    paid = wire.RepaymentReceived(
        event_id="p",
        at_ms=at_ms,
        borrower_id="b",
        loan_id="l",
        payment_id="p",
        amount_minor=9,
        method="manual",
        channel="a",
    )
    ledger.apply(loan, paid, CALENDAR, FACTS)
    windows.observe_repayment(state, CALENDAR, paid, loan)
    assert of("repaid_from_credit_90d_bp", state, [loan], noon("02-10")) == expected


def test_arrears_are_handed_through_and_nothing_else_is_known_of_nobody() -> None:
    values = evaluate(Windows(), (), noon("01-01"), CALENDAR, 3, 5)
    seen = {FEATURES[at].name: value for at, value in enumerate(values) if value is not None}
    assert seen == {"worst_managed_dpd": 3, "worst_contractual_dpd": 5}


def test_names_are_unique() -> None:
    assert len(FEATURE_INDEX) == len(FEATURES)


# --- the cache ----------------------------------------------------------------------------------------------------

STEP = st.tuples(
    st.sampled_from(["login", "refused", "spend", "income", "credit", "taken", "repaid", "failed", "tick", "euro"]),
    st.integers(0, 40) | st.integers(0, 40 * 24),
    st.integers(0, 7 * 24),
    st.integers(1, 5_000),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=40))
def test_features_are_the_same_with_and_without_a_cache(steps: list[tuple[str, int, int, int]]) -> None:
    state, cache, loans = in_yuan(), FeatureCache(), dict[str, Loan]()
    as_of_ms = noon("01-01")
    for number in range(100):
        move(state, as_of_ms - number * DAY_MS, "out", 700 + number * number, "purchase")
        move(state, as_of_ms - number * DAY_MS, "in", 1_000, "other")
    for number, (kind, hours, late, amount) in enumerate(steps):
        as_of_ms += hours * HOUR_MS
        at_ms = as_of_ms - late * HOUR_MS
        cache.dirty |= happen(state, loans, kind, number, at_ms, amount)
        today = CALENDAR.day(as_of_ms)
        for loan in loans.values():
            cache.dirty |= windows.LOANS if loan.as_of_day < today else 0
            delinquency.position(loan, today, FACTS)
        plain = evaluate(state, loans.values(), as_of_ms, CALENDAR, number, None)[:]
        assert evaluate(state, loans.values(), as_of_ms, CALENDAR, number, None, cache) == plain
        restored = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Windows)
        assert evaluate(restored, loans.values(), as_of_ms, CALENDAR, number, None, FeatureCache()) == plain


def happen(state: Windows, loans: dict[str, Loan], kind: str, number: int, at_ms: int, amount: int) -> int:
    """One event, as the fold would tell it; returns what may have changed."""
    if kind == "tick":
        return 0
    changed = happen_else(state, loans, kind, number, at_ms, amount)
    return changed | windows.observe_activity(state, CALENDAR.day(at_ms), at_ms, f"e{number}")


def happen_else(state: Windows, loans: dict[str, Loan], kind: str, number: int, at_ms: int, amount: int) -> int:
    """What an event says, but for that something happened."""
    common: dict[str, Any] = {"event_id": f"e{number}", "at_ms": at_ms, "borrower_id": "b"}
    if kind in ("login", "refused"):
        outcome: Any = "ok" if kind == "login" else "failed"
        event = wire.Login(**common, outcome=outcome, device_id=str(amount % 3), channel="app")
        return windows.observe_login(state, CALENDAR, event)
    if kind == "euro":
        return windows.observe_currency(state, "EUR" if state.currency == "CNY" else "CNY")
    if kind in ("spend", "income", "credit"):
        direction, category = {"spend": ("out", "cash"), "income": ("in", "income"), "credit": ("in", "credit_inflow")}[
            kind
        ]
        return move(state, at_ms, direction, amount, category)
    if kind == "taken":
        on = datetime.date(1970, 1, 1) + datetime.timedelta(days=CALENDAR.day(at_ms))
        due = [(on + datetime.timedelta(days=14 * count)).isoformat() for count in (1, 2, 3)]
        loans[str(number)] = a_loan(str(number), on.isoformat(), due, amount)
        return windows.observe_loan_taken(state, CALENDAR, at_ms, f"e{number}")
    if len(loans) == 0:
        return 0
    loan = list(loans.values())[amount % len(loans)]
    told: dict[str, Any] = {**common, "loan_id": loan.loan_id, "amount_minor": amount, "channel": "bank"}
    if kind == "repaid":
        paid = wire.RepaymentReceived(**told, payment_id=f"p{number}", method="manual")
        ledger.apply(loan, paid, CALENDAR, FACTS)
        return windows.observe_repayment(state, CALENDAR, paid, loan)
    attempt = wire.RepaymentFailed(**told, attempt_id=f"a{number}", method="auto_debit", code="card_closed")
    ledger.apply(loan, attempt, CALENDAR, FACTS)
    return windows.observe_failed_debit(state, at_ms, f"e{number}", loan.loan_id, f"a{number}", True)


def seasoned() -> Windows:
    """A borrower whose spending and inflow have been seen every day of 100 days up to 10 January."""
    state = in_yuan()
    for number in range(100):
        move(state, noon("01-10") - number * DAY_MS, "out", 700 + number, "purchase")
        move(state, noon("01-10") - number * DAY_MS, "in", 1_000, "other")
    return state


def test_a_cache_follows_the_hours_of_one_day() -> None:
    state, cache = seasoned(), FeatureCache()
    refused = wire.Login(
        event_id="e", at_ms=noon("01-10"), borrower_id="b", outcome="failed", device_id="d", channel="app"
    )
    windows.observe_login(state, CALENDAR, refused)
    seen = []
    for hours in (22, 25):  # 10:00 and 13:00 of the next day
        values = evaluate(state, (), noon("01-10") + hours * HOUR_MS, CALENDAR, None, None, cache)
        assert values == evaluate(state, (), noon("01-10") + hours * HOUR_MS, CALENDAR, None, None)
        seen.append((values[FEATURE_INDEX["failed_logins_24h"]], values[FEATURE_INDEX["spend_24h_to_mean_bp"]] == 0))
    assert seen == [(1, False), (0, True)]


@pytest.mark.parametrize("days_late", [0, 1, 30])
def test_a_cache_follows_late_spending(days_late: int) -> None:
    state, cache = seasoned(), FeatureCache()
    before = evaluate(state, (), noon("01-10"), CALENDAR, None, None, cache)[:]
    cache.dirty |= move(state, noon("01-10") - days_late * DAY_MS, "out", 50_000, "cash")
    after = evaluate(state, (), noon("01-10"), CALENDAR, None, None, cache)
    assert after == evaluate(state, (), noon("01-10"), CALENDAR, None, None)
    at = FEATURE_INDEX["outflow_to_inflow_30d_bp"]
    assert (before[at] != after[at]) == (days_late < 30)
