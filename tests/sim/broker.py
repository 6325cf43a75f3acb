"""A broker: logs with transactions, a coordinator that fences by epoch, and a network that delays, loses and repeats.

Kafka's protocol as far as the worker's safety rests on it. `InitProducerId` raises the epoch and ends what the
predecessor left open; the end of a transaction is decided at one moment and shows in each partition at another, when
its marker is written there; readers see what is committed up to the last stable offset.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any, NamedTuple, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import (
    KafkaConnectionError,
    NotEnoughReplicasError,
    ProducerFenced,
    RecordListTooLargeError,
    RequestTimedOutError,
)

from schemas.topics import COMMITS
from streams.engine.order import LogRecord
from streams.worker.producer import Message, Transactions
from tests.sim.loop import SimLoop

DEADLINE_S = 2.0
_TIMEOUT_S = 0.3
_TRIES = 3

T = TypeVar("T")


class Weather:
    """How likely things go wrong, each in one call; all zero once it has cleared up."""

    def __init__(self, lost: float, refused: float, slow: float) -> None:
        self.lost = lost
        self.refused = refused
        self.slow = slow

    def clear_up(self) -> None:
        self.lost = self.refused = self.slow = 0.0


class Network:
    """Carries one request there and its answer back; both take their time, and either may be lost."""

    def __init__(self, loop: SimLoop, random: Random, weather: Weather) -> None:
        self.loop = loop
        self.random = random
        self.weather = weather

    def delay_s(self) -> float:
        random = self.random.random
        return random() * (0.5 if random() < self.weather.slow else 0.004)

    async def call(self, serve: Callable[[], T], astray: list[Callable[[], object]] | None = None) -> T:
        """The answer of `serve`. A request lost on its way goes `astray`, where there is such a place: it may yet come.

        Raises:
            RequestTimedOutError: no answer; whether it was served, nobody can say.
        """
        loop, answer = self.loop, self.loop.create_future()
        lost = self.random.random() < self.weather.lost * (1 if astray is None else 3)
        if lost and self.random.random() < 0.5:
            if astray is not None:
                astray.append(serve)
            loop.outside(_TIMEOUT_S, _fail, answer, RequestTimedOutError())
        else:
            loop.outside(self.delay_s(), self._serve, serve, answer, lost)
        return await answer  # type: ignore[no-any-return]

    def _serve(self, serve: Callable[[], T], answer: "asyncio.Future[T]", lost: bool) -> None:
        try:
            served = serve()
        except Exception as error:
            self.loop.outside(self.delay_s(), _fail, answer, error)
        else:
            if lost:
                self.loop.outside(_TIMEOUT_S, _fail, answer, RequestTimedOutError())
            else:
                self.loop.outside(self.delay_s(), _answer, answer, served)


def _answer(answer: "asyncio.Future[Any]", value: object) -> None:
    if not answer.done():
        answer.set_result(value)


def _fail(answer: "asyncio.Future[Any]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


class Transaction:
    """One transaction: open, then decided, then shown in one partition after the other."""

    def __init__(self) -> None:
        self.committed: bool | None = None
        self.places: dict[TopicPartition, int] = {}
        """Where it is, with the offset of its first record there."""
        self.unmarked: set[TopicPartition] = set()


class Entry(NamedTuple):
    """One record of a log, or a marker (`record` None)."""

    record: LogRecord | None
    transaction: Transaction | None


class Concurrent(Exception):
    """The coordinator is still at the end of the transaction before: ask again."""


class Coordinator:
    """What the broker knows of one transactional id."""

    def __init__(self) -> None:
        self.epoch = -1
        self.open: Transaction | None = None
        self.ending: Transaction | None = None
        self.last: bool | None = None


class Broker:
    """All topics; each has `partitions` partitions."""

    def __init__(self, network: Network, partitions: int) -> None:
        self.network = network
        self.partitions = partitions
        self.logs: dict[TopicPartition, list[Entry]] = {}
        self.news: list[asyncio.Event] = []
        """Set whenever a log has grown."""
        self._open: dict[TopicPartition, list[Transaction]] = {}
        self._coordinators: dict[str, Coordinator] = {}

    # --- logs ---------------------------------------------------------------------------------------------------------

    def append(self, message: Message, transaction: Transaction | None) -> int:
        tp = TopicPartition(message.topic, message.partition)
        log = self.logs.setdefault(tp, [])
        offset = len(log)
        record = LogRecord(
            message.topic, tp.partition, offset, message.timestamp_ms or 0, message.key, message.value, message.headers
        )
        log.append(Entry(record, transaction))
        self._tell()
        if transaction is not None and tp not in transaction.places:
            transaction.places[tp] = offset
            self._open.setdefault(tp, []).append(transaction)
        return offset

    def _tell(self) -> None:
        for event in self.news:
            event.set()

    def end(self, tp: TopicPartition) -> int:
        """The last stable offset."""
        firsts = [transaction.places[tp] for transaction in self._open.get(tp, ())]
        return min(firsts, default=len(self.logs.get(tp, ())))

    @property
    def is_quiet(self) -> bool:
        """Whether every transaction is at its end."""
        return not any(self._open.values())

    def committed(self, tp: TopicPartition, start: int, most: int) -> tuple[list[LogRecord], int]:
        """At most `most` entries from `start`: the committed records among them, and the offset after them."""
        end = min(self.end(tp), start + most)
        entries = self.logs.get(tp, [])[start:end]
        return [
            record
            for record, transaction in entries
            if record is not None and (transaction is None or transaction.committed)
        ], max(end, start)

    # --- the coordinator ----------------------------------------------------------------------------------------------

    def init_producer(self, name: str) -> int:
        known = self._coordinators.setdefault(name, Coordinator())
        if known.open is not None:
            known.epoch += 1
            self._end(known, committed=False)
        if known.ending is not None:
            raise Concurrent
        known.epoch += 1
        known.last = None
        return known.epoch

    def produce(self, name: str, epoch: int, messages: Sequence[Message]) -> int:
        known = self._checked(name, epoch)
        if known.ending is not None:
            raise Concurrent
        if known.open is None:
            known.open = Transaction()
        transaction = known.open
        first, *_ = [self.append(message, transaction) for message in messages]
        return first

    def end_transaction(self, name: str, epoch: int, committed: bool) -> None:
        known = self._checked(name, epoch)
        if known.ending is not None:
            raise Concurrent
        if known.open is None:
            # Done already, as it was asked; or nothing to end.
            return
        self._end(known, committed)

    def _checked(self, name: str, epoch: int) -> Coordinator:
        known = self._coordinators[name]
        if epoch != known.epoch:
            raise ProducerFenced
        return known

    def _end(self, known: Coordinator, committed: bool) -> None:
        transaction, known.open = known.open, None
        assert transaction is not None
        transaction.committed = committed
        transaction.unmarked = set(transaction.places)
        if transaction.unmarked:
            known.ending = transaction
        for tp in sorted(transaction.unmarked):
            self.network.loop.outside(self.network.delay_s(), self._mark, known, transaction, tp)

    def _mark(self, known: Coordinator, transaction: Transaction, tp: TopicPartition) -> None:
        self.logs[tp].append(Entry(None, transaction))
        self._tell()
        self._open[tp].remove(transaction)
        transaction.unmarked.discard(tp)
        if not transaction.unmarked:
            known.ending = None

    def is_committed(self, partition: int, offset: int) -> bool:
        """Whether the commit record at `offset` is decided to be committed."""
        log = self.logs.get(TopicPartition(COMMITS, partition), [])
        if offset >= len(log):
            return False
        transaction = log[offset].transaction
        return transaction is not None and transaction.committed is True

    # --- what a worker connects to ------------------------------------------------------------------------------------

    async def transactions(self, transactional_id: str) -> Transactions:
        return await Transactions.begin_over(Wire(self, transactional_id), transactional_id, DEADLINE_S)

    def reader(self, client_id: str) -> "Reader":
        return Reader(self)


class _Batch:
    def __init__(self, number: int, messages: Sequence[Message], placed: "asyncio.Future[LogRecord]") -> None:
        self.number = number
        self.messages = messages
        self.placed = placed


class _Place(NamedTuple):
    offset: int


class Wire:
    """A producer as aiokafka is one: a batch in flight per partition, what was not answered is sent again, and the end
    of a transaction waits for all of it, whatever became of it."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.unanswered: asyncio.Future[str] = broker.network.loop.create_future()
        self._broker = broker
        self._network = broker.network
        self._name = name
        self._epoch = -1
        self._queues: dict[TopicPartition, deque[_Batch]] = {}
        self._senders: dict[TopicPartition, asyncio.Task[None]] = {}
        self._done: dict[int, int] = {}
        """Batches that the broker has, by number: it knows them again."""
        self._numbers = 0
        self._astray: list[Callable[[], object]] = []

    async def start(self) -> None:
        self._epoch = await self._ask(lambda: self._broker.init_producer(self._name), "InitProducerId", watched=False)

    async def partitions(self, topic: str) -> int:
        return self._broker.partitions

    async def begin(self) -> None: ...

    async def send(
        self, topic: str, partition: int, messages: Sequence[Message]
    ) -> "list[tuple[asyncio.Future[Any], int]]":
        sent: list[tuple[asyncio.Future[Any], int]] = []
        size = self._network.random.randint(1, 8)
        tp = TopicPartition(topic, partition)
        placed = [message._replace(partition=partition) for message in messages]
        for start in range(0, len(placed), size):
            batch = _Batch(self._numbers, placed[start : start + size], self._network.loop.create_future())
            self._numbers += 1
            self._queues.setdefault(tp, deque()).append(batch)
            sent.append((batch.placed, len(batch.messages)))
        if tp not in self._senders:
            self._senders[tp] = asyncio.ensure_future(self._drain(tp))
        return sent

    async def _drain(self, tp: TopicPartition) -> None:
        queue = self._queues[tp]
        try:
            while queue:
                batch = queue.popleft()
                try:
                    offset = await self._ask(lambda batch=batch: self._take(batch), "Produce")  # type: ignore[misc]
                except Exception as error:
                    if not batch.placed.done():
                        batch.placed.set_exception(error)
                        batch.placed.exception()
                else:
                    if not batch.placed.done():
                        batch.placed.set_result(_Place(offset))  # type: ignore[arg-type]
        finally:
            self._senders.pop(tp, None)

    def _take(self, batch: _Batch) -> int:
        offset = self._done.get(batch.number)
        if offset is None:
            refused = self._network.random.random()
            if refused < self._network.weather.refused:
                raise RecordListTooLargeError if refused < self._network.weather.refused / 2 else NotEnoughReplicasError
            offset = self._done[batch.number] = self._broker.produce(self._name, self._epoch, batch.messages)
            if self._astray and self._network.random.random() < 0.3:
                # The end of an earlier transaction, sent again and answered long ago, comes in after all.
                with suppress(Concurrent, ProducerFenced):
                    self._astray.pop()()
        return offset

    async def commit(self) -> None:
        while self._senders:
            await asyncio.wait(list(self._senders.values()))
        await self._end(committed=True)

    async def abort(self) -> None:
        while self._senders:
            await asyncio.wait(list(self._senders.values()))
        await self._end(committed=False)

    async def _end(self, committed: bool) -> None:
        def end() -> None:
            self._broker.end_transaction(self._name, self._epoch, committed)

        await self._ask(end, "EndTxn", self._astray)

    async def close(self) -> None:
        for sender in list(self._senders.values()):
            sender.cancel()
        await asyncio.sleep(0)

    async def _ask(
        self, serve: Callable[[], T], what: str, astray: list[Callable[[], object]] | None = None, watched: bool = True
    ) -> T:
        """Ask until there is an answer; the first time there is none is noted."""
        for _ in range(_TRIES):
            while True:
                try:
                    return await self._network.call(serve, astray)
                except Concurrent:
                    await asyncio.sleep(0.02)
                except RequestTimedOutError:
                    if watched and not self.unanswered.done():
                        self.unanswered.set_result(f"no answer to {what}")
                    break
        raise KafkaConnectionError


class Reader:
    """A consumer without a group that reads what is committed."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._positions: dict[TopicPartition, int] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assign(self, partitions: list[TopicPartition]) -> None: ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._positions[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int) -> Mapping[TopicPartition, list[LogRecord]]:
        (tp,) = partitions
        start, most = self._positions[tp], self._broker.network.random.randint(1, 30)
        records, self._positions[tp] = await self._call(lambda: self._broker.committed(tp, start, most))
        return {tp: records}

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._call(lambda: dict.fromkeys(partitions, 0))

    async def end_offsets(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._call(lambda: {tp: self._broker.end(tp) for tp in partitions})

    async def _call(self, serve: Callable[[], T]) -> T:
        """A read may be made again; a reader that gets no answer for long gives up."""
        for _ in range(_TRIES):
            try:
                return await self._broker.network.call(serve)
            except RequestTimedOutError:
                continue
        raise KafkaConnectionError
