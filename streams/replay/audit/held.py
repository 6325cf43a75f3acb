"""A task's store held against its state by the commit log, also while a worker goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from streams.engine.state import pack_task
from streams.replay.audit.report import Difference, Flaw, TaskAudit
from streams.replay.cycle import LocalTask
from streams.store.contract import LOOK_STATES, Corrupted, Fenced, Looked, Meta, Stale, Store

_TRIES = 60
_PAUSE_S = 0.05

Follow = Callable[[int], Awaitable[bool]]
"""Brings the state by the log to the commit at an offset; whether it is there now."""


class _Moved(Exception):
    """The store is at another commit than before: ask again."""


class StoreAudit:
    """Compares the store of one task.

    Args:
        store: what is compared.
        local: the state by the commit log; `follow` moves it on.
        written: the commit in which each borrower's state was written last.
        report: where differences go.
    """

    def __init__(
        self, store: Store, local: LocalTask, written: Mapping[str, int], follow: Follow, report: TaskAudit
    ) -> None:
        self._store = store
        self._local = local
        self._written = written
        self._follow = follow
        self._report = report
        self._differing: set[str] = set()

    async def run(self, incarnation: str) -> bool:
        """Compare everybody, a few at a time, each at the commit where the store stands then; whether it could be
        done: not where the store moves on and cannot be followed."""
        meta = await self._store.meta()
        if meta.applied is None or meta.fence is None:
            self._tell("missing", "the store holds nothing of this task: the next take-over copies the commit log")
            return True
        if meta.incarnation != incarnation:
            self._tell("unexpected", "the store was copied from another commit log: see the worker's settings")
            return True
        self._report.stored = 0
        try:
            async for names in self._batches():
                await self._settled(names)
            await self._settled(())
        except _Moved:
            return False
        return True

    async def _batches(self) -> AsyncIterator[list[str]]:
        """Everybody in the log or in the store, once."""
        known = sorted(self._local.borrowers())
        for start in range(0, len(known), LOOK_STATES):
            yield known[start : start + LOOK_STATES]
        strangers: set[str] = set()
        in_log = set(known)
        async for name in self._store.borrowers():
            if name not in in_log:
                strangers.add(name)
        for start in range(0, len(strangers), LOOK_STATES):
            yield sorted(strangers)[start : start + LOOK_STATES]

    async def _settled(self, names: Sequence[str]) -> None:
        for _ in range(_TRIES):
            meta = await self._store.meta()
            if meta.applied is not None and await self._follow(meta.applied):
                try:
                    await self._compare(meta, names)
                except (Stale, Fenced):
                    pass
                else:
                    return
            await asyncio.sleep(_PAUSE_S)
        raise _Moved

    async def _compare(self, meta: Meta, names: Sequence[str]) -> None:
        assert meta.fence is not None
        assert meta.applied is not None
        try:
            looked = await self._store.look(meta.fence, meta.applied, names)
            if not names:
                self._compare_whole(looked, await self._store.task_blob(meta.fence, meta.applied))
                return
        except Corrupted:
            if len(names) > 1:
                half = len(names) // 2
                await self._settled(names[:half])
                await self._settled(names[half:])
                return
            self._tell("damaged", "a state does not match its checksum", *names)
            return
        for name in names:
            self._compare_one(name, looked)
        assert self._report.stored is not None
        self._report.stored += sum(state is not None for state in looked.states.values())

    def _compare_one(self, name: str, looked: Looked) -> None:
        ours, theirs = self._local.state(name), looked.states[name]
        if ours != theirs:
            flaw: Flaw = "unexpected" if ours is None else "missing" if theirs is None else "differs"
            self._tell(flaw, "a borrower's state", name)
        if self._local.wakes().get(name) != looked.wakes[name]:
            self._tell("differs", "a borrower's next wake-up", name)

    def _compare_whole(self, looked: Looked, task: bytes | None) -> None:
        if looked.wake_count != len(self._local.wakes()) and not self._differing:
            self._tell("unexpected", f"{looked.wake_count} wake-ups, by the log {len(self._local.wakes())}")
        if task is None or task != pack_task(self._local.task):
            self._tell("differs", "the task's own state (clock, policies, counts)")

    def _tell(self, flaw: Flaw, what: str, borrower: str | None = None) -> None:
        if borrower is not None:
            self._differing.add(borrower)
        written = None if borrower is None else self._written.get(borrower)
        self._report.add(Difference(self._report.task, "store", flaw, commit=written, what=what, borrower_id=borrower))
