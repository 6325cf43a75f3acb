"""A task's state in memory: for replay and tests."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Sequence

from streams.engine.chunk import Span, Wake
from streams.engine.incidents import borrower_of
from streams.store.contract import (
    ROLL_FAILURES,
    SCHEMA,
    Change,
    Fenced,
    Foreign,
    Loaded,
    Looked,
    Meta,
    Rolled,
    Stale,
)
from streams.store.seal import unseal


class FailureIndex:
    """A task's index of failures: sorted entries, each once."""

    def __init__(self) -> None:
        self._entries: list[str] = []

    def change(self, added: Sequence[str], first: str | None) -> None:
        entries = self._entries
        for entry in added:
            at = bisect_left(entries, entry)
            if at == len(entries) or entries[at] != entry:
                entries.insert(at, entry)
        if first is not None:
            del entries[: bisect_left(entries, first)]

    def forget(self, borrower: str) -> None:
        self._entries = [entry for entry in self._entries if borrower_of(entry) != borrower]

    def behind(self, after: str, limit: int) -> list[str]:
        """The first entries behind one."""
        start = bisect_right(self._entries, after)
        return self._entries[start : start + limit]

    def within(self, span: Span, limit: int) -> list[str]:
        """The first entries strictly between the two."""
        after, before = span
        start = bisect_right(self._entries, after)
        return self._entries[start : min(bisect_left(self._entries, before), start + limit)]


class MemoryStore:
    """The state of task `partition`, gone with the process."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._meta = Meta()
        self._forget()

    def _forget(self) -> None:
        self._states: dict[str, bytes] = {}
        self._moments: dict[str, int] = {}
        self._wakes: list[Wake] = []
        self._failures = FailureIndex()
        self._task: bytes | None = None

    @property
    def partition(self) -> int:
        return self._partition

    async def meta(self) -> Meta:
        return self._meta

    async def claim(self, fence: int, incarnation: str) -> Meta:
        held = self._meta
        if held.incarnation is not None and held.incarnation != incarnation:
            raise Foreign(f"task {self._partition}: the store holds state of another commit log")
        if held.fence is not None and held.fence > fence:
            raise Fenced(self._partition, fence, held.fence)
        self._meta = Meta(fence, held.applied, held.read_from, SCHEMA, incarnation)
        return self._meta

    async def apply(self, fence: int, from_applied: int | None, change: Change) -> None:
        held = self._meta
        self._check(fence, from_applied)
        if held.applied == change.to_applied:
            return
        if held.applied != from_applied:
            raise Stale(self._partition, from_applied, held.applied)
        for borrower in change.erased:
            self._states.pop(borrower, None)
            self._failures.forget(borrower)
            self._wake(borrower, None)
        self._states.update(change.changed)
        for borrower, moment in change.wakes.items():
            self._wake(borrower, moment)
        self._failures.change(change.failures, change.failures_from)
        if change.task is not None:
            self._task = change.task
        self._meta = Meta(held.fence, change.to_applied, change.read_from, held.schema, held.incarnation)

    async def load(
        self,
        fence: int,
        applied: int,
        borrowers: Sequence[str],
        due_until_ms: int | None,
        limit: int,
        failures: Span | None = None,
    ) -> Loaded:
        self._check_at(fence, applied)
        due: list[Wake] = []
        if due_until_ms is not None:
            # One past the moment: every borrower of the moment itself sorts before it.
            end = bisect_left(self._wakes, (due_until_ms + 1, ""))
            due = self._wakes[: min(end, limit)]
        entries = [] if failures is None else self._failures.within(failures, limit)
        names = [*borrowers, *(borrower for _, borrower in due), *map(borrower_of, entries)]
        return Loaded(self._unsealed(names), due, entries)

    async def task_blob(self, fence: int, applied: int) -> bytes | None:
        self._check_at(fence, applied)
        return None if self._task is None else unseal("", self._task)

    async def roll(
        self, fence: int, applied: int, after: str | None, most_bytes: int, failures_after: str | None = None
    ) -> Rolled:
        self._check_at(fence, applied)
        behind = [] if after is None else sorted(name for name in self._states if name > after)
        states: dict[str, tuple[bytes, int | None]] = {}
        size, reached = 0, None
        for name in behind:
            if states and size >= most_bytes:
                reached = next(reversed(states))
                break
            states[name] = self._states[name], self._moments.get(name)
            size += len(self._states[name])
        failures = [] if failures_after is None else self._failures.behind(failures_after, ROLL_FAILURES)
        return Rolled(states, reached, len(self._states), failures)

    async def look(self, fence: int, applied: int, borrowers: Sequence[str]) -> Looked:
        self._check_at(fence, applied)
        return Looked(
            self._unsealed(borrowers), {name: self._moments.get(name) for name in borrowers}, len(self._moments)
        )

    async def wipe(self, fence: int) -> None:
        self._check(fence, None)
        self._forget()
        self._meta = Meta(fence, None, None, self._meta.schema, self._meta.incarnation)

    async def borrowers(self) -> AsyncIterator[str]:
        for borrower in list(self._states):
            yield borrower

    def _unsealed(self, names: Sequence[str]) -> dict[str, bytes | None]:
        return {name: unseal(name, self._states[name]) if name in self._states else None for name in names}

    def _check(self, fence: int, expected: int | None) -> None:
        held = self._meta.fence
        if held is not None and held > fence:
            raise Fenced(self._partition, fence, held)
        if held != fence:
            raise Stale(self._partition, expected, self._meta.applied)

    def _check_at(self, fence: int, applied: int) -> None:
        self._check(fence, applied)
        if self._meta.applied != applied:
            raise Stale(self._partition, applied, self._meta.applied)

    def _wake(self, borrower: str, moment: int | None) -> None:
        before = self._moments.pop(borrower, None)
        if before is not None:
            del self._wakes[bisect_left(self._wakes, (before, borrower))]
        if moment is not None:
            self._moments[borrower] = moment
            insort(self._wakes, (moment, borrower))
