"""What the ledger takes, knows already or refuses, and what it keeps beside money."""

from datetime import date
from typing import Any

import msgspec
import pytest

from schemas import inbound as wire
from streams.engine import ledger, loan_facts
from streams.engine.calendar import Calendar, day_of
from streams.engine.journal import Applied, Duplicate, Refused, digest_but_id
from streams.engine.ledger import Loan
from streams.engine.loan import REPLACED, UNPAID, instalments
from streams.policy.loader import load

FACTS = load("standard").facts
CALENDAR = Calendar("Asia/Shanghai")
FIRST_DUE_ON = date(2026, 1, 31)


def at(on: date, hour: int = 12) -> int:
    return CALENDAR.start_ms(day_of(on)) + hour * 3_600_000


def slots(count: int, first_no: int = 1, principal_minor: int = 100_000) -> list[wire.Instalment]:
    return [
        wire.Instalment(first_no + index, date(2026 + index // 12, index % 12 + 1, 28), principal_minor, 5_000, 100)
        for index in range(count)
    ]


def disbursed(**fields: Any) -> wire.LoanDisbursed:
    given: dict[str, Any] = {
        "event_id": "d1",
        "at_ms": at(date(2026, 1, 1)),
        "borrower_id": "b1",
        "loan_id": "l1",
        "product": "cash",
        "currency": "CNY",
        "principal_minor": 300_000,
        "schedule": slots(3),
    }
    return wire.LoanDisbursed(**(given | fields))


def paid(payment_id: str, amount_minor: int, on: date = date(2026, 1, 28), **fields: Any) -> wire.RepaymentReceived:
    given: dict[str, Any] = {
        "event_id": f"e-{payment_id}",
        "at_ms": at(on),
        "borrower_id": "b1",
        "loan_id": "l1",
        "payment_id": payment_id,
        "amount_minor": amount_minor,
        "method": "manual",
        "channel": "app",
    }
    return wire.RepaymentReceived(**(given | fields))


def of_loan(kind: type[Any], on: date = date(2026, 2, 1), **fields: Any) -> Any:
    given = {"event_id": f"e-{kind.__name__}", "at_ms": at(on), "borrower_id": "b1", "loan_id": "l1"}
    return kind(**(given | fields))


def told(loan: Loan, event: wire.Inbound) -> ledger.Outcome:
    return ledger.apply(loan, event, CALENDAR, FACTS)


@pytest.fixture
def loan() -> Loan:
    return ledger.disburse(disbursed(), FACTS, CALENDAR)


# --- identity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("again", "verdict"),
    [
        ({}, Duplicate),
        ({"event_id": "resent"}, Duplicate),
        ({"amount_minor": 9_999}, Refused),
        ({"channel": "other"}, Refused),
        ({"at_ms": at(date(2026, 1, 28)) + 1}, Refused),
        ({"event_id": "resent", "method": "transfer"}, Refused),
    ],
)
def test_a_payment_id_means_one_payment_for_the_life_of_the_loan(
    loan: Loan, again: dict[str, Any], verdict: type
) -> None:
    assert isinstance(told(loan, paid("p1", 10_000)), Applied)
    packed = msgspec.msgpack.encode(loan)
    outcome = told(loan, msgspec.structs.replace(paid("p1", 10_000), **again))
    assert isinstance(outcome, verdict)
    if isinstance(outcome, Refused):
        assert outcome.reason == "conflicting_duplicate"
        assert "p1" not in outcome.message
    assert msgspec.msgpack.encode(loan) == packed


def test_a_reversal_has_an_identity_of_its_own(loan: Loan) -> None:
    told(loan, paid("p1", 10_000))
    bounced = of_loan(wire.RepaymentReversed, payment_id="p1", code="bounced")
    assert told(loan, bounced) == Applied(True)
    assert told(loan, msgspec.structs.replace(bounced, event_id="resent")) == Duplicate()
    other = told(loan, msgspec.structs.replace(bounced, code="charged_back"))
    assert isinstance(other, Refused)
    assert other.reason == "conflicting_duplicate"


def test_an_attempt_id_means_one_attempt_even_where_a_revision_came_first(loan: Loan) -> None:
    failed = of_loan(
        wire.RepaymentFailed, attempt_id="a1", amount_minor=5, method="manual", channel="c", code="timeout"
    )
    assert isinstance(told(loan, of_loan(wire.FailureReattributed, attempt_id="a1", attribution="unknown")), Applied)
    assert isinstance(told(loan, failed), Applied)
    assert told(loan, msgspec.structs.replace(failed, event_id="resent")) == Duplicate()
    other = told(loan, msgspec.structs.replace(failed, code="bank_outage"))
    assert isinstance(other, Refused)
    assert other.reason == "conflicting_duplicate"


def test_the_same_loan_disbursed_again_is_a_duplicate_and_another_one_a_conflict(loan: Loan) -> None:
    assert told(loan, disbursed()) == Duplicate()
    assert told(loan, disbursed(event_id="resent")) == Duplicate()
    for change in ({"principal_minor": 1}, {"schedule": slots(2)}, {"pool_id": "x"}, {"at_ms": 5}):
        outcome = told(loan, disbursed(**change))
        assert isinstance(outcome, Refused)
        assert outcome.reason == "conflicting_duplicate"


@pytest.mark.parametrize(
    ("event", "change"),
    [
        (of_loan(wire.ChargeAdded, instalment_no=1, component="fee", amount_minor=5), {"amount_minor": 6}),
        (of_loan(wire.AmountWaived, component="fee", amount_minor=5), {"component": "interest"}),
        (
            of_loan(wire.LoanRescheduled, schedule=slots(2, 4), distressed=False),
            {"schedule": slots(2, 4, principal_minor=1)},
        ),
    ],
)
def test_an_event_that_comes_again_after_its_id_was_forgotten_changes_nothing(
    loan: Loan, event: wire.Inbound, change: dict[str, Any]
) -> None:
    assert isinstance(told(loan, event), Applied)
    packed = msgspec.msgpack.encode(loan)
    assert told(loan, event) == Duplicate()
    outcome = told(loan, msgspec.structs.replace(event, **change))
    assert isinstance(outcome, Refused)
    assert outcome.reason == "conflicting_duplicate"
    assert msgspec.msgpack.encode(loan) == packed


def test_the_digest_of_content_is_the_same_in_every_process() -> None:
    assert digest_but_id(paid("p1", 10_000)) == digest_but_id(paid("p1", 10_000, event_id="other"))
    assert digest_but_id(paid("p1", 10_000)) == 1_600_992_036
    assert digest_but_id(paid("p1", 10_001)) != digest_but_id(paid("p1", 10_000))


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (paid("p1", 5, currency="EUR"), "currency_mismatch"),
        (of_loan(wire.ChargeAdded, instalment_no=4, component="fee", amount_minor=5), "unknown_instalment"),
        (of_loan(wire.AmountWaived, instalment_no=4, component="fee", amount_minor=5), "unknown_instalment"),
        (of_loan(wire.LoanClosed, currency="USD"), "currency_mismatch"),
    ],
)
def test_what_contradicts_the_loan_is_refused_in_one_line_without_values(
    loan: Loan, event: wire.Inbound, reason: str
) -> None:
    packed = msgspec.msgpack.encode(loan)
    outcome = told(loan, event)
    assert isinstance(outcome, Refused)
    assert outcome.reason == reason
    assert "\n" not in outcome.message
    assert not any(value in outcome.message for value in ("EUR", "USD", "4", "b1", "l1"))
    assert msgspec.msgpack.encode(loan) == packed


