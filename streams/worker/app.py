"""The worker process: a Faust app whose agent hands chunks to tasks, and what keeps them in order.

It stops at once, with a line that says why, when going on could lose or double anything: another owner holds a task,
partition numbers differ between inputs, a log is shorter than it was, an exception nobody expected.
"""

import asyncio
import logging
import signal
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import structlog
import uvloop
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.types import TP

from schemas.topics import COMMITS, CONTROL, INPUTS, TOPICS
from streams.blacklist_keys import load_keys
from streams.config import PREFIX, ConfigError, Settings, kafka_options
from streams.engine.chunk import PolicyInForce
from streams.engine.fold import Engine
from streams.engine.state import StateError
from streams.metrics import Metrics
from streams.policy import loader
from streams.store.contract import Store, StoreError
from streams.store.redis_store import RedisStore, check_settings, open_redis
from streams.web import serving
from streams.worker import collector
from streams.worker.allocator import give_back
from streams.worker.clock import Clock
from streams.worker.commitlog import CommitLogError
from streams.worker.observer import Observer
from streams.worker.producer import Superseded
from streams.worker.refusals import Poisoned, PoisonLimit
from streams.worker.takeover import KafkaBroker, Owned, Takeover, TakeoverError
from streams.worker.task import FoldEngine, HandoverError, Limits, Refusing, Task
from streams.worker.transport import ChunkApp, OutOfGroup
from streams.worker.trim import Trimmer
from streams.worker.watchdog import Watchdog

FAILED_EXIT = 1
_BEAT_S = 0.5
_LAG_EVERY_S = 5.0
_GRACE_S = 3.0
_STOP_S = 10.0
_TOLD = (
    Superseded,
    StoreError,
    StateError,
    CommitLogError,
    TakeoverError,
    HandoverError,
    OutOfGroup,
    Refusing,
    Poisoned,
    ConfigError,
)
"""Exceptions whose message says all there is to say; any other is logged with its stack."""

log = structlog.get_logger(__name__)


class SplitAssignment(Exception):
    """The group gave this worker different partition numbers of different inputs."""


def tasks_of(assigned: Iterable[TP]) -> list[int]:
    """The tasks that an assignment makes up.

    Raises:
        SplitAssignment: it is not the same partition numbers of every input.
    """
    numbers: dict[str, set[int]] = {topic: set() for topic in INPUTS}
    for tp in assigned:
        numbers[tp.topic].add(tp.partition)
    if len({frozenset(owned) for owned in numbers.values()}) > 1:
        told = ", ".join(f"{topic} {sorted(owned)}" for topic, owned in sorted(numbers.items()))
        raise SplitAssignment(
            f"partition numbers differ between inputs ({told}): give all inputs the same number of partitions "
            "(duewatch topics check) and run one version of the worker"
        )
    return sorted(numbers[CONTROL])


