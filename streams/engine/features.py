"""What the scorecard looks at: one number per feature, or None where there is no basis for one.

Zero is a value, absence is not zero. Ratios are basis points, amounts minor units of the borrower's home currency,
spans whole business days or hours of the lender's zone.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from math import isqrt
from operator import mul
from typing import Final

from streams.engine.arrears import graced_days
from streams.engine.behaviour import NONE, Activity, Borrowing, Income, Logins, Spending, Windows
from streams.engine.calendar import Calendar
from streams.engine.feature import CAP_BP, NEVER, Feature, Value, leaves, sum_between
from streams.engine.incomes import Incomes, seen_monthly, seen_until
from streams.engine.loan import (
    ATTEMPT,
    ATTEMPT_DAY,
    ATTRIBUTION,
    CELLS,
    DUE,
    PAID_DAY,
    ROW,
    UNPAID,
    Loan,
    ended_day,
    is_ended,
)
from streams.engine.login_skips import evaluate_logins_with_skips
from streams.engine.signal_features import AFFECTING, SIGNAL_TIME, SignalCache, refresh
from streams.engine.signal_table import SIGNAL_FEATURES
from streams.engine.signals import Kind, reports_of
from streams.engine.windows import (
    ACTIVITY,
    BORROWING,
    DEVICE,
    EVERYTHING,
    FIRST_DAY,
    INCOME,
    LOANS,
    LOGINS,
    OUTFLOW,
    SPENDING,
    month_of,
)

FEATURES: tuple[Feature, ...] = (
    Feature("logins_7d", "logins", "count", "login", 7, "Successful logins in 7 days"),
    Feature(
        "login_decline_bp", "logins", "bp", "login", 0,
        "How far logins of 7 days fell below the mean week of the 4 before; negative when they rose; unknown until "
        "logins have been seen for 5 weeks, and when the 4 weeks had none",
    ),
    Feature("days_since_login", "logins", "days", "login", 0, "Days since the last successful login"),
    Feature("failed_logins_24h", "logins", "count", "failed_login", 2, "Failed logins in 24 hours"),
    Feature(
        "new_devices_7d", "logins", "count", "new_device", 7,
        "Devices first seen in 7 days; unknown while logins themselves have been seen for less than 7 days",
    ),
    Feature("loans_taken_7d", "borrowing", "count", "loan", 7, "Loans taken in 7 days"),
    Feature("loans_taken_30d", "borrowing", "count", "loan", 30, "Loans taken in 30 days"),
    Feature("loans_taken_90d", "borrowing", "count", "loan", 90, "Loans taken in 90 days"),
    Feature(
        "repaid_from_credit_90d_bp", "borrowing", "bp", "repayment", 90,
        "Share of the money repaid in 90 days that arrived within 48 hours after a new loan or other credit inflow",
    ),
    Feature(
        "spend_24h_to_mean_bp", "spending", "bp", "spend", 2,
        "Spent in 24 hours against the daily mean of the 90 days before; unknown with less than 30 days seen",
    ),
    Feature(
        "spend_24h_deviations", "spending", "hundredths of a standard deviation", "spend", 2,
        "The same, as deviations from that mean (a deviation is at least a tenth of the mean)",
    ),
    Feature("cash_share_30d_bp", "spending", "bp", "cash", 30, "Cash withdrawn as a share of all spent in 30 days"),
    Feature("transfer_share_30d_bp", "spending", "bp", "transfer", 30, "Transfers as a share of all spent in 30 days"),
    Feature("income_30d_minor", "income", "minor", "income", 30, "Income of 30 days"),
    Feature(
        "income_fall_bp", "income", "bp", "income", 0,
        "How far income fell below the mean of the 3 months before; negative when it rose. Counts 30 days, or 35 at "
        "the rate of 30 if that is more, since pay days move by days; unknown until income has been seen for 90 days",
    ),
    Feature(
        "income_variation_6m_bp", "income", "bp", "income", 0,
        "Standard deviation over mean of the last 6 whole civil months; at least 3 are needed",
    ),
    Feature(
        "months_without_income_6m", "income", "count", "income", 0,
        "Civil months without income among the last 6 whole ones; at least 3 are needed",
    ),
    Feature(
        "due_to_income_bp", "income", "bp", "income", 0,
        "Instalments due within 30 days against income of 30 days (of 35 at that rate if more), at most 1,000 %; "
        "unknown until income has been seen for 30 days",
    ),
    Feature(
        "outflow_to_inflow_30d_bp", "income", "bp", "spend", 30,
        "All outflow against all inflow but borrowed money of 30 days, at most 1,000 %; unknown until inflow has been "
        "seen for 30 days",
    ),
    Feature(
        "reborrow_cycles_90d", "borrowing", "count", "loan", 90,
        "Loans of 90 days taken within 3 days after another of similar amount (20 %) was paid off",
    ),
    Feature("on_time_ratio_bp", "repayments", "bp", "repayment", 0, "Paid on time among the last 6 due dates"),
    Feature(
        "mean_lateness_days", "repayments", "days", "repayment", 0,
        "Mean days late over the last 6 due dates, rounded down; what is unpaid is late up to the business date",
    ),
    Feature(
        "overdue_episodes_365d", "repayments", "count", "repayment", 0,
        "Separate stretches of days in arrears that reach into the last 365 days",
    ),
    Feature(
        "failed_debits_30d", "repayments", "count", "failed_debit", 30,
        "Failed debits of 30 days that the borrower caused",
    ),
    Feature(
        "activity_fall_bp", "activity", "bp", "any", 0,
        "How far events of any kind of 30 days fell below the mean of the 3 months before; unknown until seen for 90 "
        "days",
    ),
    Feature("worst_managed_dpd", "repayments", "days", "", 0, "Managed days past due, worst of the open loans"),
    Feature("worst_contractual_dpd", "repayments", "days", "", 0, "Contractual days past due, worst of the open loans"),
    *SIGNAL_FEATURES,
)  # fmt: skip

FEATURE_INDEX: dict[str, int] = {feature.name: index for index, feature in enumerate(FEATURES)}

# Where each part of the list begins: every part is evaluated on its own.
_LOGINS: Final = FEATURE_INDEX["logins_7d"]
_BORROWING: Final = FEATURE_INDEX["loans_taken_7d"]
_SPENDING: Final = FEATURE_INDEX["spend_24h_to_mean_bp"]
_INCOME: Final = FEATURE_INDEX["income_30d_minor"]
_DUE_TO_INCOME: Final = FEATURE_INDEX["due_to_income_bp"]
_OUTFLOW: Final = FEATURE_INDEX["outflow_to_inflow_30d_bp"]
_LOANS: Final = FEATURE_INDEX["reborrow_cycles_90d"]
_ACTIVITY: Final = FEATURE_INDEX["activity_fall_bp"]
_MANAGED: Final = FEATURE_INDEX["worst_managed_dpd"]
_CONTRACTUAL: Final = FEATURE_INDEX["worst_contractual_dpd"]
_SIGNALS: Final = FEATURE_INDEX[SIGNAL_FEATURES[0].name]

_PARTS = (ACTIVITY, LOGINS, SPENDING, BORROWING, LOANS, INCOME, OUTFLOW, SIGNAL_TIME)
_AT_ACTIVITY: Final = 0
_AT_LOGINS: Final = 1
_AT_SPENDING: Final = 2
_AT_BORROWING: Final = 3
_AT_LOANS: Final = 4
_AT_INCOME: Final = 5
_AT_OUTFLOW: Final = 6
_AT_SIGNALS: Final = 7

_BY_BORROWER: Final = 1


class FeatureCache:
    """The features of one borrower while its state is loaded; never stored.

    Whoever changes the windows adds what `observe_*` returned to `dirty`; whoever changes a loan adds LOANS. With or
    without a cache the features are the same. `version` rises whenever a value changes. Each part is evaluated again
    when it is dirty, or from the hour on at which time alone may change it (`until`). `scored` is for whoever scores:
    by policy digest the version that the score in the standing is of.
    """

    __slots__ = ("dirty", "due_minor", "hour", "scored", "signals", "until", "until_any", "values", "version")

    def __init__(self) -> None:
        self.dirty = EVERYTHING
        self.hour = NONE
        self.until = [NONE] * len(_PARTS)
        self.until_any = NONE
        self.signals = SignalCache()
        self.due_minor: Value = None
        self.scored: dict[str, int] = {}
        self.values: list[Value] = [None] * len(FEATURES)
        self.version = 0


def evaluate(
    windows: Windows,
    loans: Collection[Loan],
    as_of_ms: int,
    calendar: Calendar,
    managed_dpd: Value,
    contractual_dpd: Value,
    cache: FeatureCache | None = None,
) -> list[Value]:
    """The features as of an instant, in the order of FEATURES; None is unknown.

    Args:
        windows: what the borrower has done; events after `as_of_ms` count as the newest.
        loans: all its loans, brought forward to the business date of `as_of_ms`.
        as_of_ms: the instant.
        calendar: of the policy's zone.
        managed_dpd: worst managed DPD of the open loans, None where none is open.
        contractual_dpd: likewise.
        cache: kept by the caller between events of the borrower; the list returned is the cache's own, and stands until
            the next call.
    """
    if cache is None:
        cache = FeatureCache()
    hour = calendar.hour(as_of_ms)
    dirty = cache.dirty
    if hour >= cache.until_any:
        until = cache.until
        for at, part in enumerate(_PARTS):
            if hour >= until[at]:
                dirty |= part
    elif hour < cache.hour:
        dirty |= EVERYTHING
    cache.hour = hour
    values = cache.values
    if dirty != 0:
        before = values[:]
        _refresh(cache, dirty, windows, loans, hour)
        if dirty & AFFECTING or cache.signals.outflow_seen == (windows.spending is None):
            _refresh_signals(cache, dirty, windows, loans, calendar, hour // 24)
        cache.until_any = min(cache.until)
        cache.dirty = 0
        if before != values:
            cache.version += 1
    if values[_MANAGED] != managed_dpd or values[_CONTRACTUAL] != contractual_dpd:
        values[_MANAGED] = managed_dpd
        values[_CONTRACTUAL] = contractual_dpd
        cache.version += 1
    return values


def _refresh(cache: FeatureCache, dirty: int, windows: Windows, loans: Collection[Loan], hour: int) -> None:
    """Evaluate again the parts that may have changed; the last value of each is the hour until which it stands."""
    values, until, day = cache.values, cache.until, hour // 24
    if dirty & ACTIVITY:
        values[_ACTIVITY], until[_AT_ACTIVITY] = evaluate_activity(windows.activity, day)
    if dirty & LOGINS:
        *values[_LOGINS : _LOGINS + 5], until[_AT_LOGINS] = evaluate_logins(windows.logins, day, hour)
    if dirty & SPENDING:
        *values[_SPENDING : _SPENDING + 4], until[_AT_SPENDING] = evaluate_spending(windows.spending, day, hour)
    if dirty & BORROWING:
        *values[_BORROWING : _BORROWING + 4], until[_AT_BORROWING] = evaluate_borrowing(windows.borrowing, day)
    if dirty & LOANS:
        *values[_LOANS : _LOANS + 5], until[_AT_LOANS] = evaluate_loans(loans, day)
        cache.due_minor, due_until = due_minor(loans, day, windows.currency)
        until[_AT_LOANS] = min(until[_AT_LOANS], due_until)
    if dirty & INCOME:
        *values[_INCOME : _INCOME + 4], until[_AT_INCOME] = evaluate_income(windows.income, day)
    if dirty & (INCOME | LOANS):
        values[_DUE_TO_INCOME] = evaluate_due(windows.income, cache.due_minor, day)
    if dirty & (INCOME | SPENDING | OUTFLOW):
        values[_OUTFLOW], until[_AT_OUTFLOW] = evaluate_outflow(windows.spending, windows.income, day)


def _refresh_signals(
    cache: FeatureCache, dirty: int, windows: Windows, loans: Collection[Loan], calendar: Calendar, day: int
) -> None:
    """What comes now and then, and income where it is also reported."""
    values, signals = cache.values, cache.signals
    reported = reports_of(windows.signals, Kind.INCOMES)
    incomes = Incomes(windows.income, reported, day)
    if reported is not None:
        fall, (variation, without) = incomes.fall_bp(), incomes.by_month()
        values[_INCOME : _INCOME + 4] = incomes.recent_minor(), fall, variation, without
        values[_DUE_TO_INCOME] = due_bp(cache.due_minor, incomes.monthly_minor())
    refresh(signals, values, _SIGNALS, windows, loans, calendar, incomes, dirty)
    cache.until[_AT_SIGNALS] = signals.until_day * 24


def evaluate_activity(activity: Activity | None, day: int) -> tuple[Value, int]:
    """activity_fall_bp."""
    if activity is None:
        return None, NEVER
    if activity.first_day > day - 89:
        return None, (activity.first_day + 89) * 24
    days, counts = activity.days, activity.counts
    recent, oldest = bisect_right(days, day - 30), bisect_right(days, day - 120)
    until = min(leaves(days, recent, 30), leaves(days, oldest, 120)) * 24
    before = sum_between(counts, oldest, recent)
    if before == 0:
        return None, until
    return 10_000 - sum_between(counts, recent, len(counts)) * 30_000 // before, until


def evaluate_logins(logins: Logins | None, day: int, hour: int) -> tuple[Value, Value, Value, Value, Value, int]:
    """The 5 features from logins_7d on."""
    if logins is None:
        return None, None, None, None, None, NEVER
    if logins.skips:
        return evaluate_logins_with_skips(logins, day, hour)
    until = (day + 1) * 24
    refused = 0
    if logins.failed_hours:
        at = bisect_right(logins.failed_hours, hour - 24)
        refused = sum(logins.failed[at:])
        until = min(until, leaves(logins.failed_hours, at, 24))
    if logins.first_day == NONE:
        return None, None, None, refused, None, until
    days, counts = logins.days, logins.counts
    recent = bisect_right(days, day - 7)
    week = sum_between(counts, recent, len(counts))
    decline: Value = None
    if logins.first_day <= day - 34:
        before = sum_between(counts, bisect_right(days, day - 35), recent)
        if before > 0:
            decline = 10_000 - week * 40_000 // before
    fresh: Value = None
    if logins.first_day <= day - 7:
        fresh = 0
        for first in logins.devices[FIRST_DAY::DEVICE]:
            if first > day - 7:
                fresh += 1
    return week, decline, max(0, day - logins.last_day), refused, fresh, until


def evaluate_borrowing(borrowing: Borrowing | None, day: int) -> tuple[Value, Value, Value, Value, int]:
    """The 4 features from loans_taken_7d on."""
    if borrowing is None:
        return None, None, None, None, NEVER
    week: Value = None
    month: Value = None
    quarter: Value = None
    until = NEVER
    if borrowing.taken is not None:
        days, counts = borrowing.days, borrowing.counts
        of_week, of_month, of_quarter = (bisect_right(days, day - span) for span in (7, 30, 90))
        week, month, quarter = sum(counts[of_week:]), sum(counts[of_month:]), sum(counts[of_quarter:])
        until = min(leaves(days, of_week, 7), leaves(days, of_month, 30), leaves(days, of_quarter, 90)) * 24
    hours, credit = borrowing.repaid_hours, borrowing.credit_hours
    repaid = from_credit = 0
    oldest = bisect_left(hours, (day - 89) * 24)
    if oldest < len(hours):
        until = min(until, (hours[oldest] // 24 + 90) * 24)
    for at in range(oldest, len(hours)):
        repaid += borrowing.repaid[at]
        source = bisect_right(credit, hours[at])
        if source > 0 and credit[source - 1] >= hours[at] - 48:
            from_credit += borrowing.repaid[at]
    return week, month, quarter, None if repaid == 0 else from_credit * 10_000 // repaid, until


def evaluate_spending(spending: Spending | None, day: int, hour: int) -> tuple[Value, Value, Value, Value, int]:
    """The 4 features from spend_24h_to_mean_bp on."""
    if spending is None:
        return None, None, None, None, NEVER
    days, out, credit = spending.days, spending.out, spending.credit
    to_mean: Value = None
    deviations: Value = None
    # The 90 days before the first of the 24 hours, so that a spending spree is not measured against itself.
    end_day = (hour - 23) // 24
    seen = min(90, end_day - spending.first_day)
    recent = bisect_right(days, day - 30)
    until = leaves(days, recent, 30) * 24
    if seen < 30:
        until = min(until, (spending.first_day + 30) * 24 + 23)
    else:
        at = bisect_right(spending.hours, hour - 24)
        until = min(until, (end_day + 1) * 24 + 23, leaves(spending.hours, at, 24))
        # One pass, without lists of its own: compiled it is as cheap as remembering the sums from event to event.
        total = squares = 0
        for index in range(bisect_left(days, end_day - 90), bisect_left(days, end_day)):
            spend = out[index] - credit[index]
            total += spend
            squares += spend * spend
        if total > 0:
            spent = sum_between(spending.spent, at, len(spending.spent))
            deviation = max(isqrt(seen * squares - total * total), total // 10, 1)
            to_mean = spent * seen * 10_000 // total
            deviations = (spent * seen - total) * 100 // deviation
    end = len(days)
    spent = sum_between(out, recent, end) - sum_between(credit, recent, end)
    if spent == 0:
        return to_mean, deviations, None, None, until
    cash = sum_between(spending.cash, recent, end) * 10_000 // spent
    return to_mean, deviations, cash, sum_between(spending.transfer, recent, end) * 10_000 // spent, until


def evaluate_income(income: Income | None, day: int) -> tuple[Value, Value, Value, Value, int]:
    """The 4 features from income_30d_minor on, and until when they and due_to_income_bp stand."""
    if income is None or income.first_day == NONE:
        return None, None, None, None, NEVER
    days, amounts = income.days, income.amounts
    recent = bisect_right(days, day - 30)
    fall: Value = None
    if income.first_day <= day - 89:
        before = sum(amounts[bisect_right(days, day - 120) : recent])
        if before > 0:
            fall = 10_000 - seen_monthly(income, day) * 30_000 // before
    variation: Value = None
    without: Value = None
    month = month_of(day)
    # The month in which income was first seen may not have been seen whole.
    whole = min(6, month - 1 - month_of(income.first_day))
    if whole >= 3:
        start, end = bisect_left(income.months, month - whole), bisect_left(income.months, month)
        by_month = income.by_month[start:end]
        total = sum(by_month)
        without = whole - (end - start) + by_month.count(0)
        if total > 0:
            variation = isqrt(whole * sum(map(mul, by_month, by_month)) - total * total) * 10_000 // total
    return sum(amounts[recent:]), fall, variation, without, seen_until(income, day) * 24


def evaluate_due(income: Income | None, due: Value, day: int) -> Value:
    """due_to_income_bp."""
    if due is None or income is None or income.first_day == NONE or income.first_day > day - 29:
        return None
    return due_bp(due, seen_monthly(income, day))


def due_bp(due: Value, monthly: Value) -> Value:
    """What falls due in a month against the income of one."""
    if due is None or monthly is None:
        return None
    if due == 0:
        return 0
    return CAP_BP if monthly == 0 else min(CAP_BP, due * 10_000 // monthly)


def evaluate_outflow(spending: Spending | None, income: Income | None, day: int) -> tuple[Value, int]:
    """outflow_to_inflow_30d_bp."""
    if income is None:
        return None, NEVER
    if income.inflow_first_day > day - 29:
        return None, (income.inflow_first_day + 29) * 24
    recent = bisect_right(income.inflow_days, day - 30)
    until = leaves(income.inflow_days, recent, 30)
    inflow = sum_between(income.inflow, recent, len(income.inflow))
    outflow = 0
    if spending is not None:
        recent = bisect_right(spending.days, day - 30)
        until = min(until, leaves(spending.days, recent, 30))
        outflow = sum_between(spending.out, recent, len(spending.out))
    if inflow == 0:
        return None if outflow == 0 else CAP_BP, until * 24
    return min(CAP_BP, outflow * 10_000 // inflow), until * 24


# --- from the loans -----------------------------------------------------------------------------------------------


def due_minor(loans: Collection[Loan], day: int, currency: str) -> tuple[Value, int]:
    """What falls due from `day` on within 30 days on the open loans in `currency`; None where there is no such loan.
    With it the hour until which that stands."""
    due: Value = None
    until = NEVER
    for loan in loans:
        if loan.currency != currency or is_ended(loan, day):
            continue
        until = min(until, _next_end(loan, day))
        total = 0
        rows = loan.rows
        for at in range(loan.first * ROW, len(rows), ROW):
            due_day = rows[at + DUE]
            if due_day >= day + 30:
                until = min(until, due_day - 29)
                break
            if due_day >= day and rows[at + PAID_DAY] == UNPAID:
                until = min(until, due_day + 1)
                total += sum(rows[at + CELLS : at + ROW])
        due = total if due is None else due + total
    return due, until * 24


def _next_end(loan: Loan, day: int) -> int:
    """The day from which a loan counts as ended, where that lies ahead."""
    ended = ended_day(loan)
    return ended if ended > day else NEVER


def evaluate_loans(loans: Collection[Loan], day: int) -> tuple[Value, Value, Value, Value, Value, int]:
    """The 5 features from reborrow_cycles_90d on."""
    if len(loans) == 0:
        return None, None, None, None, None, NEVER
    lateness: dict[int, int] = {}
    late: list[tuple[int, int]] = []
    failed = 0
    until = NEVER
    for loan in loans:
        until = min(until, _note_lateness(loan, day, lateness, late))
        if loan.disbursed_day > day - 90:
            until = min(until, loan.disbursed_day + 90)
        attempts = loan.attempts
        for at in range(0, len(attempts), ATTEMPT):
            if attempts[at + ATTRIBUTION] == _BY_BORROWER and attempts[at + ATTEMPT_DAY] > day - 30:
                until = min(until, attempts[at + ATTEMPT_DAY] + 30)
                failed += 1
    last = sorted(lateness)[-6:]
    on_time: Value = None
    mean: Value = None
    if len(last) > 0:
        days = [lateness[due] for due in last]
        on_time = days.count(0) * 10_000 // len(days)
        mean = sum(days) // len(days)
    for _, paid in late:
        if paid > day - 365:
            until = min(until, paid + 365)
    return _cycles(loans, day), on_time, mean, _episodes(late, day - 365), failed, until * 24


def _note_lateness(loan: Loan, day: int, lateness: dict[int, int], late: list[tuple[int, int]]) -> int:
    """Add, per due date before `day`, the days its worst row was late, and the stretches (due day, day it was paid).

    What was still unpaid when the loan was closed was settled with it; after a write-off lateness is not counted on.
    Days of an incident's grace are no days late. Returns the next day on which any of that changes by itself.
    """
    rows, end, graced = loan.rows, day, len(loan.graces) > 0
    until = _next_end(loan, day)
    ended = ended_day(loan)
    if ended != NONE and ended < end:
        end = ended
    for due, paid in zip(rows[DUE::ROW], rows[PAID_DAY::ROW], strict=True):
        if due >= day:
            return min(until, due + 1)
        if paid == UNPAID:
            if end == day:
                until = day + 1
            paid = max(end, due)
        elif paid < 0:
            continue
        days = paid - due
        if days > 0 and graced:
            days -= graced_days(loan, due, paid)
        if days > 0:
            late.append((due, paid))
            if days > lateness.get(due, -1):
                lateness[due] = days
        elif due not in lateness:
            lateness[due] = 0
    return until


def _episodes(late: list[tuple[int, int]], since_day: int) -> int:
    """Separate stretches of arrears, over all loans, that reach past `since_day`."""
    late.sort()
    count, end = 0, NONE
    for due, paid in late:
        if paid <= since_day:
            continue
        if due >= end:
            count += 1
        end = max(end, paid)
    return count


def _cycles(loans: Collection[Loan], day: int) -> int:
    cycles = 0
    paid_off: list[tuple[int, int, str]] | None = None
    for loan in loans:
        taken = loan.disbursed_day
        if taken <= day - 90 or len(loans) == 1:
            continue
        if paid_off is None:
            paid_off = [
                (max(other.rows[PAID_DAY::ROW]), other.principal_minor, other.currency)
                for other in loans
                if other.first * ROW >= len(other.rows) > 0
            ]
        for paid_day, principal, currency in paid_off:
            similar = abs(loan.principal_minor - principal) * 5 <= principal and currency == loan.currency
            if similar and 0 <= taken - paid_day <= 3:
                cycles += 1
                break
    return cycles
