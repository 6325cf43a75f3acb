"""An event loop whose time is virtual, and processes in it that can be killed and stopped between any two steps."""

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any

_process: ContextVar["Process | None"] = ContextVar("process", default=None)


class Process:
    """What runs together and dies together. `die_at` and `stop_at` count its steps (0: never).

    A step is what runs between two awaits. Killed, nothing of it runs again, no `finally` and no answer; stopped, it
    goes on later as if nothing had been.
    """

    def __init__(self, name: str, killed: Callable[["Process"], None], stopped: Callable[["Process"], None]) -> None:
        self.name = name
        self.dead = False
        self.halted = False
        self.steps = 0
        self.die_at = 0
        self.stop_at = 0
        self.stop_again = 0
        """After how many more steps it stops again (0: never)."""
        self.tasks: list[asyncio.Task[Any]] = []
        self._killed = killed
        self._stopped = stopped
        self._parked: list[asyncio.Handle] = []

    def admits(self, handle: asyncio.Handle) -> bool:
        """Whether the next step of it runs now."""
        if self.dead:
            return False
        if self.halted:
            self._parked.append(handle)
            return False
        self.steps += 1
        if self.steps == self.die_at:
            self.kill()
            return False
        if self.steps == self.stop_at:
            self.halted = True
            self._parked.append(handle)
            self._stopped(self)
            return False
        return True

    def kill(self) -> None:
        if not self.dead:
            self.dead = True
            self._parked.clear()
            self._killed(self)

    def go_on(self, loop: "SimLoop") -> None:
        if self.halted and not self.dead:
            self.halted = False
            self.stop_at = self.steps + self.stop_again if self.stop_again else 0
            parked, self._parked = self._parked, []
            for handle in parked:
                loop.put(handle)

    def spawn(self, loop: "SimLoop", work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` as a part of this process."""
        context = Context()
        context.run(_process.set, self)
        loop.create_task(work, context=context)


class Deadlock(Exception):
    """Nothing is left that could ever happen."""


class SimLoop(asyncio.BaseEventLoop):
    """Runs what is ready in its order; where nothing is, time jumps to the next moment at which something is."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timed = 0
        self.void = Context()
        """The context of what belongs to no process: network, broker, store."""
        self.set_task_factory(_make_task)

    def time(self) -> float:
        return self.now

    def outside(self, delay_s: float, call: Callable[..., object], *args: Any) -> None:
        """Call later, whatever becomes of the process that asks for it."""
        self.call_at(self.now + delay_s, call, *args, context=self.void)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Equal moments come in the order in which they were asked for."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timed += 1
        heapq.heappush(self._timers, (when, self._timed, timer))
        return timer

    def put(self, handle: asyncio.Handle) -> None:
        self._ready.append(handle)  # type: ignore[attr-defined]

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers  # type: ignore[attr-defined]
        if not ready:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if not timers:
                raise Deadlock
            self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(_process)
            if process is None or process.admits(handle):
                handle._run()

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """What was killed in the middle is not run to its end."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time comes."""


def _make_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> "asyncio.Task[Any]":
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    context = options.get("context")
    process = _process.get() if context is None else context.get(_process)
    if process is not None:
        process.tasks.append(task)
    return task


def bury(tasks: list["asyncio.Task[Any]"]) -> None:
    """Let go of what was killed in the middle, without running on."""
    for task in tasks:
        if not task.done():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            work = task.get_coro()
            # It may await something in its `finally`: nothing answers any more.
            with suppress(BaseException):
                work.close()  # type: ignore[union-attr]
        elif not task.cancelled():
            task.exception()
