"""The windows are a function of the set of events: order does not matter, lateness does not matter, size is bounded."""

import datetime
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import inbound as wire
from streams.engine import ledger, signal_windows, windows
from streams.engine.behaviour import Proof, Windows
from streams.engine.calendar import DAY_MS, HOUR_MS, Calendar
from streams.engine.features import FEATURE_INDEX, FEATURES, evaluate
from streams.engine.loan import Loan
from streams.engine.signal_table import SIGNAL_FEATURES
from streams.policy.loader import load
from tests.oracle.behaviour import Deed, features

SHANGHAI = Calendar("Asia/Shanghai")
FACTS = load("standard").facts
START_MS = 1_767_196_800_000
"""2026-01-01 00:00 in Shanghai."""
LOAN_FEATURES = {
    "due_to_income_bp",
    "reborrow_cycles_90d",
    "on_time_ratio_bp",
    "mean_lateness_days",
    "overdue_episodes_365d",
    "failed_debits_30d",
    "worst_managed_dpd",
    "worst_contractual_dpd",
}


def a_loan(currency: str = "CNY") -> Loan:
    return ledger.disburse(
        wire.LoanDisbursed(
            event_id="loan",
            at_ms=START_MS,
            borrower_id="b",
            loan_id="l",
            product="cash",
            currency=currency,
            principal_minor=1,
            schedule=[wire.Instalment(1, datetime.date(2030, 1, 1), 1, 0, 0)],
        ),
        FACTS,
        SHANGHAI,
    )


def observe(state: Windows, calendar: Calendar, deed: Deed, event_id: str) -> int:
    """Tell the windows of a deed as the fold does."""
    changed = observe_deed(state, calendar, deed, event_id)
    return changed | windows.observe_activity(state, calendar.day(deed.at_ms), deed.at_ms, event_id)


def observe_deed(state: Windows, calendar: Calendar, deed: Deed, event_id: str) -> int:
    """What a deed says, but for that something was done."""
    common = {"event_id": event_id, "at_ms": deed.at_ms, "borrower_id": "b"}
    if deed.kind in ("login", "refused"):
        outcome = "ok" if deed.kind == "login" else "failed"
        login = wire.Login(**common, outcome=outcome, device_id=deed.label, channel="app")  # type: ignore[arg-type]
        return windows.observe_login(state, calendar, login)
    if deed.kind == "loan":
        return windows.observe_loan_taken(state, calendar, deed.at_ms, event_id)
    if deed.kind == "repaid":
        loan = a_loan(deed.currency)
        paid = wire.RepaymentReceived(
            **common,  # type: ignore[arg-type]
            loan_id="l",
            payment_id=event_id,
            amount_minor=deed.amount,
            method="manual",
            channel="app",
        )
        ledger.apply(loan, paid, calendar, FACTS)
        return windows.observe_repayment(state, calendar, paid, loan)
    moved = wire.Transaction(
        **common,  # type: ignore[arg-type]
        transaction_id=event_id,
        direction=deed.kind,  # type: ignore[arg-type]
        amount_minor=deed.amount,
        currency=deed.currency,
        category=deed.label,  # type: ignore[arg-type]
    )
    return windows.observe_transaction(state, calendar, moved)


def fold(numbered: list[tuple[int, Deed]], calendar: Calendar) -> Windows:
    state = Windows()
    windows.observe_currency(state, "CNY")
    for number, deed in numbered:
        observe(state, calendar, deed, f"e{number}")
    return state


def known(state: Windows, as_of_ms: int, calendar: Calendar) -> dict[str, int]:
    values = evaluate(state, (), as_of_ms, calendar, None, None)
    return {FEATURES[at].name: value for at, value in enumerate(values) if value is not None}


SPAN_MS = 230 * DAY_MS
AT = st.integers(0, SPAN_MS) | st.integers(SPAN_MS - 40 * DAY_MS, SPAN_MS) | st.integers(SPAN_MS - 2 * DAY_MS, SPAN_MS)
AMOUNT = st.integers(0, 10**9)
CURRENCY = st.sampled_from(["CNY", "CNY", "CNY", "EUR"])
DEED = (
    st.builds(Deed, AT, st.sampled_from(["login", "login", "refused"]), st.just(0), st.sampled_from("abcde"))
    | st.builds(
        Deed, AT, st.just("out"), AMOUNT, st.sampled_from(["purchase", "cash", "transfer", "credit_outflow"]), CURRENCY
    )
    | st.builds(
        Deed, AT, st.just("in"), AMOUNT, st.sampled_from(["income", "income", "other", "credit_inflow"]), CURRENCY
    )
    | st.builds(Deed, AT, st.just("loan"))
    | st.builds(Deed, AT, st.just("repaid"), st.integers(1, 10**6), st.just(""), CURRENCY)
)
EVERY_HOURS = st.sampled_from([24, 24 * 7, 24 * 30])


