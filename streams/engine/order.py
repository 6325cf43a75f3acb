"""The one order in which a task sees its records.

A task is partition p of every input topic. Its order is by (order time, topic, offset), where the order time of a
record is the running maximum of the record timestamps of its topic-partition: late timestamps never move a record back
before what the same partition already delivered. The order depends on the log alone, never on how it was fetched: a
chunk ends where a topic that may still hold earlier records has nothing buffered.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol


class Record(Protocol):
    """A record of the log, as the Kafka client hands it out; `timestamp` is epoch milliseconds."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class LogRecord(NamedTuple):
    """A record read from a recording or built by hand."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


Ordered = tuple[int, str, int, Record]
"""(order time, topic, offset, record): sorts in the task's order."""


class Merge:
    """The buffered heads of one task's topics.

    Args:
        topics: every input topic of the task.
        order_ms: the order time each topic had reached at the position reading starts from (0 where it starts fresh).
    """

    def __init__(self, topics: Iterable[str], order_ms: Mapping[str, int]) -> None:
        self._buffers: dict[str, list[Ordered]] = {topic: [] for topic in sorted(topics)}
        self._order_ms = {topic: order_ms.get(topic, 0) for topic in self._buffers}
        self._bytes = dict.fromkeys(self._buffers, 0)

    def push(self, topic: str, records: Iterable[Record]) -> None:
        """Append records of one topic, in offset order."""
        buffer = self._buffers[topic]
        order_ms, size = self._order_ms[topic], self._bytes[topic]
        for record in records:
            timestamp = record.timestamp
            if timestamp > order_ms:
                order_ms = timestamp
            buffer.append((order_ms, topic, record.offset, record))
            size += _size(record)
        self._order_ms[topic], self._bytes[topic] = order_ms, size

    def buffered(self, topic: str) -> int:
        """How many records of `topic` wait to be taken."""
        return len(self._buffers[topic])

    def buffered_bytes(self, topic: str) -> int:
        """Of how many bytes their values are."""
        return self._bytes[topic]

    def take(self, read_to_end: Iterable[str], limit: int) -> list[Ordered]:
        """Remove and return the next records in order, at most `limit`.

        Args:
            read_to_end: the topics whose every record up to the last stable offset is buffered or taken; any other
                topic may still deliver earlier records, so nothing after its last buffered record is returned.
        """
        complete = set(read_to_end)
        bound: tuple[int, str, int] | None = None
        for topic, buffer in self._buffers.items():
            if topic in complete:
                continue
            if not buffer:
                return []
            last = buffer[-1]
            key = (last[0], topic, last[2] + 1)
            if bound is None or key < bound:
                bound = key
        taken: list[Ordered] = []
        for buffer in self._buffers.values():
            end = len(buffer) if bound is None else bisect_right(buffer, bound)
            taken += buffer[: min(end, limit)]
        # Topic and offset differ, so that records are never compared; a key would cost more than the sort.
        taken.sort()
        del taken[limit:]
        self._drop(taken)
        return taken

    def _drop(self, taken: Sequence[Ordered]) -> None:
        counts: dict[str, int] = {}
        for _, topic, _, record in taken:
            counts[topic] = counts.get(topic, 0) + 1
            self._bytes[topic] -= _size(record)
        for topic, count in counts.items():
            del self._buffers[topic][:count]


def _size(record: Record) -> int:
    value = record.value
    return 0 if value is None else len(value)
