"""What must hold after each row, beside what it holds to a replay."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from itertools import pairwise, zip_longest
from typing import Any

from schemas.topics import DLQ_SUFFIX, DLQS, INPUTS, OUTPUTS
from streams.worker.commitlog import Committed
from streams.worker.refusals import QUARANTINED
from tests.integration.live import Held, Outcome, comparable

Logs = Sequence[Sequence[Committed]]
"""The commit logs, by task."""


def check_claims_move_nothing(logs: Logs) -> None:
    """A take-over begins where the owner before it ended."""
    for task, log in enumerate(logs):
        for before, committed in pairwise(log):
            if committed.record.kind == "claim":
                moved = committed.record.positions != before.record.positions
                assert not moved, f"task {task}: the claim at commit {committed.record.seq} moves positions"


def check_log_is_held(logs: Logs, found: Outcome) -> None:
    """The store holds what the commit log says, state by state: what it would be filled with from the log alone."""
    for task, log in enumerate(logs):
        ours = found.held[task]
        theirs = _told(log)
        for name in sorted(ours.states.keys() | theirs.states.keys()):
            same = ours.states.get(name) == theirs.states.get(name)
            assert same, f"task {task}: the store holds another state of {name} than the commit log"
        assert ours.wakes == theirs.wakes, f"task {task}: the store holds other wake-ups than the commit log"
        assert ours.task == theirs.task, f"task {task}: the store holds another state of the task than the commit log"


def _told(log: Sequence[Committed]) -> Held:
    states: dict[str, bytes] = {}
    wakes: dict[str, int | None] = {}
    task = b""
    for committed in log:
        record = committed.record
        for name in record.erased:
            states.pop(name, None)
            wakes.pop(name, None)
        states |= record.packed_states
        wakes |= record.moments
        task = record.packed_task or task
    return Held(states, {name: moment for name, moment in wakes.items() if moment is not None}, task)


def check_each_counted(logs: Logs, inputs: Mapping[str, Sequence[Sized]], found: Outcome) -> None:
    """Folded and refused make up the input: what the tasks counted, chunk by chunk, over all their owners."""
    refused: Counter[str] = Counter()
    for task, log in enumerate(logs):
        counted = log[-1].record.refused
        for topic in INPUTS:
            seen, bad = counted.get(topic, (0, 0))
            refused[topic] += bad
            records = len(inputs[topic][task])
            assert seen == records, f"task {task}: {seen} records of {topic} are counted where there are {records}"
    for topic in INPUTS:
        letters = [reason_of(headers) for _, _, headers in found.letters[topic + DLQ_SUFFIX]]
        # What follows from a quarantine is not counted as refused.
        told = sum(reason != QUARANTINED.encode() for reason in letters)
        assert told == refused[topic], f"{told} dead letters of {topic}, but {refused[topic]} records were refused"


def reason_of(headers: Sequence[tuple[str, bytes]]) -> bytes:
    return dict(headers)["__dlq.errors.reason"]


def check_alike(found: Outcome, wanted: Outcome) -> None:
    """Name the first message that differs: by its place in the topic, partition after partition, and its id."""
    for topic in OUTPUTS:
        ours, theirs = comparable(topic, found.outputs[topic]), comparable(topic, wanted.outputs[topic])
        for place, (one, other) in enumerate(zip_longest(ours, theirs)):
            if one != other:
                told = f"is {_id_of(one)} where {_id_of(other)} is due"
                raise AssertionError(f"{topic}: {len(ours)} messages of {len(theirs)}, number {place} {told}")


def _id_of(value: bytes | None) -> str:
    if value is None:
        return "none"
    event = json.loads(value)
    return f"{event['type']} {event['event_id']}"


def check_ids(found: Outcome) -> None:
    """No event has the id of another, no record is refused twice."""
    for topic in OUTPUTS:
        ids = [json.loads(value)["event_id"] for value in found.outputs[topic]]
        assert len(set(ids)) == len(ids), f"an event twice on {topic}"
    for topic in DLQS:
        places = [
            tuple(value for name, value in headers if name in ("__dlq.errors.partition", "__dlq.errors.offset"))
            for _, _, headers in found.letters[topic]
        ]
        assert len(set(places)) == len(places), f"a dead letter twice on {topic}"


def check_limit_chains(found: Outcome) -> None:
    """Per borrower `limit_seq` rises by one, and each event starts where the last one ended."""
    stood: dict[str, tuple[int, Any, Any]] = {}
    for value in found.outputs["limit-adjustments"]:
        event = json.loads(value)
        borrower = event["borrower_id"]
        seq, to_minor, to_status = stood.get(borrower, (event["limit_seq"] - 1, None, None))
        assert event["limit_seq"] == seq + 1, f"a hole in a limit chain before {event['event_id']}"
        if to_status is not None:
            assert (event["from_minor"], event["from_status"]) == (to_minor, to_status), event["event_id"]
        else:
            assert event["limit_seq"] == 1
        stood[borrower] = (event["limit_seq"], event["to_minor"], event["to_status"])
