"""The floor: the same topics read with aiokafka and decoded with msgspec, and nothing else.

A process of its own, so that its CPU time is its own: `python -m benchmarks.floor BOOTSTRAP PARTITIONS`. It prints a
`Floor` as JSON.
"""

import asyncio
import sys
import time
from typing import Any, Union

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Struct

from schemas.topics import CONTROL, INPUTS, input_types


class Floor(Struct):
    """`events` (ticks not counted) were read and decoded between two moments (epoch seconds), using `cpu_s`."""

    from_s: float
    until_s: float
    events: int
    cpu_s: float


async def read_all(bootstrap: str, partitions: int) -> Floor:
    """Read every input topic to where it ends now. Time runs from the end of the first fetch on."""
    # Union[...] with a tuple known only at run time has no other spelling.
    decoders = {topic: msgspec.json.Decoder(Union[input_types(topic)]) for topic in INPUTS}  # noqa: UP007
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=1024 * 1024,
        fetch_max_bytes=16 * 1024 * 1024,
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, partition) for topic in INPUTS for partition in range(partitions)]
        consumer.assign(places)
        left = {place: end for place, end in (await consumer.end_offsets(places)).items() if end}
        return await _read(consumer, left, decoders)
    finally:
        await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, left: dict[TopicPartition, int], decoders: dict[str, Any]) -> Floor:
    floor = Floor(0.0, 0.0, 0, 0.0)
    while left:
        for place, records in (await consumer.getmany(timeout_ms=1000, max_records=8_000)).items():
            decode = decoders[place.topic].decode
            for record in records:
                decode(record.value)
            if place.topic != CONTROL and floor.from_s:
                floor.events += len(records)
            if records[-1].offset + 1 >= left[place]:
                del left[place]
        if not floor.from_s:
            floor.from_s, floor.cpu_s = time.time(), -time.process_time()
    floor.until_s = time.time()
    floor.cpu_s += time.process_time()
    return floor


if __name__ == "__main__":
    uvloop.install()
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(read_all(sys.argv[1], int(sys.argv[2])))))