class Worker:
    """One worker process.

    Args:
        settings: all of it.
        engine: folds the chunks.
        store_of: the store of a task.
        observer: is told what happens.
        check_crcs: whether to check the checksums of what the broker sends.
    """

    def __init__(
        self,
        settings: Settings,
        engine: FoldEngine,
        store_of: Callable[[int], Store],
        observer: Observer,
        *,
        check_crcs: bool = True,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store_of = store_of
        self._observer = observer
        self._tasks: dict[int, Task] = {}
        self._clock: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._began_s = time.monotonic()
        self._told_ready = False
        self._watchdog = Watchdog(settings.stall_s)
        self._takeover = Takeover(
            KafkaBroker(settings, check_crcs=check_crcs), settings.app_id, INPUTS, self._progressed
        )
        self._app = ChunkApp(settings, self._committed, check_crcs=check_crcs)
        self._app.agent(self._app.chunks_of(INPUTS), name="chunks")(self._hand_out)
        self._app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        self._app.on_partitions_assigned.connect(self._on_assigned, weak=False)

    async def run(self) -> int:
        """Work until told to stop or until something fails; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end, 0)
        self._watchdog.start()
        trimmer = Trimmer(self._settings, lambda: {task.partition: task.spare_before for task in self._tasks.values()})
        background = [asyncio.create_task(work) for work in (self._beat(), self._watch_lag(), trimmer.run(self._fail))]
        starting = asyncio.ensure_future(self._app.start())
        try:
            await asyncio.wait({starting, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await self._ended
        except Exception as error:
            self._fail(error)
        finally:
            starting.cancel()
            for task in background:
                task.cancel()
            await self._stop()
        return self._ended.result()

    def end(self, code: int) -> None:
        """Stop, with this exit code."""
        if not self._ended.done():
            self._ended.set_result(code)

    # --- what Faust calls --------------------------------------------------------------------------------------------

    async def _hand_out(self, stream: "object") -> None:
        async for event in stream.noack().events():  # type: ignore[attr-defined]
            fetched = event.message.value
            task = self._tasks.get(fetched.partition)
            if task is not None:
                try:
                    task.deliver(fetched)
                except Exception as error:
                    # Faust would take the chunk for done and go on.
                    self._fail(error)

    async def _on_revoked(self, app: object, revoked: set[TP], **_: object) -> None:
        await self._stop_tasks(_GRACE_S)

    async def _on_assigned(self, app: object, assigned: set[TP], **_: object) -> None:
        try:
            numbers = tasks_of(assigned)
        except SplitAssignment as error:
            self._fail(error)
            return
        await self._stop_tasks(_GRACE_S)
        log.info("tasks assigned", tasks=numbers)
        self._observer.assigned(numbers)
        cases = self._settings.cached_borrowers // max(len(numbers), 1)
        chosen = self._settings
        limits = Limits(
            chosen.chunk_records, chosen.chunk_ms / 1000, cases, PoisonLimit.of(chosen), chosen.snapshot_bytes
        )
        for number in numbers:
            store = self._store_of(number)
            task = self._tasks[number] = Task(
                store, self._engine, self._app.consumer, self._observer, limits, INPUTS, self._take(store), self._fail
            )
            task.start()
        if 0 in self._tasks and self._settings.clock == "worker":
            self._clock = asyncio.create_task(self._run_clock())

    def _take(self, store: Store) -> Callable[[bool], Awaitable[Owned]]:
        async def take(anew: bool) -> Owned:
            try:
                return await self._takeover.take(store, anew=anew)
            finally:
                give_back()

        return take

    # --- what tasks call ---------------------------------------------------------------------------------------------

    def _progressed(self, partition: int) -> None:
        task = self._tasks.get(partition)
        if task is not None:
            task.progress_s = time.monotonic()

    def _committed(self) -> dict[TP, int]:
        return {tp: offset for task in self._tasks.values() for tp, offset in task.positions.items()}

    def _fail(self, error: BaseException) -> None:
        """Stop for `error`: what goes on after it might be wrong."""
        if self._ended.done():
            return
        if isinstance(error, (*_TOLD, SplitAssignment)):
            log.error("worker stops", because=str(error))
        else:
            # Without the message of the exception: it may quote an event.
            stack = "".join(traceback.format_tb(error.__traceback__))
            log.error("worker stops: this should not happen", because=type(error).__name__, stack=stack)
        self.end(FAILED_EXIT)

    # --- meanwhile ---------------------------------------------------------------------------------------------------

    async def _run_clock(self) -> None:
        try:
            await Clock(self._settings).run()
        except Exception as error:
            self._fail(error)

    async def _beat(self) -> None:
        """Show the watchdog that the loop turns, and notice what Faust only notes."""
        while True:
            now_s = time.monotonic()
            self._watchdog.beat(max((task.stalled_s(now_s) for task in self._tasks.values()), default=0.0))
            if self._app.crashed:
                self._fail(self._app.crash_reason or RuntimeError("Faust crashed"))
            try:
                self._app.check_group()
            except OutOfGroup as error:
                self._fail(error)
            if not self._told_ready and self._tasks and all(task.ready for task in self._tasks.values()):
                self._told_ready = True
                log.info("worker ready", tasks=sorted(self._tasks), seconds=round(now_s - self._began_s, 1))
            await asyncio.sleep(_BEAT_S)

    async def _watch_lag(self) -> None:
        """Ask the broker where the logs end: a fetcher that has died knows of no lag."""
        while True:
            await asyncio.sleep(_LAG_EVERY_S)
            committed = self._committed()
            if not committed:
                continue
            try:
                ends = await self._app.consumer.ends(committed)
            except KafkaError:
                continue
            for tp, end in ends.items():
                lag = max(0, end - committed[tp])
                self._observer.lag(tp.topic, tp.partition, lag)
                task = self._tasks.get(tp.partition)
                if task is not None:
                    task.told_end(tp.topic, end)

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _stop_tasks(self, grace_s: float) -> None:
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.wait({self._clock})
            self._clock = None
        tasks, self._tasks = self._tasks, {}
        await asyncio.gather(*(task.stop(grace_s) for task in tasks.values()))

    async def _stop(self) -> None:
        await self._stop_tasks(_GRACE_S)
        try:
            async with asyncio.timeout(_STOP_S):
                await self._app.stop()
        except Exception as error:
            log.warning("the group was not left in good order", because=type(error).__name__)
        self._watchdog.stop()


async def _find_broker(settings: Settings) -> tuple[int, bool]:
    """How many partitions every input has, and whether the checksums of what the broker writes itself can be trusted.

    Raises:
        ConfigError: a topic is not there, or the inputs differ. A missing output would hold up its task for good, one
            transaction after the other.
    """
    admin = AIOKafkaAdminClient(**kafka_options(settings), client_id=f"{settings.app_id}-start")
    try:
        await admin.start()
        described = await admin.describe_topics()
        cluster = await admin.describe_cluster()
    except KafkaError as error:
        raise ConfigError(f"broker ({PREFIX}BROKER): {settings.broker} does not answer: {error}") from error
    finally:
        await admin.close()
    found = {topic["topic"]: len(topic["partitions"]) for topic in described}
    missing = [name for name in TOPICS if name not in found]
    if missing:
        raise ConfigError(f"topics are missing ({', '.join(missing)}): duewatch topics create")
    counts = {name: found[name] for name in (*INPUTS, COMMITS)}
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{topic} {count}" for topic, count in counts.items())
        raise ConfigError(
            f"inputs and commit log need the same number of partitions, found {told}: duewatch topics create"
        )
    # The embedded broker of the demo (librdkafka's mock cluster) writes transaction markers without a checksum.
    return counts[CONTROL], not str(cluster.get("cluster_id")).startswith("mockCluster")


async def serve(settings: Settings, engine_for: Callable[[int], FoldEngine], observer: Observer) -> int:
    """Run one worker until it is told to stop; returns its exit code.

    Args:
        engine_for: makes the engine, given the number of partitions.
    """
    try:
        partitions, check_crcs = await _find_broker(settings)
        redis = open_redis(settings)
        await check_settings(redis)
    except (ConfigError, StoreError) as error:
        log.error("worker does not start", because=str(error))
        return FAILED_EXIT
    try:
        worker = Worker(
            settings,
            engine_for(partitions),
            lambda task: RedisStore(redis, settings.app_id, task),
            observer,
            check_crcs=check_crcs,
        )
        return await worker.run()
    finally:
        await redis.aclose()


def run_worker(settings: Settings) -> int:
    """Run the worker of `settings` in this process; returns its exit code.

    It is 0 after SIGTERM or SIGINT and 1 after a failure; the watchdog ends the process with 70.
    """
    try:
        policy = loader.load(settings.policy)
        signer = None if settings.blacklist_keys is None else load_keys(settings.blacklist_keys)
    except (loader.PolicyError, ConfigError) as error:
        log.error("worker does not start", because=str(error))
        return FAILED_EXIT
    # Its body is not told to anybody.
    in_force = PolicyInForce(policy.id, loader.digest(policy), body="")
    metrics = Metrics(in_force, [bucket.name for bucket in policy.buckets])

    def engine_for(partitions: int) -> Engine:
        metrics.expect(partitions)
        return Engine(policy, partitions=partitions, signer=signer)

    async def serve_both() -> int:
        try:
            async with serving(metrics, settings):
                return await serve(settings, engine_for, metrics)
        except ConfigError as error:
            log.error("worker does not start", because=str(error))
            return FAILED_EXIT

    return _run(serve_both())


def run_with(settings: Settings, engine_for: Callable[[int], FoldEngine], observer: Observer) -> int:
    """`run_worker` with an engine and an observer of the caller's choice, and nothing over HTTP."""
    return _run(serve(settings, engine_for, observer))


def _run(work: Coroutine[Any, Any, int]) -> int:
    # At debug level these tell keys and values, which may be personal data.
    for name in ("aiokafka", "faust", "mode"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uvloop.install()
    collector.begin()
    return asyncio.run(work)
