"""The whole service on a real broker and a real store, and what a replay of the same records says it must come to."""

import asyncio
import base64
import json
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import redis
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.topics import COMMITS, DLQS, INPUTS, OUTPUTS, TOPICS
from streams.config import Settings, load_settings
from streams.engine.fold import Engine
from streams.engine.order import LogRecord
from streams.engine.state import pack_task, unpack_task
from streams.policy.loader import load
from streams.replay.cycle import LocalTask, pieces
from streams.replay.produce import TopicSink, produce
from streams.replay.record import record
from streams.replay.recording import Recording, RecordingWriter
from streams.replay.replay import replay, tasks_of
from streams.store.redis_store import RedisStore, open_redis
from streams.worker.commitlog import Committed, Reader
from streams.worker.findings import Finding, failed
from streams.worker.topics import create_topics, open_admin
from tests.integration.rig import Rig, WorkerProcess
from tests.parts import wait_until
from tests.parts.kafka import Kafka
from tests.parts.redis import OwnRedis

PARTITIONS = 4
"""As many as three workers cannot share by chance so that the numbers of all inputs agree."""
EVER_MS = 1 << 52
_PATIENCE_S = 90.0

T = TypeVar("T")
Letter = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""(key, value, headers by name)"""


class Held(NamedTuple):
    """What a store holds of one task: packed states by borrower, wake-ups, the packed task state."""

    states: dict[str, bytes]
    wakes: dict[str, int]
    task: bytes


class Outcome(NamedTuple):
    """All that a recording comes to: per topic output values and dead letters, partition after partition, each in the
    order of emission; and what is held of each task in the end."""

    outputs: dict[str, list[bytes]]
    letters: dict[str, list[Letter]]
    held: list[Held]


# --- as it must be ----------------------------------------------------------------------------------------------------


def replayed(recording: Path, out: Path) -> Outcome:
    """The outcome of a recording by `duewatch replay`, and by the same cycle what it holds in the end."""
    replay(recording, "standard", out)
    outputs = {topic: _lines(out / f"{topic}.jsonl") for topic in OUTPUTS}
    letters = {topic: [_letter(line) for line in _lines(out / f"{topic}.jsonl")] for topic in DLQS}
    with Recording.open(recording) as opened:
        held = [_folded(opened, partition) for partition in tasks_of(opened)]
    return Outcome(outputs, letters, held)


def _lines(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines() if file.exists() else []


def _letter(line: bytes) -> Letter:
    told = json.loads(line)
    headers = [(name, text.encode()) for name, text in _headers(told.get("headers", {}))]
    headers += [(name, base64.b64decode(text)) for name, text in _headers(told.get("headers_base64", {}))]
    return _text(told, "key"), _text(told, "value"), sorted(headers)


def _headers(told: Mapping[str, str | list[str]]) -> list[tuple[str, str]]:
    return [(name, text) for name, texts in told.items() for text in ([texts] if isinstance(texts, str) else texts)]


def _text(told: Mapping[str, Any], name: str) -> bytes | None:
    if f"{name}_base64" in told:
        return base64.b64decode(told[f"{name}_base64"])
    text: str | None = told[name]
    return None if text is None else text.encode()


def _folded(recording: Recording, partition: int) -> Held:
    task = LocalTask(Engine(load("standard"), partitions=recording.partition_count(), recorded_policies=False))
    states: dict[str, bytes] = {}
    wakes: dict[str, int | None] = {}
    for records, committed in pieces(recording, partition):
        for folded in task.fold(records, committed):
            states.update(folded.changed)
            wakes.update(folded.wakes)
    return Held(states, {name: moment for name, moment in wakes.items() if moment is not None}, pack_task(task.task))


def in_order(recording: Path) -> list[LogRecord]:
    """The input records of a recording in the order in which they are produced."""
    with Recording.open(recording) as opened:
        places = [(topic, partition) for topic in INPUTS for partition in opened.partitions(topic)]
        records = [found for place in places for found in _ordered(opened.records(*place))]
    records.sort(key=lambda found: (found[0], found[1][:3]))
    return [found for _, found in records]


def _ordered(records: Iterable[LogRecord]) -> Iterator[tuple[int, LogRecord]]:
    order_ms = 0
    for found in records:
        order_ms = max(order_ms, found.timestamp)
        yield order_ms, found


def written(records: Iterable[LogRecord], path: Path, partitions: int = PARTITIONS) -> None:
    """A recording of input records."""
    with RecordingWriter(path, dict.fromkeys(INPUTS, partitions)) as writer:
        for found in records:
            writer.write(found)


# --- as it is ---------------------------------------------------------------------------------------------------------


class Worker(WorkerProcess):
    """A process of `duewatch worker`."""

    command: ClassVar[Sequence[str]] = (sys.executable, "-c", "from streams.cli import main; main()", "worker")

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log about one event."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


class CommitLogs:
    """The commit logs of all tasks as they grow; reading checks that the records follow each other."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._consumer = reader(bootstrap)
        self._consumer.assign([TopicPartition(COMMITS, partition, 0) for partition in range(partitions)])
        self._readers = [Reader(partition) for partition in range(partitions)]
        self.records: list[list[Committed]] = [[] for _ in range(partitions)]

    def read(self, wait_s: float = 0.05) -> bool:
        """Take what has been committed since; whether there was anything."""
        found = self._consumer.consume(500, wait_s)
        for message in found:
            if message.error() is None:
                committed = self._readers[message.partition()].feed(message.offset(), message.value())
                if committed is not None:
                    self.records[message.partition()].append(committed)
        return bool(found)

    def reached(self, topic: str, partition: int) -> int:
        """The offset before which all of a topic has been folded."""
        log = self.records[partition]
        return log[-1].record.positions.get(topic, (0, 0))[0] if log else 0

    @property
    def folded(self) -> int:
        """Offsets passed in all inputs."""
        return sum(self.reached(topic, partition) for topic in INPUTS for partition in range(len(self.records)))

    def is_sweeping(self) -> bool:
        """Whether a task has fired only a part of the wake-ups of a tick."""
        tasks = [log[-1].record.packed_task for log in self.records if log]
        return any(task is not None and unpack_task(task).sweep is not None for task in tasks)

    def went_beside(self) -> bool:
        """Whether anything was taken while the sweep of a tick was open."""
        return any(map(_goes_beside, self.records))

    def close(self) -> None:
        self._consumer.close()


