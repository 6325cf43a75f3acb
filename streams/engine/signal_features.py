"""Features from signals that come now and then, and from what is owed against what is earned.

Each group is evaluated when its own reports have changed, or from the day on at which time alone may change it; a group
without reports is never looked at. Spans are whole business days, ratios basis points.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

from streams.engine.behaviour import Windows
from streams.engine.calendar import Calendar
from streams.engine.debts import owed, owed_before
from streams.engine.feature import CAP_BP, NEVER, Value
from streams.engine.incomes import Incomes
from streams.engine.loan import Loan
from streams.engine.signal_table import SIGNAL_FEATURES
from streams.engine.signals import (
    ADVERSE,
    AT_MS,
    BALANCE,
    BILLED,
    CONFIRMED,
    DAY,
    ENQUIRIES,
    EXPIRES_DAY,
    FIRST_DAY,
    KEY,
    LAST_DAY,
    LENDERS,
    LIMIT,
    LISTED,
    NONE,
    ORDERS,
    OVERDUE,
    OWED_ELSEWHERE,
    PAID,
    PLEDGED,
    RECEIVABLES,
    REFUSED_DAY,
    SCORE,
    SIGNAL_BITS,
    STATEMENT_LIMIT,
    STATUS,
    STATUSES,
    TIMES,
    TURNOVER,
    USED,
    WORTH,
    Kind,
    Reports,
    bit_of,
    reports_of,
)
from streams.engine.windows import INCOME, LOANS

STOCK_CAP_BP = 1_000_000
"""What is owed, or could be, is told up to 100 times a month's income."""
BUREAU_DAYS, LINK_DAYS, ASSET_DAYS, STATEMENT_DAYS, BUSINESS_DAYS = 90, 365, 365, 92, 200
"""A report older than this says nothing of today."""
LAPSED_DAYS = 60
"""A link that used to be told again and has not been for so long is lost."""
DRAW_HOURS = 48
UNUSED_PART = 50
"""A limit of which less than one part in so many is in use is as good as unused."""

_AT = {feature.name: at for at, feature in enumerate(SIGNAL_FEATURES)}


Evaluated = tuple[tuple[Value, ...], int]
"""The values of a group, and the day from which time alone may change them."""


class Group(NamedTuple):
    """Features that stand together and depend on the reports of one kind alone, whose bit `bit` is."""

    kind: Kind
    start: int
    width: int
    evaluate: Callable[[Reports, int], Evaluated]
    bit: int


def _group(kind: Kind, first: str, width: int, evaluate: Callable[[Reports, int], Evaluated]) -> Group:
    return Group(kind, _AT[first], width, evaluate, bit_of(kind))


class SignalCache:
    """Until when each group stands, while a borrower's state is loaded; never stored."""

    __slots__ = ("day", "outflow_seen", "until", "until_day")

    def __init__(self) -> None:
        self.day = NONE
        self.outflow_seen = False
        self.until = [NEVER] * (len(GROUPS) + 2)
        self.until_day = NONE


def refresh(
    cache: SignalCache,
    values: list[Value],
    base: int,
    windows: Windows,
    loans: Collection[Loan],
    calendar: Calendar,
    incomes: Incomes,
    dirty: int,
) -> None:
    """Evaluate again what may have changed, into `values` from `base` on; `incomes` are as of the business date."""
    day, signals, until = incomes.day, windows.signals, cache.until
    if cache.day == NONE or day < cache.day:
        dirty = -1
    cache.day = day
    # Who has ever had a report keeps some: without any, the groups are unknown as they were made.
    if signals is not None:
        for at, group in enumerate(GROUPS):
            if dirty & group.bit or day >= until[at]:
                reports = reports_of(signals, group.kind)
                if reports is not None:
                    first = base + group.start
                    values[first : first + group.width], until[at] = group.evaluate(reports, day)
    if dirty & _LOAD_BITS or day >= until[-2]:
        found, until[-2] = evaluate_load(windows, loans, incomes)
        values[base + _LOAD : base + _LOAD + 6] = found[:6]
        values[base + _OWED_ELSEWHERE] = found[6]
    outflow_seen = windows.spending is not None
    if dirty & _MISUSE_BITS or day >= until[-1] or outflow_seen != cache.outflow_seen:
        values[base + _MISUSE], until[-1] = evaluate_misuse(windows, loans, calendar, day)
        cache.outflow_seen = outflow_seen
    cache.until_day = min(until)


# --- what is owed, and what is earned -----------------------------------------------------------------------------


