"""The logs of one task as an audit reads them: its commit log, its inputs range by range, and what was published."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import COMMITS, INPUTS
from streams.engine.order import Merge, Ordered, Record
from streams.worker.commitlog import Committed, Position, Reader

_POLL_MS = 200
_POLL_RECORDS = 5_000
CLOCKS_APART_MS = 600_000
"""How far the clocks of workers may be apart: so much more is read of what they published, before and after."""


class Timed(NamedTuple):
    """A commit, and when its worker wrote it (epoch ms by its clock)."""

    committed: Committed
    at_ms: int


class Commits:
    """The commit log of one task, read on and on."""

    def __init__(self, consumer: AIOKafkaConsumer, task: int) -> None:
        self._consumer = consumer
        self._tp = TopicPartition(COMMITS, task)
        self._reader = Reader(task)
        self._waiting: list[Any] = []
        self._begun = False

    @property
    def last(self) -> Committed | None:
        """The newest commit read."""
        return self._reader.last

    async def reach(self) -> tuple[int, int]:
        """First offset kept and last stable offset."""
        start = await self._consumer.beginning_offsets([self._tp])
        end = await self._consumer.end_offsets([self._tp])
        return int(start[self._tp]), int(end[self._tp])

    async def until(self, end: int) -> AsyncIterator[Timed]:
        """The commits from where reading has got to, or from the log's start, to before the offset `end`."""
        if not self._begun:
            start, _ = await self.reach()
            self._consumer.seek(self._tp, start)
            self._begun = True
        while True:
            while self._waiting and self._waiting[0].offset < end:
                message = self._waiting.pop(0)
                committed = self._reader.feed(message.offset, message.value)
                if committed is not None:
                    yield Timed(committed, message.timestamp)
            if self._waiting or await self._consumer.position(self._tp) >= end:
                return
            brought = await self._consumer.getmany(self._tp, timeout_ms=_POLL_MS)
            self._waiting += brought.get(self._tp, ())


class Inputs:
    """The input records of one task, read in the ranges of one commit after the other."""

    def __init__(self, consumer: AIOKafkaConsumer, task: int) -> None:
        self._consumer = consumer
        self._tps = {topic: TopicPartition(topic, task) for topic in INPUTS}
        self._waiting: dict[str, list[Record]] = {topic: [] for topic in INPUTS}
        self._at: dict[str, int] = {}

    async def starts(self) -> dict[str, int]:
        """The first offset there is of each topic."""
        found = await self._consumer.beginning_offsets(list(self._tps.values()))
        return {topic: int(found[tp]) for topic, tp in self._tps.items()}

    async def take(self, start: Mapping[str, Position], end: Mapping[str, Position]) -> list[Ordered]:
        """The records between the positions of two commits, in the task's order."""
        merge = Merge(INPUTS, {topic: order_ms for topic, (_, order_ms) in start.items()})
        for topic in INPUTS:
            first, last = start.get(topic, (0, 0))[0], end.get(topic, (0, 0))[0]
            if first < last:
                merge.push(topic, await self._range(topic, first, last))
        return merge.take(INPUTS, _ALL)

    async def _range(self, topic: str, first: int, end: int) -> list[Record]:
        tp = self._tps[topic]
        if self._at.get(topic) != first:
            self._waiting[topic] = []
            self._consumer.seek(tp, first)
        waiting = self._waiting[topic]
        while (not waiting or waiting[-1].offset < end) and await self._consumer.position(tp) < end:
            brought = await self._consumer.getmany(tp, timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            waiting += brought.get(tp, ())
        count = next((n for n, record in enumerate(waiting) if record.offset >= end), len(waiting))
        self._at[topic] = end
        self._waiting[topic] = waiting[count:]
        return waiting[:count]


_ALL = 1 << 62


class Published:
    """What stands on output and dead-letter topics.

    Args:
        consumer: reads it.
        places: the partitions to read.
    """

    def __init__(self, consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> None:
        self._consumer = consumer
        self._places = sorted(places)

    async def starts(self) -> dict[tuple[str, int], int]:
        """The first offset there is, by topic and partition."""
        found = await self._consumer.beginning_offsets(self._places)
        return {(tp.topic, tp.partition): int(offset) for tp, offset in found.items()}

    async def records(self, from_ms: int | None, until_ms: int, timeless: Sequence[str]) -> AsyncIterator[Record]:
        """The records written from `from_ms` (None: the start) to `until_ms`, as far as their topics go now.

        Those of `timeless` topics are all read: their timestamps do not tell when they were written.
        """
        ends = dict(await self._consumer.end_offsets(self._places))
        reached = dict(await self._consumer.beginning_offsets(self._places))
        if from_ms is not None:
            timed = {tp: from_ms for tp in self._places if tp.topic not in timeless}
            for tp, found in (await self._consumer.offsets_for_times(timed)).items():
                reached[tp] = ends[tp] if found is None else found.offset
        todo = {tp for tp in self._places if reached[tp] < ends[tp]}
        for tp in self._places:
            self._consumer.seek(tp, reached[tp])
        while todo:
            brought = await self._consumer.getmany(*todo, timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            for tp, records in brought.items():
                for record in records:
                    if record.offset < ends[tp]:
                        yield record
                if tp.topic not in timeless and records[-1].timestamp > until_ms:
                    todo.discard(tp)
            for tp in list(todo):
                # The position also passes transaction markers and aborted records, which are never delivered.
                if await self._consumer.position(tp) >= ends[tp]:
                    todo.discard(tp)