def _goes_beside(log: Sequence[Committed]) -> bool:
    sweeping, positions = False, log[0].record.positions if log else {}
    for committed in log:
        record = committed.record
        if sweeping and record.positions != positions:
            return True
        positions = record.positions
        packed = record.packed_task
        if packed is not None:
            sweep = unpack_task(packed).sweep
            sweeping = sweep is not None and sweep.of_wakes
    return False


def reader(bootstrap: str) -> Consumer:
    """A consumer as one downstream must be."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # Where brokers are killed it would tell each attempt to reach them.
            "log_level": 0,
        }
    )


class Live(Rig):
    """All topics of the service, made anew, a store of its own, and the workers that a test starts on them."""

    def __init__(self, kafka: Kafka, store: OwnRedis, app_id: str, folder: Path, partitions: int = PARTITIONS) -> None:
        self._store = store
        super().__init__(kafka, store.url, app_id, folder, partitions)
        self.config: Settings = load_settings(broker=kafka.bootstrap, redis_url=store.url, app_id=app_id)
        self.commit_logs = CommitLogs(kafka.bootstrap, partitions)

    def _make_topics(self) -> None:
        self._drop_topics(TOPICS)

        async def create() -> list[Finding]:
            async with open_admin(load_settings(broker=self._bootstrap)) as admin:
                return await create_topics(admin, self.partitions)

        assert not failed(asyncio.run(create()))

    def worker(self, **settings: Any) -> Worker:
        """Start a worker."""
        worker = Worker(self.settings(**settings), self._folder / f"worker-{len(self._workers)}.log")
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        super().close()
        self.commit_logs.close()

    # --- in -----------------------------------------------------------------------------------------------------------

    def produce_all(self, recording: Path) -> None:
        """The records of a recording into the topics, at the offsets that they have in it."""
        with Recording.open(recording) as opened:
            assert asyncio.run(produce(opened, self.config)).same_offsets

    def send(self, records: Iterable[LogRecord]) -> None:
        """Records into the topics, each at the offset that it names."""

        async def run() -> bool:
            sink = TopicSink(self.config)
            await sink.start()
            try:
                await sink.send(list(records))
            finally:
                await sink.stop()
            return sink.produced.same_offsets

        assert asyncio.run(run())

    # --- meanwhile ----------------------------------------------------------------------------------------------------

    def wait_for(self, holds: Callable[[], bool], what: str, timeout_s: float = _PATIENCE_S) -> None:
        """Read the commit logs until something holds."""
        until = time.monotonic() + timeout_s
        while not holds():
            if not self.commit_logs.read():
                logs = "\n".join(worker.log[-2_000:] for worker in self._workers)
                assert any(worker.exit_code is None for worker in self._workers), f"{what}: no worker\n{logs}"
                assert time.monotonic() < until, f"{what}: not so in {timeout_s:g} s\n{logs}"

    def wait_until_folded(self, offsets: int) -> None:
        """Wait until the tasks together have passed so many offsets of the inputs."""
        self.wait_for(lambda: self.commit_logs.folded >= offsets, f"{offsets} offsets folded")

    def wait_until_done(self) -> None:
        """Wait until all that the inputs hold is folded, and all that is committed is in the store."""
        ends = self.ends()
        logs = self.commit_logs
        self.wait_for(lambda: all(logs.reached(*place) >= end for place, end in ends.items()), "all records folded")
        self.wait_for(lambda: not logs.is_sweeping(), "all sweeps ended")
        self.read_commits()
        wait_until(self.store_is_level, "the store level with the commit logs")

    def read_commits(self) -> None:
        """Read the commit logs until nothing more comes."""
        while self.commit_logs.read(0.5):
            pass

    def ends(self) -> dict[tuple[str, int], int]:
        """Where the inputs end, by topic and partition."""
        places = [(topic, partition) for topic in INPUTS for partition in range(self.partitions)]
        consumer = reader(self._bootstrap)
        try:
            return {place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=10)[1] for place in places}
        finally:
            consumer.close()

    def store_is_level(self) -> bool:
        """Whether the store holds every commit that has been read."""
        return self.applied() == [log[-1].last if log else None for log in self.commit_logs.records]

    def applied(self) -> list[int | None]:
        """By task the offset of the last commit that the store holds."""
        with redis.Redis.from_url(self._store.url) as client:
            found = [client.hget(f"{{{self.app_id}:{task}}}:meta", "applied") for task in range(self.partitions)]
        return [None if offset is None else int(offset) for offset in found]

    def hold_store(self) -> None:
        """Let the store answer questions but change nothing, until it is let go."""
        with redis.Redis.from_url(self._store.url) as client:
            client.client_pause(60_000, all=False)

    def let_store_go(self) -> None:
        with redis.Redis.from_url(self._store.url) as client:
            client.client_unpause()

    def members(self) -> list[dict[str, set[int]]]:
        """What each member of the group has been assigned: partition numbers by topic."""
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        group = admin.describe_consumer_groups([self.app_id])[self.app_id].result(10)
        members = []
        for member in group.members:
            assigned: dict[str, set[int]] = defaultdict(set)
            for place in member.assignment.topic_partitions if member.assignment else ():
                assigned[place.topic].add(place.partition)
            members.append(dict(assigned))
        return members

    # --- out ----------------------------------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """What consumers downstream have read, and what the store holds."""
        found = self.messages([*OUTPUTS, *DLQS])
        outputs = {topic: [message.value() or b"" for message in found[topic]] for topic in OUTPUTS}
        letters = {topic: [_letter_of(message) for message in found[topic]] for topic in DLQS}
        return Outcome(outputs, letters, self._with_stores(_held))

    def messages(self, topics: Iterable[str]) -> dict[str, list[Message]]:
        """The messages of topics, partition after partition."""
        found = self.read_topics(topics)
        return {topic: [message for part in parts for message in part] for topic, parts in found.items()}

    def _with_stores(self, ask: Callable[[RedisStore], Awaitable[T]]) -> list[T]:
        async def run() -> list[T]:
            client = open_redis(self.config)
            try:
                return [await ask(RedisStore(client, self.app_id, task)) for task in range(self.partitions)]
            finally:
                await client.aclose()

        return asyncio.run(run())

    def record(self, out: Path) -> Path:
        """The inputs and the commit logs as they stand, as a recording."""
        asyncio.run(record(self.config, out))
        return out


async def _held(store: RedisStore) -> Held:
    meta = await store.meta()
    assert meta.fence is not None
    assert meta.applied is not None
    names = sorted([name async for name in store.borrowers()])
    loaded = await store.load(meta.fence, meta.applied, names, EVER_MS, 1_000_000)
    states = {name: state for name, state in loaded.blobs.items() if state is not None}
    return Held(
        states,
        {name: moment for moment, name in loaded.due},
        await store.task_blob(meta.fence, meta.applied) or b"",
    )


def _letter_of(message: Message) -> Letter:
    return message.key(), message.value(), sorted((name, value or b"") for name, value in message.headers() or ())


def comparable(topic: str, values: list[bytes]) -> list[bytes]:
    """Outputs in an order that is always the same: where the key is not the borrower's id several tasks write to one
    partition, and who comes first is chance."""
    return values if TOPICS[topic].key == "borrower_id" else sorted(values)


def check_same(found: Outcome, wanted: Outcome) -> None:
    """Compare two outcomes from the coarse to the fine, so that a difference shows as what it is."""
    for topic in OUTPUTS:
        assert len(found.outputs[topic]) == len(wanted.outputs[topic]), topic
        assert comparable(topic, found.outputs[topic]) == comparable(topic, wanted.outputs[topic]), topic
    for topic in DLQS:
        assert found.letters[topic] == wanted.letters[topic], topic
    for task, (ours, theirs) in enumerate(zip(found.held, wanted.held, strict=True)):
        assert ours.states.keys() == theirs.states.keys(), task
        assert [name for name in ours.states if ours.states[name] != theirs.states[name]] == [], task
        assert ours.wakes == theirs.wakes, task
        assert ours.task == theirs.task, task


def check_same_of_each(found: Outcome, wanted: Outcome) -> None:
    """Compare what came of each borrower by itself, where sweeps let others go ahead."""
    for topic in OUTPUTS:
        ours, theirs = found.outputs[topic], wanted.outputs[topic]
        if TOPICS[topic].key == "borrower_id":
            assert _of_each(map(_borrower_of, ours), ours) == _of_each(map(_borrower_of, theirs), theirs), topic
        else:
            assert sorted(ours) == sorted(theirs), topic
    for topic in DLQS:
        letters, due = found.letters[topic], wanted.letters[topic]
        assert _of_each((key for key, _, _ in letters), letters) == _of_each((key for key, _, _ in due), due), topic
    for task, (held, told) in enumerate(zip(found.held, wanted.held, strict=True)):
        assert (held.states, held.wakes) == (told.states, told.wakes), task
        assert unpack_task(held.task) == unpack_task(told.task), task


def _borrower_of(value: bytes) -> str:
    return str(json.loads(value)["borrower_id"])


def _of_each(whose: Iterable[Any], told: Iterable[T]) -> dict[Any, list[T]]:
    found: dict[Any, list[T]] = defaultdict(list)
    for name, one in zip(whose, told, strict=True):
        found[name].append(one)
    return found


def check_commits_tile(live: Live) -> None:
    """Every input partition is covered from its start to its end by the commits of its task, in order, once."""
    ends = live.ends()
    for partition, log in enumerate(live.commit_logs.records):
        assert [committed.record.seq for committed in log] == list(range(1, len(log) + 1))
        at = dict.fromkeys(INPUTS, 0)
        for committed in log:
            for topic, (offset, _) in committed.record.positions.items():
                assert offset >= at[topic]
                at[topic] = offset
        assert at == {topic: ends[topic, partition] for topic in INPUTS}
