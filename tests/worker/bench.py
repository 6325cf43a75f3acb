"""A task on a log, a store and a consumer that are all in this process, and fail when told to."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from faust.types import TP

from schemas.topics import COMMITS
from streams.engine.order import LogRecord
from streams.store.contract import Change, Unavailable
from streams.store.memory import MemoryStore
from streams.worker.commitlog import ORIGIN, CommitRecord, Committed, Reader, encode
from streams.worker.observer import Silent
from streams.worker.producer import Message, TransactionError
from streams.worker.refusals import PoisonLimit
from streams.worker.takeover import Owned
from streams.worker.task import FoldEngine, Limits, Task
from streams.worker.transport import Fetched

TOPICS = ("control", "logins", "repayments")
PARTITION = 3
POISON = PoisonLimit(window=1_000, share=0.5, least=10, quarantines=2)


class Log:
    """What is committed. `failing` are the ends of the next transactions: an error, and whether they are committed."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.commits: list[bytes] = []
        self.failing: list[tuple[TransactionError, bool]] = []

    @property
    def outputs(self) -> list[bytes | None]:
        return [message.value for message in self.messages]

    def records(self) -> list[Committed]:
        reader = Reader(PARTITION)
        fed = [reader.feed(offset, value) for offset, value in enumerate(self.commits)]
        return [committed for committed in fed if committed is not None]

    async def commit(self, messages: Iterable[Message], last: Sequence[Message] = ()) -> list[int]:
        await asyncio.sleep(0)
        error, committed = self.failing.pop(0) if self.failing else (None, True)
        if committed:
            self.messages += messages
            offsets = range(len(self.commits), len(self.commits) + len(last))
            self.commits += [message.value or b"" for message in last if message.topic == COMMITS]
        if error is not None:
            raise error
        return list(offsets)

    async def close(self) -> None: ...


class ShakyStore(MemoryStore):
    """Does not answer to `apply` as often as `silent` says."""

    def __init__(self) -> None:
        super().__init__(PARTITION)
        self.silent = 0

    async def apply(self, fence: int, from_applied: int | None, change: Change) -> None:
        if self.silent:
            self.silent -= 1
            raise Unavailable("no answer")
        await super().apply(fence, from_applied, change)


class Inlet:
    """The consumer: what is open, and where it was sought."""

    def __init__(self) -> None:
        self.opened: set[TP] = set()
        self.positions: dict[TP, int] = {}
        self.session = 0

    async def seek(self, positions: Mapping[TP, int], session: int) -> None:
        self.positions = dict(positions)
        self.session = session

    def open(self, tps: Iterable[TP]) -> None:
        self.opened |= set(tps)

    def shut(self, tps: Iterable[TP]) -> None:
        self.opened -= set(tps)

    async def is_member(self) -> bool:
        return True


class Bench:
    """One task and all around it. Inputs are fed by `feed`; whatever was fed is fetched again after a seek."""

    def __init__(
        self, engine: FoldEngine, records: int = 100, carry_bytes: int = 65_536, topics: Sequence[str] = TOPICS
    ) -> None:
        self.topics = topics
        self.log = Log()
        self.store = ShakyStore()
        self.inlet = Inlet()
        self.failures: list[BaseException] = []
        self.takeovers = 0
        self.task = Task(
            self.store,
            engine,
            self.inlet,
            Silent(),
            Limits(records, 0.0, 0, POISON, carry_bytes),
            topics,
            self._take,
            self.failures.append,
        )

    async def _take(self, anew: bool) -> Owned:
        self.takeovers += 1
        last = next(reversed(self.log.records()), None)
        if last is None:
            record, previous = CommitRecord("claim", 1, "log"), ORIGIN
        else:
            before = last.record
            record = CommitRecord(
                "claim",
                before.seq + 1,
                "log",
                positions=before.positions,
                refused=before.refused,
                roll=before.roll,
            )
            previous = last.digest
        encoded = encode(record, previous)
        await self.log.commit((), [Message(COMMITS, PARTITION, None, value) for value in encoded.values])
        claim = self.log.records()[-1]
        meta = await self.store.claim(claim.last, "log")
        applied = meta.applied
        for committed in self.log.records():
            if applied is None or committed.last > applied:
                await self.store.apply(claim.last, applied, committed.change)
                applied = committed.last
        positions = {topic: record.positions.get(topic, (0, 0)) for topic in self.topics}
        task = await self.store.task_blob(claim.last, claim.last)
        return Owned(self.log, claim, positions, task)  # type: ignore[arg-type]

    async def start(self) -> None:
        self.task.start()
        await self.until(lambda: self.task.ready)

    def feed(
        self, topic: str, offsets: range, *, end: int | None = None, key: bytes = b"b", value: bytes = b"good"
    ) -> None:
        """Let a fetch bring the records at `offsets` (their timestamps are ten times that); the topic ends at `end`."""
        records = [LogRecord(topic, PARTITION, offset, offset * 10, key, value) for offset in offsets]
        reached = offsets.stop if end is None else end
        self.task.deliver(Fetched(topic, PARTITION, self.inlet.session, offsets.start, offsets.stop, reached, records))

    def feed_tape(self, records: Sequence[LogRecord]) -> None:
        """Let one fetch of each topic bring all there is of it."""
        for topic in self.topics:
            brought = [record for record in records if record.topic == topic]
            end = len(brought)
            assert [record.offset for record in brought] == list(range(end))
            self.task.deliver(Fetched(topic, PARTITION, self.inlet.session, 0, end, end, brought))

    def end_all(self, *but: str) -> None:
        """Let a fetch tell of the topics that they are empty."""
        for topic in self.topics:
            if topic not in but:
                self.feed(topic, range(0))

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)

    async def rest(self) -> None:
        """Give the task every chance to do something."""
        for _ in range(50):
            await asyncio.sleep(0)
