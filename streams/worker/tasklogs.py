"""What commands that read the tasks' logs have in common: which tasks there are, a consumer for their logs, and waiting
for a task to come to a record."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from schemas.topics import COMMITS
from streams.config import Settings, kafka_options
from streams.worker.commitlog import Committed
from streams.worker.takeover import CommitLog
from streams.worker.topics import no_answer, open_admin

_FETCH_BYTES = 8 * 1024 * 1024
_LOOK_EVERY_S = 0.2


class TaskError(Exception):
    """A task that is asked for and is not there."""


async def choose_tasks(settings: Settings, tasks: Sequence[int] = ()) -> list[int]:
    """`tasks` in order, or all of them where none is given.

    Raises:
        TaskError: there is no such task, or no commit log at all.
        BrokerError: the broker does not answer, or refuses.
    """
    async with open_admin(settings) as admin:
        described = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    count = described.get(COMMITS)
    if count is None:
        raise TaskError(f"{settings.broker}: there is no commit log: duewatch topics create")
    wrong = [task for task in tasks if task not in range(count)]
    if wrong:
        raise TaskError(f"there is no task {wrong[0]}: they go from 0 to {count - 1}")
    return sorted(set(tasks)) or list(range(count))


@asynccontextmanager
async def open_log_consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A connected consumer of committed records, without a group.

    Raises:
        BrokerError: the broker does not answer, or refuses; also what goes wrong while it is used.
    """
    consumer = AIOKafkaConsumer(
        **kafka_options(settings),
        client_id=f"{settings.app_id}-reader",
        isolation_level="read_committed",
        auto_offset_reset="none",
        enable_auto_commit=False,
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaError as error:
        raise no_answer(settings, error) from error
    finally:
        await consumer.stop()


async def taken(commits: CommitLog, topic: str, begin: int, offset: int, until_s: float) -> Committed | None:
    """The first commit, from the offset `begin` of the log on, that is past an offset of an input topic; None where
    there is none by `until_s` (of the monotonic clock). Looks at least once."""
    while True:
        _, end = await commits.reach()
        async for committed in commits.records(begin, end):
            if committed.record.positions.get(topic, (0, 0))[0] > offset:
                return committed
            begin = committed.last + 1
        if time.monotonic() >= until_s:
            return None
        await asyncio.sleep(_LOOK_EVERY_S)
