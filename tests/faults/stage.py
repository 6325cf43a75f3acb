"""What a row plays on: topics and a store of its own, supervised workers, a reader downstream, and the check at the
end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, ClassVar, NamedTuple

import msgspec
import redis as redis_client
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.group import LeaveGroupRequest
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from pydantic import SecretStr

from schemas.partitioning import partition_of
from schemas.topics import CONTROL, DLQS, INPUTS, OUTPUTS, TOPICS
from streams.engine.order import LogRecord
from streams.replay.simulate.writing import simulate
from tests.faults.checks import (
    check_alike,
    check_claims_move_nothing,
    check_each_counted,
    check_ids,
    check_limit_chains,
    check_log_is_held,
)
from tests.faults.cluster import Cluster
from tests.faults.points import Point
from tests.faults.proxy import Proxy
from tests.integration.bad import spoiled
from tests.integration.live import (
    Live,
    Outcome,
    Worker,
    check_commits_tile,
    check_same,
    check_same_of_each,
    in_order,
    replayed,
    written,
)
from tests.parts.redis import OwnRedis

SESSION_S = 3.0
_PATIENCE_S = 120.0
_REPO = Path(__file__).parents[2]


class Script(NamedTuple):
    """A seeded recording and what it must come to."""

    seed: int
    partitions: int
    recording: Path
    records: list[LogRecord]
    wanted: Outcome


def make_script(seed: int, folder: Path, partitions: int = 4, records: int = 3_000, rounds: int = 1) -> Script:
    """A simulated population with most of its logins and transactions left out, many of its payments missing and bad
    records put in: much is decided in few records."""
    random = Random(seed)
    # Of eleven events more than one is kept; every partition has ticks of its own among them.
    events = max(45_000, 11 * records) + 2_000 * max(0, partitions - 4)
    simulate(seed, max(40, records // 90), events, folder / "whole", partitions)
    kept: list[LogRecord] = []
    offsets: dict[tuple[str, int], int] = {}
    for record in in_order(folder / "whole"):
        if not _is_kept(record, random):
            continue
        offset = offsets.get(record[:2], 0)
        offsets[record[:2]] = offset + 1
        kept.append(record._replace(offset=offset))
    assert len(kept) >= records, f"only {len(kept)} records are kept of the simulation"
    mixed = spoiled(kept[:records], rounds, partitions)
    written(mixed, folder / "recording", partitions)
    return Script(seed, partitions, folder / "recording", mixed, replayed(folder / "recording", folder / "out"))


_HOUR_MS = 3_600_000


def _is_kept(record: LogRecord, random: Random) -> bool:
    if record.topic == CONTROL:
        return b'"tick"' not in (record.value or b"") or record.timestamp // _HOUR_MS % 24 == 4
    if record.topic in ("logins", "transactions"):
        return random.random() < 0.06
    if b'"repayment_received"' in (record.value or b""):
        return partition_of(record.key or b"", 5) > 1 or random.random() < 0.4
    return True


class FaultWorker(Worker):
    """A worker process that has imported everything and waits to be told to begin."""

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "tests.faults.worker")

    def __init__(self, log: Path) -> None:
        self._log = log
        self.plan: list[Point] = []
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                self.command,
                cwd=_REPO,
                env={**os.environ, "PYTHONPATH": str(_REPO)},
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self, env: dict[str, str], plan: Sequence[Point]) -> None:
        """Let it become a worker."""
        self.plan = list(plan)
        told = {**env, "FAULTS_PLAN": msgspec.json.encode(self.plan).decode()}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


class Spares:
    """Keeps one worker process ready, so that rows need not wait for Python; the same one for whichever row comes
    next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._ready: FaultWorker | None = None

    def take(self) -> FaultWorker:
        """A process to become a worker; the next one is on its way from now on."""
        taken = self._ready or self._prepare()
        self._ready = self._prepare()
        return taken

    def close(self) -> None:
        if self._ready is not None:
            self._ready.kill()

    def _prepare(self) -> FaultWorker:
        self._count += 1
        return FaultWorker(self._folder / f"worker-{self._count}.log")


