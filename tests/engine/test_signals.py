"""Features of signals: every bullet at its edges, in any order of arrival, with and without a cache."""

import datetime
import random
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas import inbound as wire
from schemas.inbound import BorrowerEvent
from streams.engine import ledger, signal_windows, windows
from streams.engine.behaviour import Windows
from streams.engine.calendar import DAY_MS, HOUR_MS, Calendar, day_of
from streams.engine.features import FEATURE_INDEX, FeatureCache, evaluate
from streams.engine.loan import Loan
from streams.engine.signal_proof import signal_proof
from streams.engine.signal_table import GROUP_LEADS, SIGNAL_FEATURES
from streams.engine.signal_windows import BOUNDS
from streams.engine.signals import Kind
from streams.policy.loader import load

CALENDAR = Calendar("Asia/Shanghai")
FACTS = load("standard").facts
LATENESS_DAYS = FACTS.allowed_lateness_days
DAY_0 = day_of(datetime.date(2026, 1, 1))
TYPES = {
    "applied": wire.LoanApplied,
    "assets": wire.AssetsReported,
    "business": wire.BusinessReported,
    "income": wire.IncomeReported,
    "changed": wire.ProfileChanged,
    "bureau": wire.BureauReported,
    "listed": wire.BlacklistReported,
    "link": wire.LinkReported,
    "statement": wire.StatementIssued,
    "violation": wire.ViolationReported,
    "fraud": wire.FraudReported,
    "profile": wire.ProfileSet,
    "moves": wire.Transaction,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "applied": {"outcome": "open"},
    "bureau": {"active_lenders": 1, "enquiries_30d": 0, "external_balance_minor": 0, "external_overdue": False},
    "assets": {"kind": "savings", "pledged": False},
    "business": {"orders": 100, "receivables_minor": 0},
    "income": {"kind": "salary"},
    "link": {"relation": "contact", "status": "clear"},
    "listed": {"source": "consortium", "listed": True},
    "statement": {"balance_minor": 0, "billed_minor": 0, "paid_minor": 0, "limit_minor": 100},
    "violation": {"kind": "purpose", "confirmed": True},
    "fraud": {"kind": "identity", "confirmed": False},
    "profile": {"segment": "worker", "currency": "CNY", "onboarded_on": datetime.date(2025, 1, 1)},
    "moves": {"transaction_id": "t", "direction": "out", "currency": "CNY"},
}


def at_ms(day: float) -> int:
    """Noon of a day counted from 2026-01-01, or a part of a day later."""
    return CALENDAR.start_ms(DAY_0) + int(day * DAY_MS) + 12 * HOUR_MS


def told(day: float, what: str, event_id: str = "", **fields: Any) -> Any:
    common = {"event_id": event_id or f"{what}-{day}", "at_ms": at_ms(day), "borrower_id": "b"}
    return TYPES[what](**(common | DEFAULTS.get(what, {}) | fields))


def observe(state: Windows, event: BorrowerEvent) -> int:
    """Tell the windows as the fold does."""
    if isinstance(event, wire.ProfileSet):
        return signal_windows.observe_profile(state, CALENDAR, event) | windows.observe_currency(state, event.currency)
    if isinstance(event, wire.Transaction):
        changed = windows.observe_transaction(state, CALENDAR, event)
        if event.category in ("investment", "gambling") and event.direction == "out":
            changed |= signal_windows.observe_use(state, CALENDAR, event)
        return changed
    return signal_windows.observe(state, CALENDAR, event)


def state_of(events: list[BorrowerEvent]) -> Windows:
    state = Windows()
    windows.observe_currency(state, "CNY")
    for event in events:
        observe(state, event)
    return state


def known(events: list[BorrowerEvent], day: float, loans: list[Loan] | None = None) -> dict[str, int | None]:
    values = evaluate(state_of(events), loans or [], at_ms(day), CALENDAR, None, None)
    return {name: values[at] for name, at in FEATURE_INDEX.items()}


