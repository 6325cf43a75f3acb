"""Transactions on Kafka, one at a time, each of them all or nothing within one deadline.

aiokafka leaves three things to its user: `commit_transaction` succeeds although a send before it failed, so every
send is awaited; nothing has a deadline; and a request whose answer got lost is silently sent again, although the
first copy may still be under way and, if it is the end of a transaction, would end the next one. So a producer that
lost one answer is never used again: what became of its transaction is read from the log by the next owner
(`InitProducerId` of its successor settles it).
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest
from aiokafka.record.default_records import DefaultRecordBatch

from schemas.partitioning import partition_of
from schemas.topics import COMMITS
from streams.config import Settings, kafka_options

_BATCH_BYTES = 512 * 1024
_CLOSE_S = 3.0
_ABORT_S = 3.0
_PLAIN, _ZSTD = DefaultRecordBatch.CODEC_NONE, DefaultRecordBatch.CODEC_ZSTD
_WATCHED = (ProduceRequest, AddPartitionsToTxnRequest, EndTxnRequest)
_DEFINITE = (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)


class TransactionError(Exception):
    """A transaction that did not end as it should. Whatever it was, its producer is of no more use."""


class Refused(TransactionError):
    """The broker refused something: nothing of the transaction is or will be visible."""


class Ambiguous(TransactionError):
    """No answer, or none in time: whether it is committed, only the log can tell."""


class Superseded(TransactionError):
    """Another producer with the same transactional id has taken over: somebody else owns what we write for."""


class Message(NamedTuple):
    """One message to send. `partition` None: by the Java client's partitioner; `timestamp_ms` None: now."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None


class Placed(Protocol):
    """Where the first message of a batch stands."""

    @property
    def offset(self) -> int: ...


class Wire(Protocol):
    """What a client library does for one producer of one transactional id; any call may fail with a `KafkaError`, or
    never end.

    `unanswered` is set, with what it was, by the first request of a transaction that got no answer, even where it was
    sent again and answered then.
    """

    unanswered: "asyncio.Future[str]"

    async def start(self) -> None:
        """Fence every earlier producer of the id and settle what it left open."""

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""

    async def begin(self) -> None:
        """Open a transaction."""

    async def send(
        self, topic: str, partition: int, messages: Sequence[Message]
    ) -> "list[tuple[asyncio.Future[Placed], int]]":
        """Queue messages; for each batch of them the place it will get, and how many they are."""

    async def commit(self) -> None:
        """Wait until all that is queued was sent or was refused, and commit, whichever it was."""

    async def abort(self) -> None:
        """Abort the transaction."""

    async def close(self) -> None:
        """Let go of the connections at once, with whatever is under way."""


