"""Moments as people write them."""

from datetime import UTC, datetime, timedelta, tzinfo

from streams.replay.manifest import LAST_MS, RecordingError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_moment(flag: str, text: str) -> int:
    """Epoch milliseconds of an ISO 8601 date and time with its offset from UTC; `flag` names it in errors.

    Raises:
        RecordingError: it is none, the offset is missing, or no record can be of that time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RecordingError(f"{flag} {text}: not an ISO 8601 moment: write it as 2026-03-01T00:00:00+08:00") from None
    if moment.tzinfo is None:
        raise RecordingError(f"{flag} {text}: says no zone: add Z (UTC) or an offset like +08:00")
    at_ms = (moment - _EPOCH) // timedelta(milliseconds=1)
    if not 0 <= at_ms < LAST_MS:
        raise RecordingError(f"{flag} {text}: is not between 1970 and the year 8999")
    return at_ms


def iso_moment(at_ms: int, zone: tzinfo) -> str:
    """An instant in ISO 8601 as the clocks of `zone` show it, with their offset."""
    moment = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone)
    return moment.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds")