def a_loan(day: float, principal_minor: int = 1_000, due_day: int = 300, loan_id: str = "l") -> Loan:
    due_on = datetime.date(2026, 1, 1) + datetime.timedelta(due_day)
    event = wire.LoanDisbursed(
        event_id=f"taken-{loan_id}", at_ms=at_ms(day), borrower_id="b", loan_id=loan_id, product="cash",
        currency="CNY", principal_minor=principal_minor, schedule=[wire.Instalment(1, due_on, principal_minor, 0, 0)],
    )  # fmt: skip
    loan = ledger.disburse(event, FACTS, CALENDAR)
    ledger.settle(loan, DAY_0 + int(day), FACTS)
    return loan


def test_nothing_told_is_nothing_known() -> None:
    values = known([], 100)
    assert all(values[feature.name] is None for feature in SIGNAL_FEATURES)


def test_applications_count_once_each_and_refusals_on_their_day() -> None:
    events = [
        told(0, "applied", application_id="a"),
        told(2, "applied", application_id="a", outcome="refused"),
        told(5, "applied", application_id="b", outcome="granted"),
        told(5, "applied", "again", application_id="b", outcome="granted"),
    ]
    names = ("applications_7d", "applications_30d", "applications_refused_30d")
    by_day = {day: tuple(known(events, day)[name] for name in names) for day in (5, 7, 12, 31, 32, 40)}
    assert by_day == {5: (2, 2, 1), 7: (1, 2, 1), 12: (0, 2, 1), 31: (0, 1, 1), 32: (0, 1, 0), 40: (0, 0, 0)}


def test_misuse_is_what_went_to_gambling_within_48_hours_of_a_draw() -> None:
    draws = [a_loan(10, 1_000, loan_id="1"), a_loan(20, 500, loan_id="2")]
    spent = [told(9, "moves", amount_minor=900, category="gambling")]
    assert known([], 11, draws)["misuse_share_90d_bp"] is None  # no outflow was ever seen
    assert known(spent, 21, draws)["misuse_share_90d_bp"] == 0
    early = told(10, "moves", "x", amount_minor=100, category="investment")  # in the hour of the draw
    late = told(12, "moves", "y", amount_minor=200, category="gambling")
    too_late = told(12 + 1 / 24, "moves", "z", amount_minor=400, category="gambling")
    assert known([*spent, early, late, too_late], 21, draws)["misuse_share_90d_bp"] == 3_000
    second = told(20.5, "moves", "s", amount_minor=400, category="gambling")
    assert known([early, late, second], 21, draws)["misuse_share_90d_bp"] == 8_000
    assert known([early, late, second], 110, draws)["misuse_share_90d_bp"] is None
    shopping = told(10.1, "moves", "p", amount_minor=900, category="purchase")
    assert known([shopping], 21, draws)["misuse_share_90d_bp"] == 0


def test_changes_within_30_days_by_what_changed() -> None:
    events = [
        told(0, "changed", field="phone"),
        told(0, "changed", "again", field="phone"),
        told(3, "changed", field="employer"),
        told(4, "changed", field="bank_account"),
    ]
    values = known(events, 29)
    assert [values[f"{what}_changes_30d"] for what in ("profile", "employer", "phone", "address", "bank_account")] == [
        3, 1, 1, 0, 1,
    ]  # fmt: skip
    assert known(events, 30)["profile_changes_30d"] == 2
    assert known(events, 34)["profile_changes_30d"] == 0


def test_other_lenders_by_the_bureau_that_sees_most() -> None:
    events = [
        told(0, "bureau", source="x", active_lenders=2, enquiries_30d=5, external_score=700, adverse_events=1),
        told(40, "bureau", source="x", active_lenders=3, enquiries_30d=1, external_score=640),
        told(41, "bureau", source="y", active_lenders=7, external_overdue=True, external_score=90),
    ]
    names = ("active_lenders", "enquiries_30d", "external_overdue", "external_score", "external_score_fall_90d")
    values = known(events, 50)
    assert [values[name] for name in names] == [7, 1, 1, 90, 60]
    assert values["adverse_events"] is None  # the newer report of x no longer says
    assert [known(events, 89)[name] for name in names] == [7, 1, 1, 90, 60]
    assert known(events, 90)["external_score_fall_90d"] is None
    assert [known(events, 130)[name] for name in names] == [7, 0, 1, 90, None]
    assert known(events, 131)["active_lenders"] is None


