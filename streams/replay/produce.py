"""A recording into topics: each record to its partition, with its timestamp, key, value and headers."""

import asyncio
import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct

from schemas.topics import INPUTS
from streams.config import Settings, kafka_options
from streams.engine.order import LogRecord
from streams.replay.broker import check_partitions
from streams.replay.manifest import RecordingError
from streams.replay.progress import progress
from streams.replay.recording import Recording
from streams.worker.topics import no_answer

SLICE_RECORDS = 20_000
"""Records sent before all of them are awaited: bounds memory, and how far one topic can run ahead of another."""
_PACED_SLICE_S = 0.1


class Produced(Struct):
    """`same_offsets`: every record got the offset it was recorded with, so that outputs name the same causes."""

    records: int = 0
    same_offsets: bool = True


class TopicSink:
    """Sends records to given partitions, batch by batch, in the order given."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = AIOKafkaProducer(
            **kafka_options(settings), enable_idempotence=True, compression_type="lz4", max_request_size=2 << 20
        )
        self.produced = Produced()

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerError: the broker does not answer.
        """
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            raise no_answer(self._settings, error) from error

    async def stop(self) -> None:
        await self._producer.stop()

    async def send(self, records: Sequence[LogRecord]) -> None:
        """Send records and wait until the broker has them all.

        Raises:
            BrokerError: the broker refused one, or does not answer.
            RecordingError: one is larger than a request may be.
        """
        parts: dict[tuple[str, int], list[LogRecord]] = {}
        for record in records:
            parts.setdefault((record.topic, record.partition), []).append(record)
        try:
            waiting: list[tuple[int, asyncio.Future[Any]]] = []
            for (topic, partition), part in parts.items():
                waiting += await self._send_part(topic, partition, part)
            for first_offset, future in waiting:
                sent = await future
                self.produced.same_offsets &= sent.offset == first_offset
        except KafkaError as error:
            raise no_answer(self._settings, error) from error
        self.produced.records += len(records)

    async def _send_part(
        self, topic: str, partition: int, records: Sequence[LogRecord]
    ) -> list[tuple[int, asyncio.Future[Any]]]:
        waiting: list[tuple[int, asyncio.Future[Any]]] = []
        start = 0
        while start < len(records):
            batch = self._producer.create_batch()
            end = start
            for record in records[start:]:
                added = batch.append(
                    key=record.key, value=record.value, timestamp=record.timestamp, headers=list(record.headers)
                )
                if added is None:
                    break
                end += 1
            if end == start:
                raise RecordingError(
                    f"{topic}/{partition} offset {records[start].offset}: {len(records[start].value or b'')} bytes are "
                    "more than one request may carry"
                )
            future = await self._producer.send_batch(batch, topic, partition=partition)
            # Without gaps the last record's offset follows from the first one's.
            whole = records[end - 1].offset - records[start].offset == end - start - 1
            waiting.append((records[start].offset if whole else -1, future))
            start = end
        return waiting


async def produce(
    recording: Recording,
    settings: Settings,
    topics: Iterable[str] = INPUTS,
    rate: float | None = None,
    speed: float | None = None,
) -> Produced:
    """Write the records of `topics` into Kafka, in the order of their timestamps, outside any transaction.

    Args:
        rate: events a second; None: as fast as the broker takes them.
        speed: how many times faster than recorded, by the records' timestamps; not together with `rate`.

    Raises:
        RecordingError: a topic is missing or has fewer partitions than the recording, or a file is damaged.
        streams.worker.topics.BrokerError: the broker does not answer, or refuses a record.
        ValueError: `rate` and `speed` together, or one that is not positive.
    """
    if (rate is not None and speed is not None) or any(pace is not None and pace <= 0 for pace in (rate, speed)):
        raise ValueError("give a positive rate or a positive speed, not both")
    wanted = [topic for topic in recording.topics() if topic in set(topics)]
    least = {topic: max(recording.partitions(topic), default=0) + 1 for topic in wanted}
    await check_partitions(settings, least)
    # What has been sent cannot be taken back.
    with progress("checking", sum(entry.size_bytes for entry in recording.manifest.files)) as advance:
        recording.verify(advance)
    sink = TopicSink(settings)
    await sink.start()
    try:
        with progress("producing", recording.manifest.records) as advance:
            started_s = time.monotonic()
            for due_s, records in _slices(in_order(recording, wanted), rate, speed):
                await asyncio.sleep(max(0.0, started_s + due_s - time.monotonic()))
                await sink.send(records)
                advance(len(records))
        return sink.produced
    finally:
        await sink.stop()


def in_order(recording: Recording, topics: Iterable[str]) -> Iterator[tuple[int, LogRecord]]:
    """(order time, record) of all partitions merged; the order time of a partition never goes back."""

    def ordered(topic: str, partition: int) -> Iterator[tuple[int, LogRecord]]:
        order_ms = 0
        for record in recording.records(topic, partition):
            order_ms = max(order_ms, record.timestamp)
            yield order_ms, record

    return heapq.merge(
        *(ordered(topic, partition) for topic in topics for partition in recording.partitions(topic)),
        key=lambda found: (found[0], found[1][:3]),
    )


def _slices(
    records: Iterator[tuple[int, LogRecord]], rate: float | None, speed: float | None
) -> Iterator[tuple[float, list[LogRecord]]]:
    """Records to send at once, with the seconds since the start at which they are due."""
    taken: list[LogRecord] = []
    due_s = 0.0
    sent = 0
    first_ms: int | None = None
    for order_ms, record in records:
        if first_ms is None:
            first_ms = order_ms
        if rate is not None:
            this_s = (sent + len(taken)) / rate
        else:
            this_s = 0.0 if speed is None else (order_ms - first_ms) / 1000 / speed
        if taken and (len(taken) >= SLICE_RECORDS or this_s >= due_s + _PACED_SLICE_S):
            yield due_s, taken
            sent += len(taken)
            taken, due_s = [], this_s
        taken.append(record)
    if taken:
        yield due_s, taken
