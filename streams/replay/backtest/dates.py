"""The business dates of a back-test: what is recorded, when borrowers are observed, which days are followed."""

from collections.abc import Sequence
from datetime import date

from schemas.inbound import Tick
from schemas.topics import CONTROL
from streams.engine.calendar import Calendar, date_of, day_of, iso_day
from streams.engine.decode import decode
from streams.engine.order import LogRecord
from streams.replay.backtest.decisions import Period
from streams.replay.manifest import RecordingError
from streams.replay.recording import Recording
from streams.replay.replay import tasks_of

HISTORY_DAYS = 30
"""So many days are left to the features before the first date that is chosen by itself."""


def period_of(
    recording: Recording, calendar: Calendar, observe_on: Sequence[str], horizon_days: int
) -> tuple[list[int], Period]:
    """The observation dates, and the days that decisions are counted on and followed for.

    Args:
        observe_on: dates as people write them; none: the first of each month that leaves room on both sides.

    Raises:
        RecordingError: the recording is empty or too short, or a date is none or leaves no room.
    """
    first_day, ends_day = _covered(recording, calendar)
    last_day = ends_day - horizon_days
    where = f"{recording.path}: covers {iso_day(first_day)} to {iso_day(ends_day)}"
    if observe_on:
        observed = sorted({_parsed(text) for text in observe_on})
        for day in observed:
            if day <= first_day:
                raise RecordingError(f"--observe-on {iso_day(day)}: {where}: give a later date")
            if day > last_day:
                raise RecordingError(
                    f"--observe-on {iso_day(day)}: {where}, not the {horizon_days} days after it: give a date up to "
                    f"{iso_day(last_day)}, or fewer --horizon-days"
                )
    else:
        earliest_day = first_day + HISTORY_DAYS
        if earliest_day > last_day:
            raise RecordingError(
                f"{where}, which is less than {HISTORY_DAYS} days and the horizon of {horizon_days}: give fewer "
                "--horizon-days, a date with --observe-on, or a longer recording"
            )
        days = range(earliest_day, last_day + 1)
        observed = [day for day in days if date_of(day).day == 1] or [last_day]
    return observed, Period(observed[0], ends_day, horizon_days)


def _parsed(text: str) -> int:
    try:
        return day_of(date.fromisoformat(text))
    except ValueError:
        raise RecordingError(f"--observe-on {text}: not a date: write it as 2026-03-01") from None


def _covered(recording: Recording, calendar: Calendar) -> tuple[int, int]:
    """The first business date of the recording, and the last one that is over by the clock of every task."""
    tasks = tasks_of(recording)
    first_ms = recording.manifest.first_ms
    if not tasks or first_ms is None:
        raise RecordingError(f"{recording.path}: holds no input records: there is nothing to test on")
    clocks = [_last_tick_ms(recording, partition) for partition in tasks]
    silent = [partition for partition, clock_ms in zip(tasks, clocks, strict=True) if clock_ms is None]
    if silent:
        raise RecordingError(
            f"{recording.path}: has no tick on partition {silent[0]}, so that nobody there was ever judged: record "
            "the topic control too"
        )
    return calendar.day(first_ms), calendar.day(min(clock_ms for clock_ms in clocks if clock_ms is not None)) - 1


def _last_tick_ms(recording: Recording, partition: int) -> int | None:
    last_ms: int | None = None
    for batch in recording.batches(CONTROL, partition):
        found = next((tick.at_ms for record in reversed(batch) if (tick := _tick(record)) is not None), None)
        if found is not None:
            last_ms = found if last_ms is None else max(last_ms, found)
    return last_ms


def _tick(record: LogRecord) -> Tick | None:
    event = decode(record.topic, record.key, record.value, record.timestamp)
    return event if isinstance(event, Tick) else None
