"""Takes signals into their tables, in event time: the later of two events about the same thing stands, whichever
arrives first.

Each table is bounded by a span and by a number of rows, however much is reported: beyond them the oldest row goes.
`observe` returns the bit of what may have changed, for the feature cache.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, NamedTuple
from zlib import crc32

from schemas import inbound as wire
from schemas.inbound import BorrowerEvent, given
from streams.engine.behaviour import Windows
from streams.engine.calendar import Calendar, day_of
from streams.engine.signals import (
    AT_MS,
    CONFIRMED,
    DAY,
    FIELDS,
    FIRST_DAY,
    LAST_DAY,
    NONE,
    REFUSED_DAY,
    STATUS,
    STATUSES,
    SUBKEY,
    TIMES,
    USED,
    Kind,
    Reports,
    Signals,
    bit_of,
)
from streams.engine.windows import month_of

_MONTH = re.compile(r"(\d{4})-(\d{2})")
_QUARTER = re.compile(r"(\d{4})-?Q([1-4])")
AMOUNTS = frozenset((Kind.LIMITS, Kind.ASSETS, Kind.BUSINESS, Kind.INCOMES, Kind.USES))
"""Kinds whose amounts mean nothing in another currency."""


class Bounds(NamedTuple):
    """At most `rows` rows, none more than `days` before the newest."""

    rows: int
    days: int


BOUNDS: dict[Kind, Bounds] = {
    Kind.APPLICATIONS: Bounds(64, 32),
    Kind.USES: Bounds(256, 94),
    Kind.LIMITS: Bounds(8, 3_660),
    Kind.ASSETS: Bounds(24, 470),
    Kind.BUSINESS: Bounds(8, 3_660),
    Kind.INCOMES: Bounds(32, 3_660),
    Kind.CHANGES: Bounds(32, 32),
    Kind.BUREAU: Bounds(20, 200),
    Kind.LISTINGS: Bounds(16, 3_660),
    Kind.LINKS: Bounds(32, 367),
    Kind.STATEMENTS: Bounds(6, 400),
    Kind.VIOLATIONS: Bounds(32, 367),
    Kind.FRAUD: Bounds(16, 367),
}


def observe(windows: Windows, calendar: Calendar, event: BorrowerEvent) -> int:
    """Take a signal; 0 for an event that is none."""
    reading = _READINGS.get(type(event))
    if reading is None:
        return 0
    kind, key, subkey, values = reading(event, calendar)
    day = calendar.day(event.at_ms)
    row = [key, subkey, event.at_ms, day, *values]
    _report(_reports(windows, kind), kind, row, event.event_id)
    return bit_of(kind)


def observe_use(windows: Windows, calendar: Calendar, event: wire.Transaction) -> int:
    """Money that went out to investment or gambling, by the hour."""
    hour = calendar.hour(event.at_ms)
    row = [hour, 0, event.at_ms, hour // 24, event.amount_minor]
    _report(_reports(windows, Kind.USES), Kind.USES, row, event.event_id)
    return bit_of(Kind.USES)


def observe_profile(windows: Windows, calendar: Calendar, event: wire.ProfileSet) -> int:
    """The lender's limit, in the borrower's home currency; what is known in another currency is dropped."""
    changed = 0
    signals = windows.signals
    if signals is not None and windows.currency not in ("", event.currency):
        for kind in sorted(AMOUNTS.intersection(Kind(kind) for kind in signals.kinds)):
            at = signals.kinds.index(kind)
            del signals.kinds[at], signals.reports[at]
            changed |= bit_of(kind)
    day = calendar.day(event.at_ms)
    row = [month_of(day), 0, event.at_ms, day, event.limit_minor]
    _report(_reports(windows, Kind.LIMITS), Kind.LIMITS, row, event.event_id)
    return changed | bit_of(Kind.LIMITS)


def last_month_of(period: str, day: int) -> int:
    """The civil month in which a period such as ``2026-03`` or ``2026-Q1`` ends; that of `day` for any other name."""
    month = _MONTH.fullmatch(period)
    if month is not None:
        return int(month[1]) * 12 + int(month[2]) - 1
    quarter = _QUARTER.fullmatch(period)
    return month_of(day) if quarter is None else int(quarter[1]) * 12 + int(quarter[2]) * 3 - 1


# --- tables -------------------------------------------------------------------------------------------------------


def _reports(windows: Windows, kind: Kind) -> Reports:
    signals = windows.signals
    if signals is None:
        signals = windows.signals = Signals()
    at = bisect_left(signals.kinds, kind)
    if at == len(signals.kinds) or signals.kinds[at] != kind:
        signals.kinds.insert(at, int(kind))
        signals.reports.insert(at, Reports())
    return signals.reports[at]


def _report(reports: Reports, kind: Kind, row: list[int], event_id: str) -> None:
    """Put a row in its place: merged with the one of its key, or new, and then no more rows than the bounds allow."""
    day = row[DAY]
    if reports.first_day == NONE or day < reports.first_day:
        reports.first_day = day
    rows, event_ids = reports.rows, reports.event_ids
    at = bisect_left(rows, row[: SUBKEY + 1])
    if at < len(rows) and rows[at][: SUBKEY + 1] == row[: SUBKEY + 1]:
        known = rows[at]
        later = (row[AT_MS], event_id) > (known[AT_MS], event_ids[at])
        rows[at] = _merged(kind, known, row, later)
        if later:
            event_ids[at] = event_id
    else:
        rows.insert(at, row)
        event_ids.insert(at, event_id)
    _trim(reports, kind, BOUNDS[kind])


def _merged(kind: Kind, known: list[int], row: list[int], later: bool) -> list[int]:
    """Two rows of one key as one: the later event's, but for what is counted up or goes back to the first."""
    merged = row if later else known
    if kind == Kind.USES:
        merged[USED] = known[USED] + row[USED]
    elif kind == Kind.APPLICATIONS:
        refused = [other[REFUSED_DAY] for other in (known, row) if other[REFUSED_DAY] != NONE]
        merged[REFUSED_DAY] = min(refused, default=NONE)
        merged[DAY] = min(known[DAY], row[DAY])
    elif kind == Kind.LINKS:
        first, last = min(known[FIRST_DAY], row[FIRST_DAY]), max(known[LAST_DAY], row[LAST_DAY])
        merged[FIRST_DAY : TIMES + 1] = [first, last, 2 if first < last else 1]
    elif kind in (Kind.VIOLATIONS, Kind.FRAUD):
        merged[CONFIRMED] = max(known[CONFIRMED], row[CONFIRMED])
    return merged


