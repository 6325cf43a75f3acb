"""What a row may tell beside the events of loans: what a borrower does, what others report, what people decide.

Each has its pattern, its type, its fields in the order of the groups, and the fields it has where a row says nothing.
What they mean is in the READMEs of `decisions` and `behaviour`.
"""

from typing import Any

from tests.stories.test_stories import MONEY, ON

DECIDED = ("reviewer", "decision", "about_event_id", "expires_at_ms")
MONTH = r"(\d{4}-\d\d)"
CURRENCY = r"(?: in ([A-Z]{3}))?"
BALANCE = r"(-?\d+\.\d\d)"
FINDINGS = r"(, overdue)?(?:, score (\d+))?(?:, (\d+) adverse)?"
TRANSACTION = {"transaction_id": "t", "currency": "CNY"}

OTHER_EVENTS: tuple[tuple[str, str, tuple[str, ...], dict[str, Any]], ...] = (
    (
        rf"limit {MONEY} for a (\w+)",
        "profile_set",
        ("limit_minor", "segment"),
        {"currency": "CNY", "onboarded_on": "2025-01-01", "identity_token": "T1"},
    ),
    (
        rf"limit {MONEY} for a (\w+) without identity",
        "profile_set",
        ("limit_minor", "segment"),
        {"currency": "CNY", "onboarded_on": "2025-01-01"},
    ),
    (
        rf"income {MONEY}",
        "transaction",
        ("amount_minor",),
        TRANSACTION | {"direction": "in", "category": "income"},
    ),
    (r"fraud (\w+) confirmed", "fraud_reported", ("kind",), {"confirmed": True}),
    (r"fraud (\w+) suspected", "fraud_reported", ("kind",), {"confirmed": False}),
    (r"violation (\w+) suspected", "violation_reported", ("kind",), {"confirmed": False}),
    (r"violation (\w+) confirmed", "violation_reported", ("kind",), {"confirmed": True}),
    (r"listed by (\w+)", "blacklist_reported", ("source",), {"listed": True}),
    (r"hardship (\w+) reported", "hardship_reported", ("kind",), {}),
    (r"(legal|manual) hold set", "hold_set", ("kind",), {"reviewer": "R1"}),
    (r"(legal|manual) hold lifted", "hold_lifted", ("kind",), {"reviewer": "R1"}),
    (r"appeals against the (.+)", "appeal_filed", ("about_event_id",), {"text_code": "wrong"}),
    (rf"(\w+) (approve|uphold|overturn)s the (.+?)(?: until {ON})?", "review_decided", DECIDED, {}),
    (
        rf"(\w+) sets the limit to {MONEY}(?: until {ON})?",
        "review_decided",
        ("reviewer", "limit_minor", "expires_at_ms"),
        {"decision": "set_limit"},
    ),
    (
        rf"(\w+) (clear|exempt)s(?: about the (.+?))?(?: until {ON})?",
        "review_decided",
        ("reviewer", "decision", "about_event_id", "expires_at_ms"),
        {},
    ),
    (r"logs in(?: with (\w+))?", "login", ("device_id",), {"outcome": "ok", "device_id": "D1", "channel": "app"}),
    (r"fails to log in", "login", (), {"outcome": "failed", "device_id": "D1", "channel": "app"}),
    (
        rf"spends {MONEY}{CURRENCY}(?: on (\w+))?",
        "transaction",
        ("amount_minor", "currency", "category"),
        TRANSACTION | {"direction": "out", "category": "purchase"},
    ),
    (
        rf"gets {MONEY}{CURRENCY} as (\w+)",
        "transaction",
        ("amount_minor", "currency", "category"),
        TRANSACTION | {"direction": "in"},
    ),
    (
        rf"limit {MONEY} in ([A-Z]{{3}}) for a (\w+)",
        "profile_set",
        ("limit_minor", "currency", "segment"),
        {"onboarded_on": "2025-01-01"},
    ),
    (r"changes (\w+)", "profile_changed", ("field",), {}),
    (r"application (\w+) is (\w+)", "loan_applied", ("application_id", "outcome"), {}),
    (
        rf"statement: balance {BALANCE}, billed {BALANCE}, paid {MONEY}, limit {MONEY}",
        "statement_issued",
        ("balance_minor", "billed_minor", "paid_minor", "limit_minor"),
        {},
    ),
    (
        rf"business of {MONTH}: turnover {MONEY}, (\d+) orders, {MONEY} receivable",
        "business_reported",
        ("period", "turnover_minor", "orders", "receivables_minor"),
        {},
    ),
    (
        rf"assets: (\w+) worth {MONEY}(, pledged)?",
        "assets_reported",
        ("kind", "value_minor", "pledged"),
        {"pledged": False},
    ),
    (rf"income of {MONTH} reported: {MONEY}", "income_reported", ("period", "amount_minor"), {"kind": "salary"}),
    (
        rf"bureau (\w+) sees (\d+) lenders, (\d+) enquiries, owed {MONEY}{FINDINGS}",
        "bureau_reported",
        (
            "source",
            "active_lenders",
            "enquiries_30d",
            "external_balance_minor",
            "external_overdue",
            "external_score",
            "adverse_events",
        ),
        {"external_overdue": False},
    ),
    (rf"listed by (\w+) until {ON}", "blacklist_reported", ("source", "expires_on"), {"listed": True}),
    (r"delisted by (\w+)", "blacklist_reported", ("source",), {"listed": False}),
    (r"linked to (\w+) as (\w+), (\w+)", "link_reported", ("linked_borrower_id", "relation", "status"), {}),
)
AMOUNTS = (
    "amount_minor",
    "limit_minor",
    "balance_minor",
    "billed_minor",
    "paid_minor",
    "turnover_minor",
    "receivables_minor",
    "value_minor",
    "external_balance_minor",
)
COUNTS = ("orders", "active_lenders", "enquiries_30d", "external_score", "adverse_events")
FLAGS = ("pledged", "external_overdue")
