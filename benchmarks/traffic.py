"""What clones do after the snapshot: the events of the recording's second half, each told of clones of its borrower."""

import asyncio
import heapq
import itertools
from collections.abc import Iterator
from random import Random
from typing import Any, Final, NamedTuple

import msgspec

from benchmarks.population import Population
from benchmarks.recordings import PARTITIONS
from streams.config import Settings
from streams.engine.calendar import HOUR_MS
from streams.engine.order import LogRecord
from streams.replay.produce import SLICE_RECORDS, TopicSink
from streams.replay.progress import Advance

TOPICS: Final = ("logins", "transactions", "repayments", "signals")
"""Reviews name decisions, which a clone has made under ids of its own; they are left out."""
LEAST_MS: Final = 6 * HOUR_MS
"""The events of so many hours, so that a large population's are of many templates; hardly a wake-up is due in them."""


class Stretch(NamedTuple):
    """Which events are told: those until `until_ms` (epoch ms), each of `share` of its template's clones."""

    until_ms: int
    share: float


def stretch_of(population: Population, events: int) -> Stretch:
    """Where about `events` events come from: what so many borrowers do, in the time that they take for it.

    Twice as many borrowers need half the time. So each event is told of all clones, and there are as many wake-ups for
    each event whatever the size; only when the time would fall below LEAST_MS, some of the clones are left out.
    """
    clock_ms = population.snapshot.clock_ms
    reached = 0
    until_ms = clock_ms
    for order_ms, record in population.snapshot.after:
        if reached >= events and order_ms > clock_ms + LEAST_MS:
            break
        until_ms = order_ms
        reached += _clones(population, record)
    return Stretch(until_ms, min(1.0, events / max(reached, 1)))


def _clones(population: Population, record: LogRecord) -> int:
    return len(population.clones_of((record.key or b"").decode())) if record.topic in TOPICS else 0


def live(population: Population, stretch: Stretch, seed: int) -> Iterator[LogRecord]:
    """The events of a stretch in order, with the ticks among them on every partition.

    Offsets are 0: the broker gives its own.
    """
    random = Random(seed)
    snapshot = population.snapshot
    ticks = ((tick.timestamp, tick) for tick in snapshot.ticks)
    for order_ms, record in heapq.merge(ticks, snapshot.after, key=lambda found: found[0]):
        if order_ms > stretch.until_ms:
            return
        if record.key is None:
            for partition in range(PARTITIONS):
                yield record._replace(partition=partition, offset=0)
            continue
        if record.topic not in TOPICS:
            continue
        clones = population.clones_of(record.key.decode())
        # In whole numbers, and as often rounded up as down.
        count = min(len(clones), int(len(clones) * stretch.share + random.random()))
        event = msgspec.json.decode(record.value or b"")
        for clone in random.sample(clones, count):
            yield told_of(record, event, population, clone)


def told_of(record: LogRecord, event: dict[str, Any], population: Population, clone: int) -> LogRecord:
    """An event, told of a clone on its partition. Its id is given to no other clone's."""
    name = population.name(clone)
    told = event | {"event_id": f"{event['event_id']}-{clone}", "borrower_id": name}
    return record._replace(
        partition=population.partition(clone), offset=0, key=name.encode(), value=msgspec.json.encode(told)
    )


def send(settings: Settings, records: Iterator[LogRecord], advance: Advance) -> int:
    """Send records, a bounded number at a time; returns how many there were.

    Raises:
        streams.worker.topics.BrokerError: the broker refused one.
    """

    async def run() -> int:
        sink = TopicSink(settings)
        await sink.start()
        try:
            while slice_ := list(itertools.islice(records, SLICE_RECORDS)):
                await sink.send(slice_)
                advance(len(slice_))
        finally:
            await sink.stop()
        return sink.produced.records

    return asyncio.run(run())