def _trim(reports: Reports, kind: Kind, bounds: Bounds) -> None:
    rows = reports.rows
    newest = max(row[DAY] for row in rows)
    for at in range(len(rows) - 1, -1, -1):
        if rows[at][DAY] <= newest - bounds.days:
            del rows[at], reports.event_ids[at]
    while len(rows) > bounds.rows:
        # A link to somebody of whom nothing bad is told goes first.
        oldest = min(
            range(len(rows)),
            key=lambda at: (
                kind == Kind.LINKS and rows[at][STATUS] != 0,
                rows[at][DAY],
                rows[at][AT_MS],
                reports.event_ids[at],
            ),
        )
        del rows[oldest], reports.event_ids[oldest]


# --- what each event says -----------------------------------------------------------------------------------------

Reading = tuple[Kind, int, int, list[int]]
"""Kind, key, subkey, values."""


def _digest(name: str) -> int:
    return crc32(name.encode())


def _application(event: wire.LoanApplied, calendar: Calendar) -> Reading:
    refused_day = calendar.day(event.at_ms) if event.outcome == "refused" else NONE
    return Kind.APPLICATIONS, _digest(event.application_id), 0, [refused_day]


def _asset(event: wire.AssetsReported, calendar: Calendar) -> Reading:
    month = month_of(calendar.day(event.at_ms))
    return Kind.ASSETS, _digest(event.kind), month, [event.value_minor, int(event.pledged)]


def _business(event: wire.BusinessReported, calendar: Calendar) -> Reading:
    month = last_month_of(event.period, calendar.day(event.at_ms))
    return Kind.BUSINESS, month, 0, [event.turnover_minor, event.orders, event.receivables_minor]


def _income(event: wire.IncomeReported, calendar: Calendar) -> Reading:
    month = last_month_of(event.period, calendar.day(event.at_ms))
    return Kind.INCOMES, month, _digest(event.kind), [event.amount_minor]


def _change(event: wire.ProfileChanged, calendar: Calendar) -> Reading:
    return Kind.CHANGES, FIELDS.index(event.field), calendar.day(event.at_ms), []


def _bureau(event: wire.BureauReported, calendar: Calendar) -> Reading:
    score, adverse = given(event.external_score), given(event.adverse_events)
    values = [
        event.active_lenders,
        event.enquiries_30d,
        event.external_balance_minor,
        int(event.external_overdue),
        NONE if score is None else score,
        NONE if adverse is None else adverse,
    ]
    return Kind.BUREAU, _digest(given(event.source) or ""), month_of(calendar.day(event.at_ms)), values


def _listing(event: wire.BlacklistReported, calendar: Calendar) -> Reading:
    expires_on = given(event.expires_on)
    return (
        Kind.LISTINGS,
        _digest(event.source),
        0,
        [int(event.listed), NONE if expires_on is None else day_of(expires_on)],
    )


def _link(event: wire.LinkReported, calendar: Calendar) -> Reading:
    day = calendar.day(event.at_ms)
    return Kind.LINKS, _digest(event.linked_borrower_id), 0, [STATUSES.index(event.status), day, day, 1]


def _statement(event: wire.StatementIssued, calendar: Calendar) -> Reading:
    values = [event.balance_minor, event.billed_minor, event.paid_minor, event.limit_minor]
    return Kind.STATEMENTS, calendar.day(event.at_ms), 0, values


def _violation(event: wire.ViolationReported, calendar: Calendar) -> Reading:
    return Kind.VIOLATIONS, _digest(event.kind), calendar.day(event.at_ms), [int(event.confirmed)]


def _fraud(event: wire.FraudReported, calendar: Calendar) -> Reading:
    return Kind.FRAUD, _digest(event.kind), 0, [int(event.confirmed)]


_READINGS: dict[type[BorrowerEvent], Callable[[Any, Calendar], Reading]] = {
    wire.LoanApplied: _application,
    wire.AssetsReported: _asset,
    wire.BusinessReported: _business,
    wire.IncomeReported: _income,
    wire.ProfileChanged: _change,
    wire.BureauReported: _bureau,
    wire.BlacklistReported: _listing,
    wire.LinkReported: _link,
    wire.StatementIssued: _statement,
    wire.ViolationReported: _violation,
    wire.FraudReported: _fraud,
}
