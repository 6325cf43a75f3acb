"""Rebuilding the store from the commit log, without a worker.

A rebuild is a take-over that copies all of the log and then lets go: fence and claim keep it apart from workers. One
that comes in while it copies fences it and goes on from where it got.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal

from aiokafka.errors import KafkaError
from msgspec import Struct
from redis.asyncio import Redis

from schemas.topics import INPUTS
from streams.config import Settings
from streams.store.contract import Change, Fenced
from streams.store.redis_store import RedisStore, check_settings, open_redis
from streams.worker.owners import OwnedError, refuse_owned
from streams.worker.producer import Superseded
from streams.worker.takeover import CommitLog, KafkaBroker, Takeover
from streams.worker.tasklogs import choose_tasks, open_log_consumer
from streams.worker.topics import no_answer

Advance = Callable[[int], None]
_INSTEAD = "stop the workers first; or leave it to them: an empty Redis is copied at the take-over"


class TaskRebuilt(Struct):
    """One task: `left` as it was, emptied and copied `partly` up to the log's offset `reached`, or `rebuilt`.

    `commits` counts the records copied, `offsets` those there were when it was planned.
    """

    task: int
    state: Literal["left", "partly", "rebuilt"] = "left"
    commits: int = 0
    reached: int | None = None
    offsets: int = 0
    seconds: float = 0.0

    @property
    def line(self) -> str:
        """For the eye, in one line."""
        if self.state == "rebuilt":
            return f"task {self.task}: rebuilt, {self.commits:,} commits in {self.seconds:.1f} s"
        if self.state == "partly":
            upto = "nothing copied yet" if self.reached is None else f"copied up to offset {self.reached}"
            return f"task {self.task}: emptied, {upto}; a worker copies the rest, a rebuild begins anew"
        return f"task {self.task}: left as it was"


class Rebuilt(Struct):
    """What became of each task; filled while the rebuild goes on, so that it tells the truth when it is cut off."""

    tasks: list[TaskRebuilt]

    @property
    def left(self) -> list[int]:
        """The tasks that are not done."""
        return [one.task for one in self.tasks if one.state != "rebuilt"]


class _Watched(RedisStore):
    """A store that notes in `told` how far the copying has come."""

    def __init__(self, redis: Redis, app_id: str, told: TaskRebuilt, advance: Advance) -> None:
        super().__init__(redis, app_id, told.task)
        self._told = told
        self._advance = advance

    async def wipe(self, fence: int) -> None:
        self._told.state = "partly"
        await super().wipe(fence)

    async def apply(self, fence: int, from_applied: int | None, change: Change) -> None:
        await super().apply(fence, from_applied, change)
        told = self._told
        self._advance(change.to_applied - (-1 if told.reached is None else told.reached))
        told.reached = change.to_applied
        told.commits += 1
        # redis-py may swallow a cancellation that reaches it in a call: Ctrl-C would be lost.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError


async def plan(settings: Settings, tasks: Sequence[int] = ()) -> Rebuilt:
    """What there is to rebuild: `tasks`, or all where none is given. Changes nothing.

    Raises:
        TaskError: there is no such task.
        OwnedError: a worker owns one of them.
        streams.worker.topics.BrokerError: the broker does not answer, or refuses.
    """
    chosen = await choose_tasks(settings, tasks)
    await refuse_owned(settings, chosen, _INSTEAD)
    rebuilt = Rebuilt([TaskRebuilt(task) for task in chosen])
    async with open_log_consumer(settings) as consumer:
        for one in rebuilt.tasks:
            start, end = await CommitLog(consumer, one.task).reach()
            one.offsets = end - start
    return rebuilt


async def rebuild(settings: Settings, rebuilt: Rebuilt, advance: Advance) -> None:
    """Empty the store of every task of a plan and copy it anew, one task after the other.

    Cancelled, it leaves the task under way as copied so far; whoever takes it over next copies the rest.

    Args:
        rebuilt: what to do, and where to note what is done.
        advance: told of offsets passed.

    Raises:
        OwnedError: a worker owns one of the tasks, or has come in meanwhile.
        TransactionError, StoreError, TakeoverError, CommitLogError: as for a take-over.
    """
    redis = open_redis(settings)
    try:
        await check_settings(redis)
        for one in rebuilt.tasks:
            # Asked again for each: a worker may have been started since.
            await refuse_owned(settings, [one.task], _INSTEAD)
            await _rebuild(settings, redis, one, advance)
    finally:
        await redis.aclose()


async def _rebuild(settings: Settings, redis: Redis, one: TaskRebuilt, advance: Advance) -> None:
    began_s = time.monotonic()
    store = _Watched(redis, settings.app_id, one, advance)
    try:
        owned = await Takeover(KafkaBroker(settings), settings.app_id, INPUTS, lambda _: None).take(store, anew=True)
    except KafkaError as error:
        raise no_answer(settings, error) from error
    except (Superseded, Fenced):
        raise OwnedError(f"task {one.task}: a worker has taken it over meanwhile; it copies the rest itself") from None
    await owned.producer.close()
    one.state = "rebuilt"
    one.seconds = round(time.monotonic() - began_s, 3)
