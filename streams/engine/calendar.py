"""Civil days and hours of the lender's zone.

Inside the engine a civil date is an integer: days since 1970-01-01 (`*_day`). Instants are epoch milliseconds UTC
(`*_ms`). Nothing here reads a clock.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
_QUARTER_MS: Final = 900_000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def day_of(on: date) -> int:
    """The civil date as days since 1970-01-01."""
    return on.toordinal() - _EPOCH_ORDINAL


def date_of(day: int) -> date:
    return date.fromordinal(day + _EPOCH_ORDINAL)


def iso_day(day: int) -> str:
    """The civil day as ``YYYY-MM-DD``."""
    return date.fromordinal(day + _EPOCH_ORDINAL).isoformat()


class Calendar:
    """Civil time of one IANA zone.

    Offsets from UTC change only on whole quarter hours, so one look-up per quarter hour is kept; the number of distinct
    quarter hours in a run is bounded by the span of its events.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: the zone is not in the IANA database.
    """

    __slots__ = ("_offsets", "_starts", "_zone", "zone")

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self._zone = ZoneInfo(zone)
        self._offsets: dict[int, int] = {}
        self._starts: dict[int, int] = {}

    def _local_ms(self, at_ms: int) -> int:
        quarter = at_ms // _QUARTER_MS
        offset = self._offsets.get(quarter)
        if offset is None:
            local = (_EPOCH + timedelta(milliseconds=quarter * _QUARTER_MS)).astimezone(self._zone)
            delta = local.utcoffset()
            offset = 0 if delta is None else delta // timedelta(milliseconds=1)
            if len(self._offsets) >= 200_000:
                self._offsets.clear()
            self._offsets[quarter] = offset
        return at_ms + offset

    def day(self, at_ms: int) -> int:
        """The business date of an instant."""
        return self._local_ms(at_ms) // DAY_MS

    def hour(self, at_ms: int) -> int:
        """The business hour of an instant: whole local hours since 1970-01-01 00:00 local time."""
        return self._local_ms(at_ms) // HOUR_MS

    def start_ms(self, day: int) -> int:
        """The first instant of a business date (where midnight does not exist, the first instant after the gap)."""
        start = self._starts.get(day)
        if start is None:
            on = date_of(day)
            start = int(datetime(on.year, on.month, on.day, tzinfo=self._zone).timestamp()) * 1000
            while self.day(start) < day:
                start += _QUARTER_MS
            if len(self._starts) >= 20_000:
                self._starts.clear()
            self._starts[day] = start
        return start
