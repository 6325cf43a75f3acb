"""What goes into one fold of a chunk and what comes out of it.

The chunk cycle (worker) and replay know the engine through these types alone: state and wake-ups go in and out as
packed bytes and plain integers, so that neither needs to know what a borrower's state holds.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field

from schemas.topics import CONTROL
from streams.engine.breaker import Granted
from streams.engine.incidents import Incident
from streams.engine.order import Ordered, Record
from streams.engine.tightening import MacroFactor

TASK_SCHEMA: Final = 2
"""Version of a task's packed state; every change raises it, as with `streams.engine.state.SCHEMA`."""
SWEEP_LIMIT: Final = 500
"""How many wake-ups that are due one fold takes at most; a longer sweep spans several folds."""

Wake = tuple[int, str]
"""(due moment in epoch ms, borrower): sorts in the order wake-ups fire."""

Span = tuple[str, str]
"""Entries of the index of failures strictly between the two (`streams.engine.incidents.failure_key`)."""


class Output(Struct, frozen=True, gc=False):
    """One outbound message, encoded."""

    topic: str
    key: bytes
    value: bytes
    kind: str
    """The event's `type`; for metrics only."""
    detail: str = ""
    """Warning level, limit status or bucket the event leads to, or why a review is asked for; for metrics only."""
    about: str = ""
    """The borrower, where the key does not name it and nobody outside may know; for `explain` only."""


class DeadLetter(Struct, frozen=True, gc=False):
    """A record refused, with its reason from the closed list (`streams.engine.decode.REASONS`)."""

    record: Record
    reason: str
    message: str
    stage: str


class Failure(Struct, frozen=True, gc=False):
    """A rule that failed on the record at `offset` of `topic`: its exception and where in the code (`what`, `stack`);
    nothing of the event."""

    topic: str
    offset: int
    what: str
    stack: str


class Sweep(Struct, array_like=True):
    """A tick whose wake-ups are not all fired yet, or an incident whose effects are not: then `failures` are the
    entries of the index still to be looked at. `at_ms` is the business clock."""

    at_ms: int
    partition: int
    offset: int
    event_id: str
    failures: Span | None = None

    @property
    def of_wakes(self) -> bool:
        """Whether it is that of a tick."""
        return self.failures is None


def goes_beside(sweep: Sweep, chunk: Sequence[Ordered]) -> bool:
    """Whether a fold of `chunk` takes events and leaves the open sweep where it is, rather than go on with it.

    Control records wait for the end of a sweep, all records for that of an incident's.
    """
    return sweep.of_wakes and len(chunk) > 0 and chunk[0][1] != CONTROL


class PolicyInForce(Struct, array_like=True):
    """`serial` is the number of its activation in this task, `was_shadow` that of the activation under which it ran as
    a shadow before it went live (None if it did not)."""

    policy_id: str
    digest: str
    body: str
    serial: int = 0
    was_shadow: int | None = None


class TaskState(Struct, array_like=True):
    """What one task knows beyond its borrowers; packed beside them in every commit.

    `clock_ms` is the last tick, None before the first. `control_seen` are the ids of control events already taken,
    newest last, `control_digests` the digests of their contents: of the newest of them only, where an older release
    noted the others. `loans` counts open loans and their outstanding balance by currency and bucket, `levels` borrowers
    by warning level, `statuses` by limit status (gauges that survive a restart exactly). `incidents` are those the
    policy remembers, `incidents_rev` counts their changes: a borrower that has seen fewer has effects to come.
    `reviews` are those open by what was asked, `lying` those that have escalated, `overturned` counts the decisions
    that reviewers have overturned, by the rule that made them, `granted` is what the breaker has let through in this
    hour. `factors` are those that tighten (see `streams.engine.tightening`).
    """

    schema: int = TASK_SCHEMA
    clock_ms: int | None = None
    live: PolicyInForce | None = None
    control_seen: list[str] = field(default_factory=list)
    sweep: Sweep | None = None
    loans: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    shadows: list[PolicyInForce] = field(default_factory=list)
    """Policies that run beside the live one, in the order of their activation."""
    activations: int = 0
    """How many activations have put a policy in force here."""
    incidents: list[Incident] = field(default_factory=list)
    incidents_rev: int = 0
    reviews: dict[str, int] = field(default_factory=dict)
    lying: int = 0
    overturned: dict[str, int] = field(default_factory=dict)
    granted: Granted = field(default_factory=Granted)
    erasures: bytes = b""
    """Ids of `borrower_erased` events already taken, as a borrower keeps those of its own (`streams.engine.seen`)."""
    factors: list[MacroFactor] = field(default_factory=list)
    control_digests: list[int] = field(default_factory=list)


class Folded(Struct):
    """The result of one fold.

    `changed` maps each borrower whose state changed to its packed state; `wakes` maps each of them that has a next
    wake-up to it, and to None who has one no more. `taken` is how many records of the chunk were folded (fewer
    than given only where a sweep is open, or begins that one fold does not end). `counts` counts records
    by (topic, outcome). `failures` are entries new in the index of failures; those before `failures_from` are dropped.
    `quarantined` has one failure for each borrower put in quarantine. `erased` are borrowers whose state from before
    goes; who came again afterwards is also in `changed`.
    """

    task: TaskState
    outputs: list[Output] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    changed: dict[str, bytes] = field(default_factory=dict)
    wakes: dict[str, int | None] = field(default_factory=dict)
    taken: int = 0
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    quarantined: list[Failure] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    failures_from: str | None = None
    erased: list[str] = field(default_factory=list)
