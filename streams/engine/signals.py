"""What is kept of signals that come now and then: shapes alone, as `signal_windows` fills them.

Everything of one kind is a short table, at most a few dozen rows, each with the event that set it. A kind that was
never reported of a borrower has no table: it takes no room and no time.
"""

from bisect import bisect_left
from enum import IntEnum

from msgspec import Struct

NONE = -1
"""A day, score or number that there is none of."""

KEY, SUBKEY, AT_MS, DAY, VALUE = 0, 1, 2, 3, 4
"""Columns of a row: what it is about (two numbers), instant and business date of its event, then the kind's values."""


class Kind(IntEnum):
    """The kinds of signals, each with its key, its subkey and its values from column VALUE on."""

    APPLICATIONS = 0
    """application | - | day it was refused"""
    USES = 1
    """hour | - | money out to investment and gambling"""
    LIMITS = 2
    """civil month | - | limit the lender set"""
    ASSETS = 3
    """kind | civil month | value, 1 where it is pledged"""
    BUSINESS = 4
    """civil month in which the period ends | - | turnover, orders, receivables"""
    INCOMES = 5
    """civil month | kind | amount"""
    CHANGES = 6
    """place in FIELDS | day | none"""
    BUREAU = 7
    """source | civil month | lenders, enquiries, balance, 1 where overdue, score, adverse events"""
    LISTINGS = 8
    """source | - | 1 where listed, day it expires"""
    LINKS = 9
    """borrower | - | place in STATUSES, first day, last day, days on which it was told (1, or 2 for more)"""
    STATEMENTS = 10
    """day | - | balance, billed, paid, limit"""
    VIOLATIONS = 11
    """kind | day | 1 where confirmed"""
    FRAUD = 12
    """kind | - | 1 where confirmed"""


FIELDS = ("employer", "phone", "address", "bank_account")
STATUSES = ("clear", "overdue", "fraud", "blacklisted", "abnormal", "adverse")

USED = VALUE
REFUSED_DAY = VALUE
LIMIT = VALUE
WORTH, PLEDGED = VALUE, VALUE + 1
TURNOVER, ORDERS, RECEIVABLES = VALUE, VALUE + 1, VALUE + 2
INCOME = VALUE
LENDERS, ENQUIRIES, OWED_ELSEWHERE, OVERDUE, SCORE, ADVERSE = range(VALUE, VALUE + 6)
LISTED, EXPIRES_DAY = VALUE, VALUE + 1
STATUS, FIRST_DAY, LAST_DAY, TIMES = range(VALUE, VALUE + 4)
BALANCE, BILLED, PAID, STATEMENT_LIMIT = range(VALUE, VALUE + 4)
CONFIRMED = VALUE


class Reports(Struct, array_like=True):
    """One kind's rows, sorted by key and subkey, and beside them the ids of the events that set them. `first_day` is
    the day of the first event of the kind, however long ago."""

    first_day: int = NONE
    rows: list[list[int]] = []
    event_ids: list[str] = []


class Signals(Struct, array_like=True):
    """The kinds there are of a borrower, in order, and beside them their reports."""

    kinds: list[int] = []
    reports: list[Reports] = []


def reports_of(signals: Signals | None, kind: Kind) -> Reports | None:
    """The reports of a kind, None before its first event."""
    if signals is None:
        return None
    at = bisect_left(signals.kinds, kind)
    return signals.reports[at] if at < len(signals.kinds) and signals.kinds[at] == kind else None


def bit_of(kind: Kind) -> int:
    """The bit of a kind among those of the windows (see `windows.LOGINS`)."""
    return 1 << (10 + kind)


SIGNAL_BITS = sum(bit_of(kind) for kind in Kind)
