"""Topics into a recording, as they stand when it starts."""

from collections.abc import Iterable
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.topics import COMMITS, INPUTS
from streams.config import Settings, kafka_options
from streams.replay.broker import check_partitions
from streams.replay.progress import progress
from streams.replay.recording import RecordingWriter
from streams.worker.topics import no_answer

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
        RecordingError: a topic is not there, or `out` is taken.
        streams.worker.topics.BrokerError: the broker does not answer, or refuses.
    """
    consumer = AIOKafkaConsumer(
        **kafka_options(settings), isolation_level="read_committed", enable_auto_commit=False, auto_offset_reset="none"
    )
    try:
        await consumer.start()
        return await _record(consumer, settings, Path(out), sorted(topics), from_ms, until_ms)
    except KafkaError as error:
        raise no_answer(settings, error) from error
    finally:
        await consumer.stop()


async def _record(
    consumer: AIOKafkaConsumer,
    settings: Settings,
    out: Path,
    topics: list[str],
    from_ms: int | None,
    until_ms: int | None,
) -> int:
    counts = await check_partitions(settings, dict.fromkeys(topics, 1))
    parts = [TopicPartition(topic, number) for topic in topics for number in range(counts[topic])]
    consumer.assign(parts)
    ends = dict(await consumer.end_offsets(parts))
    reached = await _starts(consumer, parts, ends, from_ms)
    todo = {part for part in parts if reached[part] < ends[part]}
    # Partitions whose first record with the timestamp asked for has been seen.
    begun = set(parts) if from_ms is None else set()
    for part in parts:
        consumer.seek(part, reached[part])
    consumer.pause(*(set(parts) - todo))
    source: dict[str, str | int] = {"broker": settings.broker, "topics": ",".join(topics)}
    total = sum(ends[part] - reached[part] for part in todo)
    with RecordingWriter(out, counts, source) as writer, progress("recording", total) as advance:
        while todo:
            fetched = await consumer.getmany(*todo, timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            for part, records in fetched.items():
                for found in records:
                    if part not in begun and from_ms is not None and found.timestamp >= from_ms:
                        begun.add(part)
                    if until_ms is not None and found.timestamp >= until_ms:
                        ends[part] = min(ends[part], found.offset)
                    if part in begun and found.offset < ends[part]:
                        writer.write(found)
            for part in list(todo):
                # The position also passes transaction markers and aborted records, which are never delivered.
                position = await consumer.position(part)
                advance(min(position, ends[part]) - reached[part])
                reached[part] = min(position, ends[part])
                if position >= ends[part]:
                    todo.remove(part)
                    consumer.pause(part)
        return writer.records


async def _starts(
    consumer: AIOKafkaConsumer, parts: list[TopicPartition], ends: dict[TopicPartition, int], from_ms: int | None
) -> dict[TopicPartition, int]:
    """Where to begin reading: never after the first record wanted, but maybe before it.

    The broker looks at timestamps of transaction markers, too, and those are the time of writing.
    """
    if from_ms is None:
        return dict(await consumer.beginning_offsets(parts))
    found = await consumer.offsets_for_times(dict.fromkeys(parts, from_ms))
    return {part: ends[part] if found[part] is None else found[part].offset for part in parts}
