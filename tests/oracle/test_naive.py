"""The naive ledger against tables worked out by hand, and against the laws of money.

A table is read from top to bottom: day | what happens that day | what must be true at the end of it. Amounts are
minor units. An instalment reads `number @ due date principal+interest+fee`.
"""

import datetime
import random
import re
from typing import Any

import pytest

from tests.oracle.histories import Recorded, at_ms_of, random_history
from tests.oracle.naive import NaiveLedger

NOON_MS = 12 * 3_600_000
Event = dict[str, Any]

STORIES = {
    "89, 90, 91 days: the due date itself is day 0": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 100000+5000+0 |
        2026-01-31 |  | contractual 0 managed 0 bucket C overdue 0
        2026-02-01 |  | contractual 1 managed 1 bucket M1 overdue 105000 material 1
        2026-03-02 |  | contractual 30 bucket M1
        2026-03-03 |  | contractual 31 bucket M2
        2026-04-01 |  | contractual 60 bucket M2
        2026-04-02 |  | contractual 61 bucket M3
        2026-04-30 |  | contractual 89 material 89 bucket M3
        2026-05-01 |  | contractual 90 material 90 bucket M3
        2026-05-02 |  | contractual 91 material 91 bucket M4
        2026-05-31 |  | contractual 120 bucket M4
        2026-06-01 |  | contractual 121 bucket M5
        2026-07-01 |  | contractual 151 bucket M6
        2026-07-30 |  | contractual 180 bucket M6
        2026-07-31 |  | contractual 181 managed 181 principal 181 interest 181 bucket M7
    """,
    "partial payments: fee, interest, principal of the oldest instalment first": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-02-10 1000+200+30; 2 @ 2026-03-10 1000+100+0 |
        2026-01-01 |             | owes 2330 owes.fee 30 owes.interest 300 owes.principal 2000
        2026-02-12 | pay P1 29   | owes.fee 1 owes.interest 300 contractual 2 principal 2 interest 2
        2026-02-13 | pay P2 2    | owes.fee 0 owes.interest 299 contractual 3
        2026-02-14 | pay P3 199  | owes.interest 100 owes.principal 2000 principal 4 interest 0
        2026-02-15 | pay P4 999  | owes.principal 1001 overdue 1 contractual 5 principal 5
        2026-02-16 | pay P5 1    | overdue 0 contractual 0 owes 1100 unapplied 0
        2026-03-10 |             | contractual 0 overdue 0
        2026-03-11 |             | contractual 1 overdue 1100 principal 1 interest 1
        2026-03-12 | pay P6 1101 | owes 0 unapplied 1 allocated 2330 received 2331 contractual 0
    """,
    "paying in advance covers the next instalments, too much is kept as credit": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-02-10 1000+0+0; 2 @ 2026-03-10 1000+0+0 |
        2026-01-05 | pay P1 1500          | owes 500 allocated 1500 unapplied 0
        2026-02-11 |                      | contractual 0 overdue 0
        2026-03-11 |                      | contractual 1 overdue 500
        2026-03-12 | pay P2 800           | owes 0 unapplied 300
        2026-03-20 | charge 2 penalty 120 | owes 0 unapplied 180 allocated 2120 contractual 0
        2026-03-21 | charge 1 fee 181     | owes.fee 1 unapplied 0 contractual 39 principal 0 interest 0
    """,
    "a bounced payment: the original due date counts again": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 90000+0+0; 2 @ 2026-02-28 90000+0+0 |
        2026-01-31 | pay P1 90000 | contractual 0 owes 90000 received 90000
        2026-02-10 |              | contractual 0 material 0
        2026-02-11 | bounce P1    | contractual 11 overdue 90000 owes 180000 received 90000 reversed 90000 allocated 0
        2026-02-12 |              | contractual 12 material 12
        2026-02-20 | pay P2 90000 | contractual 0 owes 90000 allocated 90000
        2026-03-01 |              | contractual 1 overdue 90000
    """,
    "a bounce moves the later money back to the older instalment": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+0+0; 2 @ 2026-02-28 1000+0+0 |
        2026-01-31 | pay P1 1000 | owes 1000
        2026-02-28 | pay P2 1000 | owes 0 contractual 0
        2026-03-03 | bounce P1   | owes 1000 contractual 3 overdue 1000 allocated 1000
    """,
    "a bounce known before its payment waits for it": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+0+0 |
        2026-02-01 | bounce P1   | received 0 reversed 0 contractual 1
        2026-02-02 | pay P1 1000 | received 1000 reversed 1000 allocated 0 unapplied 0 contractual 2
    """,
    "a backdated payment counts on its value day": """
        2026-01-01 | loan L1 EUR: 1 @ 2026-01-31 20000+0+0 |
        2026-02-05 |                               | contractual 5 material 5
        2026-02-06 | pay P1 10000 value 2026-02-02 | contractual 6 overdue 10000 material 0
        2026-02-07 | charge 1 penalty 1            | contractual 7 overdue 10001 material 1
        2026-02-08 | pay P2 10001 value 2026-01-31 | contractual 0 owes 0 unapplied 0 allocated 20001
    """,
    "a payment backdated before a charge does not pay the charge, its leftover credit does": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+0+0; 2 @ 2026-06-30 1000+0+0 |
        2026-02-05 | charge 1 penalty 50          | contractual 5 overdue 1050
        2026-02-06 | pay P1 1000 value 2026-02-01 | overdue.penalty 50 overdue.principal 0 contractual 6 principal 0
        2026-02-07 | pay P2 1000 value 2026-02-02 | overdue.penalty 50 owes.principal 0 unapplied 0
        2026-02-08 | pay P3 30 value 2026-02-03   | overdue.penalty 20 unapplied 0 contractual 8
    """,
    "a payment valued in the future waits for its day": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+0+0 |
        2026-02-02 | pay P1 1000 value 2026-02-04 | contractual 2 received 0 owes 1000
        2026-02-03 |                              | contractual 3 received 0
        2026-02-04 |                              | contractual 0 received 1000 owes 0
    """,
    "interest-only arrears count": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 0+700+0; 2 @ 2026-02-28 5000+600+0 |
        2026-02-10 |            | contractual 10 interest 10 principal 0 overdue.interest 700
        2026-03-01 |            | contractual 29 interest 29 principal 1
        2026-03-02 | pay P1 700 | contractual 2 interest 2 principal 2
        2026-03-03 | pay P2 600 | contractual 3 interest 0 principal 3
    """,
    "29 February is a day like any other": """
        2024-01-01 | loan L1 CNY: 1 @ 2024-02-29 1000+0+0; 2 @ 2024-03-31 1000+0+0 |
        2024-02-28 |  | contractual 0
        2024-02-29 |  | contractual 0 overdue 0
        2024-03-01 |  | contractual 1 overdue 1000
        2024-05-29 |  | contractual 90
        2025-02-28 |  | contractual 365
        2025-03-01 |  | contractual 366
    """,
    "pauses lower managed days alone, overlapping days once, the due date not at all": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 100000+0+0 |
        2026-02-01 | pause 2026-01-30 2026-02-05 | contractual 1 managed 0 material 1 bucket C
        2026-02-05 |                             | contractual 5 managed 0
        2026-02-06 |                             | contractual 6 managed 1 bucket M1
        2026-02-07 | pause 2026-02-04 2026-02-10 | contractual 7 managed 0
        2026-02-10 |                             | contractual 10 managed 0
        2026-02-12 |                             | contractual 12 managed 2 material 12
        2026-03-12 |                             | contractual 40 managed 30 bucket M1
        2026-03-13 |                             | contractual 41 managed 31 bucket M2
        2026-03-14 | pause 2026-03-20 2026-03-20 | contractual 42 managed 32
        2026-03-20 |                             | contractual 48 managed 37
    """,
    "the material counter starts again after a day on which arrears do not exceed 800.00": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 80001+0+0; 2 @ 2026-12-31 10000+0+0 |
        2026-02-01 |                    | contractual 1 material 1
        2026-02-10 |                    | contractual 10 material 10
        2026-02-11 | pay P1 1           | contractual 11 material 0 overdue 80000
        2026-02-12 | charge 1 penalty 1 | contractual 12 material 1 overdue 80001
        2026-02-20 |                    | contractual 20 material 9
    """,
    "arrears of exactly 1 % of the loan are not material, one minor unit more are": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 90000+0+0; 2 @ 2026-12-31 8910000+0+0 |
        2026-02-01 |                | contractual 1 material 0 overdue 90000 owes 9000000
        2026-02-02 | charge 1 fee 1 | contractual 2 material 1 overdue 90001
        2026-02-03 |                | contractual 3 material 2
    """,
    "another currency has the default threshold of 10000": """
        2026-01-01 | loan L1 USD: 1 @ 2026-01-31 10000+0+0; 2 @ 2026-02-10 1+0+0 |
        2026-02-10 |  | contractual 10 material 0
        2026-02-11 |  | contractual 11 material 1
    """,
    "reschedule, then a reversal of what had been paid before": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+0+0; 2 @ 2026-02-28 1000+0+0; 3 @ 2026-03-31 1000+0+0 |
        2026-01-31 | pay P1 1000 | owes 2000
        2026-02-20 | pay P2 400  | owes 1600 contractual 0
        2026-03-10 | reschedule 4 @ 2026-04-10 900+0+0; 5 @ 2026-05-10 900+0+0 |
        2026-03-10 |             | owes 1800 overdue 0 contractual 0
        2026-04-10 | pay P3 900  | owes 900 contractual 0
        2026-04-11 | bounce P1   | owes 1900 overdue 1000 contractual 42 allocated 1300
        2026-04-12 | pay P4 100  | owes 1800 overdue 900 contractual 2
    """,
    "what was paid before a reschedule stays where it was, even if a new row falls due earlier": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 100+0+0; 2 @ 2026-02-28 100+0+0; 3 @ 2026-03-31 100+0+0 |
        2026-01-31 | pay P1 200                        | owes 100
        2026-02-10 | reschedule 4 @ 2026-02-20 100+0+0 | owes 100 contractual 0
        2026-02-21 |                                   | contractual 1 overdue 100
        2026-03-01 |                                   | contractual 9 overdue 100
    """,
    "a reschedule takes unpaid charges with it and credit goes to the new rows": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+0+0 |
        2026-02-05 | charge 1 penalty 70               | contractual 5 owes 1070
        2026-02-06 | pay P1 20                         | owes.penalty 50 owes.principal 1000
        2026-02-10 | distressed 2 @ 2026-03-10 600+0+0 | owes 600 owes.penalty 0 contractual 0 allocated 20
        2026-02-11 | pay P2 650                        | owes 0 unapplied 50
        2026-02-12 | plan 3 @ 2026-04-10 80+0+0        | owes 30 unapplied 0 allocated 670
        2026-04-11 |                                   | contractual 1 overdue 30
    """,
    "a charge after the payment is past due since its instalment's due date": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+0+0; 2 @ 2026-02-28 1000+0+0 |
        2026-01-31 | pay P1 1000         | contractual 0 owes 1000
        2026-02-15 | charge 1 fee 25     | contractual 15 overdue.fee 25 principal 0 interest 0
        2026-02-15 | charge 2 penalty 10 | contractual 15 owes.penalty 10 overdue.penalty 0
        2026-02-16 | charge 7 fee 5      | unknown_instalment contractual 16 owes.fee 25
        2026-02-17 | pay P2 30           | contractual 0 owes.fee 0 owes.penalty 5 owes.principal 1000
    """,
    "a waiver frees money, which pays the next thing owed": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+0+100; 2 @ 2026-02-28 1000+0+0 |
        2026-02-02 | pay P1 600           | owes.fee 0 overdue.principal 500 contractual 2
        2026-02-03 | waive 1 fee 60       | overdue.principal 440 allocated 600 unapplied 0
        2026-02-04 | waive 1 fee 60       | overdue.principal 400 allocated 600
        2026-02-05 | pay P2 1400          | owes 0 unapplied 0 contractual 0
        2026-02-06 | waive principal 1500 | owes 0 unapplied 1500 allocated 500 received 2000
        2026-02-07 | charge 2 penalty 300 | owes 0 unapplied 1200
    """,
    "a waiver lowers what was owed on the days before it too": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 90000+0+0 |
        2026-02-05 | charge 1 penalty 30000                | overdue 120000 material 5
        2026-02-11 |                                       | material 11
        2026-02-12 | waive 1 principal 20000               | overdue 100000 contractual 12 material 8
        2026-02-13 |                                       | material 9
    """,
    "a waiver never reaches a charge that comes later": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+0+0 |
        2026-02-02 | charge 1 penalty 40 | owes.penalty 40
        2026-02-03 | waive penalty 100   | owes.penalty 0
        2026-02-04 | charge 1 penalty 40 | owes.penalty 40
    """,
    "an ended loan is not past due, its money stays visible and recoveries count": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 100000+0+0 |
        2026-03-01 |              | contractual 29 material 29 borrower 29
        2026-03-02 | write off    | contractual 0 managed 0 material 0 principal 0 bucket C overdue 100000 borrower 0
        2026-03-05 | pay P1 30000 | overdue 70000 allocated 30000 contractual 0
    """,
    "two instalments on one day, one minor unit short": """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 3+1+0; 2 @ 2026-01-31 2+1+1 |
        2026-01-31 | pay P1 7 | owes 1 owes.principal 1 contractual 0
        2026-02-01 |          | contractual 1 principal 1 interest 0 overdue 1
        2026-02-02 | pay P2 1 | contractual 0 owes 0 unapplied 0
    """,
}