@st.composite
def histories(draw: st.DrawFn) -> list[Deed]:
    """Single deeds, and habits that go on to the end: only these fill every day up to the edges of the windows."""
    deeds = draw(st.lists(DEED, max_size=30))
    for habit, every in draw(st.lists(st.tuples(DEED, EVERY_HOURS), max_size=3)):
        times = range(habit.at_ms % (60 * DAY_MS), SPAN_MS, every * HOUR_MS)
        deeds += [habit._replace(at_ms=at_ms, amount=habit.amount * (1 + at_ms % 3)) for at_ms in times]
    return [deed._replace(at_ms=START_MS + deed.at_ms) for deed in deeds]


@settings(max_examples=80, deadline=None)
@given(
    deeds=histories(),
    ahead_ms=st.integers(0, DAY_MS - 1) | st.integers(-20 * DAY_MS, 0),
    zone=st.sampled_from(["Asia/Shanghai", "Asia/Kolkata", "Europe/Berlin", "America/New_York"]),
    seed=st.integers(0, 99),
)
def test_any_order_and_lateness_gives_what_the_whole_list_says(
    deeds: list[Deed], ahead_ms: int, zone: str, seed: int
) -> None:
    """Events may be up to a day ahead of the clock, or the clock long past them."""
    as_of_ms = max((deed.at_ms for deed in deeds), default=START_MS) - ahead_ms
    calendar = Calendar(zone)
    in_order = sorted(enumerate(deeds), key=lambda pair: pair[1].at_ms)
    shuffled = list(enumerate(deeds))
    random.Random(seed).shuffle(shuffled)
    state = fold(in_order, calendar)
    assert fold(shuffled, calendar) == state
    expected = features(deeds, as_of_ms, zone)
    assert known(state, as_of_ms, calendar) == expected


def test_the_oracle_has_an_answer_for_every_feature_of_behaviour() -> None:
    """Otherwise the law above would hold of features that nothing ever gives."""
    deeds = [Deed(START_MS + day * DAY_MS, "login", 0, "a") for day in range(200)]
    deeds += [Deed(START_MS + day * DAY_MS, "out", 100 + day, "cash") for day in range(200)]
    deeds += [Deed(START_MS + day * DAY_MS, "in", 9_000, "income") for day in range(0, 200, 25)]
    deeds += [Deed(START_MS + 190 * DAY_MS, "loan"), Deed(START_MS + 190 * DAY_MS, "repaid", 5)]
    names = set(features(deeds, START_MS + 199 * DAY_MS, "Asia/Shanghai"))
    assert names == {feature.name for feature in FEATURES} - LOAN_FEATURES - {f.name for f in SIGNAL_FEATURES}


def test_packing_loses_nothing_and_nothing_costs_next_to_nothing() -> None:
    deeds = [(at, Deed(START_MS + at * HOUR_MS, "login", 0, "a")) for at in range(500)]
    state = fold(deeds, SHANGHAI)
    packed = msgspec.msgpack.encode(state)
    assert msgspec.msgpack.decode(packed, type=Windows) == state
    assert len(msgspec.msgpack.encode(Windows())) < 16
    assert len(msgspec.msgpack.encode(fold(deeds[:1], SHANGHAI))) < 100


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_the_first_login_of_a_device_proves_that_it_is_new(order: tuple[int, ...]) -> None:
    deeds = [(at, Deed(START_MS + at * DAY_MS, "login", 0, "b" if at > 1 else "a")) for at in order]
    assert proof(fold(deeds, SHANGHAI), "new_devices_7d", START_MS + 8 * DAY_MS) == ["e2"]


def test_size_is_bounded_however_busy_the_borrower() -> None:
    """100,000 events of every kind in two years, from 500 devices: after a quarter the state grows no more."""
    dice = random.Random(7)
    kinds = [
        ("login", "device"),
        ("refused", "device"),
        ("out", "cash"),
        ("out", "transfer"),
        ("in", "income"),
        ("in", "credit_inflow"),
        ("loan", ""),
    ]
    state = Windows()
    windows.observe_currency(state, "CNY")
    sizes = []
    at_ms = START_MS
    for number in range(100_000):
        kind, label = kinds[dice.randrange(len(kinds))]
        if label == "device":
            label = f"device-{dice.randrange(500)}"
        at_ms += 630_000
        deed = Deed(at_ms - dice.randrange(7 * DAY_MS), kind, dice.randrange(10**12), label)
        observe(state, SHANGHAI, deed, f"{number:064d}")
        if number % 25_000 == 24_999:
            sizes.append(len(msgspec.msgpack.encode(state)))
    assert max(sizes) < 16_000
    assert max(sizes) < min(sizes) * 1.1
    assert state.logins is not None
    assert len(state.logins.device_event_ids) == windows.DEVICES_MAX
    assert state.borrowing is not None
    assert len(state.borrowing.credit_hours) == windows.HOURS_MAX


