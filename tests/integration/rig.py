"""A broker, a store and worker processes, and what is asked of them: each record once, in order, whatever happens."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.partitioning import partition_of
from schemas.topics import COMMITS, INPUTS, TOPICS
from streams.engine.cases import Cases
from streams.engine.chunk import TaskState
from streams.engine.order import LogRecord, Merge
from streams.worker.commitlog import Committed, Reader
from tests.parts import wait_until
from tests.parts.kafka import Kafka
from tests.worker.echo import BAD, OUTPUT, Echo

SESSION_S = 6
_REPO = Path(__file__).parents[2]
_START_MS = 1_700_000_000_000


def recording(seed: int, count: int, partitions: int, borrowers: int = 200) -> list[LogRecord]:
    """Records of every input topic, some out of order in time, some bad, in the order in which they are produced."""
    random = Random(seed)
    offsets: dict[tuple[str, int], int] = {}
    records = []
    for number in range(count):
        topic = random.choices(INPUTS, weights=(20, 40, 36, 2, 1, 1))[0]
        key = f"b{random.randrange(borrowers):04d}".encode()
        partition = partition_of(key, partitions)
        offset = offsets.get((topic, partition), 0)
        offsets[topic, partition] = offset + 1
        timestamp = _START_MS + number * 100 + random.choice((0, 0, 0, -5_000))
        value = BAD if random.random() < 0.01 else b'{"n":%d}' % number
        records.append(LogRecord(topic, partition, offset, timestamp, key, value, [("h", b"%d" % number)]))
    return records


def expected(records: Iterable[LogRecord], partitions: int) -> list[list[bytes]]:
    """What the engine puts out for each partition when it sees all of it at once, in the order of the log."""
    outputs = []
    for partition in range(partitions):
        merge = Merge(INPUTS, {})
        for topic in INPUTS:
            merge.push(topic, [record for record in records if record.topic == topic and record.partition == partition])
        folded = Echo().fold(TaskState(), merge.take(INPUTS, sys.maxsize), {}, [], Cases(0))
        outputs.append([output.value for output in folded.outputs])
    return outputs


class WorkerProcess:
    """A worker with the echo engine; another `command` is another program."""

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "tests.worker.echo")

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                self.command,
                cwd=_REPO,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float = 40.0) -> int:
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def is_ready(self) -> bool:
        assert self.exit_code is None, self.log[-3000:]
        return "worker ready" in self.log


class Rig:
    """Fresh topics on `kafka`, and whatever workers a test starts on them."""

    def __init__(self, kafka: Kafka, redis_url: str, app_id: str, folder: Path, partitions: int) -> None:
        self.partitions = partitions
        self.app_id = app_id
        self._bootstrap = kafka.bootstrap
        self._redis_url = redis_url
        self._folder = folder
        self._workers: list[WorkerProcess] = []
        self._make_topics()

    def _make_topics(self) -> None:
        names = list(TOPICS)
        self._drop_topics(names)
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        config = {"retention.ms": "-1", "max.message.bytes": str(8 << 20)}
        topics = [NewTopic(name, self.partitions, 1, config=config) for name in names]
        for made in admin.create_topics(topics, operation_timeout=30).values():
            made.result()

    def _drop_topics(self, names: Iterable[str]) -> None:
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        there = [name for name in names if name in admin.list_topics(timeout=10).topics]
        if there:
            for gone in admin.delete_topics(there, operation_timeout=30).values():
                gone.result()
            wait_until(lambda: not set(there) & set(admin.list_topics(timeout=10).topics), "old topics gone")

    def settings(self, **settings: Any) -> dict[str, str]:
        """The environment of a worker."""
        chosen = {
            "broker": self._bootstrap,
            "redis_url": self._redis_url,
            "app_id": self.app_id,
            "session_timeout_s": SESSION_S,
            "clock": "external",
            "http_port": 0,
            **settings,
        }
        return {f"DUEWATCH_{name.upper()}": str(value) for name, value in chosen.items()}

    def start(self, *, echo: Mapping[str, str] | None = None, **settings: Any) -> WorkerProcess:
        """Start a worker; `echo` are variables of its engine."""
        log = self._folder / f"worker-{len(self._workers)}.log"
        worker = WorkerProcess({**self.settings(**settings), **(echo or {})}, log)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()

    def produce(self, records: Iterable[LogRecord]) -> None:
        producer = Producer({"bootstrap.servers": self._bootstrap, "linger.ms": 20, "max.in.flight": 1})
        for record in records:
            producer.produce(
                record.topic,
                record.value,
                record.key,
                record.partition,
                timestamp=record.timestamp,
                headers=list(record.headers),
            )
            producer.poll(0)
        assert producer.flush(30) == 0

    def read(self, topic: str, isolation: str = "read_committed") -> list[list[Message]]:
        """All messages of a topic, by partition, as a consumer downstream sees them."""
        return self.read_topics([topic], isolation)[topic]

    def read_topics(self, topics: Iterable[str], isolation: str = "read_committed") -> dict[str, list[list[Message]]]:
        """`read` of several topics."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": f"{self.app_id}-reader",
                "isolation.level": isolation,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        found: dict[str, list[list[Message]]] = {topic: [[] for _ in range(self.partitions)] for topic in topics}
        try:
            places = [TopicPartition(topic, partition, 0) for topic in found for partition in range(self.partitions)]
            consumer.assign(places)
            ended: set[tuple[str, int]] = set()
            while len(ended) < len(places):
                for message in consumer.consume(1000, 0.05):
                    if message.error() is None:
                        found[message.topic()][message.partition()].append(message)
                    else:
                        ended.add((message.topic(), message.partition()))
        finally:
            consumer.close()
        return found

    def outputs(self) -> list[list[bytes]]:
        return [[message.value() for message in messages] for messages in self.read(OUTPUT)]

    def commits(self) -> list[list[Committed]]:
        """Every record of each task's commit log; reading it checks that they follow each other."""
        log = []
        for partition, messages in enumerate(self.read(COMMITS)):
            reader = Reader(partition)
            fed = [reader.feed(message.offset(), message.value()) for message in messages]
            log.append([committed for committed in fed if committed is not None])
        return log

    def wait_for_outputs(self, count: int, timeout_s: float = 60.0) -> None:
        until = time.monotonic() + timeout_s
        while (found := sum(map(len, self.outputs()))) < count:
            logs = "\n".join(worker.log[-2000:] for worker in self._workers)
            assert time.monotonic() < until, f"{found} of {count} outputs\n{logs}"
            time.sleep(0.2)