TABLE_EVENTS = (
    (r"loan (\S+) (\S+): (.+)", "loan_disbursed", ("loan_id", "currency", "schedule")),
    (r"pay (\S+) (\d+) value (\S+)", "repayment_received", ("payment_id", "amount_minor", "value_on")),
    (r"pay (\S+) (\d+)", "repayment_received", ("payment_id", "amount_minor")),
    (r"bounce (\S+)", "repayment_reversed", ("payment_id",)),
    (r"charge (\d+) (\S+) (\d+)", "charge_added", ("instalment_no", "component", "amount_minor")),
    (r"waive (\d+) (\S+) (\d+)", "amount_waived", ("instalment_no", "component", "amount_minor")),
    (r"waive (\S+) (\d+)", "amount_waived", ("component", "amount_minor")),
    (r"pause (\S+) (\S+)", "pause_set", ("from_on", "until_on")),
    (r"reschedule (.+)", "loan_rescheduled", ("schedule",)),
    (r"distressed (.+)", "loan_rescheduled", ("schedule",)),
    (r"plan (.+)", "plan_accepted", ("schedule",)),
    (r"write off", "loan_written_off", ()),
    (r"close", "loan_closed", ()),
)


def schedule_of(text: str) -> list[Event]:
    rows = []
    for part in text.split(";"):
        no, _, due_on, amounts = part.split()
        principal, interest, fee = (int(amount) for amount in amounts.split("+"))
        rows.append(
            {
                "no": int(no),
                "due_on": due_on,
                "principal_minor": principal,
                "interest_minor": interest,
                "fee_minor": fee,
            }
        )
    return rows


