"""A second, deliberately slow reading of the behaviour features: every answer from the whole list of events.

It shares no code with the product. Days and hours come from datetime, sums from plain loops.
"""

import datetime
import math
import zoneinfo
from collections.abc import Callable
from typing import Any, NamedTuple

Value = int | None
EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001  (local time, of whatever zone is asked about)


class Deed(NamedTuple):
    """Something a borrower did: kind is login, refused, out, in, loan or repaid."""

    at_ms: int
    kind: str
    amount: int = 0
    label: str = ""
    """Category of a transaction, device of a login."""
    currency: str = "CNY"


class Behaviour:
    """Features as of an instant, by their names, from all deeds in whatever order."""

    def __init__(self, deeds: list[Deed], as_of_ms: int, zone: str, home: str = "CNY") -> None:
        self.zone = zoneinfo.ZoneInfo(zone)
        self.hours: dict[int, int] = {}
        self.deeds = deeds
        self.home = home
        self.hour = self.hour_of(as_of_ms)
        self.day = self.hour // 24

    def hour_of(self, at_ms: int) -> int:
        if at_ms not in self.hours:
            local = datetime.datetime.fromtimestamp(at_ms / 1000, self.zone).replace(tzinfo=None)
            self.hours[at_ms] = (local - EPOCH) // datetime.timedelta(hours=1)
        return self.hours[at_ms]

    def day_of(self, at_ms: int) -> int:
        return self.hour_of(at_ms) // 24

    def month_of(self, day: int) -> int:
        on = EPOCH.date() + datetime.timedelta(days=day)
        return on.year * 12 + on.month

    def some(self, kind: str, *labels: str, summed: bool = True) -> list[Deed]:
        return [
            deed
            for deed in self.deeds
            if deed.kind == kind and (not labels or deed.label in labels) and (not summed or deed.currency == self.home)
        ]

    def back(self, deeds: list[Deed], newest: int, oldest: int) -> list[Deed]:
        """Deeds of the days from `oldest` to `newest` days ago; what lies ahead counts as today."""
        found = []
        for deed in deeds:
            ago = max(0, self.day - self.day_of(deed.at_ms))
            if newest <= ago <= oldest:
                found.append(deed)
        return found

    def first_ago(self, deeds: list[Deed]) -> int:
        return self.day - min(self.day_of(deed.at_ms) for deed in deeds)

    def last_24h(self, deeds: list[Deed]) -> list[Deed]:
        return [deed for deed in deeds if self.hour - self.hour_of(deed.at_ms) < 24]

    def all(self) -> dict[str, Value]:
        parts: list[Callable[[], dict[str, Value]]] = [self.logins, self.borrowing, self.spending, self.income]
        found: dict[str, Value] = {}
        for part in parts:
            found.update(part())
        found["activity_fall_bp"] = self.fall(self.deeds, 30, len)
        return found

    def fall(self, deeds: list[Deed], days: int, measure: Callable[[list[Deed]], int]) -> Value:
        if not deeds or self.first_ago(deeds) < 89:
            return None
        before = measure(self.back(deeds, 30, 119))
        return None if before == 0 else 10_000 - measure(self.back(deeds, 0, days - 1)) * 30_000 // before

    def logins(self) -> dict[str, Value]:
        good, bad = self.some("login", summed=False), self.some("refused", summed=False)
        found: dict[str, Value] = {"failed_logins_24h": len(self.last_24h(bad)) if good or bad else None}
        if not good:
            return found
        week, before = self.back(good, 0, 6), self.back(good, 7, 34)
        found["logins_7d"] = len(week)
        found["days_since_login"] = max(0, min(self.day - self.day_of(deed.at_ms) for deed in good))
        if self.first_ago(good) >= 34 and before:
            found["login_decline_bp"] = 10_000 - len(week) * 40_000 // len(before)
        if self.first_ago(good) >= 7:
            devices = {deed.label for deed in good}
            fresh = [d for d in devices if self.first_ago([deed for deed in good if deed.label == d]) < 7]
            found["new_devices_7d"] = len(fresh)
        return found

    def borrowing(self) -> dict[str, Value]:
        loans = self.some("loan", summed=False)
        found: dict[str, Value] = {}
        if loans:
            for days in (7, 30, 90):
                found[f"loans_taken_{days}d"] = len(self.back(loans, 0, days - 1))
        sources = [self.hour_of(deed.at_ms) for deed in loans + self.some("in", "credit_inflow", summed=False)]
        repaid = self.back(self.some("repaid"), 0, 89)
        total = sum(deed.amount for deed in repaid)
        if total > 0:
            borrowed = sum(
                deed.amount
                for deed in repaid
                if any(0 <= self.hour_of(deed.at_ms) - source <= 48 for source in sources)
            )
            found["repaid_from_credit_90d_bp"] = borrowed * 10_000 // total
        return found

    def spending(self) -> dict[str, Value]:
        out = self.some("out")
        spends = [deed for deed in out if deed.label != "credit_outflow"]
        found: dict[str, Value] = {}
        month = self.back(spends, 0, 29)
        total = sum(deed.amount for deed in month)
        if total > 0:
            for label in ("cash", "transfer"):
                part = sum(deed.amount for deed in month if deed.label == label)
                found[f"{label}_share_30d_bp"] = part * 10_000 // total
        if not out:
            return found
        end = (self.hour - 23) // 24
        seen = min(90, end - min(self.day_of(deed.at_ms) for deed in out))
        if seen < 30:
            return found
        by_day = dict.fromkeys(range(end - seen, end), 0)
        for deed in spends:
            if self.day_of(deed.at_ms) in by_day:
                by_day[self.day_of(deed.at_ms)] += deed.amount
        usual = sum(by_day.values())
        if usual == 0:
            return found
        spent = sum(deed.amount for deed in self.last_24h(spends))
        spread = math.isqrt(seen * sum(amount**2 for amount in by_day.values()) - usual**2)
        found["spend_24h_to_mean_bp"] = spent * seen * 10_000 // usual
        found["spend_24h_deviations"] = (spent * seen - usual) * 100 // max(spread, usual // 10, 1)
        return found

    def income(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        inflow = [deed for deed in self.some("in") if deed.label != "credit_inflow"]
        if inflow and self.first_ago(inflow) >= 29:
            came = sum(deed.amount for deed in self.back(inflow, 0, 29))
            went = sum(deed.amount for deed in self.back(self.some("out"), 0, 29))
            if came > 0:
                found["outflow_to_inflow_30d_bp"] = min(100_000, went * 10_000 // came)
            elif went > 0:
                found["outflow_to_inflow_30d_bp"] = 100_000
        pay = self.some("in", "income")
        if not pay:
            return found
        found["income_30d_minor"] = self.total(self.back(pay, 0, 29))
        best = max(self.total(self.back(pay, 0, 29)), self.total(self.back(pay, 0, 34)) * 6 // 7)
        before = self.total(self.back(pay, 30, 119))
        if self.first_ago(pay) >= 89 and before > 0:
            found["income_fall_bp"] = 10_000 - best * 30_000 // before
        found.update(self.months(pay))
        return found

    def months(self, pay: list[Deed]) -> dict[str, Value]:
        present = self.month_of(self.day)
        first = min(self.month_of(self.day_of(deed.at_ms)) for deed in pay)
        months = [month for month in range(present - 6, present) if month > first]
        if len(months) < 3:
            return {}
        sums = [self.total([d for d in pay if self.month_of(self.day_of(d.at_ms)) == month]) for month in months]
        found: dict[str, Value] = {"months_without_income_6m": sums.count(0)}
        total = sum(sums)
        if total > 0:
            spread = math.isqrt(len(sums) * sum(amount**2 for amount in sums) - total**2)
            found["income_variation_6m_bp"] = spread * 10_000 // total
        return found

    @staticmethod
    def total(deeds: list[Deed]) -> int:
        return sum(deed.amount for deed in deeds)


def features(deeds: list[Any], as_of_ms: int, zone: str) -> dict[str, Value]:
    """Every behaviour feature that is known; what is missing is unknown."""
    return {name: value for name, value in Behaviour(deeds, as_of_ms, zone).all().items() if value is not None}
