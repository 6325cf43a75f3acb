"""Asking for a borrower to be erased, and waiting until it is done.

The request is an event on `reviews`, keyed by the borrower: it reaches whoever owns the task, in the order of the
borrower's other events, and waits where nobody does.
"""

import asyncio
import time
import uuid

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct

from schemas.inbound import BorrowerErased
from schemas.partitioning import partition_of
from streams.config import Settings, kafka_options
from streams.store.contract import Fenced, Stale
from streams.store.redis_store import RedisStore, open_redis
from streams.worker.commitlog import Committed
from streams.worker.takeover import CommitLog
from streams.worker.tasklogs import TaskError, open_log_consumer, taken
from streams.worker.topics import no_answer, open_admin

REVIEWS = "reviews"
_LOOK_EVERY_S = 0.2


class Erased(Struct):
    """What became of a request, which stands at `offset` of `reviews`, partition `task`.

    `commit` is the offset in the commit log of the commit that took it, None: not within the time to wait. `known` says
    whether there was a state to erase, `stored` whether the store still holds one (None: not known yet).
    """

    task: int
    event_id: str
    offset: int
    commit: int | None = None
    known: bool | None = None
    stored: bool | None = None

    @property
    def done(self) -> bool:
        return self.commit is not None and self.stored is False

    @property
    def line(self) -> str:
        """For the eye, in one line; names nobody."""
        asked = f"asked for as {self.event_id} (reviews/{self.task} offset {self.offset})"
        if self.commit is None:
            return f"{asked}; no worker has taken it yet: it is done as soon as one does, you need not ask again"
        if self.stored:
            return (
                f"{asked} and taken by commit {self.commit}, but a state is there: is a legal hold on (see "
                "reviews.dlq), or did an event come since?"
            )
        what = "erased" if self.known else "nothing was kept"
        if self.stored is None:
            return f"{asked}: {what}, commit {self.commit} of task {self.task}; Redis has not copied it yet"
        return f"{asked}: {what}, commit {self.commit} of task {self.task}"


async def erase(settings: Settings, borrower_id: str, reviewer: str, wait_s: float) -> Erased:
    """Ask for a borrower to be erased; wait until it is committed and gone from the store, `wait_s` at most.

    Args:
        reviewer: who decided it.

    Raises:
        TaskError: there is no topic to ask on, or the id is none.
        BrokerError, StoreError: broker or store do not answer.
        CommitLogError: the commit log is damaged.
    """
    request = _request(borrower_id, reviewer)
    async with open_admin(settings) as admin:
        described = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    if REVIEWS not in described:
        raise TaskError(f"{settings.broker}: there is no topic {REVIEWS}: duewatch topics create")
    key = borrower_id.encode()
    task = partition_of(key, described[REVIEWS])
    until_s = time.monotonic() + wait_s
    async with open_log_consumer(settings) as consumer:
        commits = CommitLog(consumer, task)
        _, begin = await commits.reach()
        offset = await _send(settings, task, key, msgspec.json.encode(request))
        erased = Erased(task, request.event_id, offset)
        committed = await taken(commits, REVIEWS, begin, offset, until_s)
    if committed is None:
        return erased
    erased.commit = committed.last
    erased.known = borrower_id in committed.record.erased
    redis = open_redis(settings)
    try:
        while erased.stored is not False and time.monotonic() < until_s:
            erased.stored = await _stored(RedisStore(redis, settings.app_id, task), committed, borrower_id)
            if erased.stored is not False:
                await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        await redis.aclose()
    return erased


def _request(borrower_id: str, reviewer: str) -> BorrowerErased:
    at_ms = round(time.time() * 1000)
    request = BorrowerErased(event_id=f"erase-{uuid.uuid4()}", at_ms=at_ms, borrower_id=borrower_id, reviewer=reviewer)
    try:
        msgspec.json.decode(msgspec.json.encode(request), type=BorrowerErased)
    except msgspec.ValidationError as error:
        raise TaskError(f"borrower and reviewer are ids of 1 to 64 characters: {error}") from None
    return request


async def _send(settings: Settings, partition: int, key: bytes, value: bytes) -> int:
    producer = AIOKafkaProducer(**kafka_options(settings), enable_idempotence=True)
    try:
        await producer.start()
        sent = await producer.send_and_wait(REVIEWS, value, key, partition)
        return int(sent.offset)
    except KafkaError as error:
        raise no_answer(settings, error, "the request was not sent") from error
    finally:
        await producer.stop()


async def _stored(store: RedisStore, commit: Committed, borrower_id: str) -> bool | None:
    """Whether the store holds a state that the commit should have erased; None where nobody can tell yet."""
    meta = await store.meta()
    if meta.fence is None or meta.applied is None or meta.applied < commit.last:
        return None
    if borrower_id in commit.record.erased:
        # A commit is copied whole.
        return False
    try:
        looked = await store.look(meta.fence, meta.applied, [borrower_id])
    except (Stale, Fenced):
        return None
    return looked.states[borrower_id] is not None
