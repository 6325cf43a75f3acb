"""Named points in the chunk cycle and the take-over at which a worker of the rows kills, stops or delays itself.

The names are put around the worker's own methods from here, in a process that only the rows start: the service itself
knows nothing of them.
"""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.transaction import EndTxnRequest

from streams.store import redis_store
from streams.store.redis_store import RedisStore
from streams.worker import pace
from streams.worker.clock import Clock
from streams.worker.producer import Transactions
from streams.worker.takeover import CommitLog, Takeover
from streams.worker.task import Task
from streams.worker.transport import ChunkConsumer

CYCLE = (
    "cycle.merged",
    "cycle.loaded",
    "cycle.folded",
    "cycle.begun",
    "cycle.outputs_queued",
    "cycle.record_queued",
    "cycle.sent",
    "cycle.ending",
    "cycle.ended",
    "cycle.committed",
    "cycle.part_applied",
    "cycle.applied",
    "cycle.done",
)
"""The steps of the chunk cycle, in order; `sent`: every send is acknowledged; `ending`: EndTxn is on its way."""

TAKEOVER = (
    "takeover.assigned",
    "takeover.fenced",
    "takeover.log_read",
    "takeover.record_queued",
    "takeover.sent",
    "takeover.ending",
    "takeover.claimed",
    "takeover.store_fenced",
    "takeover.wiped",
    "takeover.applied",
    "takeover.copied",
    "takeover.positioned",
    "takeover.sought",
)
"""The steps of the take-over, in order; `wiped` only where the store has to be copied anew."""

_ENDING_S = 0.002


class Point(msgspec.Struct):
    """What happens at the `hit`-th pass of a point: kill, stop (SIGSTOP), term (SIGTERM) or `sleep_s`. `task`: of this
    one alone."""

    at: str
    do: str = "kill"
    hit: int = 1
    sleep_s: float = 0.0
    task: int | None = None


def note(marks: Path, **told: Any) -> None:
    """Note in `marks` that something happens in this process."""
    with marks.open("a") as sink:
        sink.write(json.dumps(told | {"pid": os.getpid()}) + "\n")