def test_a_charge_may_only_name_an_instalment_that_was_there_at_its_time(loan: Loan) -> None:
    assert isinstance(told(loan, of_loan(wire.LoanRescheduled, schedule=slots(2, 8), distressed=False)), Applied)
    before = of_loan(wire.ChargeAdded, date(2026, 1, 31), instalment_no=8, component="fee", amount_minor=5)
    after = of_loan(wire.ChargeAdded, date(2026, 2, 2), instalment_no=8, component="fee", amount_minor=5)
    old = of_loan(wire.ChargeAdded, date(2026, 2, 3), instalment_no=2, component="fee", amount_minor=5)
    assert isinstance(told(loan, before), Refused)
    assert isinstance(told(loan, after), Applied)
    assert isinstance(told(loan, old), Applied)


def test_an_event_of_no_loan_is_a_mistake_of_the_caller(loan: Loan) -> None:
    with pytest.raises(KeyError):
        told(loan, wire.Tick(event_id="tick-5", at_ms=5))


# --- what an event changes ----------------------------------------------------------------------------------------


def test_an_event_says_whether_it_changes_the_past(loan: Loan) -> None:
    today = date(2026, 2, 5)
    ledger.settle(loan, day_of(today), FACTS)
    assert told(loan, paid("p1", 1, today)) == Applied(False)
    assert told(loan, paid("p2", 1, date(2026, 2, 6))) == Applied(False)
    assert told(loan, paid("p3", 1, today, value_on=date(2026, 2, 2))) == Applied(True)
    assert told(loan, paid("p4", 1, today, value_on=date(2025, 2, 2))) == Applied(True)
    waived = of_loan(wire.AmountWaived, date(2026, 2, 7), component="fee", amount_minor=1)
    assert told(loan, waived) == Applied(True)
    assert told(loan, of_loan(wire.PoolAssigned, today, pool_id="x")) == Applied(False)
    assert told(loan, of_loan(wire.LoanClosed, date(2026, 2, 4))) == Applied(True)


