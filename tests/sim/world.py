"""One run: workers, broker, store and group in one loop, and what a seed lets go wrong among them."""

import asyncio
import gc
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import structlog
from aiokafka import TopicPartition
from faust.types import TP

from schemas.partitioning import partition_of
from schemas.topics import COMMITS
from streams.engine.order import LogRecord
from streams.engine.state import unpack_task
from streams.store.contract import Fenced
from streams.store.seal import unseal
from streams.worker import takeover, task
from streams.worker.assignor import share_out
from streams.worker.commitlog import CommitLogError, Committed, Reader, encode
from streams.worker.observer import Silent
from streams.worker.producer import Message, Superseded
from streams.worker.refusals import PoisonLimit
from streams.worker.takeover import Takeover
from streams.worker.task import Limits, Task
from streams.worker.transport import Fetched
from tests.sim.broker import Broker, Network, Weather
from tests.sim.engine import BAD, CONTROL, Engine
from tests.sim.loop import Deadlock, Process, SimLoop, bury
from tests.sim.store import Server, SimStore

TOPICS = (CONTROL, "logins", "repayments")
_SESSION_S = 3.0
_STORM_S = 12.0
_END_S = 100.0
_BORROWERS = 5
_NO_POISON = PoisonLimit(1_000, 1.0, 1_000, 1_000)


class Plan:
    """What a seed comes to; `harsh`: nothing is spared."""

    def __init__(self, seed: int, harsh: bool) -> None:
        random = self.random = Random(seed)
        self.partitions = random.choice((1, 1, 2))
        self.workers = random.choice((1, 2, 2, 3))
        self.records = random.randint(6, 40)
        self.beforehand = random.random() < 0.5
        """Whether all input is there before the first worker is."""
        bad = harsh or random.random() < 0.8
        self.weather = Weather(
            lost=random.choice((0.02, 0.08) if harsh else (0, 0.02, 0.08)) if bad else 0,
            refused=random.choice((0, 0.05) if harsh else (0, 0, 0.02)) if bad else 0,
            slow=random.choice((0.2, 0.4) if harsh else (0, 0.02, 0.2)) if bad else 0,
        )
        self.die_within = random.choice((0, 150, 600)) if bad else 0
        self.stop_within = random.choice((0, 200, 800)) if bad else 0
        self.kicks = random.choice((5, 12) if harsh else (0, 0, 2, 5)) if bad else 0
        self.store_trouble = random.choice((4, 8) if harsh else (0, 0, 1, 4)) if bad else 0
        self.part_bytes = random.choice((None, 260, 400))