def test_listings_hold_until_they_expire_or_are_taken_back() -> None:
    events = [
        told(0, "listed", source="a", expires_on=datetime.date(2026, 1, 31)),
        told(0, "listed", source="b"),
        told(60, "listed", "off", source="b", listed=False),
    ]
    by_day = {day: known(events[:2], day)["listings_elsewhere"] for day in (0, 29, 30, 400)}
    assert by_day == {0: 2, 29: 2, 30: 1, 400: 1}
    assert known(events, 61)["listings_elsewhere"] == 0


def test_links_by_what_was_told_last_and_links_gained_and_lost() -> None:
    events = [
        told(0, "link", linked_borrower_id="x", status="overdue"),
        told(10, "link", linked_borrower_id="y", status="fraud"),
        told(20, "link", "again", linked_borrower_id="x", status="clear"),
        told(21, "link", linked_borrower_id="z", status="adverse"),
    ]
    values = known(events, 29)
    assert [values[f"links_{status}"] for status in ("overdue", "fraud", "blacklisted", "abnormal", "adverse")] == [
        0, 1, 0, 0, 1,
    ]  # fmt: skip
    assert known(events[:2], 15)["links_overdue"] == 1
    assert known(events, 29)["links_gained_30d"] is None  # all links are new when links begin to be told of
    assert [known(events, day)["links_gained_30d"] for day in (30, 40, 51)] == [2, 1, 0]
    assert [known(events, day)["links_lost_30d"] for day in (79, 80, 109, 110)] == [0, 1, 1, 0]
    assert [known(events, day)["links_fraud"] for day in (374, 375)] == [1, 0]


def statements(*rows: tuple[int, int, int]) -> list[Any]:
    return [
        told(30 * at, "statement", balance_minor=balance, billed_minor=billed, paid_minor=paid, limit_minor=1_000)
        for at, (balance, billed, paid) in enumerate(rows)
    ]


def test_revolving_use_and_its_trend_over_six_statements() -> None:
    rows = [(900, 900, 0), (100, 100, 100), (100, 100, 100), (200, 200, 100), (400, 400, 100), (900, 900, 90)]
    names = ("utilisation_bp", "utilisation_rise_bp", "paid_to_billed_bp", "paid_to_billed_fall_bp")
    six = known(statements((0, 0, 0), *rows), 181)  # of seven the newest six
    assert [six[name] for name in names] == [9_000, 5_000 - 3_666, 1_000, 1_818 - 1_933]
    three = known(statements(*rows[:3]), 61)
    assert [three[name] for name in names] == [1_000, None, 10_000, None]
    assert [known(statements(*rows), day)["utilisation_bp"] for day in (241, 242)] == [9_000, None]
    in_credit = known(statements((-50, 0, 0)), 1)
    assert [in_credit[name] for name in names] == [0, None, None, None]


def test_statements_on_which_nothing_was_paid_or_hardly_anything_was_used() -> None:
    rows = [(900, 900, 0), (21, 0, 0), (20, 20, 0), (0, 0, 0), (-50, -50, 0), (400, 400, 1)]
    names = ("statements_unpaid_6", "statements_unused_6")
    by_count = {count: tuple(known(statements(*rows[:count]), 181)[name] for name in names) for count in (4, 5, 6)}
    assert by_count == {4: (2, 2), 5: (2, 3), 6: (2, 3)}
    of_seven = known(statements((0, 0, 0), *rows), 181)
    assert [of_seven[name] for name in names] == [2, 3]
    assert [known(statements(*rows[:3]), 61)[name] for name in names] == [None, None]
    assert [known(statements(*rows), 242)[name] for name in names] == [None, None]