class Transactions:
    """Transactions of one owner of one transactional id, over a wire of its own. Made by `begin`, never reused after
    an error."""

    def __init__(self, wire: Wire, transactional_id: str, deadline_s: float) -> None:
        self._wire = wire
        self._transactional_id = transactional_id
        self._deadline_s = deadline_s
        self._doubt = wire.unanswered
        self._partitions: dict[str, int] = {}
        self._in_transaction = False

    @classmethod
    async def begin(cls, settings: Settings, transactional_id: str) -> "Transactions":
        """`begin_over` a connection to Kafka."""
        wire = KafkaWire(settings, transactional_id)
        return await cls.begin_over(wire, transactional_id, settings.transaction_deadline_ms / 1000)

    @classmethod
    async def begin_over(cls, wire: Wire, transactional_id: str, deadline_s: float) -> "Transactions":
        """Fence every earlier producer of this id and settle what it left open.

        Raises:
            Ambiguous: not within the deadline.
            Refused: the broker does not let us.
        """
        self = cls(wire, transactional_id, deadline_s)
        try:
            async with asyncio.timeout(self._deadline_s):
                await wire.start()
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError | KafkaError):
                raise self._judged(error) from error
            raise
        return self

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        count = self._partitions.get(topic)
        if count is None:
            count = self._partitions[topic] = await self._wire.partitions(topic)
        return count

    async def commit(self, messages: Iterable[Message], last: Sequence[Message] = ()) -> list[int]:
        """Send `messages`, then `last`, and commit; returns the offsets of `last`.

        Raises:
            TransactionError: see its kinds; close this producer then.
        """
        work = asyncio.ensure_future(self._commit(messages, last))
        try:
            either: set[asyncio.Future[Any]] = {work, self._doubt}
            await asyncio.wait(either, timeout=self._deadline_s, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not self._doubt.done():
                self._doubt.set_result(f"no end of the transaction within {self._deadline_s:g} s")
            if self._doubt.done():
                raise Ambiguous(f"{self._transactional_id}: {self._doubt.result()}")
            try:
                return work.result()
            except (KafkaError, AssertionError) as error:
                raise self._judged(error) from error
        finally:
            if not work.done():
                work.cancel()
            await asyncio.wait({work}, timeout=_CLOSE_S)

    async def _commit(self, messages: Iterable[Message], last: Sequence[Message]) -> list[int]:
        await self._wire.begin()
        self._in_transaction = True
        sent = await self._send(messages)
        ending = await self._send(last)
        await asyncio.gather(*(future for future, _ in sent))
        placed = await asyncio.gather(*(future for future, _ in ending))
        await self._wire.commit()
        self._in_transaction = False
        return [first.offset + n for first, (_, count) in zip(placed, ending, strict=True) for n in range(count)]

    async def _send(self, messages: Iterable[Message]) -> list[tuple[asyncio.Future[Placed], int]]:
        """Queue messages in batches; each future is that of a batch, with the number of messages in it."""
        by_place: defaultdict[tuple[str, int], list[Message]] = defaultdict(list)
        for message in messages:
            partition = message.partition
            if partition is None:
                partition = _partition_of(message.key or b"", await self.partitions(message.topic))
            by_place[message.topic, partition].append(message)
        sent: list[tuple[asyncio.Future[Placed], int]] = []
        for (topic, partition), group in by_place.items():
            sent += await self._wire.send(topic, partition, group)
        return sent

    async def close(self) -> None:
        """Let go of the connections at once. A transaction left open is aborted where the broker still answers, so
        that readers downstream do not wait for its timeout."""
        if self._in_transaction and not self._doubt.done():
            with suppress(TimeoutError, KafkaError, AssertionError):
                async with asyncio.timeout(_ABORT_S):
                    await self._wire.abort()
        await self._wire.close()

    def _judged(self, error: BaseException) -> TransactionError:
        chain: list[BaseException] = []
        cause: BaseException | None = error
        while cause is not None:
            chain.append(cause)
            cause = cause.__cause__
        root = chain[-1]
        # A KafkaError's text begins with its name.
        told = str(root) if isinstance(root, KafkaError) else f"{type(root).__name__}: {root}"
        what = f"{self._transactional_id}: {told}"
        if any(isinstance(cause, ProducerFenced) for cause in chain):
            return Superseded(what)
        if any(isinstance(cause, _DEFINITE) for cause in chain):
            return Refused(what)
        return Ambiguous(what)


class KafkaWire:
    """`Wire` over aiokafka."""

    def __init__(self, settings: Settings, transactional_id: str) -> None:
        self.unanswered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.producer = AIOKafkaProducer(
            **kafka_options(settings),
            client_id=transactional_id,
            transactional_id=transactional_id,
            transaction_timeout_ms=settings.transaction_timeout_ms,
            request_timeout_ms=settings.transaction_deadline_ms,
            # aiokafka's lz4 is the slow kind (level 9): 20 times the time of zstd.
            compression_type="zstd",
            max_batch_size=_BATCH_BYTES,
            linger_ms=0,
            retry_backoff_ms=50,
        )
        _watch(self.producer, self.unanswered)

    async def start(self) -> None:
        await self.producer.start()

    async def partitions(self, topic: str) -> int:
        return len(await self.producer.partitions_for(topic))

    async def begin(self) -> None:
        await self.producer.begin_transaction()

    async def send(
        self, topic: str, partition: int, messages: Sequence[Message]
    ) -> "list[tuple[asyncio.Future[Placed], int]]":
        sent = []
        batch = self._batch_for(topic)
        for message in messages:
            if not _appended(batch, message):
                sent.append((await self.producer.send_batch(batch, topic, partition=partition), batch))
                batch = self._batch_for(topic)
                _appended(batch, message)
        sent.append((await self.producer.send_batch(batch, topic, partition=partition), batch))
        return [(future, batch.record_count()) for future, batch in sent]

    def _batch_for(self, topic: str) -> BatchBuilder:
        """An empty batch; commit records are compressed already, so that theirs is not."""
        accumulator = self.producer._message_accumulator
        accumulator._compression_type = _PLAIN if topic == COMMITS else _ZSTD
        return self.producer.create_batch()

    async def commit(self) -> None:
        await self.producer.commit_transaction()

    async def abort(self) -> None:
        await self.producer.abort_transaction()

    async def close(self) -> None:
        # Not AIOKafkaProducer.stop(): it first flushes what can never be delivered.
        self.producer._closed = True
        with suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(_CLOSE_S):
                await self.producer.client.close()
                await self.producer._sender.close()
        sender = self.producer._sender.sender_task
        if sender is not None and sender.done() and not sender.cancelled():
            # What it failed with has been told already; unasked, asyncio would tell it again with a stack.
            sender.exception()


def _appended(batch: BatchBuilder, message: Message) -> bool:
    """Whether it had room; an empty batch always has."""
    appended = batch.append(
        timestamp=message.timestamp_ms, key=message.key, value=message.value, headers=list(message.headers)
    )
    return appended is not None


@lru_cache(maxsize=50_000)
def _partition_of(key: bytes, partitions: int) -> int:
    return partition_of(key, partitions)


def _watch(producer: AIOKafkaProducer, doubt: "asyncio.Future[str]") -> None:
    """Note in `doubt` the first request of a transaction that was sent and not answered."""
    send = producer.client.send

    async def watched(node_id: int, request: Any, *, group: int = ConnectionGroup.DEFAULT) -> Any:
        try:
            return await send(node_id, request, group=group)
        except KafkaError as error:
            if isinstance(request, _WATCHED) and not doubt.done():
                doubt.set_result(f"no answer to {type(request).__name__} ({type(error).__name__})")
            raise

    producer.client.send = watched
