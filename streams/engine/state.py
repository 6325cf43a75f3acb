"""A borrower's whole state, and its packed form.

One blob a borrower: facts (what happened; the same under every policy with these facts rules) apart from standing (what
one policy makes of it). Blobs carry the schema they were written with and are migrated when read. The rows of loans
stand in them in their short form (`streams.engine.rows`), which only the packed state has.
"""

from typing import Final

from msgspec import DecodeError, Struct, field
from msgspec.msgpack import Decoder, Encoder

from streams.engine.behaviour import Windows
from streams.engine.chunk import TASK_SCHEMA, TaskState
from streams.engine.directions import Directions
from streams.engine.loan import Loan
from streams.engine.older import with_bars
from streams.engine.profile import Profile
from streams.engine.rows import short_rows, whole_rows
from streams.engine.standing import Standing

SCHEMA: Final = 6
"""Version of the packed form. Every change raises it, appending a field too: a worker that does not know the field
would drop it, and in a rolling upgrade a task may go back to one. It refuses a newer version instead."""
OLDEST_SCHEMA: Final = 2
"""The oldest version that is migrated when read: what has been appended since has a default. Anything else that changes
needs a step of its own in `unpack`."""
_SHORT_ROWS: Final = 4
"""The first version with short rows."""
_BARS: Final = 5
"""The first version that keeps what reviewers have barred one by one."""


class Parked(Struct, array_like=True, gc=False):
    """A record whose loan has not been seen yet, as it was received, and when it was parked on the business clock."""

    loan_id: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    parked_ms: int


class Quarantine(Struct, array_like=True, gc=False):
    """Why nothing is folded for a borrower any more: the rule that failed (`what`), at the event `event_id` (of its
    own, or the tick of a wake-up), as of `since_ms`; `request_id` is the review that was asked for."""

    since_ms: int
    event_id: str
    request_id: str
    what: str


class Facts(Struct, array_like=True):
    """`seen` holds the ids of recent events (see `streams.engine.seen`); `fraud_event_id` is what confirmed fraud;
    `quarantine` is None but for a borrower on whom a rule has failed. `incidents_rev` is how many changes of the task's
    incidents have had their effect."""

    profile: Profile | None = None
    loans: dict[str, Loan] = field(default_factory=dict)
    windows: Windows = field(default_factory=Windows)
    seen: bytes = b""
    parked: list[Parked] = field(default_factory=list)
    fraud_event_id: str | None = None
    quarantine: Quarantine | None = None
    incidents_rev: int = 0
    directions: Directions | None = None


class ShadowStanding(Struct, array_like=True):
    """What a shadow policy, known by the number of its activation, holds of a borrower, and the next wake-up it asks
    for."""

    serial: int
    standing: Standing
    wake_ms: int | None


class SideBySide(Struct, array_like=True):
    """Where shadows look at a borrower too: when the live policy has to decide next, and what each shadow holds."""

    live_wake_ms: int | None
    shadows: list[ShadowStanding]


class Borrower(Struct, array_like=True):
    """`wake_ms` is the next wake-up asked for by any policy, None for none. `shadows` is None where there is no shadow
    standing."""

    schema: int = SCHEMA
    facts: Facts = field(default_factory=Facts)
    standing: Standing = field(default_factory=Standing)
    wake_ms: int | None = None
    shadows: SideBySide | None = None


class _Mark(Struct, array_like=True, gc=False):
    """How every packed state begins."""

    schema: int


class StateError(ValueError):
    """A packed state that cannot be read: damaged, or written by a version that is too new or too old."""


_encoder = Encoder()
_borrowers = Decoder(Borrower)
_tasks = Decoder(TaskState)
_marks = Decoder(_Mark)


def pack(borrower: Borrower) -> bytes:
    return pack_shortly(borrower.facts.loans, borrower)


def pack_shortly(loans: dict[str, Loan], whole: object) -> bytes:
    """`whole` packed, with the rows of the `loans` in it in their short form."""
    kept = [(loan, loan.rows) for loan in loans.values()]
    for loan, _ in kept:
        loan.rows = short_rows(loan)
    try:
        return _encoder.encode(whole)
    finally:
        for loan, rows in kept:
            loan.rows = rows


def unpack(blob: bytes) -> Borrower:
    """Raises:
    StateError: the blob is damaged, of a newer schema, or of one too old to be migrated.
    """
    try:
        borrower = _decoded(blob)
    except DecodeError as error:
        raise _unreadable("a borrower's state", blob, SCHEMA, error) from None
    if not OLDEST_SCHEMA <= borrower.schema <= SCHEMA:
        raise _of_other_release("a borrower's state", borrower.schema, OLDEST_SCHEMA, SCHEMA)
    if borrower.schema >= _SHORT_ROWS:
        for loan in borrower.facts.loans.values():
            loan.rows = whole_rows(loan.schedules, loan.rows)
    borrower.schema = SCHEMA
    return borrower


def _decoded(blob: bytes) -> Borrower:
    try:
        return _borrowers.decode(blob)
    except DecodeError:
        if not OLDEST_SCHEMA <= _schema_of(blob) < _BARS:
            raise
        return _borrowers.decode(with_bars(blob))


def pack_task(task: TaskState) -> bytes:
    return _encoder.encode(task)


def unpack_task(blob: bytes) -> TaskState:
    """Raises:
    StateError: the blob is damaged or of a newer schema.
    """
    try:
        task = _tasks.decode(blob)
    except DecodeError as error:
        raise _unreadable("the task's state", blob, TASK_SCHEMA, error) from None
    if task.schema > TASK_SCHEMA:
        raise _of_other_release("the task's state", task.schema, TASK_SCHEMA, TASK_SCHEMA)
    task.schema = TASK_SCHEMA
    return task


def _unreadable(what: str, blob: bytes, newest: int, error: DecodeError) -> StateError:
    """A newer layout may not even decode: then it is told as such."""
    schema = _schema_of(blob)
    if schema > newest:
        return _of_other_release(what, schema, newest, newest)
    return StateError(f"{what} cannot be read: {error}; restore it from the commit log")


def _schema_of(blob: bytes) -> int:
    """The schema that a packed state tells, 0 where it tells none."""
    try:
        return _marks.decode(blob).schema
    except DecodeError:
        return 0


def _of_other_release(what: str, schema: int, oldest: int, newest: int) -> StateError:
    cure = "run the newer version" if schema > newest else "run a version in between first"
    reads = str(newest) if oldest == newest else f"{oldest} to {newest}"
    return StateError(f"{what} has schema {schema}, this version reads {reads}; {cure}")