def test_a_business_by_periods_whatever_order_they_are_told_in() -> None:
    months = [(0, "2025-12", 1_000, 100), (31, "2026-01", 800, 90), (62, "2026-02", 300, 40)]
    events = [
        told(day, "business", period=period, turnover_minor=turnover, orders=orders, receivables_minor=150)
        for day, period, turnover, orders in months
    ]
    random.Random(1).shuffle(events)
    values = known(events, 63)
    names = ("business_turnover_minor", "business_turnover_fall_bp", "business_orders", "business_orders_fall_bp")
    assert [values[name] for name in names] == [300, 6_667, 40, 5_790]
    assert (values["receivables_to_turnover_bp"], values["receivables_rise_bp"]) == (5_000, 5_000 - 1_666)
    assert known(events[:1], 63)["business_turnover_fall_bp"] is None
    corrected = told(64, "business", period="2026-02", turnover_minor=900, orders=95, receivables_minor=150)
    assert known([*events, corrected], 65)["business_turnover_fall_bp"] == 0
    assert known(events, 262)["business_turnover_minor"] is None


def test_violations_and_suspicions() -> None:
    events = [
        told(0, "violation", kind="purpose", confirmed=False),
        told(0, "violation", kind="data", confirmed=False),
        told(5, "violation", kind="purpose", confirmed=True),
        told(6, "fraud", kind="identity"),
        told(7, "fraud", kind="ring"),
        told(8, "fraud", kind="ring", confirmed=True),
    ]
    names = ("violations_365d", "violations_suspected_90d", "fraud_suspected_180d")
    by_day = {day: tuple(known(events, day)[name] for name in names) for day in (10, 90, 186, 370)}
    assert by_day == {10: (1, 1, 1), 90: (1, 0, 1), 186: (1, 0, 0), 370: (0, 0, 0)}


def salaries(*days: int, amount_minor: int = 1_000) -> list[Any]:
    return [
        told(day, "moves", f"salary-{day}", direction="in", category="income", amount_minor=amount_minor)
        for day in days
    ]


def test_load_is_what_is_owed_and_could_be_against_what_is_earned() -> None:
    events = [*salaries(*range(0, 150, 30)), told(0, "profile", limit_minor=3_000)]
    loan = a_loan(5, 6_000)
    paid = wire.RepaymentReceived(
        event_id="p", at_ms=at_ms(120), borrower_id="b", loan_id="l", payment_id="p", amount_minor=2_000,
        method="manual", channel="app",
    )  # fmt: skip
    ledger.apply(loan, paid, CALENDAR, FACTS)
    ledger.settle(loan, DAY_0 + 149, FACTS)
    raised = told(140, "profile", limit_minor=5_000)
    values = known([*events, raised], 149, [loan])
    assert (values["debt_to_income_bp"], values["debt_to_income_rise_90d_bp"]) == (40_000, -20_000)
    assert (values["limit_to_income_bp"], values["limit_to_income_rise_90d_bp"]) == (50_000, 20_000)
    assert values["external_debt_to_income_bp"] is None
    assets = [
        told(20, "assets", value_minor=8_000),
        told(20, "assets", "house", kind="house", value_minor=90_000, pledged=True),
        told(130, "assets", value_minor=2_000),
    ]
    elsewhere = told(148, "bureau", external_balance_minor=500)
    values = known([*events, *assets, elsewhere], 149, [loan])
    assert (values["assets_to_debt_bp"], values["assets_fall_90d_bp"]) == (5_000, 7_500)
    assert values["external_debt_to_income_bp"] == 5_000
    assert known(events, 149)["debt_to_income_bp"] is None


def test_reported_income_stands_where_none_is_seen_and_adds_what_comes_in_elsewhere() -> None:
    reports = [told(20 + 30 * at, "income", period=f"2026-0{at}", amount_minor=1_000) for at in (1, 2, 3)]
    less = told(125, "income", period="2026-04", amount_minor=400)
    values = known([*reports, less], 130, [a_loan(120, 500, due_day=140)])
    assert values["income_30d_minor"] == 400
    assert values["income_fall_bp"] == 6_000
    assert values["due_to_income_bp"] == 12_500
    assert values["months_without_income_6m"] == 0
    seen = salaries(*range(14, 130, 30))  # the same money, seen to come in
    assert known([*reports, *seen], 130)["income_30d_minor"] == 1_000
    half = salaries(*range(14, 90, 30), amount_minor=600)  # the rest is paid elsewhere
    assert known([*reports, *half], 100)["income_30d_minor"] == 1_000
    half = salaries(*range(14, 170, 30), amount_minor=600)
    assert known([*reports, *half], 170)["income_30d_minor"] == 600  # reports three months old say nothing of today
    other = told(80, "income", "second", period="2026-03", amount_minor=100, kind="rent")
    assert known([*reports, other], 100)["income_30d_minor"] == 1_100