class Points:
    """The points of one process. Each one passed is noted in `marks` when something happens there."""

    def __init__(self, plan: list[Point], marks: Path, pace: Path) -> None:
        self._plan = plan
        self._marks = marks
        self._pace = pace
        self._passed: Counter[int] = Counter()
        self._phase: ContextVar[str] = ContextVar("phase", default="clock")
        self._task: ContextVar[int | None] = ContextVar("task", default=None)
        # aiokafka ends transactions in a task of its own: phase and task by client id.
        self._of_client: dict[str, tuple[str, int | None]] = {}

    async def reach(self, name: str) -> None:
        """The worker is at `name` of the phase it is in."""
        await self._reach(name, self._phase.get(), self._task.get())

    async def _reach(self, name: str, phase: str, task: int | None) -> None:
        full = f"{phase}.{name}"
        for index, point in enumerate(self._plan):
            if point.at != full or point.task not in (None, task):
                continue
            self._passed[index] += 1
            if self._passed[index] == point.hit:
                await self._do(point, task)

    async def _do(self, point: Point, task: int | None) -> None:
        note(self._marks, at=point.at, do=point.do, task=task)
        if point.do == "sleep":
            await asyncio.sleep(point.sleep_s)
        else:
            number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}[point.do]
            os.kill(os.getpid(), number)

    # --- around the worker's methods ----------------------------------------------------------------------------------

    def install(self) -> None:
        """Put the points around the methods of this process."""
        self._in_phase(Task, "_own", "takeover", "assigned", None)
        self._in_phase(Task, "_cycle", "cycle", "merged", "done")
        self._around(RedisStore, "load", None, "loaded")
        self._around(Task, "_commit", "folded", "committed")
        self._around_begin_transaction()
        self._around(AIOKafkaProducer, "commit_transaction", "sent", "ended")
        self._around(RedisStore, "apply", None, "applied")
        self._around(RedisStore, "_run", None, self._part)
        self._around(RedisStore, "claim", None, "store_fenced")
        self._around(RedisStore, "wipe", None, "wiped")
        self._around(CommitLog, "last", None, "log_read")
        self._around(Takeover, "_claim", None, "claimed")
        self._around(Takeover, "_copy", None, "copied")
        self._around(Takeover, "_positions", None, "positioned")
        self._around(ChunkConsumer, "seek", None, "sought")
        self._around_sends()
        self._around_begin()
        self._around_end()

    def _around(self, owner: type, method: str, before: str | None, after: str | Callable[..., str] | None) -> None:
        inner = getattr(owner, method)

        @wraps(inner)
        async def outer(this: Any, *args: Any, **named: Any) -> Any:
            if before is not None:
                await self.reach(before)
            result = await inner(this, *args, **named)
            if after is not None:
                await self.reach(after if isinstance(after, str) else after(*args))
            return result

        setattr(owner, method, outer)

    def _in_phase(self, owner: type, method: str, phase: str, before: str, after: str | None) -> None:
        inner = getattr(owner, method)

        @wraps(inner)
        async def outer(this: Any, *args: Any) -> Any:
            set_phase = self._phase.set(phase)
            set_task = self._task.set(this.partition)
            try:
                if phase == "cycle":
                    # Read each time: the row lets its workers run when it has done its worst.
                    await asyncio.sleep(float(self._pace.read_text()))
                await self.reach(before)
                result = await inner(this, *args)
                if after is not None:
                    await self.reach(after)
                return result
            finally:
                self._phase.reset(set_phase)
                self._task.reset(set_task)

        setattr(owner, method, outer)

    def _part(self, script: str, *_: Any) -> str:
        # Only apply is cut into parts: after any other script this name has no meaning.
        return "part_applied" if script == "apply" else f"ran_{script}"

    def _around_sends(self) -> None:
        inner = Transactions._send

        async def outer(this: Transactions, messages: Any) -> Any:
            result = await inner(this, messages)
            queued = this.__dict__.setdefault("points_queued", 0)
            this.__dict__["points_queued"] = queued + 1
            # First the outputs, then the commit record.
            await self.reach("outputs_queued" if queued % 2 == 0 else "record_queued")
            return result

        Transactions._send = outer  # type: ignore[method-assign, assignment]

    def _around_begin(self) -> None:
        inner = Transactions.begin.__func__  # type: ignore[attr-defined]

        async def outer(cls: type[Transactions], *args: Any) -> Transactions:
            producer: Transactions = await inner(cls, *args)
            await self.reach("fenced")
            return producer

        Transactions.begin = classmethod(outer)  # type: ignore[method-assign, assignment]

    def _around_begin_transaction(self) -> None:
        inner = AIOKafkaProducer.begin_transaction

        async def outer(this: AIOKafkaProducer) -> None:
            self._of_client[this.client._client_id] = (self._phase.get(), self._task.get())
            await inner(this)
            await self.reach("begun")

        AIOKafkaProducer.begin_transaction = outer

    def _around_end(self) -> None:
        inner = AIOKafkaClient.send

        async def outer(this: AIOKafkaClient, node: int, request: Any, **named: Any) -> Any:
            sending = asyncio.ensure_future(inner(this, node, request, **named))
            if isinstance(request, EndTxnRequest):
                await asyncio.sleep(_ENDING_S)
                await self._reach("ending", *self._of_client[this._client_id])
            return await sending

        AIOKafkaClient.send = outer


def install(environment: dict[str, str]) -> None:
    """Install what the environment of a row's worker asks for."""
    plan = msgspec.json.decode(environment.get("FAULTS_PLAN", "[]"), type=list[Point])
    # Small, so that a small recording makes many chunks, and each of them several parts.
    redis_store.PART_STATES = 3
    pace.RECORDS_LEAST = 40
    folder = Path(environment["FAULTS_FOLDER"])
    if (folder / "wall").exists():
        wall = folder / "wall"
        Clock.__init__.__defaults__ = (lambda: time.time_ns() // 1_000_000 + int(wall.read_text()),)
    Points(plan, folder / "marks", folder / "pace").install()