def test_terms_of_allocation_are_those_of_the_day_of_disbursement(loan: Loan) -> None:
    interest_first = msgspec.to_builtins(FACTS)
    interest_first["allocation"]["default"]["components"] = ["interest", "principal", "fee", "penalty"]
    later = msgspec.convert(interest_first, type=type(FACTS))
    ledger.apply(loan, paid("p1", 100), CALENDAR, later)
    ledger.settle(loan, day_of(date(2026, 1, 28)), later)
    assert loan.outstanding == [0, 200, 15_000, 300_000]


def test_rows_tell_when_they_were_paid_and_which_a_reschedule_replaced(loan: Loan) -> None:
    told(loan, paid("p1", 105_100, date(2026, 1, 27)))
    told(loan, paid("p2", 600, date(2026, 3, 2)))
    told(loan, of_loan(wire.LoanRescheduled, date(2026, 3, 5), schedule=slots(1, 9)[:1], distressed=False))
    ledger.settle(loan, day_of(date(2026, 3, 5)), FACTS)
    rows = {row.no: row for row in instalments(loan)}
    assert rows[1].paid_day == day_of(date(2026, 1, 27))
    assert rows[2].paid_day == rows[3].paid_day == REPLACED
    assert rows[9].paid_day == UNPAID
    assert rows[9].unpaid == (0, 100, 5_000, 100_000)
    assert (rows[1].set_by, rows[9].set_by) == ("d1", "e-LoanRescheduled")


# --- beside the money ---------------------------------------------------------------------------------------------


def test_the_latest_pool_stands(loan: Loan) -> None:
    assert ledger.disburse(disbursed(pool_id="p0"), FACTS, CALENDAR).pool_id == "p0"
    assert loan.pool_id == ""
    told(loan, of_loan(wire.PoolAssigned, date(2026, 3, 1), pool_id="later"))
    told(loan, of_loan(wire.PoolAssigned, date(2026, 2, 1), pool_id="earlier"))
    assert loan.pool_id == "later"


def test_a_rebuttal_holds_for_its_stage_and_its_days(loan: Loan) -> None:
    fields = {"which": "stage2", "evidence": "audit", "until_on": date(2026, 2, 28)}
    told(loan, of_loan(wire.PresumptionRebutted, date(2026, 2, 1), **fields))
    days = [date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 28), date(2026, 3, 1)]
    held = [loan_facts.rebutted(loan, 2, day_of(on)) for on in days]
    assert held == [None, "e-PresumptionRebutted", "e-PresumptionRebutted", None]
    assert loan_facts.rebutted(loan, 3, day_of(date(2026, 2, 1))) is None


def test_only_a_distressed_reschedule_is_a_distressed_restructure(loan: Loan) -> None:
    for on, distressed in ((date(2026, 2, 1), True), (date(2026, 2, 5), True), (date(2026, 2, 9), False)):
        told(loan, of_loan(wire.LoanRescheduled, on, event_id=f"r{on.day}", schedule=slots(2), distressed=distressed))
    days = (date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 8), date(2026, 3, 1))
    found = [loan_facts.distressed_day(loan, day_of(on)) for on in days]
    assert found == [None, day_of(date(2026, 2, 1)), day_of(date(2026, 2, 5)), day_of(date(2026, 2, 5))]


def test_cover_and_platform_are_kept() -> None:
    cover = wire.Cover(party="insurer", share_bp=8_000, claim_after_dpd=90)
    loan = ledger.disburse(disbursed(cover=cover, platform="app"), FACTS, CALENDAR)
    assert (loan.cover_party, loan.cover_share_bp, loan.cover_claim_after_dpd) == ("insurer", 8_000, 90)
    assert loan.platform == "app"


def test_a_loan_of_twelve_instalments_and_six_payments_packs_small() -> None:
    loan = ledger.disburse(disbursed(event_id="evt-00000001", schedule=slots(12)), FACTS, CALENDAR)
    for number in range(6):
        event = paid(f"pay-100000{number}", 105_100, date(2026, number + 1, 27), event_id=f"evt-1000000{number}")
        told(loan, event)
    ledger.settle(loan, day_of(date(2026, 9, 1)), FACTS)
    assert len(msgspec.msgpack.encode(loan)) < 800


def test_amounts_at_the_limit_of_the_wire_stay_exact() -> None:
    schedule = [wire.Instalment(1, FIRST_DUE_ON, wire.MAX_MINOR, wire.MAX_MINOR, wire.MAX_MINOR)]
    loan = ledger.disburse(disbursed(schedule=schedule), FACTS, CALENDAR)
    told(loan, paid("p1", wire.MAX_MINOR - 1))
    ledger.settle(loan, day_of(FIRST_DUE_ON), FACTS)
    assert loan.outstanding == [0, 1, wire.MAX_MINOR, wire.MAX_MINOR]
