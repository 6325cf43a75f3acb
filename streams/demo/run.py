"""The demo from start to end: start the parts, watch, send nothing more, let the worker finish, sum up."""

import asyncio
import logging
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from subprocess import Popen

import aiohttp
from rich.console import Console
from rich.live import Live

from streams.config import Settings
from streams.demo import parts, view
from streams.demo.feed import Feed
from streams.demo.sandbox import DemoError, Sandbox
from streams.demo.watch import Gauges, Outputs, is_ready, read_gauges
from streams.replay.manifest import RecordingError
from streams.worker.topics import BrokerError

_INTERRUPTED = 130
_READY_S = 90.0
_LOOK_S = 0.1
_DRAW_S = 0.25
_LINE_S = 2.0
_RATE_OVER_S = 3.0
_FINISH_S = 30.0
_CATCH_UP_S = 10.0


def run_demo(for_s: float | None) -> int:
    """Run until Ctrl-C or for `for_s` seconds after the worker is ready; returns the exit code.

    It is 0 where every event that was sent is accounted for, 130 where Ctrl-C came before anything was shown, else 1.
    """
    try:
        parts.check_extra()
        parts.forget_settings()
        with Sandbox() as sandbox:
            # What clients log would get into the picture.
            logging.getLogger().addHandler(logging.NullHandler())
            return asyncio.run(_Demo(sandbox, for_s).run())
    except DemoError as error:
        print(f"duewatch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


class _Ending:
    """Asked for by signal: once to end in good order, twice to end at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._ask)

    def _ask(self) -> None:
        if self.asked.is_set():
            self.at_once.set()
        self.asked.set()


class _Demo:
    def __init__(self, sandbox: Sandbox, for_s: float | None) -> None:
        self._sandbox = sandbox
        self._for_s = for_s
        self._console = Console()
        self._gauges = Gauges()
        self._lately: deque[tuple[float, int]] = deque()
        self._children: dict[str, Popen[str]] = {}

    async def run(self) -> int:
        self._ending = _Ending()
        print("duewatch demo: starting broker, Redis and worker", flush=True)
        settings = self._start_parts()
        self._feed = Feed(settings, lambda: self._gauges.read)
        self._outputs = Outputs(settings)
        self._tasks = [asyncio.create_task(self._feed.run()), asyncio.create_task(self._outputs.run())]
        try:
            async with aiohttp.ClientSession() as self._session:
                if not await self._until_ready():
                    return _INTERRUPTED
                self._began_s = time.monotonic()
                await self._watch()
                moment = await self._finish()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        print(view.summary(moment), flush=True)
        return 0 if moment.lag == 0 else 1

    def _start_parts(self) -> Settings:
        broker = self._children["embedded broker"] = parts.start_broker(self._sandbox)
        redis_url = parts.start_redis(self._sandbox)
        settings = parts.settings_for(parts.broker_address(self._sandbox, broker), redis_url)
        self._children["worker"] = parts.start_worker(self._sandbox, settings)
        return settings

    async def _until_ready(self) -> bool:
        """Wait for the worker; False where the end was asked for meanwhile."""
        until_s = time.monotonic() + _READY_S
        while time.monotonic() < until_s:
            url = parts.worker_url(self._sandbox)
            if url is not None and await is_ready(self._session, url):
                self._url = url
                return True
            self._check()
            if await _within(self._ending.asked, _LOOK_S):
                return False
        raise DemoError(f"the worker is not ready within {_READY_S:g} s: {parts.last_lines(self._sandbox, 'worker')}")

    async def _watch(self) -> None:
        """Show how things stand until it is time to end."""
        with self._picture() as show:
            while self._for_s is None or time.monotonic() - self._began_s < self._for_s:
                show(await self._look())
                self._check()
                if await _within(self._ending.asked, _DRAW_S):
                    return

    def _picture(self) -> "AbstractContextManager[Callable[[view.Moment], None]]":
        drawable = self._console.is_terminal and not self._console.is_dumb_terminal
        return _Screen(self._console) if drawable else nullcontext(_Lines())

    async def _finish(self) -> view.Moment:
        """Send nothing more and let the worker read to the end; how things stand then."""
        self._feed.stop()
        until_s = time.monotonic() + _FINISH_S
        moment = await self._look()
        while not (self._tasks[0].done() and moment.lag == 0) and time.monotonic() < until_s:
            self._check(sending=False)
            if await _within(self._ending.at_once, _LOOK_S):
                break
            moment = await self._look()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._outputs.catch_up(), _CATCH_UP_S)
        return moment

    async def _look(self) -> view.Moment:
        self._gauges = await read_gauges(self._session, self._url) or self._gauges
        now_s = time.monotonic()
        self._lately.append((now_s, self._gauges.read))
        while now_s - self._lately[0][0] > _RATE_OVER_S:
            self._lately.popleft()
        since_s, read = self._lately[0]
        per_s = (self._gauges.read - read) / max(now_s - since_s, _LOOK_S)
        elapsed_s = now_s - self._began_s
        return view.Moment(elapsed_s, self._feed.sent, self._feed.at_ms, per_s, self._gauges, self._outputs)

    def _check(self, *, sending: bool = True) -> None:
        """Make sure that all parts still work.

        Raises:
            DemoError: one does not.
        """
        for name, child in self._children.items():
            if child.poll() is not None:
                why = parts.why_worker_ended(self._sandbox) if name == "worker" else None
                raise DemoError(f"the {name} ended: {why or f'exit code {child.returncode}'}")
        feeding, reading = self._tasks
        for task in (feeding, reading):
            if task.done() and (sending or task is reading or task.exception() is not None):
                try:
                    task.result()
                except (BrokerError, RecordingError) as error:
                    raise DemoError(str(error)) from error


class _Screen:
    """The live screen; a context that gives what draws on it."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> Callable[[view.Moment], None]:
        self._live.start()
        return lambda moment: self._live.update(view.screen(moment), refresh=True)

    def __exit__(self, *_: object) -> None:
        self._live.stop()


class _Lines:
    """A line every now and then."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def __call__(self, moment: view.Moment) -> None:
        if moment.elapsed_s >= self._next_s:
            self._next_s = moment.elapsed_s + _LINE_S
            print(view.progress_line(moment), flush=True)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event comes within so many seconds."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
