"""The real parts a benchmark runs on: a Kafka node and a Redis, made like those in deploy/, and workers."""

import asyncio
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

import redis
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.recordings import PARTITIONS
from schemas.topics import COMMITS, DLQS, OUTPUTS, PORTFOLIO_INPUT, TOPICS
from streams.config import PREFIX, Settings, load_settings
from streams.replay.produce import produce
from streams.replay.recording import Recording
from streams.worker.findings import Finding, failed
from streams.worker.topics import create_topics, open_admin
from tests.parts import BrokenPart, free_ports, kafka, wait_until
from tests.parts import redis as redis_part
from tests.parts.child import Child

_REDIS_CONF = Path(__file__).parents[1] / "deploy" / "redis" / "redis.conf"
_KEPT_ON_DISK = ("appendonly", "appendfsync", "save", "aof-use-rdb-preamble")
_STOP_S = 20.0


class Service:
    """Kafka with the topics of the service, and Redis."""

    def __init__(self, node: kafka.Kafka, store: redis_part.Redis) -> None:
        self.node = node
        self.store = store
        self._started = 0

    @property
    def pids(self) -> dict[str, list[int]]:
        """The process ids of the servers that are ours."""
        found = {"broker": self.node.pid, "redis": self.store.pid}
        return {name: [pid] for name, pid in found.items() if pid is not None}

    @property
    def versions(self) -> dict[str, str]:
        """What the servers are."""
        with redis.Redis.from_url(self.store.url) as client:
            return {"kafka": kafka.VERSION, "redis-server": str(client.info("server")["redis_version"])}

    def settings(self) -> Settings:
        """How clients reach them."""
        return load_settings(broker=self.node.bootstrap, redis_url=self.store.url)

    def fill(self, recording: Path) -> dict[str, int]:
        """Create the topics and write a recording's events; returns how many records of each topic there are."""
        self.create_topics()
        with Recording.open(recording) as opened:
            asyncio.run(produce(opened, self.settings()))
            records: dict[str, int] = defaultdict(int)
            for entry in opened.manifest.files:
                records[entry.topic] += entry.records
        return dict(records)

    def clear(self) -> None:
        """Forget all that workers have done; the inputs stay."""
        self.store.flush()
        self._delete({COMMITS, PORTFOLIO_INPUT, *OUTPUTS, *DLQS})
        self.create_topics()

    def renew(self) -> None:
        """Begin anew: an empty Redis, and topics that hold nothing, the inputs neither."""
        self.store.flush()
        self._delete(set(TOPICS) & self.node.topics())
        self.create_topics()

    def create_topics(self) -> None:
        """Create the topics of the service."""

        async def create() -> list[Finding]:
            async with open_admin(self.settings()) as admin:
                return await create_topics(admin, PARTITIONS)

        found = asyncio.run(create())
        if failed(found):
            raise BrokenPart("; ".join(finding.line for finding in found))

    @contextmanager
    def outputs(self, name: str) -> Iterator[str]:
        """A topic for what a program puts out; all topics that begin with `name` are gone when the block ends."""
        output = f"{name}-warnings"
        self.node.create_topics([output], PARTITIONS)
        try:
            yield output
        finally:
            # A broker that is busy may leave a topic out of its list.
            self._delete({output, *(topic for topic in self.node.topics() if topic.startswith(name))})

    def _delete(self, gone: set[str]) -> None:
        if not gone:
            return
        admin = AdminClient({"bootstrap.servers": self.node.bootstrap})
        for answer in admin.delete_topics(list(gone), operation_timeout=30).values():
            answer.result()
        wait_until(lambda: not gone & set(admin.list_topics(timeout=10).topics), "old topics gone")

    @contextmanager
    def workers(self, count: int, chosen: Mapping[str, str], tree: Path | None) -> Iterator[list["WorkerProcess"]]:
        """Workers in a group of their own, with settings by name; they are gone when the block ends.

        Args:
            tree: a folder with packages to run instead of these sources.
        """
        self._started += 1
        common = {
            "broker": self.node.bootstrap,
            "redis_url": self.store.url,
            "app_id": f"benchmark-{self._started}",
            "clock": "external",
            "log_level": "warning",
            **chosen,
        }
        with ExitStack() as ending:
            yield [ending.enter_context(WorkerProcess(common, tree)) for _ in range(count)]


class WorkerProcess:
    """`duewatch worker`, started and not waited for."""

    def __init__(self, settings: Mapping[str, str], tree: Path | None) -> None:
        (port,) = free_ports(1)
        self._metrics = f"http://127.0.0.1:{port}/metrics"
        self._child = Child("worker")
        env = {f"{PREFIX}{name.upper()}": value for name, value in {**settings, "http_port": str(port)}.items()}
        if tree is not None:
            env["PYTHONPATH"] = str(tree)
        program = str(Path(sys.executable).with_name("duewatch"))
        command = ["env", *(f"{name}={value}" for name, value in env.items()), program, "worker"]
        self._child.start(command, lambda: True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop(_STOP_S)
        self._child.close()

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            BrokenPart: it has ended.
        """
        pid = self._child.pid
        if pid is None:
            raise BrokenPart(f"a worker has ended: {self._child.log_tail()}")
        return pid

    def figures(self) -> dict[tuple[str, str], float]:
        """Its metrics by (name, first label's value); figures that differ in other labels are added up."""
        try:
            with urllib.request.urlopen(self._metrics, timeout=30.0) as answer:
                text = answer.read().decode()
        except OSError:
            # It does not serve yet.
            return {}
        found: dict[tuple[str, str], float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name, next(iter(sample.labels.values()), "")] += sample.value
        return found


@contextmanager
def open_service() -> Iterator[Service]:
    """Kafka and Redis of our own, or those that are given to tests; ours are gone when the block ends.

    Raises:
        MissingPart: one cannot be had here.
    """
    with closing(kafka.open_kafka()) as node, closing(redis_part.open_redis()) as store:
        if isinstance(store, redis_part.OwnRedis):
            _keep_as_deployed(store.url)
        yield Service(node, store)


def _keep_as_deployed(url: str) -> None:
    lines = (line.split(maxsplit=1) for line in _REDIS_CONF.read_text().splitlines() if line and line[0] != "#")
    deployed = {name: value.strip('"') for name, value in lines}
    with redis.Redis.from_url(url) as client:
        for name in _KEPT_ON_DISK:
            client.config_set(name, deployed[name])
        # Turning the log on begins with a rewrite of what there is: nothing, but in a process of its own.
        until_s = time.monotonic() + 10.0
        while client.info("persistence")["aof_rewrite_in_progress"] and time.monotonic() < until_s:
            time.sleep(0.05)