def evaluate_load(windows: Windows, loans: Collection[Loan], incomes: Incomes) -> Evaluated:
    """The 6 features from debt_to_income_bp on, and external_debt_to_income_bp."""
    day, signals = incomes.day, windows.signals
    until = incomes.until_day()
    monthly, monthly_before = incomes.monthly_minor(), incomes.monthly_before_minor()
    debt = owed(loans, windows.currency, day)
    debt_bp = _ratio(debt, monthly)
    debt_rise: Value = None
    if debt_bp is not None and monthly_before is not None:
        before, leaves = owed_before(loans, windows.currency, day, day - 90)
        until = min(until, leaves)
        debt_rise = _minus(debt_bp, _ratio(before, monthly_before))
    limit = limit_before = None
    limits = reports_of(signals, Kind.LIMITS)
    if limits is not None:
        limit = limits.rows[-1][LIMIT]
        limit_before = next((row[LIMIT] for row in reversed(limits.rows) if row[DAY] <= day - 90), None)
        until = min(until, _next(day, [row[DAY] + 90 for row in limits.rows]))
    limit_bp = _ratio(limit, monthly)
    limit_rise = _minus(limit_bp, _ratio(limit_before, monthly_before))
    assets_bp, assets_fall, leaves = _assets(reports_of(signals, Kind.ASSETS), debt, day)
    until = min(until, leaves)
    elsewhere: Value = None
    bureau = reports_of(signals, Kind.BUREAU)
    if bureau is not None:
        elsewhere = max((row[OWED_ELSEWHERE] for row in _newest(bureau, day)), default=None)
        until = min(until, _next(day, [row[DAY] + BUREAU_DAYS for row in bureau.rows]))
    return (debt_bp, debt_rise, limit_bp, limit_rise, assets_bp, assets_fall, _ratio(elsewhere, monthly)), until


