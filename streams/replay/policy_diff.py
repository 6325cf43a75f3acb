"""What two policies would have decided differently on one recording: counted by decision and segment, with examples.

A decision is the same under both where the same borrower gets the same event (type and what it leads to) of the same
moment. Each policy is folded for itself, so that they may differ in their facts too.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from streams.engine.chunk import Output
from streams.engine.fold import Engine
from streams.engine.state import unpack
from streams.policy.model import Policy
from streams.replay.cycle import LocalTask, chunks
from streams.replay.policy_tests import DECISIONS, DETAIL
from streams.replay.progress import progress
from streams.replay.recording import Recording
from streams.replay.replay import tasks_of

EXAMPLES = 3
UNKNOWN_SEGMENT = "unknown"

Decision = tuple[str, str, int, str]
"""Borrower, type, moment, what it leads to."""


class Example(Struct, frozen=True):
    """A decision of one side alone. `seen_ms` is the order time of the record that led to it: `explain` shows it as
    of then, while `at_ms` is the moment it is about."""

    event_id: str
    borrower_id: str
    at_ms: int
    detail: str
    seen_ms: int


class Changed(Struct, frozen=True):
    """One kind of decision in one segment: how many only the first policy took, only the second, and both."""

    type: str
    segment: str
    only_before: int
    only_after: int
    both: int
    examples_before: list[Example]
    examples_after: list[Example]


class DecisionDiff(Struct, frozen=True):
    """`events` counts the records, `decisions` all decisions of each side. `borrowers` counts those of whom something
    else would have been decided."""

    events: int
    decisions_before: int
    decisions_after: int
    borrowers: int
    changed: list[Changed]


class _Side:
    """One policy's decisions on a recording."""

    def __init__(self) -> None:
        self.seen: dict[Decision, tuple[str, int]] = {}
        """Event id and order time."""
        self.segments: dict[str, str] = {}


def compare(source: str | Path, before: Policy, after: Policy) -> DecisionDiff:
    """Fold the recording under each policy, and compare.

    Raises:
        RecordingError, CommitLogError: the recording cannot be used.
    """
    with Recording.open(source) as recording:
        counted = 0
        sides = (_Side(), _Side())
        for side, policy in zip(sides, (before, after), strict=True):
            counted = _fold(recording, policy, side)
    return _compared(counted, *sides)


def _fold(recording: Recording, policy: Policy, side: _Side) -> int:
    engine = Engine(policy, partitions=recording.partition_count(), recorded_policies=False)
    events = 0
    with progress(f"deciding under {policy.id}", None) as advance:
        for partition in tasks_of(recording):
            task = LocalTask(engine)
            borrowers: set[str] = set()
            for chunk in chunks(recording, partition):
                events += len(chunk)
                advance(len(chunk))
                orders = {(topic, offset): order_ms for order_ms, topic, offset, _ in chunk}
                for folded in task.fold(chunk):
                    for output in folded.outputs:
                        if output.topic in DECISIONS:
                            borrowers.add(_note(output, side, orders, chunk[-1][0]))
            side.segments |= {name: _segment(task, name) for name in sorted(borrowers)}
    return events


def _note(output: Output, side: _Side, orders: dict[tuple[str, int], int], last_ms: int) -> str:
    """`last_ms` is of the chunk: what has waited was caused by a record before it."""
    event: dict[str, Any] = json.loads(output.value)
    cause = event.get("cause", {})
    seen_ms = orders.get((cause.get("topic"), cause.get("offset")), last_ms)
    borrower = output.about or str(event.get("borrower_id", ""))
    detail = str(event.get(DETAIL.get(output.topic, ""), ""))
    decision = borrower, event["type"], event.get("at_ms", 0), detail
    side.seen.setdefault(decision, (event["event_id"], seen_ms))
    return borrower


def _segment(task: LocalTask, borrower: str) -> str:
    blob = task.state(borrower)
    profile = None if blob is None else unpack(blob).facts.profile
    return UNKNOWN_SEGMENT if profile is None else profile.segment


def _compared(events: int, before: _Side, after: _Side) -> DecisionDiff:
    segments = before.segments | after.segments
    only_before = [decision for decision in before.seen if decision not in after.seen]
    only_after = [decision for decision in after.seen if decision not in before.seen]
    both = [decision for decision in before.seen if decision in after.seen]

    def counted(decisions: list[Decision]) -> Counter[tuple[str, str]]:
        return Counter((kind, segments.get(borrower, UNKNOWN_SEGMENT)) for borrower, kind, _, _ in decisions)

    counts = counted(only_before), counted(only_after), counted(both)
    kinds = sorted(set(counts[0]) | set(counts[1]))
    changed = [
        Changed(
            kind,
            segment,
            counts[0][kind, segment],
            counts[1][kind, segment],
            counts[2][kind, segment],
            list(_examples(only_before, before, kind, segment, segments)),
            list(_examples(only_after, after, kind, segment, segments)),
        )
        for kind, segment in kinds
    ]
    borrowers = {decision[0] for decision in (*only_before, *only_after)}
    return DecisionDiff(events, len(before.seen), len(after.seen), len(borrowers), changed)


def _examples(
    decisions: list[Decision], side: _Side, kind: str, segment: str, segments: dict[str, str]
) -> Iterator[Example]:
    """The first ones by moment."""
    matching = [
        decision
        for decision in decisions
        if decision[1] == kind and segments.get(decision[0], UNKNOWN_SEGMENT) == segment
    ]
    for borrower, _, at_ms, detail in sorted(matching, key=lambda d: (d[2], d))[:EXAMPLES]:
        event_id, seen_ms = side.seen[borrower, kind, at_ms, detail]
        yield Example(event_id, borrower, at_ms, detail, seen_ms)
