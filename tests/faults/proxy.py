"""A TCP proxy between two ends: it delays, loses, stalls and cuts, and keeps back single requests of Kafka's or their
answers."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import Any, Literal

from tests.parts import free_ports

PRODUCE = 0
ADD_PARTITIONS = 24
END_TXN = 26

_RESENT_S = (0.2, 0.8)
"""How long it takes until what was lost on the way is sent again, from and to: as Linux does."""

Verdict = Literal["pass", "hold", "drop", "mute"]
Judge = Callable[[int, bytes], Verdict]
"""Told the API key and the frame of each request: "hold" keeps it back and "drop" forgets it, "mute" passes it on but
not its answer; each of them cuts its client off."""


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes on to `port`; all of it in a thread of its own.

    Args:
        port: of the server.
        frames: whether requests are frames of Kafka's protocol, so that they can be judged one by one.
    """

    def __init__(self, port: int, *, frames: bool) -> None:
        (self.port,) = free_ports(1)
        self.delay_s = 0.0
        self.loss = 0.0
        """The share of what is passed on that is lost at first; those who wait for it wait longer."""
        self.judge: Judge | None = None
        self._target = port
        self._frames = frames
        self._random = Random(port)
        self._muted: set[asyncio.StreamWriter] = set()
        self._lines: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._loop = asyncio.new_event_loop()
        self._flow: asyncio.Event | None = None
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        self._do(self._listen())

    # --- from the tests' thread ---------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection and take no new one."""
        self._do(self._shut())

    def mend(self) -> None:
        """Take connections again, and let everything flow."""
        self.delay_s = self.loss = 0.0
        self._do(self._listen())
        self._do(self._set_flow(True))

    def stall(self) -> None:
        """Take everything and pass nothing on: a network that loses every packet, as both ends see it."""
        self._do(self._set_flow(False))

    def reset(self) -> None:
        """Reset every connection; new ones are taken."""
        self._do(self._drop_lines())

    def lead_to(self, port: int) -> None:
        """Pass on to another server from now on."""
        self._target = port
        self.reset()

    def release(self) -> int:
        """Pass on what was held back, long after its client has gone; returns how many requests that were."""
        return int(self._do(self._release()))

    @property
    def held(self) -> int:
        return len(self._held)

    def close(self) -> None:
        self._do(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    # --- in its own ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self) -> None:
        if self._flow is None:
            self._flow = asyncio.Event()
            self._flow.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 25)

    async def _set_flow(self, flows: bool) -> None:
        assert self._flow is not None
        if flows:
            self._flow.set()
        else:
            self._flow.clear()

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._drop_lines()

    async def _drop_lines(self) -> None:
        for line in list(self._lines):
            for writer in line:
                # The far side of a request that is held back stays open: the broker must not see its client go.
                if all(writer is not far for far, _ in self._held):
                    writer.transport.abort()
        self._lines.clear()

    async def _serve(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        try:
            far_in, far_out = await asyncio.open_connection("127.0.0.1", self._target, limit=1 << 25)
        except OSError:
            near_out.transport.abort()
            return
        line = (near_out, far_out)
        self._lines.add(line)
        asks = self._pass_frames(near_in, near_out, far_out) if self._frames else self._pass(near_in, far_out)
        ways = [asyncio.create_task(asks), asyncio.create_task(self._pass(far_in, near_out))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._lines.discard(line)
            self._muted.discard(near_out)
            near_out.transport.abort()
            if all(far_out is not far for far, _ in self._held):
                far_out.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 18):
                if sink in self._muted:
                    return
                await self._wait()
                sink.write(data)
                await sink.drain()

    async def _pass_frames(
        self, source: asyncio.StreamReader, near: asyncio.StreamWriter, sink: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await source.readexactly(4)
                frame = await source.readexactly(int.from_bytes(head, "big"))
                key = int.from_bytes(frame[:2], "big")
                verdict = "pass" if self.judge is None else self.judge(key, frame)
                if verdict == "hold":
                    self._held.append((sink, head + frame))
                if verdict in ("hold", "drop"):
                    return
                if verdict == "mute":
                    self._muted.add(near)
                await self._wait()
                sink.write(head + frame)
                await sink.drain()

    async def _wait(self) -> None:
        delay_s = self.delay_s + (self._random.uniform(*_RESENT_S) if self._random.random() < self.loss else 0)
        if delay_s:
            await asyncio.sleep(delay_s)
        assert self._flow is not None
        await self._flow.wait()

    async def _release(self) -> int:
        held, self._held = self._held, []
        for sink, request in held:
            with suppress(OSError):
                sink.write(request)
                await sink.drain()
        await asyncio.sleep(0.3)
        for sink, _ in held:
            sink.transport.abort()
        return len(held)