def event_of(text: str, at_ms: int, event_id: str) -> Event:
    for pattern, kind, names in TABLE_EVENTS:
        found = re.fullmatch(pattern, text)
        if found is None:
            continue
        event: Event = {"type": kind, "event_id": event_id, "at_ms": at_ms, "borrower_id": "B1", "loan_id": "L1"}
        event |= {"method": "manual", "channel": "app"} if kind == "repayment_received" else {}
        for name, value in zip(names, found.groups(), strict=True):
            if name == "schedule":
                event[name] = schedule_of(value)
            else:
                event[name] = int(value) if name in ("amount_minor", "instalment_no") else value
        return event
    raise ValueError(f"no such event in a table: {text!r}")


def seen(ledger: NaiveLedger, on: datetime.date, name: str) -> Any:
    loan = ledger.loans(on)[0]
    if name in loan["dpd"]:
        return loan["dpd"][name]
    if name == "bucket":
        return loan["bucket"]
    if name == "borrower":
        return ledger.borrower_dpd(on)["contractual"]
    place, _, component = name.partition(".")
    if place in ("owes", "overdue"):
        amounts = loan["outstanding" if place == "owes" else "overdue"]
        return amounts[f"{component}_minor"] if component else sum(amounts.values())
    return loan[f"{name}_minor"]