def test_amounts_of_another_currency_are_dropped() -> None:
    events = [
        *salaries(0, 30),
        told(0, "assets", value_minor=5),
        told(0, "business", period="2025-12", turnover_minor=5),
    ]
    state = state_of([*events, told(0, "profile", limit_minor=5), told(1, "profile", limit_minor=7, currency="EUR")])
    assert state.signals is not None
    assert [reports.rows[-1][-1] for reports in state.signals.reports] == [7]


def test_each_count_is_proved_by_the_events_it_counts() -> None:
    events = [
        told(0, "link", "l1", linked_borrower_id="x", status="overdue"),
        told(1, "link", "l2", linked_borrower_id="y", status="fraud"),
        told(2, "applied", "a1", application_id="a"),
        told(3, "applied", "a2", application_id="b", outcome="refused"),
        told(4, "violation", "v1", confirmed=False),
    ]
    signals = state_of(events).signals
    today = DAY_0 + 5
    proofs = {kind: signal_proof(signals, kind, 30, today) for kind in ("link_overdue", "refused", "application")}
    assert proofs == {"link_overdue": ["l1"], "refused": ["a2"], "application": ["a2", "a1"]}
    assert signal_proof(signals, "violation", 0, today) == []
    assert signal_proof(signals, "violation_suspected", 2, today + 5) == []
    assert signal_proof(signals, "login", 0, today) == []


# --- laws ---------------------------------------------------------------------------------------------------------

DAYS = st.integers(0, 4_800).map(lambda tenth: tenth / 10)
SMALL = st.integers(0, 3).map(str)
EVENTS = st.one_of(
    st.builds(lambda d, a, o: told(d, "applied", application_id=a, outcome=o), DAYS, SMALL,
              st.sampled_from(["open", "granted", "refused"])),
    st.builds(lambda d, k, v, p: told(d, "assets", kind=k, value_minor=v, pledged=p), DAYS, SMALL,
              st.integers(0, 9_999), st.booleans()),
    st.builds(lambda d, p, v: told(d, "business", period=f"2026-0{p}", turnover_minor=v), DAYS, st.integers(1, 9),
              st.integers(0, 99)),
    st.builds(lambda d, p, v: told(d, "income", period=f"2026-0{p}", amount_minor=v), DAYS, st.integers(1, 9),
              st.integers(0, 999)),
    st.builds(lambda d, f: told(d, "changed", field=f), DAYS, st.sampled_from(["phone", "employer"])),
    st.builds(lambda d, s, n: told(d, "bureau", source=s, active_lenders=n, external_score=n,
                                   external_balance_minor=n), DAYS, SMALL, st.integers(0, 900)),
    st.builds(lambda d, s, on: told(d, "listed", source=s, listed=on), DAYS, SMALL, st.booleans()),
    st.builds(lambda d, b, s: told(d, "link", linked_borrower_id=b, status=s), DAYS, SMALL,
              st.sampled_from(["clear", "overdue", "fraud"])),
    st.builds(lambda d, b, p: told(d, "statement", balance_minor=b, billed_minor=b, paid_minor=p), DAYS,
              st.integers(-50, 150), st.integers(0, 150)),
    st.builds(lambda d, k, c: told(d, "violation", kind=k, confirmed=c), DAYS, SMALL, st.booleans()),
    st.builds(lambda d, k, c: told(d, "fraud", kind=k, confirmed=c), DAYS, SMALL, st.booleans()),
    st.builds(lambda d, v: told(d, "profile", limit_minor=v), DAYS, st.integers(0, 9_999)),
    st.builds(lambda d, v, c: told(d, "moves", amount_minor=v, category=c), DAYS, st.integers(0, 999),
              st.sampled_from(["gambling", "purchase", "investment"])),
    st.builds(lambda d, v: told(d, "moves", direction="in", amount_minor=v, category="income"), DAYS,
              st.integers(0, 999)),
)  # fmt: skip
HISTORIES = st.lists(EVENTS, max_size=40).map(
    lambda events: [
        msgspec.structs.replace(event, event_id=f"{event.event_id}-{at}") for at, event in enumerate(events)
    ]
)