@pytest.mark.parametrize("kind", ["loan", "repaid"])
def test_of_busy_hours_the_newest_are_kept_in_any_order(kind: str) -> None:
    deeds = [(at, Deed(START_MS + at * HOUR_MS, kind, 1)) for at in range(windows.HOURS_MAX + 50)]
    expected = fold(deeds, SHANGHAI)
    for seed in range(5):
        random.Random(seed).shuffle(deeds)
        assert fold(deeds, SHANGHAI) == expected


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York"])
def test_windows_reach_back_to_their_edges_with_the_clock_a_day_behind(zone: str) -> None:
    """A deed on every day, then one a day ahead of the clock: nothing that the clock still asks for is gone."""
    calendar = Calendar(zone)
    deeds = [Deed(START_MS + at * DAY_MS, "login", 0, str(at % 2)) for at in range(230)]
    for category in ("cash", "transfer", "purchase"):
        deeds += [Deed(START_MS + at * DAY_MS, "out", at * at + 1, category) for at in range(230)]
    deeds += [Deed(START_MS + at * DAY_MS, "in", at * at + 1, "income") for at in range(230)]
    deeds += [Deed(START_MS + at * DAY_MS, "repaid", at + 1) for at in range(230)]
    deeds += [Deed(START_MS + at * DAY_MS, "loan") for at in range(0, 230, 4)]
    state = fold(list(enumerate(deeds)), calendar)
    for back_h in range(0, 24, 3):
        as_of_ms = START_MS + 229 * DAY_MS - back_h * HOUR_MS
        assert known(state, as_of_ms, calendar) == features(deeds, as_of_ms, zone)


def test_money_in_another_currency_is_activity_only() -> None:
    foreign = Deed(START_MS, "out", 500, "cash", "EUR")
    state = fold([(1, foreign)], SHANGHAI)
    assert state.spending is None
    assert state.activity is not None
    assert state.activity.counts == [1]


def test_another_home_currency_drops_the_sums() -> None:
    deeds = [Deed(START_MS, "out", 500, "cash"), Deed(START_MS, "in", 500, "income"), Deed(START_MS, "repaid", 5)]
    state = fold(list(enumerate(deeds)), SHANGHAI)
    assert windows.observe_currency(state, "CNY") == 0
    assert windows.observe_currency(state, "EUR") & windows.SPENDING
    assert (state.spending, state.income) == (None, None)
    assert state.borrowing is not None
    assert state.borrowing.repaid == []


# --- repayments that come back ------------------------------------------------------------------------------------


def paid(event_id: str, payment_id: str, amount: int) -> wire.RepaymentReceived:
    return wire.RepaymentReceived(
        event_id=event_id,
        at_ms=START_MS + HOUR_MS,
        borrower_id="b",
        loan_id="l",
        payment_id=payment_id,
        amount_minor=amount,
        method="manual",
        channel="app",
    )


def bounced(payment_id: str) -> wire.RepaymentReversed:
    return wire.RepaymentReversed(
        event_id="r" + payment_id,
        at_ms=START_MS + 2 * HOUR_MS,
        borrower_id="b",
        loan_id="l",
        payment_id=payment_id,
        code="bounced",
    )


@pytest.mark.parametrize("reversal_first", [False, True])
def test_a_payment_that_bounced_was_not_repaid(reversal_first: bool) -> None:
    loan, state = a_loan(), Windows()
    windows.observe_currency(state, "CNY")
    story: list[wire.RepaymentReceived | wire.RepaymentReversed] = [paid("e1", "p1", 70), bounced("p1")]
    if reversal_first:
        story.reverse()
    story.insert(1, paid("e2", "p2", 30))
    for event in story:
        ledger.apply(loan, event, SHANGHAI, FACTS)
        if isinstance(event, wire.RepaymentReceived):
            windows.observe_repayment(state, SHANGHAI, event, loan)
        else:
            windows.observe_repayment_reversed(state, SHANGHAI, event.payment_id, loan)
    assert state.borrowing is not None
    assert state.borrowing.repaid == [30]
    assert state.borrowing.repayments is not None
    assert state.borrowing.repayments.event_ids == ["e2"]


# --- proof --------------------------------------------------------------------------------------------------------


def proof(state: Windows, name: str, as_of_ms: int) -> list[str]:
    feature = FEATURES[FEATURE_INDEX[name]]
    return windows.proof(state, feature.proof, feature.proof_days, SHANGHAI.day(as_of_ms))