class Inlet:
    """A worker's consumer: fetches in pieces of any size what the broker has."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._open: set[TP] = set()
        self._stands: dict[TP, tuple[int, int, int | None]] = {}
        self._opened = asyncio.Event()
        self._queue: deque[Fetched] = deque()
        self._queued = asyncio.Event()
        self._news = asyncio.Event()
        worker.world.broker.news.append(self._news)

    async def seek(self, positions: Mapping[TP, int], session: int) -> None:
        await asyncio.sleep(self._worker.world.network.delay_s())
        for tp, offset in positions.items():
            self._stands[tp] = (session, offset, None)
        self._news.set()

    def open(self, tps: Iterable[TP]) -> None:
        self._open |= set(tps)
        self._opened.set()
        self._news.set()

    def shut(self, tps: Iterable[TP]) -> None:
        self._open -= set(tps)

    async def is_member(self) -> bool:
        return await self._worker.is_member()

    def forget(self) -> None:
        self._stands.clear()
        self._open.clear()

    async def fetch(self) -> None:
        world = self._worker.world
        while True:
            asked = {tp: stand for tp, stand in self._stands.items() if tp in self._open}
            if not asked:
                self._opened.clear()
                await self._opened.wait()
                continue
            brought = 0
            self._news.clear()
            most = world.random.choice((1, 3, 10))
            found = await world.read(
                {tp: (offset, most) for tp, (_, offset, _) in asked.items() if world.random.random() < 0.8}
            )
            for tp, (records, position, end) in found.items():
                stand = asked[tp]
                if self._stands.get(tp) != stand:
                    continue
                self._stands[tp] = now = (stand[0], position, end)
                if now != stand or records:
                    brought += 1
                    fetched = Fetched(tp.topic, tp.partition, stand[0], stand[1], position, end, records)
                    self._queue.append(fetched)
                    self._queued.set()
            if not brought and len(found) == len(asked):
                await self._news.wait()
            await asyncio.sleep(world.random.random() * 0.01)

    async def hand_over(self) -> None:
        """What was fetched waits for its turn."""
        random = self._worker.world.random.random
        while True:
            while self._queue:
                if random() < 0.2:
                    await asyncio.sleep(random() * (1.0 if random() < 0.3 else 0.01))
                self._worker.deliver(self._queue.popleft())
            self._queued.clear()
            await self._queued.wait()


class Worker:
    """One worker process: what `streams.worker.app.Worker` does with its tasks, on the simulated group."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.name = f"w{number}"
        self.process = Process(self.name, world.killed, world.stopped)
        self.ending = False
        self._tasks: dict[int, Task] = {}
        self._inlet = Inlet(self)
        self._engine = Engine()
        self._turn = asyncio.Lock()
        self._takeover = Takeover(world.broker, "sim", TOPICS, lambda _: None)

    def start(self) -> None:
        self.process.spawn(self.world.loop, self._inlet.fetch())
        self.process.spawn(self.world.loop, self._inlet.hand_over())
        self.process.spawn(self.world.loop, self._heartbeats())

    async def is_member(self) -> bool:
        await asyncio.sleep(self.world.network.delay_s())
        return self.name in self.world.group.members

    async def _heartbeats(self) -> None:
        """Join the group, and join it again when it has gone on without us."""
        while not self.ending:
            if not await self.is_member():
                await self.revoke()
                self.world.group.join(self)
            await asyncio.sleep(0.3)

    def deliver(self, fetched: Fetched) -> None:
        owner = self._tasks.get(fetched.partition)
        if owner is not None:
            owner.deliver(fetched)

    async def revoke(self) -> None:
        self._inlet.forget()
        async with self._turn:
            await self._stop_tasks()

    async def assign(self, numbers: Sequence[int]) -> None:
        async with self._turn:
            await self._stop_tasks()
            if self.ending:
                return
            for number in numbers:
                store = self.world.store_of(number)
                owner = self._tasks[number] = Task(
                    store,
                    self._engine,
                    self._inlet,
                    Silent(),
                    Limits(self.world.random.choice((2, 6, 50)), 0.01, self.world.random.choice((0, 100)), _NO_POISON),
                    TOPICS,
                    partial(self._take, store),
                    self._fail,
                    self.world.loop.time,
                )
                owner.start()

    async def _take(self, store: SimStore, anew: bool) -> Any:
        owned = await self._takeover.take(store, anew=anew)
        self.world.trace(f"{self.name}: owns {store.partition}, fence {owned.claim.last}, positions {owned.positions}")
        return owned

    async def _stop_tasks(self) -> None:
        tasks, self._tasks = self._tasks, {}
        await asyncio.gather(*(owner.stop(0.2) for owner in tasks.values()))

    def _fail(self, error: BaseException) -> None:
        if not self.ending and not self.process.dead:
            self.ending = True
            self.world.failed(self, error)
            asyncio.ensure_future(self._end())  # noqa: RUF006 - the process keeps it

    async def _end(self) -> None:
        await self._stop_tasks()
        self.process.kill()


class Group:
    """The coordinator: shares tasks out among its members, in its own time, and waits for nobody for long."""

    def __init__(self, world: "World") -> None:
        self.members: dict[str, Worker] = {}
        self._world = world
        self._owned: dict[str, list[int]] = {}
        self._changed = asyncio.Event()

    def join(self, worker: Worker) -> None:
        self.members[worker.name] = worker
        self._changed.set()

    def leave(self, worker: Worker) -> None:
        if self.members.pop(worker.name, None) is not None:
            self._changed.set()

    async def run(self) -> None:
        world = self._world
        while True:
            await self._changed.wait()
            await asyncio.sleep(world.random.random() * 0.3)
            self._changed.clear()
            members = dict(self.members)
            for worker in members.values():
                worker.process.spawn(world.loop, worker.revoke())
            await asyncio.sleep(world.random.random() * 0.3)
            if not members:
                continue
            owned = {name: self._owned.get(name, []) for name in members}
            self._owned = share_out(range(world.plan.partitions), owned)
            world.trace(f"group: {self._owned}")
            for name, numbers in self._owned.items():
                members[name].process.spawn(world.loop, members[name].assign(numbers))


