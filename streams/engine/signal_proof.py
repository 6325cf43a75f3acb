"""Which events prove what a feature of signals says."""

from collections.abc import Callable

from streams.engine.calendar import DAY_MS
from streams.engine.signal_features import is_listed, is_lost, is_suspected, is_unpaid, is_unused
from streams.engine.signals import (
    AT_MS,
    CONFIRMED,
    FIELDS,
    FIRST_DAY,
    KEY,
    NONE,
    REFUSED_DAY,
    STATUS,
    STATUSES,
    Kind,
    Signals,
    reports_of,
)

Row = list[int]
Proves = Callable[[Row, list[Row], int], bool]
"""Whether a row is proof, given all rows of its kind and the business date."""


def _each(row: Row, rows: list[Row], day: int) -> bool:
    return True


def _change(field: str) -> Proves:
    at = FIELDS.index(field)
    return lambda row, rows, day: row[KEY] == at


def _link(status: str) -> Proves:
    at = STATUSES.index(status)
    return lambda row, rows, day: row[STATUS] == at


_PROOFS: dict[str, tuple[Kind, Proves]] = {
    "income": (Kind.INCOMES, _each),
    "limit": (Kind.LIMITS, _each),
    "asset": (Kind.ASSETS, _each),
    "use": (Kind.USES, _each),
    "application": (Kind.APPLICATIONS, _each),
    "refused": (Kind.APPLICATIONS, lambda row, rows, day: row[REFUSED_DAY] != NONE),
    "business": (Kind.BUSINESS, _each),
    "change": (Kind.CHANGES, _each),
    **{f"change_{field}": (Kind.CHANGES, _change(field)) for field in FIELDS},
    "bureau": (Kind.BUREAU, _each),
    "listing": (Kind.LISTINGS, lambda row, rows, day: is_listed(row, day)),
    **{f"link_{status}": (Kind.LINKS, _link(status)) for status in STATUSES},
    "link_gained": (Kind.LINKS, lambda row, rows, day: row[FIRST_DAY] > day - 30),
    "link_lost": (Kind.LINKS, lambda row, rows, day: is_lost(row, day)),
    "statement": (Kind.STATEMENTS, _each),
    "statement_unpaid": (Kind.STATEMENTS, lambda row, rows, day: is_unpaid(row)),
    "statement_unused": (Kind.STATEMENTS, lambda row, rows, day: is_unused(row)),
    "violation": (Kind.VIOLATIONS, lambda row, rows, day: row[CONFIRMED] == 1),
    "violation_suspected": (Kind.VIOLATIONS, lambda row, rows, day: is_suspected(row, rows)),
    "fraud_suspected": (Kind.FRAUD, lambda row, rows, day: row[CONFIRMED] == 0),
}


def signal_proof(signals: Signals | None, kind: str, days: int, day: int) -> list[str]:
    """Ids of the events of a kind of proof in the `days` up to a business date (0: however old), newest first; none for
    a kind that signals do not keep."""
    found = _PROOFS.get(kind)
    reports = None if found is None else reports_of(signals, found[0])
    if found is None or reports is None:
        return []
    # A business day begins up to 14 hours before the day of the same number in UTC.
    oldest_ms = (day - days) * DAY_MS if days > 0 else 0
    proofs = [
        (row[AT_MS], event_id)
        for row, event_id in zip(reports.rows, reports.event_ids, strict=True)
        if row[AT_MS] >= oldest_ms and found[1](row, reports.rows, day)
    ]
    return [event_id for _, event_id in sorted(proofs, reverse=True)]