def test_the_latest_three_prove_a_feature_whatever_order_they_came_in() -> None:
    deeds = [(at, Deed(START_MS + at * HOUR_MS, "loan")) for at in (4, 1, 5, 3, 2)]
    assert proof(fold(deeds, SHANGHAI), "loans_taken_7d", START_MS) == ["e5", "e4", "e3"]


def test_what_is_out_of_its_window_proves_nothing() -> None:
    state = fold([(1, Deed(START_MS, "loan")), (2, Deed(START_MS + 20 * DAY_MS, "loan"))], SHANGHAI)
    as_of_ms = START_MS + 22 * DAY_MS
    assert proof(state, "loans_taken_7d", as_of_ms) == ["e2"]
    assert proof(state, "loans_taken_30d", as_of_ms) == ["e2", "e1"]
    assert proof(state, "loans_taken_7d", as_of_ms + 40 * DAY_MS) == []


@pytest.mark.parametrize(
    ("name", "deed"),
    [
        ("logins_7d", Deed(START_MS, "login", 0, "a")),
        ("new_devices_7d", Deed(START_MS, "login", 0, "a")),
        ("failed_logins_24h", Deed(START_MS, "refused", 0, "a")),
        ("loans_taken_90d", Deed(START_MS, "loan")),
        ("repaid_from_credit_90d_bp", Deed(START_MS, "repaid", 5)),
        ("spend_24h_deviations", Deed(START_MS, "out", 5, "purchase")),
        ("cash_share_30d_bp", Deed(START_MS, "out", 5, "cash")),
        ("transfer_share_30d_bp", Deed(START_MS, "out", 5, "transfer")),
        ("income_fall_bp", Deed(START_MS, "in", 5, "income")),
    ],
)
def test_each_kind_of_event_proves_its_feature_and_an_empty_history_none(name: str, deed: Deed) -> None:
    assert proof(fold([(1, deed)], SHANGHAI), name, START_MS) == ["e1"]
    assert proof(Windows(), name, START_MS) == []


def test_a_failed_debit_proves_until_it_is_someone_elses_fault() -> None:
    state = Windows()
    windows.observe_failed_debit(state, START_MS, "e1", "l", "a1", True)
    windows.observe_failed_debit(state, START_MS + 1, "e2", "l", "a2", False)
    assert proof(state, "failed_debits_30d", START_MS) == ["e1"]
    windows.observe_failed_debit(state, START_MS + 2, "e3", "l", "a1", False)
    assert proof(state, "failed_debits_30d", START_MS) == []
    windows.observe_failed_debit(state, START_MS + 3, "e4", "l", "a2", True)
    assert proof(state, "failed_debits_30d", START_MS) == ["e4"]


def test_arrears_have_no_proof_here_and_less_activity_is_proved_by_the_last_of_any_kind() -> None:
    login, spend = Deed(START_MS + 1, "login", 0, "a"), Deed(START_MS, "out", 5, "cash")
    state = fold([(1, login), (2, spend), (3, Deed(START_MS + 2, "in", 5, "income"))], SHANGHAI)
    assert proof(state, "worst_managed_dpd", START_MS) == []
    assert proof(state, "activity_fall_bp", START_MS) == ["e3", "e1", "e2"]
    assert proof(Windows(), "activity_fall_bp", START_MS) == []
    changed = wire.ProfileChanged(event_id="e4", at_ms=START_MS + 3, borrower_id="b", field="phone")
    signal_windows.observe(state, SHANGHAI, changed)
    windows.observe_activity(state, SHANGHAI.day(changed.at_ms), changed.at_ms, changed.event_id)
    assert proof(state, "activity_fall_bp", START_MS) == ["e4", "e3", "e1"]
    # A signal's own table has its id.
    assert state.activity is not None
    assert state.activity.last is None


@given(st.permutations(range(6)))
def test_the_last_event_of_all_is_kept_where_nothing_later_is_proof(order: list[int]) -> None:
    """Money in for no reason that is kept (even numbers) and logins, told in any order."""
    deeds = [Deed(START_MS + at, *(("login", 0, "a") if at % 2 else ("in", 5, "other"))) for at in range(6)]
    state = fold([(at, deeds[at]) for at in order], SHANGHAI)
    assert state.activity is not None
    assert state.activity.last is None
    assert proof(state, "activity_fall_bp", START_MS) == ["e5", "e3", "e1"]
    state = fold([(at, deeds[at]) for at in order if at < 5], SHANGHAI)
    assert state.activity is not None
    assert state.activity.last == Proof([START_MS + 4], ["e4"], [0])
    assert proof(state, "activity_fall_bp", START_MS) == ["e4", "e3", "e1"]