def play(table: str, ledger: NaiveLedger) -> list[str]:
    """Feed a table to a ledger; returns each expectation that does not hold."""
    wrong = []
    for number, line in enumerate(table.strip().splitlines()):
        day, happening, expectations = (cell.strip() for cell in line.split("|"))
        on = datetime.date.fromisoformat(day)
        words = expectations.split()
        verdict = words.pop(0) if len(words) % 2 else "accepted"
        if happening:
            at_ms = at_ms_of(on, NOON_MS) + number
            got = ledger.accept(event_of(happening, at_ms, f"e{number:03d}"), at_ms)
            if got != verdict:
                wrong.append(f"{day} {happening}: {got}, not {verdict}")
        for name, expected in zip(words[::2], words[1::2], strict=True):
            value = seen(ledger, on, name)
            if str(value) != expected:
                wrong.append(f"{day} {name}: {value}, not {expected}")
    return wrong


@pytest.mark.parametrize("table", STORIES.values(), ids=STORIES.keys())
def test_story(table: str) -> None:
    assert play(table, NaiveLedger()) == []


def test_the_due_date_can_count_as_day_one() -> None:
    table = """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+10+0 |
        2026-01-30 |  | contractual 0 principal 0 interest 0 overdue 0
        2026-01-31 |  | contractual 1 managed 1 principal 1 interest 1 bucket M1 overdue 0
        2026-02-01 |  | contractual 2 overdue 1010
    """
    assert play(table, NaiveLedger(due_date_counts_as=1)) == []


