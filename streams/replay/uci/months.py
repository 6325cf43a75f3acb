"""The import's calendar: months are counted from March 2005 (0; April is 1, September 6), days are those of Taipei."""

from datetime import date

from streams.engine.calendar import HOUR_MS, Calendar, day_of

ZONE = "Asia/Taipei"
DUE_DAY, ON_TIME_DAY, LATE_DAY = 15, 10, 25
"""Days of the month: what was billed the month before falls due, is paid in time, is paid late."""
FIRST_ON, LAST_ON = date(2005, 3, 31), date(2005, 11, 1)
"""The day the recording begins, and the last one that a tick begins."""
_MARCH = 2005 * 12 + 2
_calendar = Calendar(ZONE)


def month_day(month: int, day: int) -> int:
    """The civil day `day` of a month, as days since 1970-01-01."""
    year, index = divmod(_MARCH + month, 12)
    return day_of(date(year, index + 1, day))


def month_end(month: int) -> int:
    """The last civil day of a month."""
    return month_day(month + 1, 1) - 1


def month_name(month: int) -> str:
    """``2005-04`` is month 1."""
    year, index = divmod(_MARCH + month, 12)
    return f"{year}-{index + 1:02d}"


def compared_day(month: int) -> int:
    """When it has shown whether the bill of `month` was paid: the last day of the month after."""
    return month_end(month + 1)


def instant_ms(day: int, hour: int) -> int:
    """A full hour of a civil day."""
    return _calendar.start_ms(day) + hour * HOUR_MS
