"""The worker with one of its protections taken out: each must be found out by some seed."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from streams.engine.order import Ordered
from streams.store.contract import Change, Loaded, Rolled
from streams.store.memory import MemoryStore
from streams.worker.commitlog import Committed, Position
from streams.worker.producer import Message, Transactions
from streams.worker.takeover import CommitLog, Takeover
from streams.worker.task import Task
from streams.worker.transport import Fetched
from tests.sim.broker import Broker

Patches = Iterable[Any]


def fence() -> Patches:
    """Every owner has a transactional id of its own: nobody is fenced, and what it left open is never settled."""
    begin = Broker.transactions
    names = iter(range(1 << 30))

    async def unfenced(self: Broker, transactional_id: str) -> Transactions:
        return await begin(self, f"{transactional_id}-{next(names)}")

    return [patch.object(Broker, "transactions", unfenced)]


def store_fence() -> Patches:
    """The store takes changes from any owner."""

    def unchecked(self: MemoryStore, fence: int, expected: int | None) -> None: ...

    return [patch.object(MemoryStore, "_check", unchecked)]


def load() -> Patches:
    """States are computed from wherever the store stands, and copied to wherever it stands."""
    load, roll, apply = MemoryStore.load, MemoryStore.roll, MemoryStore.apply

    async def unvalidated(self: MemoryStore, fence: int, applied: int, *rest: Any) -> Loaded:
        held = self._meta
        if held.fence is None or held.applied is None:
            return await load(self, fence, applied, *rest)
        return await load(self, held.fence, held.applied, *rest)

    async def unvalidated_roll(self: MemoryStore, fence: int, applied: int, *rest: Any) -> Rolled:
        held = self._meta
        if held.fence is None or held.applied is None:
            return await roll(self, fence, applied, *rest)
        return await roll(self, held.fence, held.applied, *rest)

    async def anyhow(self: MemoryStore, fence: int, from_applied: int | None, change: Change) -> None:
        held = self._meta
        if held.fence is None or held.applied is None:
            await apply(self, fence, from_applied, change)
        else:
            await apply(self, held.fence, held.applied, change)

    return [
        patch.object(MemoryStore, "load", unvalidated),
        patch.object(MemoryStore, "roll", unvalidated_roll),
        patch.object(MemoryStore, "apply", anyhow),
    ]


def sends() -> Patches:
    """A transaction is committed without asking what became of its sends."""

    async def unawaited(self: Transactions, messages: Iterable[Message], last: Sequence[Message]) -> list[int]:
        await self._wire.begin()
        self._in_transaction = True
        await self._send(messages)
        ending = await self._send(last)
        placed = await asyncio.gather(*(future for future, _ in ending))
        await self._wire.commit()
        self._in_transaction = False
        return [first.offset + n for first, (_, count) in zip(placed, ending, strict=True) for n in range(count)]

    return [patch.object(Transactions, "_commit", unawaited)]


def producer() -> Patches:
    """A producer that lost an answer goes on, once the request sent again was answered."""

    async def trusting(self: Transactions, messages: Iterable[Message], last: Sequence[Message] = ()) -> list[int]:
        self._doubt = asyncio.get_running_loop().create_future()
        return await commit(self, messages, last)

    commit = Transactions.commit
    return [patch.object(Transactions, "commit", trusting)]


def claim() -> Patches:
    """No claim is written: the last commit of the predecessor is the fence."""
    written = Takeover._claim

    async def unclaimed(self: Takeover, commits: CommitLog, producer: Transactions) -> Committed:
        last = await commits.last()
        return await written(self, commits, producer) if last is None else last

    return [patch.object(Takeover, "_claim", unclaimed)]


def order() -> Patches:
    """A chunk is copied to the store while its transaction is still on its way to the end."""

    async def early(self: Transactions, messages: Iterable[Message], last: Sequence[Message]) -> list[int]:
        before = getattr(self, "_ending", None)
        if before is not None:
            await before
        await self._wire.begin()
        self._in_transaction = True
        sent = await self._send(messages)
        ending = await self._send(last)
        await asyncio.gather(*(future for future, _ in sent))
        placed = await asyncio.gather(*(future for future, _ in ending))
        self._ending = asyncio.ensure_future(self._wire.commit())  # type: ignore[attr-defined]
        return [first.offset + n for first, (_, count) in zip(placed, ending, strict=True) for n in range(count)]

    return [patch.object(Transactions, "_commit", early)]


def kept() -> Patches:
    """What a failed cycle has opened is used on."""
    own = Task._own

    async def reused(self: Task) -> None:
        before = vars(self).get("_cases")
        await own(self)
        if before is not None:
            self._cases = before

    return [patch.object(Task, "_own", reused)]


def session() -> Patches:
    """Records fetched for an earlier owner are taken."""
    deliver = Task.deliver

    def anyone(self: Task, fetched: Fetched) -> None:
        if self._sources:
            source = self._sources[fetched.topic]
            deliver(self, fetched._replace(session=self._session, start=source.position))

    return [patch.object(Task, "deliver", anyone)]


def tail() -> Patches:
    """The store is taken for up to date, and nothing is copied at a take-over."""

    async def uncopied(self: Takeover, commits: CommitLog, store: Any, claim: Committed, anew: bool) -> None:
        meta = await store.claim(claim.last, claim.record.incarnation)
        await store.apply(claim.last, meta.applied, claim.change)

    return [patch.object(Takeover, "_copy", uncopied)]


def front() -> Patches:
    """A pass of a sweep leaves behind what waits in front of the task."""
    after = Task._positions_after

    def passed(self: Task, taken: Sequence[Ordered], front: Sequence[Ordered]) -> dict[str, Position]:
        return after(self, taken, front if taken else ())

    return [patch.object(Task, "_positions_after", passed)]


MUTANTS: Mapping[str, Callable[[], Patches]] = {
    made.__name__: made
    for made in (fence, store_fence, load, sends, producer, claim, order, kept, session, tail, front)
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The code without one protection; `name` as in MUTANTS."""
    patches = list(MUTANTS[name]())
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()