def test_a_method_that_does_not_pay_in_advance_leaves_credit_until_the_due_date() -> None:
    table = """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+0+0; 2 @ 2026-02-28 1000+0+0 |
        2026-01-20 | pay P1 1500 | owes 2000 unapplied 1500 allocated 0
        2026-01-30 |             | owes 2000 unapplied 1500
        2026-01-31 |             | owes 1000 unapplied 500 contractual 0
        2026-02-27 |             | owes 1000 unapplied 500
        2026-02-28 |             | owes 500 unapplied 0
        2026-03-01 |             | overdue 500 contractual 1
    """
    assert play(table, NaiveLedger(groups_by_method={"manual": ("past_due", "due_today")})) == []


def test_the_order_of_groups_and_components_is_the_policys() -> None:
    table = """
        2026-01-01 | loan L1 CNY: 1 @ 2026-01-31 1000+50+5; 2 @ 2026-02-28 1000+50+5 |
        2026-02-28 | pay P1 1020 | owes.principal 1000 owes.interest 80 owes.fee 10 contractual 28
    """
    ledger = NaiveLedger(
        groups_by_method={"manual": ("due_today", "past_due", "in_advance")},
        component_order=("principal", "interest", "fee", "penalty"),
    )
    assert play(table, ledger) == []