def _ratio(part: Value, whole: Value) -> Value:
    if part is None or whole is None:
        return None
    if part == 0:
        return 0
    return STOCK_CAP_BP if whole == 0 else min(STOCK_CAP_BP, part * 10_000 // whole)


def _minus(one: Value, other: Value) -> Value:
    return None if one is None or other is None else one - other


def _assets(reports: Reports | None, debt: Value, day: int) -> tuple[Value, Value, int]:
    """assets_to_debt_bp, assets_fall_90d_bp."""
    if reports is None:
        return None, None, NEVER
    now: dict[int, int] = {}
    before: dict[int, int] = {}
    for row in reports.rows:
        worth = 0 if row[PLEDGED] else row[WORTH]
        if row[DAY] > day - ASSET_DAYS:
            now[row[KEY]] = worth
        if day - 90 - ASSET_DAYS < row[DAY] <= day - 90:
            before[row[KEY]] = worth
    until = _next(day, [row[DAY] + span for row in reports.rows for span in (90, ASSET_DAYS, 90 + ASSET_DAYS)])
    to_debt = None if not now or not debt else min(STOCK_CAP_BP, sum(now.values()) * 10_000 // debt)
    both = [kind for kind in before if kind in now]
    total = sum(before[kind] for kind in both)
    fall = None if total == 0 else 10_000 - sum(now[kind] for kind in both) * 10_000 // total
    return to_debt, fall, until


def evaluate_misuse(windows: Windows, loans: Collection[Loan], calendar: Calendar, day: int) -> tuple[Value, int]:
    """misuse_share_90d_bp."""
    drawn: dict[int, int] = {}
    until = NEVER
    for loan in loans:
        if loan.currency == windows.currency and loan.disbursed_day > day - 90:
            hour = calendar.hour(loan.disbursed_ms)
            drawn[hour] = drawn.get(hour, 0) + loan.principal_minor
            until = min(until, loan.disbursed_day + 90)
    if not drawn or windows.spending is None:
        return None, until
    misused = dict.fromkeys(drawn, 0)
    uses = reports_of(windows.signals, Kind.USES)
    for row in [] if uses is None else uses.rows:
        hour = row[KEY]
        draw = max((taken for taken in drawn if hour - DRAW_HOURS <= taken <= hour), default=NONE)
        if draw != NONE:
            misused[draw] += row[USED]
    return max(min(10_000, misused[hour] * 10_000 // drawn[hour]) for hour in drawn), until


# --- groups of one kind -------------------------------------------------------------------------------------------


def _next(day: int, moments: list[int]) -> int:
    """The first of some days that is still ahead."""
    first = NEVER
    for moment in moments:
        if day < moment < first:
            first = moment
    return first


def evaluate_applications(reports: Reports, day: int) -> Evaluated:
    """The 3 features from applications_7d on."""
    days = [row[DAY] for row in reports.rows]
    refused = [row[REFUSED_DAY] for row in reports.rows if row[REFUSED_DAY] != NONE]
    until = _next(day, [*(on + span for on in days for span in (7, 30)), *(on + 30 for on in refused)])
    return (_since(days, day - 7), _since(days, day - 30), _since(refused, day - 30)), until


def _since(days: list[int], after: int) -> int:
    count = 0
    for on in days:
        if on > after:
            count += 1
    return count


def evaluate_changes(reports: Reports, day: int) -> Evaluated:
    """The 5 features from profile_changes_30d on."""
    rows = [row for row in reports.rows if row[DAY] > day - 30]
    each = [sum(1 for row in rows if row[KEY] == at) for at in range(4)]
    return (len(rows), *each), _next(day, [row[DAY] + 30 for row in rows])


def evaluate_business(reports: Reports, day: int) -> Evaluated:
    """The 6 features from business_turnover_minor on."""
    latest, before = reports.rows[-1], reports.rows[-4:-1]
    if latest[DAY] <= day - BUSINESS_DAYS:
        return (None,) * 6, NEVER
    turnover, orders, owed_to = latest[TURNOVER], latest[ORDERS], latest[RECEIVABLES]
    receivables = _ratio(owed_to, turnover)
    turnover_fall = orders_fall = rise = None
    if len(before) >= 2:
        turnover_fall = _fall(turnover, [row[TURNOVER] for row in before])
        orders_fall = _fall(orders, [row[ORDERS] for row in before])
        rise = _minus(
            receivables, _ratio(sum(row[RECEIVABLES] for row in before), sum(row[TURNOVER] for row in before))
        )
    return (turnover, turnover_fall, orders, orders_fall, receivables, rise), latest[DAY] + BUSINESS_DAYS


def _fall(latest: int, before: list[int]) -> Value:
    total = sum(before)
    return None if total == 0 else 10_000 - latest * len(before) * 10_000 // total


def _newest(reports: Reports, day: int) -> list[list[int]]:
    """Per source the newest row, where it is young enough."""
    newest = {row[KEY]: row for row in reports.rows}
    return [row for row in newest.values() if row[DAY] > day - BUREAU_DAYS]


def evaluate_bureau(reports: Reports, day: int) -> Evaluated:
    """The 6 features from active_lenders on."""
    newest = _newest(reports, day)
    if not newest:
        return (None,) * 6, NEVER
    scored = [row for row in reports.rows if row[SCORE] != NONE and row[DAY] > day - BUREAU_DAYS]
    score = max(scored, key=lambda row: (row[AT_MS], row[KEY]))[SCORE] if scored else None
    falls = []
    for source in {row[KEY]: None for row in scored}:
        scores = [row[SCORE] for row in scored if row[KEY] == source]
        if len(scores) > 1:
            falls.append(max(scores) - scores[-1])
    values = (
        max(row[LENDERS] for row in newest),
        max(row[ENQUIRIES] for row in newest),
        max(row[OVERDUE] for row in newest),
        score,
        max(falls, default=None),
        max((row[ADVERSE] for row in newest if row[ADVERSE] != NONE), default=None),
    )
    return values, _next(day, [row[DAY] + BUREAU_DAYS for row in reports.rows])


def evaluate_listings(reports: Reports, day: int) -> Evaluated:
    """listings_elsewhere."""
    listed = [row for row in reports.rows if is_listed(row, day)]
    return (len(listed),), _next(day, [row[EXPIRES_DAY] for row in listed])


def is_listed(row: list[int], day: int) -> bool:
    return row[LISTED] == 1 and (row[EXPIRES_DAY] == NONE or day < row[EXPIRES_DAY])


def evaluate_links(reports: Reports, day: int) -> Evaluated:
    """The 7 features from links_overdue on."""
    rows = reports.rows
    told = [row[STATUS] for row in rows if row[DAY] > day - LINK_DAYS]
    counts = [told.count(STATUSES.index(status)) for status in _LINKED]
    gained = _since([row[FIRST_DAY] for row in rows], day - 30) if reports.first_day <= day - 30 else None
    spans = ((DAY, LINK_DAYS), (FIRST_DAY, 30), (LAST_DAY, LAPSED_DAYS), (LAST_DAY, LAPSED_DAYS + 30))
    until = _next(day, [reports.first_day + 30, *(row[column] + span for row in rows for column, span in spans)])
    return (*counts, gained, sum(1 for row in rows if is_lost(row, day))), until


def is_lost(row: list[int], day: int) -> bool:
    """Whether a link that used to be told of again has lapsed within 30 days."""
    return row[TIMES] > 1 and LAPSED_DAYS <= day - row[LAST_DAY] < LAPSED_DAYS + 30


def evaluate_statements(reports: Reports, day: int) -> Evaluated:
    """The 6 features from utilisation_bp on."""
    rows = reports.rows
    latest = rows[-1]
    if latest[DAY] <= day - STATEMENT_DAYS:
        return (None,) * 6, NEVER
    rise = fall = unpaid = unused = None
    if len(rows) >= 4:
        older, newer = rows[: len(rows) // 2], rows[-(len(rows) // 2) :]
        rise = _used(newer) - _used(older)
        fall = _minus(_settled(older), _settled(newer))
        unpaid = sum(1 for row in rows if is_unpaid(row))
        unused = sum(1 for row in rows if is_unused(row))
    return (_used([latest]), rise, _settled([latest]), fall, unpaid, unused), latest[DAY] + STATEMENT_DAYS


def is_unpaid(row: list[int]) -> bool:
    """Whether a statement tells that something was billed and nothing was paid."""
    return row[BILLED] > 0 and row[PAID] == 0


def is_unused(row: list[int]) -> bool:
    """Whether a statement tells of next to no use of the limit."""
    return row[BALANCE] * UNUSED_PART <= row[STATEMENT_LIMIT]


def _used(rows: list[list[int]]) -> int:
    """Balance against limit, at most 1,000 %; what stands in the customer's favour is no balance."""
    balance = sum(max(0, row[BALANCE]) for row in rows)
    limit = sum(row[STATEMENT_LIMIT] for row in rows)
    if limit == 0:
        return 0 if balance == 0 else CAP_BP
    return min(CAP_BP, balance * 10_000 // limit)


def _settled(rows: list[list[int]]) -> Value:
    """Paid against billed, at most 100 %."""
    billed = sum(max(0, row[BILLED]) for row in rows)
    return None if billed == 0 else min(10_000, sum(row[PAID] for row in rows) * 10_000 // billed)


def evaluate_violations(reports: Reports, day: int) -> Evaluated:
    """violations_365d, violations_suspected_90d."""
    rows = reports.rows
    confirmed = [row[DAY] for row in rows if row[CONFIRMED]]
    suspected = [row[DAY] for row in rows if is_suspected(row, rows)]
    until = _next(day, [*(on + 365 for on in confirmed), *(on + 90 for on in suspected)])
    return (_since(confirmed, day - 365), _since(suspected, day - 90)), until


def is_suspected(row: list[int], rows: list[list[int]]) -> bool:
    """Whether a violation was told of and not confirmed since."""
    return not any(other[CONFIRMED] and other[KEY] == row[KEY] and other[DAY] >= row[DAY] for other in rows)


def evaluate_fraud(reports: Reports, day: int) -> Evaluated:
    """fraud_suspected_180d."""
    suspected = [row[DAY] for row in reports.rows if not row[CONFIRMED]]
    return (_since(suspected, day - 180),), _next(day, [on + 180 for on in suspected])


_LINKED = ("overdue", "fraud", "blacklisted", "abnormal", "adverse")
GROUPS: tuple[Group, ...] = (
    _group(Kind.APPLICATIONS, "applications_7d", 3, evaluate_applications),
    _group(Kind.BUSINESS, "business_turnover_minor", 6, evaluate_business),
    _group(Kind.CHANGES, "profile_changes_30d", 5, evaluate_changes),
    _group(Kind.BUREAU, "active_lenders", 6, evaluate_bureau),
    _group(Kind.LISTINGS, "listings_elsewhere", 1, evaluate_listings),
    _group(Kind.LINKS, "links_overdue", 7, evaluate_links),
    _group(Kind.STATEMENTS, "utilisation_bp", 6, evaluate_statements),
    _group(Kind.VIOLATIONS, "violations_365d", 2, evaluate_violations),
    _group(Kind.FRAUD, "fraud_suspected_180d", 1, evaluate_fraud),
)
_LOAD, _MISUSE, _OWED_ELSEWHERE = (
    _AT["debt_to_income_bp"],
    _AT["misuse_share_90d_bp"],
    _AT["external_debt_to_income_bp"],
)
_LOAD_BITS = INCOME | LOANS | sum(bit_of(k) for k in (Kind.LIMITS, Kind.ASSETS, Kind.INCOMES, Kind.BUREAU))
_MISUSE_BITS = LOANS | bit_of(Kind.USES)
SIGNAL_TIME = 1 << 9
"""Set when time alone may have changed a group (see `SignalCache.until_day`)."""
AFFECTING = INCOME | LOANS | SIGNAL_BITS | SIGNAL_TIME
"""Bits of what `refresh` looks at."""
