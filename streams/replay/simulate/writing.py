"""A simulation into a recording or into Kafka, and what was true beside it."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.topics import CONTROL, DEFAULT_PARTITIONS, INPUTS
from streams.config import Settings
from streams.engine.calendar import date_of, day_of
from streams.engine.order import LogRecord
from streams.replay.broker import check_partitions
from streams.replay.manifest import RecordingError
from streams.replay.produce import Produced, TopicSink
from streams.replay.progress import progress
from streams.replay.recording import RecordingWriter, beside
from streams.replay.simulate import lending
from streams.replay.simulate.debt import MILESTONES_DAYS
from streams.replay.simulate.world import World

START = date(2026, 1, 1)
GROUND_TRUTH = "ground_truth.parquet"
_SEND_EVERY_S = 0.1
_FULL_SPEED_RECORDS = 10_000


def simulate(
    seed: int,
    borrowers: int,
    events: int | None,
    out: str | Path,
    partitions: int = DEFAULT_PARTITIONS,
    start: date = START,
    days: int | None = None,
) -> int:
    """Write a recording of about `events` records, ticks included, and `ground_truth.parquet` beside it.

    It ends with the first hour that reaches `events`, or after `days` if that is earlier; one of the two may be None.
    The same arguments give the same bytes on every machine.

    Returns:
        How many records were written.

    Raises:
        RecordingError: something is already at `out`.
        ValueError: `borrowers`, `events`, `partitions` or `days` is not positive, or nothing ends the simulation.
    """
    ends = [end for end in (events, days) if end is not None]
    if not ends or min(borrowers, partitions, *ends) < 1:
        raise ValueError("borrowers, events, partitions and days must be at least 1, and one of events and days given")
    world = World(seed, borrowers, partitions, day_of(start))
    source: dict[str, str | int] = {"simulator_seed": seed, "borrowers": borrowers, "start": start.isoformat()}
    last_day = None if days is None else world.day + days
    with (
        RecordingWriter(out, dict.fromkeys(INPUTS, partitions), source) as writer,
        progress("simulating", events) as advance,
    ):
        for hour in world.hours():
            for record in hour:
                writer.append(record.topic, record.partition, record.timestamp, record.key, record.value)
            advance(len(hour))
            at_day = world.day_of(hour[-1].timestamp)
            enough = events is not None and writer.records >= events
            if enough or (last_day is not None and at_day >= last_day):
                break
    write_ground_truth(world, at_day, beside(Path(out), GROUND_TRUTH))
    return writer.records


def write_ground_truth(world: World, until_day: int, path: Path) -> None:
    """What is true of each borrower on `until_day`.

    Columns: borrower_id; segment; joined_on; drift (the habit that leads into trouble) with drift_on and recovered_on;
    ring (of fraud); outage_touched (a debit of it failed for no fault of its own); loans (taken); reached_30_on,
    reached_60_on, reached_90_on: the first day on which something was so many days unpaid. Null: none, or not by then.
    """

    def on(day: int | None) -> date | None:
        return None if day is None or day > until_day else date_of(day)

    rows: list[dict[str, Any]] = []
    for borrower in world.people:
        for loan in borrower.loans:
            lending.note(borrower, loan, until_day)
        drifted = borrower.drift is not None and borrower.drift_day <= until_day
        rows.append(
            {
                "borrower_id": borrower.id,
                "segment": borrower.segment.name,
                "joined_on": on(borrower.join_day),
                "drift": borrower.drift.name if borrower.drift is not None and drifted else None,
                "drift_on": on(borrower.drift_day) if drifted else None,
                "recovered_on": on(borrower.recover_day) if drifted else None,
                "ring": borrower.ring,
                "outage_touched": borrower.outage_touched,
                "loans": borrower.loans_taken,
                **{f"reached_{days}_on": on(borrower.reached.get(days)) for days in MILESTONES_DAYS},
            }
        )
    unfinished = path.with_name(f".{path.name}.part")
    try:
        pq.write_table(pa.Table.from_pylist(rows, _TRUTH), unfinished, compression="zstd")
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


_TRUTH = pa.schema(
    [
        ("borrower_id", pa.string()),
        ("segment", pa.string()),
        ("joined_on", pa.date32()),
        ("drift", pa.string()),
        ("drift_on", pa.date32()),
        ("recovered_on", pa.date32()),
        ("ring", pa.string()),
        ("outage_touched", pa.bool_()),
        ("loans", pa.int32()),
        *((f"reached_{days}_on", pa.date32()) for days in MILESTONES_DAYS),
    ]
)


async def simulate_into_kafka(
    settings: Settings,
    seed: int,
    borrowers: int,
    rate: float | None = None,
    days_per_s: float | None = None,
    events: int | None = None,
    warm_up_days: int = 0,
    start: date = START,
    on_sent: Callable[[int, int], Awaitable[None] | None] | None = None,
) -> Produced:
    """Send a simulation into the input topics until `events` were sent or the caller cancels.

    Its time comes with the data: the workers need `clock=external`. Record timestamps are simulated time.

    Args:
        rate: events a second. days_per_s: simulated days a second. Neither: as fast as the broker takes them.
        warm_up_days: days at the start that are sent at full speed, so that loans have fallen due when the rest begins.
        on_sent: called with (records sent, simulated time in epoch ms) after every send; what it returns is awaited, so
            that it can hold the simulation back.

    Raises:
        RecordingError: an input topic is missing, or they differ in partitions.
        streams.worker.topics.BrokerError: the broker does not answer, or refuses a record.
        ValueError: `rate` and `days_per_s` together, or one that is not positive.
    """
    if (rate is not None and days_per_s is not None) or any(
        pace is not None and pace <= 0 for pace in (rate, days_per_s)
    ):
        raise ValueError("give a positive rate or positive days_per_s, not both")
    partitions = await _common_partitions(settings)
    sink = TopicSink(settings)
    await sink.start()
    try:
        world = World(seed, borrowers, partitions, day_of(start))
        paced_from_day = world.day + warm_up_days
        started_s = time.monotonic()
        for due_s, records in _paced(world, paced_from_day, rate, days_per_s):
            if due_s == 0.0:
                started_s = time.monotonic()
            await asyncio.sleep(max(0.0, started_s + due_s - time.monotonic()))
            # A tick that is read before what it closes would be right but early.
            await sink.send([record for record in records if record.topic != CONTROL])
            await sink.send([record for record in records if record.topic == CONTROL])
            held = None if on_sent is None else on_sent(sink.produced.records, records[-1].timestamp)
            if held is not None:
                await held
            if events is not None and sink.produced.records >= events:
                break
        return sink.produced
    finally:
        await sink.stop()


async def _common_partitions(settings: Settings) -> int:
    counts = await check_partitions(settings, dict.fromkeys(INPUTS, 1))
    if len(set(counts.values())) != 1:
        raise RecordingError(
            f"{settings.broker}: the input topics differ in partitions ({counts}): "
            "create them again with duewatch topics create"
        )
    return counts[CONTROL]


def _paced(
    world: World, paced_from_day: int, rate: float | None, days_per_s: float | None
) -> Iterator[tuple[float, list[LogRecord]]]:
    """Records to send at once, with the seconds since the end of the warm-up at which they are due (0: at once)."""
    taken: list[LogRecord] = []
    paced = 0
    hours = 0
    sent_at_s = 0.0
    for hour in world.hours():
        taken += hour
        # `world.day` is the day after the one whose hours come now.
        if (rate is None and days_per_s is None) or world.day <= paced_from_day:
            if len(taken) >= _FULL_SPEED_RECORDS:
                yield 0.0, taken
                taken = []
            continue
        hours += 1
        paced += len(hour)
        due_s = paced / rate if rate is not None else hours / 24 / (days_per_s or 1.0)
        if due_s - sent_at_s >= _SEND_EVERY_S:
            sent_at_s = due_s
            yield due_s, taken
            taken = []