class World:
    """All of it. `wrong` is what must not have happened; empty after a good run."""

    def __init__(self, seed: int, trace: bool = False, harsh: bool = False) -> None:
        self.plan = Plan(seed, harsh)
        self.random = self.plan.random
        self.loop = SimLoop()
        self.loop.set_exception_handler(self._unexpected)
        self.network = Network(self.loop, self.random, self.plan.weather)
        self.broker = Broker(self.network, self.plan.partitions)
        self.servers = [Server(partition) for partition in range(self.plan.partitions)]
        self.wrong: list[str] = []
        self.failures: list[str] = []
        self.kills = self.stops = 0
        self._storm = True
        self._readers = [Reader(partition) for partition in range(self.plan.partitions)]
        self._read = [0] * self.plan.partitions
        self._names = itertools.count()
        self._trace = trace
        self._buried: list[asyncio.Task[Any]] = []
        self._workers: list[Worker] = []
        self.group: Group

    def trace(self, line: str) -> None:
        if self._trace:
            print(f"{self.loop.now:9.3f}  {line}")

    def store_of(self, partition: int) -> SimStore:
        return SimStore(
            self.servers[partition],
            self.network,
            lambda offset: self.broker.is_committed(partition, offset),
            self.wrong.append,
        )

    async def read(self, asked: Mapping[TP, tuple[int, int]]) -> Mapping[TP, tuple[list[LogRecord], int, int]]:
        """One fetch of a consumer; no answer is none."""

        def serve() -> Mapping[TP, tuple[list[LogRecord], int, int]]:
            found = {}
            for tp, (start, most) in asked.items():
                place = TopicPartition(*tp)
                found[tp] = (*self.broker.committed(place, start, most), self.broker.end(place))
            return found

        try:
            return await self.network.call(serve)
        except TimeoutError:
            return {}
        except Exception:
            return {}

    # --- what goes wrong ----------------------------------------------------------------------------------------------

    def killed(self, process: Process) -> None:
        self.kills += 1
        self.trace(f"{process.name}: dies")
        worker = next(worker for worker in self._workers if worker.process is process)
        self._buried += process.tasks
        self.loop.outside(0 if worker.ending else _SESSION_S, self.group.leave, worker)
        self.loop.outside(self.random.random() * 2 * _SESSION_S, self._start_worker)

    def stopped(self, process: Process) -> None:
        self.stops += 1
        span_s = self.random.random() * self.random.choice((0.2, 2)) * _SESSION_S
        self.trace(f"{process.name}: stands still for {span_s:.1f} s")
        worker = next(worker for worker in self._workers if worker.process is process)
        if span_s > _SESSION_S:
            self.loop.outside(_SESSION_S, self.group.leave, worker)
        self.loop.outside(span_s, process.go_on, self.loop)

    def failed(self, worker: Worker, error: BaseException) -> None:
        """A worker stops by itself: right where somebody else has its task, else a defect."""
        told = f"{type(error).__name__}: {error}"
        self.trace(f"{worker.name}: stops: {told}")
        self.failures.append(told)
        if not isinstance(error, Superseded | Fenced):
            self.wrong.append(f"{worker.name} stopped: {told}")

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "never retrieved" not in context["message"] and "destroyed" not in context["message"]:
            self.wrong.append(f"{context['message']}: {context.get('exception')!r}")

    def _start_worker(self) -> None:
        worker = Worker(self, next(self._names))
        self._workers.append(worker)
        process = worker.process
        if self._storm and self.plan.die_within and self.random.random() < 0.8:
            process.die_at = self.random.randint(1, self.plan.die_within)
        if self._storm and self.plan.stop_within and self.random.random() < 0.8:
            process.stop_at = self.random.randint(1, self.plan.stop_within)
            process.stop_again = self.random.choice((0, self.random.randint(1, self.plan.stop_within)))
        self.trace(f"{worker.name}: starts")
        worker.start()

    async def _trouble_stores(self) -> None:
        for _ in range(self.plan.store_trouble):
            await asyncio.sleep(self.random.random() * _STORM_S / 3)
            if not self._storm:
                return
            server = self.random.choice(self.servers)
            kind = self.random.choice((server.fail_over, server.lose_all, partial(server.damage, self.random.choice)))
            self.trace(f"store {server.partition}: {getattr(kind, 'func', kind).__name__}")
            kind()

    async def _kick(self) -> None:
        """The group takes a worker for dead that is alive, and does not know of it yet."""
        for _ in range(self.plan.kicks):
            await asyncio.sleep(self.random.random() * _STORM_S / 4)
            if self._storm and self.group.members:
                worker = self.group.members[self.random.choice(sorted(self.group.members))]
                self.trace(f"group: takes {worker.name} for dead")
                self.group.leave(worker)

    async def _replicate(self) -> None:
        while self._storm:
            await asyncio.sleep(self.random.random())
            self.random.choice(self.servers).replicate()

    async def _feed(self) -> None:
        """Producers: alone, or in transactions that may be aborted."""
        keys = [b"b%d" % number for number in range(40)]
        count = self.plan.partitions
        by_partition = [[key for key in keys if partition_of(key, count) == at][:_BORROWERS] for at in range(count)]
        pause_s = 0.0 if self.plan.beforehand else self.random.choice((0.02, 0.2))
        for number in range(self.plan.records * self.plan.partitions):
            if pause_s:
                await asyncio.sleep(self.random.random() * pause_s)
            partition = self.random.randrange(self.plan.partitions)
            topic = self.random.choices(TOPICS, (1, 4, 4))[0]
            at_ms = 1_000 + number * 10 - self.random.choice((0, 0, 0, 35))
            value = BAD if self.random.random() < 0.05 else b"%d" % number
            key = None if topic == CONTROL else self.random.choice(by_partition[partition])
            message = Message(topic, partition, key, value, (), at_ms)
            if self.random.random() < 0.15:
                name = f"lender-{number}"
                epoch = self.broker.init_producer(name)
                self.broker.produce(name, epoch, [message])
                self.broker.end_transaction(name, epoch, self.random.random() < 0.6)
            else:
                self.broker.append(message, None)

    # --- a run --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until all input is taken and all is quiet, or `wrong` tells what was wrong."""
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._live())
        except Deadlock:
            self.wrong.append("nothing will ever happen again, and not all is done")
        except CommitLogError as error:
            self.wrong.append(str(error))
        finally:
            for worker in self._workers:
                worker.process.dead = True
                self._buried += worker.process.tasks
            bury(self._buried)
            asyncio.set_event_loop(None)
            self.loop.close()

    async def _live(self) -> None:
        self.group = Group(self)
        side = [asyncio.ensure_future(self.group.run()), asyncio.ensure_future(self._replicate())]
        feeding = asyncio.ensure_future(self._feed())
        if self.plan.beforehand:
            await feeding
            await asyncio.sleep(1)
        for _ in range(self.plan.workers):
            self._start_worker()
        side += [asyncio.ensure_future(self._trouble_stores()), asyncio.ensure_future(self._kick())]
        while not (feeding.done() and self._all_done()) and not self.wrong:
            await asyncio.sleep(0.2)
            if self._storm and self.loop.now > _STORM_S:
                self.clear_up()
            if self.loop.now > _END_S:
                self.wrong.append(f"not all was taken in {_END_S:.0f} s")
        for work in (*side, feeding):
            work.cancel()
        await asyncio.gather(*side, feeding, return_exceptions=True)

    def clear_up(self) -> None:
        """From now on nothing goes wrong any more: all must come to its end."""
        self.trace("the weather clears up")
        self._storm = False
        for partition in range(self.plan.partitions):
            # A task with nothing to do does not look at its store.
            self.broker.append(Message(CONTROL, partition, None, b"last", (), 10_000), None)
        self.plan.weather.clear_up()
        for worker in self._workers:
            process = worker.process
            process.die_at = process.stop_at = process.stop_again = 0

    def _all_done(self) -> bool:
        if not self.broker.is_quiet:
            return False
        for partition, server in enumerate(self.servers):
            last = self._follow(partition)
            if last is None or server.held._meta.applied != last.last:
                return False
            if server.held._task is not None and unpack_task(unseal("", server.held._task)).sweep is not None:
                return False
            positions = last.record.positions
            for topic in TOPICS:
                if positions.get(topic, (0, 0))[0] < self._last(TopicPartition(topic, partition)):
                    return False
        return True

    def _follow(self, partition: int) -> Committed | None:
        """The newest commit of a task."""
        position = self._read[partition]
        records, self._read[partition] = self.broker.committed(TopicPartition(COMMITS, partition), position, 1 << 30)
        for record in records:
            self._readers[partition].feed(record.offset, record.value)
        return self._readers[partition].last

    def _last(self, place: TopicPartition) -> int:
        """The offset after the last committed record."""
        log = self.broker.logs.get(place, [])
        for offset in range(len(log) - 1, -1, -1):
            record, transaction = log[offset]
            if record is not None and (transaction is None or transaction.committed):
                return offset + 1
        return 0


@contextmanager
def surroundings(part_bytes: int | None) -> Iterator[None]:
    """Quiet logs, commit records in as many parts as a seed wants, and no collector between two steps."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    cut: Callable[..., Any] = encode if part_bytes is None else partial(encode, limit=part_bytes)
    encoders = task.encode, takeover.encode  # type: ignore[attr-defined]
    task.encode = takeover.encode = cut  # type: ignore[attr-defined]
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        task.encode, takeover.encode = encoders  # type: ignore[attr-defined]
        structlog.configure(**before)