def test_a_business_date_is_the_lenders_not_utc() -> None:
    paid_at_ms = at_ms_of(datetime.date(2026, 2, 1), 0) - 1
    for later_ms, days in ((0, 0), (1, 1)):
        ledger = NaiveLedger()
        ledger.accept(event_of("loan L1 CNY: 1 @ 2026-01-31 100+0+0", 0, "e1"), 0)
        ledger.accept(event_of("pay P1 100", paid_at_ms + later_ms, "e2"), paid_at_ms + later_ms)
        assert seen(ledger, datetime.date(2026, 1, 31), "owes") == 100 * days


def test_verdicts_on_repeated_and_unready_events() -> None:
    day_ms = 86_400_000
    at_ms = at_ms_of(datetime.date(2026, 2, 1), NOON_MS)
    loan = event_of("loan L1 CNY: 1 @ 2026-01-31 100+0+0", at_ms - 40 * day_ms, "e1")
    payment = event_of("pay P1 60", at_ms, "e2")
    charge = event_of("charge 1 fee 5", at_ms, "e4")
    ledger = NaiveLedger()
    verdicts = [
        ledger.accept(event, record_ms)
        for event, record_ms in (
            (payment, at_ms),
            (payment, at_ms),
            (payment | {"amount_minor": 61}, at_ms),
            (loan, at_ms + 1),
            (loan | {"unknown_field": 1}, at_ms + 2),
            (loan | {"currency": "EUR", "event_id": "e9"}, at_ms + 3),
            (payment | {"event_id": "e3"}, at_ms + 100 * day_ms),
            (payment | {"event_id": "e3", "amount_minor": 61}, at_ms + 100 * day_ms),
            (payment | {"event_id": "e5", "payment_id": "P2", "currency": "EUR"}, at_ms + 4),
            (charge, at_ms + 5),
            (charge, at_ms + 5 + 7 * day_ms),
            (charge | {"component": "penalty"}, at_ms + 6),
            (charge | {"event_id": "e6", "instalment_no": 2}, at_ms + 7),
        )
    ]
    assert verdicts == [
        "parked",
        "duplicate",
        "conflicting_duplicate",
        "accepted",
        "duplicate",
        "conflicting_duplicate",
        "duplicate",
        "conflicting_duplicate",
        "currency_mismatch",
        "accepted",
        "duplicate",
        "conflicting_duplicate",
        "unknown_instalment",
    ]
    assert ledger.unparked == [(payment, "accepted")]
    assert seen(ledger, datetime.date(2026, 2, 1), "owes") == 45


def test_the_borrower_is_as_late_as_the_worst_loan_that_has_not_ended() -> None:
    ledger = NaiveLedger()
    for number, loan_id, due_on in ((1, "L1", "2026-01-31"), (2, "L2", "2026-02-10"), (3, "L3", "2026-01-01")):
        event = event_of(f"loan {loan_id} CNY: 1 @ {due_on} 90000+0+0", number, f"e{number}")
        assert ledger.accept(event, number) == "accepted"
    ended_ms = at_ms_of(datetime.date(2026, 2, 20), NOON_MS)
    ledger.accept(event_of("close", ended_ms, "e4") | {"loan_id": "L3"}, ended_ms)
    ledger.accept(event_of("pause 2026-02-01 2026-02-15", ended_ms, "e5"), ended_ms)
    worst = {day: ledger.borrower_dpd(datetime.date(2026, 2, day)) for day in (19, 20)}
    assert worst == {
        19: {"contractual": 49, "managed": 49, "material": 49},
        20: {"contractual": 20, "managed": 10, "material": 20},
    }


