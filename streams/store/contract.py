"""What a store of task state promises, whatever keeps it.

A store is the working copy of one task; the commit log is the truth. So nothing here computes: `apply` copies what a
commit record holds, and `load` answers only while the copy is exactly at the commit its caller stands on. Two numbers
guard every call, both offsets in the commit log:

- `fence`: the offset of the claim record by which the caller took the task over. A lower one than the store holds is a
  predecessor that lives on: `Fenced`.
- `applied`: the offset of the last commit record copied. Another one than expected means that writes were lost (a
  failover) or that somebody else copied: `Stale`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from streams.engine.chunk import Span, Wake

SCHEMA = 4
"""Version of the layout of a task's state in the store."""
OLDEST_SCHEMA = 2
"""The oldest layout that is taken over: of 2 states are sealed without being compressed, up to 3 who has no wake-up
stands in an index of its own."""
LOOK_STATES = 1_000
"""Most borrowers in one `look`."""
ROLL_FAILURES = 500
"""Most entries of the index of failures in one `roll`."""


class StoreError(Exception):
    """The state of a task cannot be used; the message says which, why, and what to do."""


class Fenced(StoreError):
    """A later owner has taken the task over: the caller must stop, at once and for good."""

    def __init__(self, partition: int, fence: int, held: int) -> None:
        super().__init__(f"task {partition}: fenced: taken over at commit {held}, this owner claimed it at {fence}")
        self.held = held


class Stale(StoreError):
    """The store is not at the commit the caller expects: take the task over again. `applied` is where it is."""

    def __init__(self, partition: int, expected: int | None, applied: int | None) -> None:
        super().__init__(f"task {partition}: stale: the store is at commit {applied}, expected {expected}")
        self.applied = applied


class Foreign(StoreError):
    """The store holds state of another commit log or of another layout: an operator must decide."""


class Corrupted(StoreError):
    """A stored state does not match its checksum, or is gone: wipe the task and copy it again from the commit log."""


class Unavailable(StoreError):
    """The store does not answer; nothing is known about the last call. Every call may be made again."""


class Meta(Struct, frozen=True):
    """Where a task's copy stands. All None where the store knows nothing of the task.

    `read_from` is the offset of the first part of the commit at `applied`: reading the log from there sees that
    commit again. `incarnation` names the commit log the state was copied from: the first claim of a log coins it,
    every later record carries it.
    """

    fence: int | None = None
    applied: int | None = None
    read_from: int | None = None
    schema: int | None = None
    incarnation: str | None = None


class Change(Struct, frozen=True):
    """What one commit changes.

    `to_applied` is its offset in the commit log (of its last part), `read_from` that of its first part. `changed`
    maps each borrower whose state changed to its packed state, sealed (`streams.store.seal`), `wakes` to its next
    wake-up in epoch ms, whether that has moved or not (None: none any more; who has and had none is not in it; nor is
    anybody whose state has not changed). `task`
    is the packed task state, sealed too, None where the commit leaves it as it was (a claim). `failures` are new
    entries of the index of failures; those that sort before `failures_from` are dropped. `erased` are borrowers whose
    state goes, and with it their wake-up and their failures, before all else: who came again afterwards is in
    `changed`, too.
    """

    to_applied: int
    read_from: int
    changed: Mapping[str, bytes] = field(default_factory=dict)
    wakes: Mapping[str, int | None] = field(default_factory=dict)
    task: bytes | None = None
    failures: Sequence[str] = ()
    failures_from: str | None = None
    erased: Sequence[str] = ()


class Loaded(Struct, frozen=True):
    """Answer of `load`: `due` in the order (moment, borrower), `failures` in theirs, `blobs` of the borrowers asked for
    and of those in `due` and `failures`.

    A borrower the store does not know has the blob None.
    """

    blobs: dict[str, bytes | None]
    due: list[Wake]
    failures: list[str] = field(default_factory=list)


class Looked(Struct, frozen=True):
    """Answer of `look`: state and next wake-up of each borrower asked for (None: has none), and the number of all
    wake-ups there are."""

    states: dict[str, bytes | None]
    wakes: dict[str, int | None]
    wake_count: int


class Rolled(Struct, frozen=True):
    """Answer of `roll`: states as they are kept, sealed, and next wake-ups (None: none), the place reached (None:
    nobody is behind it), how many have a state at all, and entries of the index of failures."""

    states: dict[str, tuple[bytes, int | None]]
    after: str | None
    total: int
    failures: list[str] = field(default_factory=list)


class Store(Protocol):
    """The state of one task. Every method may raise `Unavailable`."""

    @property
    def partition(self) -> int: ...

    async def meta(self) -> Meta:
        """Where the copy stands."""

    async def claim(self, fence: int, incarnation: str) -> Meta:
        """Raise the fence and return where the copy stands under it. Claiming the same again changes nothing.

        Raises:
            Fenced: a later claim is held.
            Foreign: the state belongs to another commit log or has another layout.
        """

    async def apply(self, fence: int, from_applied: int | None, change: Change) -> None:
        """Copy one commit: all of it is visible to `load`, or none of it. Already there: nothing is done.

        Raises:
            Fenced: a later claim is held.
            Stale: the store stands neither at `from_applied` nor at `change.to_applied`, or does not know this claim.
        """

    async def load(
        self,
        fence: int,
        applied: int,
        borrowers: Sequence[str],
        due_until_ms: int | None,
        limit: int,
        failures: Span | None = None,
    ) -> Loaded:
        """States of `borrowers`, and at most `limit` each of the wake-ups due until `due_until_ms` (None: no wake-ups)
        and of the entries of the index of failures within `failures` (None: none), with their borrowers' states.

        Raises:
            Fenced: a later claim is held.
            Stale: the store does not stand at `applied`, or does not know this claim.
            Corrupted: a state does not match its checksum, or was there and is gone.
        """

    async def task_blob(self, fence: int, applied: int) -> bytes | None:
        """The packed task state, None before the first. Raises as `load` does."""

    async def wipe(self, fence: int) -> None:
        """Forget all state but the claim, so that it can be copied anew from the start of the commit log.

        Raises:
            Fenced: a later claim is held.
            Stale: this claim is not known.
        """

    async def roll(
        self, fence: int, applied: int, after: str | None, most_bytes: int, failures_after: str | None = None
    ) -> Rolled:
        """Borrowers behind the place `after` ("": from the start, None: none); about `most_bytes` of them, but one at
        least where any is left. And the first `ROLL_FAILURES` entries of the index of failures behind `failures_after`
        (None: none). Raises as `load` does.

        Who goes on from place to place until none is left meets everybody that had a state all the while, some maybe
        twice, whatever was copied in between. Where a place is of no use any more, the store begins anew by itself.

        Raises:
            Corrupted: a state that should be there is not.
        """

    async def look(self, fence: int, applied: int, borrowers: Sequence[str]) -> Looked:
        """States and wake-ups of at most `LOOK_STATES` borrowers, for audits. Raises as `load` does."""

    def borrowers(self) -> AsyncIterator[str]:
        """Every borrower that has a state, in no order, a few maybe twice; for audits, while nothing is applied."""
