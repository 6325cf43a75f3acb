"""Topics into a recording, as they stand when it starts."""

from collections.abc import Iterable
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.topics import COMMITS, INPUTS
from streams.config import Settings, kafka_options
from streams.replay.manifest import RecordingError
from streams.replay.progress import progress
from streams.replay.recording import RecordingWriter

RECORDED = (*INPUTS, COMMITS)
"""What a replay needs: the inputs, and the commit log that tells what the worker had read when."""
_POLL_MS = 500
_POLL_RECORDS = 5_000


async def record(
    settings: Settings,
    out: str | Path,
    topics: Iterable[str] = RECORDED,
    from_ms: int | None = None,
    until_ms: int | None = None,
) -> int:
    """Write what `topics` hold at this moment, committed records only, to a recording at `out`.

    Offsets, timestamps, keys, values and headers are kept. Cancelled, or on an error, nothing is left at `out`.

    Args:
        from_ms: of each partition, from the first record with at least this timestamp on; None: from its start.
        until_ms: of each partition, before the first record with at least this timestamp; None: to its end.

    Returns:
        How many records were written.

    Raises:
        RecordingError: a topic is not there, the broker cannot be reached, or `out` is taken.
    """
    consumer = AIOKafkaConsumer(
        **kafka_options(settings), isolation_level="read_committed", enable_auto_commit=False, auto_offset_reset="none"
    )
    try:
        await consumer.start()
        try:
            return await _record(consumer, settings, Path(out), sorted(topics), from_ms, until_ms)
        finally:
            await consumer.stop()
    except KafkaError as error:
        raise RecordingError(f"{settings.broker}: {type(error).__name__}: check that the broker is up") from error


async def _record(
    consumer: AIOKafkaConsumer,
    settings: Settings,
    out: Path,
    topics: list[str],
    from_ms: int | None,
    until_ms: int | None,
) -> int:
    there = await consumer.topics()
    counts: dict[str, int] = {}
    for topic in topics:
        if topic not in there:
            raise RecordingError(f"{settings.broker}: no topic {topic}: name the topics that are there, or create it")
        counts[topic] = len(consumer.partitions_for_topic(topic) or ())
    parts = [TopicPartition(topic, number) for topic in topics for number in range(counts[topic])]
    consumer.assign(parts)
    starts, ends = await _bounds(consumer, parts, from_ms, until_ms)
    source: dict[str, str | int] = {"broker": settings.broker, "topics": ",".join(topics)}
    todo = {part for part in parts if starts[part] < ends[part]}
    for part in parts:
        consumer.seek(part, starts[part])
    consumer.pause(*(set(parts) - todo))
    total = sum(ends[part] - starts[part] for part in todo)
    with RecordingWriter(out, counts, source) as writer, progress("recording", total) as advance:
        while todo:
            fetched = await consumer.getmany(*todo, timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            for part, records in fetched.items():
                for found in records:
                    if found.offset < ends[part]:
                        writer.write(found)
            for part in list(todo):
                # The position also passes transaction markers and aborted records, which are never delivered.
                position = await consumer.position(part)
                advance(min(position, ends[part]) - starts[part])
                starts[part] = min(position, ends[part])
                if position >= ends[part]:
                    todo.remove(part)
                    consumer.pause(part)
        return writer.records


async def _bounds(
    consumer: AIOKafkaConsumer, parts: list[TopicPartition], from_ms: int | None, until_ms: int | None
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    starts = dict(await consumer.beginning_offsets(parts))
    ends = dict(await consumer.end_offsets(parts))
    if from_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(parts, from_ms))
        starts = {part: ends[part] if found[part] is None else found[part].offset for part in parts}
    if until_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(parts, until_ms))
        ends = {part: ends[part] if found[part] is None else min(ends[part], found[part].offset) for part in parts}
    return starts, ends
