"""A store as Redis is one: it may not answer, lose its last writes in a failover, come back empty, or hold a damaged
state."""

import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from aiokafka.errors import RequestTimedOutError

from streams.engine.chunk import Span
from streams.store.contract import Change, Corrupted, Loaded, Looked, Meta, Rolled, Unavailable
from streams.store.memory import MemoryStore
from tests.sim.broker import Network

T = TypeVar("T")


class Server:
    """What is kept of one task, and an older copy of it: the replica that lags behind."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.held = MemoryStore(partition)
        self.replica = MemoryStore(partition)
        self.damaged: set[str] = set()
        self.owners: dict[int, object] = {}
        """Who stands on each fence that was ever claimed."""
        self.newest = -1
        """The highest fence claimed since the last failover."""

    def replicate(self) -> None:
        self.replica = copy.deepcopy(self.held)

    def fail_over(self) -> None:
        self.held = copy.deepcopy(self.replica)
        self.damaged.clear()
        self.newest = -1

    def lose_all(self) -> None:
        self.held = MemoryStore(self.partition)
        self.replica = MemoryStore(self.partition)
        self.damaged.clear()
        self.newest = -1

    def damage(self, pick: Callable[[Sequence[str]], str]) -> None:
        names = sorted(self.held._states)
        if names:
            self.damaged.add(pick(names))


class SimStore:
    """`streams.store.contract.Store` of one process over a server; `wrong` is told of what no store may ever see."""

    def __init__(
        self, server: Server, network: Network, is_committed: Callable[[int], bool], wrong: Callable[[str], None]
    ) -> None:
        self._server = server
        self._network = network
        self._is_committed = is_committed
        self._wrong = wrong
        self._claimed: int | None = None

    @property
    def partition(self) -> int:
        return self._server.partition

    async def meta(self) -> Meta:
        return await self._call(lambda: self._server.held.meta())

    async def claim(self, fence: int, incarnation: str) -> Meta:
        async def claim() -> Meta:
            meta = await self._server.held.claim(fence, incarnation)
            if self._claimed != fence and fence in self._server.owners:
                self._wrong(f"task {self.partition}: two owners stand on the claim at {fence}")
            self._claimed = fence
            self._server.owners[fence] = self
            self._server.newest = max(self._server.newest, fence)
            return meta

        return await self._call(claim)

    async def apply(self, fence: int, from_applied: int | None, change: Change) -> None:
        async def apply() -> None:
            if not self._is_committed(change.to_applied):
                self._wrong(f"task {self.partition}: commit {change.to_applied} is copied before it is one")
            before = (await self._server.held.meta()).applied
            await self._server.held.apply(fence, from_applied, change)
            self._served(fence)
            if before != change.to_applied:
                self._server.damaged -= change.changed.keys()

        await self._call(apply)

    async def load(
        self,
        fence: int,
        applied: int,
        borrowers: Sequence[str],
        due_until_ms: int | None,
        limit: int,
        failures: Span | None = None,
    ) -> Loaded:
        async def load() -> Loaded:
            loaded = await self._server.held.load(fence, applied, borrowers, due_until_ms, limit, failures)
            self._served(fence)
            if self._server.damaged & loaded.blobs.keys():
                raise Corrupted(f"task {self.partition}: a state does not match its checksum")
            return loaded

        return await self._call(load)

    async def task_blob(self, fence: int, applied: int) -> bytes | None:
        return await self._call(lambda: self._server.held.task_blob(fence, applied))

    async def roll(
        self, fence: int, applied: int, after: str | None, most_bytes: int, failures_after: str | None = None
    ) -> Rolled:
        async def roll() -> Rolled:
            rolled = await self._server.held.roll(fence, applied, after, most_bytes, failures_after)
            self._served(fence)
            if self._server.damaged & rolled.states.keys():
                raise Corrupted(f"task {self.partition}: a state does not match its checksum")
            return rolled

        return await self._call(roll)

    async def look(self, fence: int, applied: int, borrowers: Sequence[str]) -> Looked:
        return await self._call(lambda: self._server.held.look(fence, applied, borrowers))

    def borrowers(self) -> AsyncIterator[str]:
        return self._server.held.borrowers()

    async def wipe(self, fence: int) -> None:
        async def wipe() -> None:
            await self._server.held.wipe(fence)
            self._served(fence)
            self._server.damaged.clear()

        await self._call(wipe)

    def _served(self, fence: int) -> None:
        if fence < self._server.newest:
            self._wrong(f"task {self.partition}: the store serves claim {fence} after {self._server.newest}")

    async def _call(self, serve: Callable[[], Awaitable[T]]) -> T:
        def served() -> T:
            # What is in memory never waits, so that its coroutine ends at the first step.
            work = serve()
            try:
                work.send(None)  # type: ignore[attr-defined]
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            raise AssertionError("the memory store waits for something")

        try:
            return await self._network.call(served)
        except RequestTimedOutError:
            raise Unavailable(f"task {self.partition}: no answer") from None
