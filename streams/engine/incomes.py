"""Income from two sources: what was seen to come in, and what was reported for a month.

What is reported for a month is the same money that was seen in it; what it exceeds that by is income which comes in
elsewhere. Reports of the last REPORTED_MONTHS months say how much that is a month; without a report so young there is
only what was seen.
"""

from bisect import bisect_left, bisect_right
from math import isqrt

from streams.engine.behaviour import NONE, Income
from streams.engine.feature import Value, leaves
from streams.engine.signals import INCOME, KEY, Reports
from streams.engine.windows import first_day_of, month_of

REPORTED_MONTHS = 3


def seen_monthly(income: Income, day: int) -> int:
    """Income of 30 days, or of 35 at the rate of 30 if that is more: months have 31 days, and pay days move."""
    days, amounts = income.days, income.amounts
    return max(sum(amounts[bisect_right(days, day - 30) :]), sum(amounts[bisect_right(days, day - 35) :]) * 6 // 7)


def seen_until(income: Income, day: int) -> int:
    """The day from which time alone may change what follows from the income seen."""
    until = first_day_of(month_of(day) + 1)
    for span in (30, 35, 90, 120):
        until = min(until, leaves(income.days, bisect_right(income.days, day - span), span))
    for span in (29, 89, 119):
        if income.first_day + span > day:
            until = min(until, income.first_day + span)
    return until


class Incomes:
    """Both sources as of a day."""

    __slots__ = ("day", "elsewhere_minor", "income", "month", "reported")

    def __init__(self, income: Income | None, reports: Reports | None, day: int) -> None:
        self.income = None if income is None or income.first_day == NONE else income
        self.day = day
        self.month = month_of(day)
        self.reported: dict[int, int] = {}
        if reports is not None:
            for row in reports.rows:
                self.reported[row[KEY]] = self.reported.get(row[KEY], 0) + row[INCOME]
        self.elsewhere_minor = self._elsewhere_minor(self._reported_until(self.month))

    def monthly_minor(self) -> Value:
        """Income of a month; unknown until income has been seen for 30 days, or reported of late."""
        income = self.income
        if income is not None and income.first_day <= self.day - 29:
            return seen_monthly(income, self.day) + (self.elsewhere_minor or 0)
        if self.elsewhere_minor is None:
            return None
        return self.elsewhere_minor + (0 if income is None else seen_monthly(income, self.day))

    def monthly_before_minor(self) -> Value:
        """The same of the 30 days that ended 90 days ago."""
        income, day = self.income, self.day - 90
        elsewhere = self._elsewhere_minor(self._reported_until(self.month - 3))
        if income is None or income.first_day > day - 29:
            return None if income is not None else elsewhere
        recent = bisect_right(income.days, day)
        return sum(income.amounts[bisect_right(income.days, day - 30) : recent]) + (elsewhere or 0)

    def recent_minor(self) -> Value:
        """Income of 30 days."""
        if self.income is None:
            return self.elsewhere_minor
        seen = sum(self.income.amounts[bisect_right(self.income.days, self.day - 30) :])
        return seen + (self.elsewhere_minor or 0)

    def fall_bp(self) -> Value:
        """How far income fell below the mean of the 3 months before."""
        income = self.income
        if income is None:
            newest = self._reported_until(self.month)[-1:]
            before = [self.reported[month] for month in self._reported_until(newest[0] - 1)] if newest else []
            total = sum(before)
            if len(before) < REPORTED_MONTHS or total == 0:
                return None
            return 10_000 - self.reported[newest[0]] * len(before) * 10_000 // total
        if income.first_day > self.day - 89:
            return None
        days, amounts = income.days, income.amounts
        seen = sum(amounts[bisect_right(days, self.day - 120) : bisect_right(days, self.day - 30)])
        now = self.elsewhere_minor or 0
        earlier = self._elsewhere_minor(self._reported_until(self.month - REPORTED_MONTHS))
        before_minor = seen + 3 * (now if earlier is None or self.elsewhere_minor is None else earlier)
        if before_minor == 0:
            return None
        return 10_000 - (seen_monthly(income, self.day) + now) * 30_000 // before_minor

    def by_month(self) -> tuple[Value, Value]:
        """Variation in the last 6 whole civil months, and how many of them had no income; at least 3 are needed."""
        firsts = sorted(self.reported)[:1]
        if self.income is not None:
            # The month in which income was first seen may not have been seen whole.
            firsts.append(month_of(self.income.first_day) + 1)
        whole = min(6, self.month - min(firsts)) if firsts else 0
        if whole < 3:
            return None, None
        months = range(self.month - whole, self.month)
        amounts = [max(self._seen_in(month), self.reported.get(month, 0)) for month in months]
        total = sum(amounts)
        squares = sum(amount * amount for amount in amounts)
        variation = None if total == 0 else isqrt(whole * squares - total * total) * 10_000 // total
        return variation, amounts.count(0)

    def until_day(self) -> int:
        """The day from which time alone may change any of it."""
        return first_day_of(self.month + 1) if self.income is None else seen_until(self.income, self.day)

    def _reported_until(self, last: int) -> list[int]:
        """The reported months among the REPORTED_MONTHS that end with `last`, oldest first."""
        return [month for month in range(last - REPORTED_MONTHS + 1, last + 1) if month in self.reported]

    def _seen_in(self, month: int) -> int:
        income = self.income
        if income is None:
            return 0
        at = bisect_left(income.months, month)
        return income.by_month[at] if at < len(income.months) and income.months[at] == month else 0

    def _elsewhere_minor(self, months: list[int]) -> Value:
        """What a month brought in elsewhere, on average over some reported months; of the newest alone where no income
        was ever seen here. None without a report."""
        if not months:
            return None
        if self.income is None:
            return self.reported[months[-1]]
        more = sum(self.reported[month] - self._seen_in(month) for month in months)
        return max(0, more) // len(months)