class Downstream(threading.Thread):
    """A consumer as every one downstream must be: it reads all outputs while they come, and never jumps to where a
    broker would have it. `errors` are what it was told meanwhile."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        super().__init__(name="downstream", daemon=True)
        self.seen: dict[tuple[str, int], list[tuple[int, bytes]]] = defaultdict(list)
        self.errors: list[str] = []
        self._ended = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "downstream",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "log_level": 0,
                "reconnect.backoff.max.ms": 500,
            }
        )
        self._consumer.assign([TopicPartition(topic, n, 0) for topic in (*OUTPUTS, *DLQS) for n in range(partitions)])

    def run(self) -> None:
        while not self._ended.is_set():
            for message in self._consumer.consume(500, 0.1):
                self._take(message)
        self._consumer.close()

    def _take(self, message: Message) -> None:
        place = (message.topic(), message.partition())
        error = message.error()
        if error is None:
            self.seen[place].append((message.offset(), message.value() or b""))
            return
        self.errors.append(f"{place}: {error}")
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            # The broker doubts its position; it knows better.
            seen = self.seen[place]
            self._consumer.seek(TopicPartition(*place, seen[-1][0] + 1 if seen else 0))

    def close(self) -> None:
        self._ended.set()
        if self.is_alive():
            self.join(10)

    def values(self, topic: str, partitions: int) -> list[bytes]:
        return [value for n in range(partitions) for _, value in self.seen.get((topic, n), ())]


class Stage(Live):
    """Topics and a store, and workers that are started again when they end, as a supervisor would.

    Args:
        cluster: the broker; workers reach it through its proxies.
        spares: where workers come from.
        store: a Redis of the row's own; workers reach it through `redis_proxy`.
        tell: shows what is going on.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: OwnRedis,
        spares: Spares,
        app_id: str,
        folder: Path,
        script: Script,
        tell: Callable[[str], None],
    ) -> None:
        self.cluster = cluster
        self.script = script
        self.random = Random(script.seed)
        self.redis = store
        self.tell = tell
        self.redis_proxy = Proxy(int(store.url.rsplit(":", 1)[1].split("/")[0]), frames=False)
        self.mutant = ""
        self.kills = 0
        self.wanted_workers = 0
        self.next_plans: deque[list[Point]] = deque()
        self.worker_settings: dict[str, Any] = {}
        self.faults: dict[str, str] = {}
        self._spares = spares
        super().__init__(cluster, store, app_id, folder, script.partitions)
        self.pace(0.03)
        self.downstream = Downstream(cluster.bootstrap, script.partitions)
        self.downstream.start()

    # --- workers ------------------------------------------------------------------------------------------------------

    def settings(self, **settings: Any) -> dict[str, str]:
        usual = {
            "broker": self.cluster.proxied,
            "redis_url": f"redis://127.0.0.1:{self.redis_proxy.port}/0",
            "chunk_records": 40,
            "chunk_ms": 10,
            "cached_borrowers": 5,
            "redis_timeout_s": 2,
            "transaction_timeout_ms": 6_000,
            "transaction_deadline_ms": 4_000,
            "stall_s": 25,
            # So that the commit log counts every record of a row: see check_each_counted.
            "dead_letter_window": 1_000_000,
        }
        return super().settings(**(usual | self.worker_settings | settings))

    def hire(self, plan: Sequence[Point] = (), faults: dict[str, str] | None = None, **settings: Any) -> FaultWorker:
        """Start a worker that meets these points."""
        worker = self._spares.take()
        env = self.settings(**settings) | {
            "FAULTS_MUTANT": self.mutant,
            "FAULTS_FOLDER": str(self._folder),
            "FAULTS_SESSION_S": str(SESSION_S),
        }
        worker.begin(env | self.faults | (faults or {}), plan)
        self._workers.append(worker)
        return worker

    @property
    def running(self) -> list[FaultWorker]:
        return [worker for worker in self._workers if worker.exit_code is None]  # type: ignore[misc]

    def supervise(self, count: int, plans: Sequence[Sequence[Point]] = (), **settings: Any) -> None:
        """From now on keep so many workers running; each one started takes the next of the plans."""
        self.wanted_workers = count
        self.worker_settings |= settings
        self.next_plans = deque(list(plan) for plan in plans)
        self.look_after()

    def look_after(self) -> None:
        """Start workers in the place of those that have ended."""
        while len(self.running) < self.wanted_workers:
            self.hire(self.next_plans.popleft() if self.next_plans else ())

    def pace(self, seconds: float) -> None:
        """How long every task rests before each chunk, from now on."""
        self._put("pace", str(seconds))

    def jump(self, ahead_ms: int) -> None:
        """How far ahead of ours the wall clock of the workers is, from now on; told before the first one starts."""
        self._put("wall", str(ahead_ms))

    def _put(self, name: str, text: str) -> None:
        # Whole or not at all: workers read it at any time.
        path = self._folder / f"{name}.new"
        path.write_text(text)
        path.replace(self._folder / name)

    def marks(self) -> list[dict[str, Any]]:
        """What has happened at points."""
        path = self._folder / "marks"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for(self, holds: Callable[[], bool], what: str, timeout_s: float = _PATIENCE_S) -> None:
        """Read the commit logs and look after the workers until something holds."""
        until = time.monotonic() + timeout_s
        while not holds():
            self.look_after()
            if not self.commit_logs.read():
                assert time.monotonic() < until, f"{what}: not so in {timeout_s:g} s\n{self.last_words()}"

    def wait_for_mark(self, at: str, timeout_s: float = _PATIENCE_S) -> dict[str, Any]:
        """Wait until a worker has met a point; returns what it noted."""
        self.wait_for(lambda: any(mark["at"] == at for mark in self.marks()), f"a worker at {at}", timeout_s)
        return next(mark for mark in self.marks() if mark["at"] == at)

    def hold(self, seconds: float, what: str) -> None:
        """Let the workers go on, or try to, for some time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.tell(f"{what}, {left:.0f} s more; {self.commit_logs.folded} of {self.total}")
            self.look_after()
            self.commit_logs.read(0.5)

    def last_words(self) -> str:
        return "\n".join(f"{worker.exit_code}: {worker.log[-1_500:]}" for worker in self._workers[-4:])

    def give_up_seats(self) -> None:
        """Take every member out of the group, as a supervisor may that knows them dead, so that nobody waits for
        their session."""
        leave(self._bootstrap, self.app_id)

    def close(self) -> None:
        self.wanted_workers = 0
        super().close()
        self.downstream.close()
        self.redis_proxy.close()
        self.redis.close()

    # --- the store ----------------------------------------------------------------------------------------------------

    def follow(self, other: OwnRedis) -> None:
        """The checks ask another server from now on."""
        self.redis.close()
        self.redis = self._store = other
        self.config = self.config.model_copy(update={"redis_url": SecretStr(other.url)})

    def store(self) -> "redis_client.Redis":
        """A client of the store, past the proxy."""
        return redis_client.Redis.from_url(self.redis.url)

    def ends(self) -> dict[tuple[str, int], int]:
        """Where the inputs end; asked again where a broker has only just come back."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return super().ends()
            except KafkaException:
                if time.monotonic() > until:
                    raise
                time.sleep(0.3)

    # --- the check ----------------------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        return len(self.script.records)

    def part(self, share: float) -> int:
        """So many offsets that this share of the recording is folded."""
        return int(self.total * share)

    def finish(
        self,
        *,
        recorded: bool = False,
        compare: bool = True,
        wanted: Outcome | None = None,
        timeout_s: float = _PATIENCE_S,
    ) -> None:
        """Wait until all is folded and check everything.

        Args:
            recorded: compare with a replay of the commit log's own ranges, as the records were not all there at the
                start. So is done too where events went on while a sweep was open; what came of each borrower is then
                compared with what the script comes to as well.
            compare: False where the row compares by itself.
            wanted: compare with this, where it is not what the script comes to.
            timeout_s: for the workers to get there.
        """
        self.tell("waiting for the end")
        self.pace(0)
        ends = self.ends()
        logs = self.commit_logs
        self.wait_for(
            lambda: all(logs.reached(*place) >= end for place, end in ends.items()) and not logs.is_sweeping(),
            "all records folded",
            timeout_s,
        )
        self.read_commits()
        self.wait_for(self.store_is_level, "the store level with the commit logs", 60)
        self.tell("checking")
        wanted = self.script.wanted if wanted is None else wanted
        found = self.outcome()
        if compare and not recorded and logs.went_beside():
            check_same_of_each(found, wanted)
            recorded = True
        if recorded:
            wanted = replayed(self.record(self._folder / "recorded"), self._folder / "recorded-out")
        check_commits_tile(self)
        check_claims_move_nothing(logs.records)
        check_log_is_held(logs.records, found)
        check_each_counted(logs.records, self.read_topics(INPUTS), found)
        if compare:
            check_alike(found, wanted)
            check_same(found, wanted)
        check_ids(found)
        check_limit_chains(found)
        self.check_nothing_open()
        self.check_fences()
        self.check_downstream(found)
        assert self.kills_seen() >= self.kills, "a fault that was planned did not happen"

    def kills_seen(self) -> int:
        """Processes that were killed, stopped or told to stop."""
        return self.kills + len([mark for mark in self.marks() if mark["do"] != "sleep"])

    def check_nothing_open(self) -> None:
        """No transaction is open: readers of committed records get as far as all others."""
        admin = AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})
        places = [TopicPartition(topic, n) for topic in TOPICS for n in range(self.partitions)]
        asked = {place: OffsetSpec.latest() for place in places}

        def ends(isolation: IsolationLevel) -> dict[tuple[str, int], int]:
            answers = admin.list_offsets(asked, isolation_level=isolation)
            return {(tp.topic, tp.partition): answer.result(20).offset for tp, answer in answers.items()}

        stable, high = ends(IsolationLevel.READ_COMMITTED), ends(IsolationLevel.READ_UNCOMMITTED)
        open_ones = [place for place in high if stable[place] != high[place]]
        assert open_ones == [], f"transactions left open on {open_ones}"

    def _behind(self, wanted: Mapping[str, Sequence[bytes]]) -> str:
        """How far the reader downstream is in what it has not read whole, and what it was told."""
        lines = []
        for topic, values in wanted.items():
            read = [self.downstream.seen.get((topic, n), []) for n in range(self.partitions)]
            if sum(map(len, read)) < len(values):
                places = ", ".join(f"{len(seen)} up to offset {seen[-1][0] if seen else -1}" for seen in read)
                lines.append(f"{topic}: {sum(map(len, read))} of {len(values)} ({places})")
        return "\n".join([*lines, *self.downstream.errors[-20:]])

    def check_fences(self) -> None:
        """Every take-over has a claim, hence a fence, of its own."""
        told = [line for worker in self._workers for line in worker.said("task taken over")]  # type: ignore[attr-defined]
        # A worker that has only just come takes over what is done already.
        self.read_commits()
        for task, log in enumerate(self.commit_logs.records):
            fences = [line["fence"] for line in told if line["task"] == task]
            claims = {committed.last for committed in log if committed.record.kind == "claim"}
            assert len(set(fences)) == len(fences), f"task {task}: two owners under one fence: {sorted(fences)}"
            assert set(fences) <= claims, f"task {task}: a fence that is no claim"

    def check_downstream(self, found: Outcome) -> None:
        """The reader that was there all the while has seen what there is now: each once, in this order."""
        wanted = {topic: found.outputs[topic] for topic in OUTPUTS}
        wanted |= {topic: [value or b"" for _, value, _ in found.letters[topic]] for topic in DLQS}

        def level() -> bool:
            counts = {topic: len(self.downstream.values(topic, self.partitions)) for topic in wanted}
            return all(counts[topic] >= len(values) for topic, values in wanted.items())

        try:
            self.wait_for(level, "the reader downstream has read all", 60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._behind(wanted)}") from None
        for topic, values in wanted.items():
            assert self.downstream.values(topic, self.partitions) == values, f"the reader saw something else on {topic}"
        for place, seen in self.downstream.seen.items():
            offsets = [offset for offset, _ in seen]
            assert offsets == sorted(set(offsets)), f"the reader saw {place} out of order"


def leave(bootstrap: str, group: str) -> None:
    """Take every member out of a consumer group."""
    # The client must live until the answer is here.
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    described = admin.describe_consumer_groups([group])[group].result(10)
    members = [member.member_id for member in described.members]

    async def run() -> None:
        client = AIOKafkaClient(bootstrap_servers=bootstrap)
        await client.bootstrap()
        try:
            for member in members:
                await client.send(described.coordinator.id, LeaveGroupRequest(group, member))
        finally:
            await client.close()

    asyncio.run(run())