def told_again_late(events: list[Any]) -> bool:
    """Whether an application is told of again so long after that it may have been forgotten by then: it is new then."""
    moments: dict[str, list[int]] = {}
    for event in events:
        if isinstance(event, wire.LoanApplied):
            moments.setdefault(event.application_id, []).append(event.at_ms)
    longest_ms = (BOUNDS[Kind.APPLICATIONS].days - LATENESS_DAYS - 1) * DAY_MS
    return any(max(told) - min(told) > longest_ms for told in moments.values())


@settings(max_examples=60, deadline=None)
@given(HISTORIES, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(events: list[Any], rng: random.Random) -> None:
    """Within the allowed lateness."""
    assume(not told_again_late(events))
    in_order = sorted(events, key=lambda event: (event.at_ms, event.event_id))
    arriving = sorted(in_order, key=lambda event: event.at_ms + rng.uniform(0, LATENESS_DAYS * DAY_MS))
    assert state_of(arriving).signals == state_of(in_order).signals


@settings(max_examples=60, deadline=None)
@given(HISTORIES, st.lists(st.integers(0, 60), min_size=1, max_size=8), st.booleans())
def test_a_cache_changes_nothing_and_leads_lead(events: list[Any], steps: list[int], with_loan: bool) -> None:
    """Events in their order, with stretches of time in between: evaluated on the way, and afresh."""
    loans = [a_loan(30, 700)] if with_loan else []
    ordered = sorted(events, key=lambda event: int(event.at_ms))
    state, cache = Windows(), FeatureCache()
    cache.dirty |= windows.observe_currency(state, "CNY")
    moments = [event.at_ms for event in ordered]
    end = max(moments, default=at_ms(0))
    for step in steps:
        end += step * DAY_MS
        moments.append(end)
    for at, moment in enumerate(moments):
        if at < len(ordered):
            cache.dirty |= observe(state, ordered[at])
        kept = list(evaluate(state, loans, moment, CALENDAR, None, None, cache))
        fresh = evaluate(state, loans, moment, CALENDAR, None, None)
        assert {name: kept[i] for name, i in FEATURE_INDEX.items()} == {n: fresh[i] for n, i in FEATURE_INDEX.items()}
        for feature in SIGNAL_FEATURES:
            lead = GROUP_LEADS.get(feature.group)
            if lead is not None and fresh[FEATURE_INDEX[lead]] is None:
                assert fresh[FEATURE_INDEX[feature.name]] is None, feature.name


@pytest.mark.parametrize("what", ["applied", "assets", "changed", "bureau", "link", "statement", "violation", "moves"])
def test_size_is_bounded_however_much_is_reported(what: str) -> None:
    fields: dict[str, Any] = {
        "assets": {"value_minor": 10**9},
        "moves": {"amount_minor": 10**9, "category": "gambling"},
    }
    state = Windows()
    windows.observe_currency(state, "CNY")
    sizes = []
    for number in range(3_000):
        label = {
            "applied": {"application_id": f"a{number}"}, "assets": {"kind": f"k{number}"},
            "changed": {"field": "phone"}, "bureau": {"source": f"s{number}"},
            "link": {"linked_borrower_id": f"b{number}"}, "violation": {"kind": f"v{number}"},
        }.get(what, {})  # fmt: skip
        observe(state, told(number / 24, what, f"e{number:05d}", **fields.get(what, {}), **label))
        sizes.append(len(msgspec.msgpack.encode(state.signals)))
    assert max(sizes) < 12_000
    assert max(sizes[2_500:]) <= max(sizes[:2_500]) + 64
