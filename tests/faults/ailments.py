"""Ways in which a worker of the rows is not well: a rule that fails or hangs, a consumer that slowly dies, another
release, passes of a sweep that are short."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupAuthorizationFailedError

from schemas.inbound import BorrowerEvent, Login
from streams.engine import fold, parts, state
from streams.engine.cases import Case
from streams.engine.ingest import Ingest
from streams.engine.parts import PackedParts
from streams.worker import task
from streams.worker.assignor import TaskAssignor
from streams.worker.task import Task
from streams.worker.transport import Fetched
from tests.faults.points import note

HANGS = "rule.hangs"
DEAF = "consumer.deaf"
_DEAF_AFTER = 30

Take = Callable[[Ingest, Case, BorrowerEvent], Any]


def _fires_one_wake_up_at_a_time(_: Path) -> None:
    """Each tick that wakes two is a sweep of several passes."""
    fold.SWEEP_LIMIT = task.SWEEP_LIMIT = 1  # type: ignore[misc, attr-defined]


def _splits_tasks(_: Path) -> None:
    """The group hands out single partitions, other numbers of one topic than of another."""

    def assign(_: TaskAssignor, cluster: ClusterMetadata, members: Mapping[str, Any]) -> dict[str, Any]:
        names = sorted(members)
        topics = sorted({topic for member in members.values() for topic in member.subscription})
        return {
            name: ConsumerProtocolMemberAssignment(
                1,
                [
                    (topic, [n for n in sorted(cluster.partitions_for_topic(topic)) if (n + t) % len(names) == place])
                    for t, topic in enumerate(topics)
                ],
                b"",
            )
            for place, name in enumerate(names)
        }

    TaskAssignor.assign = assign  # type: ignore[method-assign, assignment]


def is_hit(event: BorrowerEvent) -> bool:
    """Whether a rule fails on this event: few logins, always the same."""
    return isinstance(event, Login) and crc32(event.event_id.encode()) % 31 == 0


def _failing(inner: Take) -> Take:
    """A rule that fails when it has changed half of a state."""

    def take(self: Ingest, case: Case, event: BorrowerEvent) -> Any:
        taken = inner(self, case, event)
        if is_hit(event):
            case.borrower.facts.loans.clear()
            raise LookupError
        return taken

    return take


@contextmanager
def failing_rule() -> Iterator[None]:
    """What workers do on whom a rule fails, in this process: for what they must come to."""
    inner = Ingest.take
    Ingest.take = _failing(inner)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Ingest.take = inner  # type: ignore[method-assign]


def _fails(_: Path) -> None:
    Ingest.take = _failing(Ingest.take)  # type: ignore[method-assign, assignment]


def _hanging(hang: Callable[[], object]) -> Callable[[Path], None]:
    """A rule that is never done."""

    def install(marks: Path) -> None:
        inner = Ingest.take

        def take(self: Ingest, case: Case, event: BorrowerEvent) -> Any:
            if is_hit(event):
                note(marks, at=HANGS, do="hang")
                hang()
            return inner(self, case, event)

        Ingest.take = take  # type: ignore[method-assign]

    return install


def _a_rule_that_sleeps() -> None:
    time.sleep(3_600)


def _a_rule_that_holds_the_interpreter() -> None:
    re.match("(a|aa)+$", "a" * 200 + "b")


def _goes_deaf(marks: Path) -> None:
    """A consumer that slowly dies: from some fetch on nothing reaches the tasks, and everything looks idle."""
    inner = Task.deliver
    delivered = 0

    def deliver(self: Task, fetched: Fetched) -> None:
        nonlocal delivered
        delivered += 1
        if delivered == _DEAF_AFTER:
            note(marks, at=DEAF, do="hang")
        if delivered < _DEAF_AFTER:
            inner(self, fetched)

    Task.deliver = deliver  # type: ignore[method-assign]


def _finds_no_group(error: Exception) -> Callable[[Path], None]:
    """The coordinator of the group cannot be asked for."""

    def install(_: Path) -> None:
        inner = AIOKafkaClient.coordinator_lookup

        async def lookup(self: AIOKafkaClient, kind: int, key: str) -> Any:
            if kind == CoordinationType.GROUP:
                raise error
            return await inner(self, kind, key)

        AIOKafkaClient.coordinator_lookup = lookup

    return install


def _is_a_release_older(_: Path) -> None:
    """A release before: it writes states of an older schema, which end earlier and have whole rows, and reads none that
    are newer."""
    inner = PackedParts.pack

    def pack(self: PackedParts, borrower: state.Borrower) -> bytes:
        members = msgspec.msgpack.decode(inner(self, borrower))
        members[0] = state.OLDEST_SCHEMA
        for part in (members[1], members):
            while part[-1] is None:
                part.pop()
        return msgspec.msgpack.encode(members)

    parts.pack_shortly = lambda _, whole: msgspec.msgpack.encode(whole)
    PackedParts.pack = pack  # type: ignore[method-assign]
    state.SCHEMA = state.OLDEST_SCHEMA  # type: ignore[misc]


AILMENTS: Mapping[str, Callable[[Path], None]] = {
    "splits_tasks": _splits_tasks,
    "fails": _fails,
    "sleeps": _hanging(_a_rule_that_sleeps),
    "holds_the_interpreter": _hanging(_a_rule_that_holds_the_interpreter),
    "goes_deaf": _goes_deaf,
    # A broker that comes up names no node in its first answer, which aiokafka takes for a fault of its own.
    "finds_no_group": _finds_no_group(AssertionError("no node")),
    "may_not_join": _finds_no_group(GroupAuthorizationFailedError("the group")),
    "is_a_release_older": _is_a_release_older,
    "fires_one_wake_up_at_a_time": _fires_one_wake_up_at_a_time,
}
"""By name; each is told the file of marks."""


def install(name: str, marks: Path) -> None:
    """Make this process ill; the empty name does nothing."""
    if name:
        AILMENTS[name](marks)
