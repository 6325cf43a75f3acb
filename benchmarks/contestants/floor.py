"""The floor: read with aiokafka, decode with msgspec, read and write as many bytes in Redis, and nothing else.

For each fetch the states of its borrowers are read, and states of the size that the small fold has on average are
written. Nothing is folded, put out or committed: nothing holds after a failure.
"""

import redis.asyncio
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.contestants import rule
from benchmarks.contestants.events import decode
from benchmarks.contestants.program import Progress, Setup, read_setup


async def read_all(setup: Setup) -> None:
    """Read until all events are here."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=setup["bootstrap"],
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=1024 * 1024,
        fetch_max_bytes=16 * 1024 * 1024,
    )
    store = redis.asyncio.Redis.from_url(setup["redis_url"])
    await consumer.start()
    try:
        consumer.assign(
            [TopicPartition(topic, partition) for topic in rule.WINDOW_MS for partition in range(setup["partitions"])]
        )
        await _read(consumer, store, setup)
    finally:
        await consumer.stop()
        await store.aclose()


async def _read(consumer: AIOKafkaConsumer, store: redis.asyncio.Redis, setup: Setup) -> None:
    state = bytes(setup["state_bytes"])
    progress = Progress(setup["events"])
    ended = False
    while not ended:
        events = [
            decode(record.value)
            for records in (
                await consumer.getmany(timeout_ms=1000, max_records=int(setup["settings"]["records"]))
            ).values()
            for record in records
        ]
        if events:
            keys = list({event.borrower_id for event in events})
            await store.mget(keys)
            await store.mset(dict.fromkeys(keys, state))
            ended = progress.add(len(events))


if __name__ == "__main__":
    uvloop.run(read_all(read_setup()))
