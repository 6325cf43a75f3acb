"""Login features of a borrower whom incidents kept out: whose days do not count, neither lately nor before.

Who cannot log in is not losing interest. A day touched by an incident is left out of every count of days, and the
counts are taken at the rate of the days that remain; failed logins are left out by the hour.
"""

from bisect import bisect_right

from streams.engine.behaviour import NONE, Logins
from streams.engine.windows import DEVICE, FIRST_DAY

Value = int | None


def skipped_days(skips: list[int], after_day: int, day: int) -> set[int]:
    """The days in (after_day, day] that an incident touches."""
    days: set[int] = set()
    for at in range(0, len(skips), 2):
        days.update(range(max(skips[at] // 24, after_day + 1), min(skips[at + 1] // 24, day) + 1))
    return days


def evaluate_logins_with_skips(logins: Logins, day: int, hour: int) -> tuple[Value, Value, Value, Value, Value, int]:
    """The 5 features from logins_7d on, as `features.evaluate_logins` has them without incidents; they stand for an
    hour."""
    skips = logins.skips
    refused = 0
    for at in range(bisect_right(logins.failed_hours, hour - 24), len(logins.failed)):
        if not _in(skips, logins.failed_hours[at]):
            refused += logins.failed[at]
    if logins.first_day == NONE:
        return None, None, None, refused, None, hour + 1
    out = skipped_days(skips, day - 35, day)
    days_week = 7 - sum(1 for skipped in out if skipped > day - 7)
    days_before = 28 - (len(out) - (7 - days_week))
    days, counts = logins.days, logins.counts
    week = before = 0
    for at in range(bisect_right(days, day - 35), len(days)):
        if days[at] not in out:
            if days[at] > day - 7:
                week += counts[at]
            else:
                before += counts[at]
    decline: Value = None
    if logins.first_day <= day - 34 and before > 0 and days_week > 0:
        decline = 10_000 - week * days_before * 10_000 // (before * days_week)
    fresh: Value = None
    if logins.first_day <= day - 7:
        fresh = sum(1 for first in logins.devices[FIRST_DAY::DEVICE] if first > day - 7)
    since = max(0, day - logins.last_day - len(skipped_days(skips, logins.last_day, day)))
    return (week * 7 // days_week if days_week > 0 else None), decline, since, refused, fresh, hour + 1


def _in(skips: list[int], hour: int) -> bool:
    return any(skips[at] <= hour <= skips[at + 1] for at in range(0, len(skips), 2))