def days_to_check(history: list[Recorded], rng: random.Random) -> list[datetime.date]:
    first_ms, last_ms = history[0][0], history[-1][0]
    return [
        datetime.datetime.fromtimestamp(rng.randrange(first_ms, last_ms + 1) // 1000, datetime.UTC).date(),
        datetime.datetime.fromtimestamp(last_ms // 1000, datetime.UTC).date() + datetime.timedelta(days=2),
    ]


def feed(history: list[Recorded]) -> tuple[NaiveLedger, list[Recorded]]:
    """A ledger that took the history, and what of it was accepted."""
    ledger = NaiveLedger()
    accepted = []
    parked = {}
    for record_ms, event in history:
        verdict = ledger.accept(event, record_ms)
        if verdict == "accepted":
            accepted.append((record_ms, event))
        elif verdict == "parked":
            parked[event["event_id"]] = record_ms
    accepted += [(parked[event["event_id"]], event) for event, verdict in ledger.unparked if verdict == "accepted"]
    return ledger, accepted


def feed_in_any_order(accepted: list[Recorded]) -> NaiveLedger:
    """What names an instalment of a schedule that is still to come is sent again after everything else."""
    ledger = NaiveLedger()
    refused = [
        (record_ms, event)
        for record_ms, event in accepted
        if ledger.accept(event, record_ms) not in ("accepted", "parked")
    ]
    record_ms_of = {event["event_id"]: record_ms for record_ms, event in accepted}
    refused += [(record_ms_of[event["event_id"]], event) for event, verdict in ledger.unparked if verdict != "accepted"]
    assert [ledger.accept(event, record_ms) for record_ms, event in refused] == ["accepted"] * len(refused)
    return ledger


@pytest.mark.parametrize("first_seed", range(0, 300, 25))
def test_laws_of_money_over_random_histories(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 25):
        rng = random.Random(seed)
        history = random_history(rng)
        ledger, accepted = feed(history)
        shuffled = rng.sample(accepted, len(accepted))
        other = feed_in_any_order(shuffled)
        for on in days_to_check(history, rng):
            loans = ledger.loans(on)
            assert other.loans(on) == loans, f"seed {seed}, {on}: the order of arrival matters"
            for loan in loans:
                kept = loan["allocated_minor"] + loan["unapplied_minor"]
                assert kept == loan["received_minor"] - loan["reversed_minor"], (
                    f"seed {seed}, {on}: money not conserved"
                )
                assert loan["unapplied_minor"] >= 0
                assert min(loan["outstanding"].values()) >= 0, f"seed {seed}, {on}: negative outstanding"
                assert all(0 <= loan["overdue"][name] <= loan["outstanding"][name] for name in loan["overdue"])
                dpd = loan["dpd"]
                assert 0 <= dpd["managed"] <= dpd["contractual"]
                assert dpd["material"] == 0 or dpd["contractual"] > 0
                assert max(dpd["principal"], dpd["interest"]) <= dpd["contractual"]


def test_a_seed_is_one_history() -> None:
    assert random_history(random.Random(7)) == random_history(random.Random(7))
    assert random_history(random.Random(7)) != random_history(random.Random(8))


def test_histories_reach_the_corners() -> None:
    verdicts: dict[str, set[str]] = {}
    due_days, buckets = set(), set()
    for seed in range(60):
        history = random_history(random.Random(seed))
        assert [record_ms for record_ms, _ in history] == sorted(record_ms for record_ms, _ in history)
        assert all(event["at_ms"] <= record_ms for record_ms, event in history)
        ledger = NaiveLedger()
        for record_ms, event in history:
            verdicts.setdefault(event["type"], set()).add(ledger.accept(event, record_ms))
            due_days |= {row["due_on"] for row in event.get("schedule", [])}
        for on in days_to_check(history, random.Random(seed)):
            buckets |= {loan["bucket"] for loan in ledger.loans(on)}
    assert "2024-02-29" in due_days
    assert buckets == {"C", "M1", "M2", "M3", "M4", "M5", "M6", "M7"}
    assert verdicts["repayment_received"] == {"accepted", "parked", "duplicate", "conflicting_duplicate"}
    assert verdicts["repayment_reversed"] == {"accepted", "parked", "duplicate", "conflicting_duplicate"}
    assert verdicts["charge_added"] == {"accepted", "parked", "duplicate", "unknown_instalment"}
    assert {"plan_accepted", "loan_closed", "loan_written_off", "pause_set", "repayment_failed"} <= verdicts.keys()
