"""Writes `policy_activated` to every partition of `control`, in one transaction, and waits for what becomes of it.

A broker takes any event; whether a policy is in force, each task decides at the event's place in its log. Its commits
tell.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Literal

import msgspec
from msgspec import Struct, field

from schemas.inbound import PolicyActivated
from schemas.topics import CONTROL
from streams.config import Settings
from streams.engine.state import unpack_task
from streams.policy.loader import body, digest
from streams.policy.model import Policy
from streams.worker.dlq import letters
from streams.worker.producer import Message, TransactionError, Transactions
from streams.worker.takeover import CommitLog
from streams.worker.tasklogs import TaskError, choose_tasks, open_log_consumer, taken
from streams.worker.topics import BrokerError

_IS = {"live": "is live", "shadow": "runs as a shadow", "retired": "is retired"}


class Activation(Struct, frozen=True):
    policy: Policy
    mode: Literal["live", "shadow", "retired"]
    author: str
    approver: str


class Written(Struct, frozen=True):
    """What was written: the event's id, the policy, and its offset in each partition of `control`."""

    event_id: str
    policy_id: str
    digest: str
    mode: str
    offsets: list[int]


class Activated(Struct):
    """What became of an activation, by task: in force, refused (with the reason, as in the dead letter), or not come to
    yet."""

    event_id: str
    policy_id: str
    digest: str
    mode: str
    in_force: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return not self.refused and not self.waiting

    @property
    def lines(self) -> list[str]:
        """For the eye; says of no task what its log does not tell."""
        count = len(self.in_force) + len(self.refused) + len(self.waiting)
        told = [f"{self.policy_id}: written to {count} partitions as {self.event_id}"]
        if self.in_force:
            told.append(f"{self.policy_id} {_IS[self.mode]} in {len(self.in_force)} of {count} tasks")
        for why in dict.fromkeys(self.refused.values()):
            tasks = [task for task, reason in self.refused.items() if reason == why]
            told.append(f"refused by {len(tasks)} of {count} tasks: {why}")
        if self.waiting:
            told.append(
                f"{len(self.waiting)} of {count} tasks have not come to it (no worker?); they will: do not "
                "activate again: duewatch_policy_info tells what is in force then, duewatch dlq ls --topic control "
                "what was refused"
            )
        return told


async def activate(settings: Settings, activation: Activation, wait_s: float) -> Activated:
    """Write the activation, and wait until every task has decided on it, `wait_s` at most.

    Raises:
        TaskError: there are no topics, or author or approver is no id.
        BrokerError: the broker does not take it; then it is on no partition.
        CommitLogError: a commit log is damaged.
    """
    until_s = time.monotonic() + wait_s
    tasks = await choose_tasks(settings)
    async with open_log_consumer(settings) as consumer:
        begin = {task: (await CommitLog(consumer, task).reach())[1] for task in tasks}
        written = await write_activation(settings, activation)
        activated = Activated(written.event_id, written.policy_id, written.digest, written.mode)
        for task, offset in enumerate(written.offsets):
            commit = await taken(CommitLog(consumer, task), CONTROL, begin[task], offset, until_s)
            packed = None if commit is None else commit.record.packed_task
            if packed is None:
                activated.waiting.append(task)
            elif written.event_id in unpack_task(packed).control_seen:
                activated.in_force.append(task)
            else:
                activated.refused[task] = ""
    if activated.refused:
        activated.refused = await _reasons(settings, {task: written.offsets[task] for task in activated.refused})
    return activated


async def _reasons(settings: Settings, offsets: Mapping[int, int]) -> dict[int, str]:
    """Why the control records at these offsets were refused, by partition: their dead letters are in the commits."""
    found = dict.fromkeys(offsets, "see duewatch dlq ls --topic control")
    async with aclosing(letters(settings, [CONTROL])) as held_letters:
        async for held in held_letters:
            letter = held.letter
            if offsets.get(letter.partition) == letter.of_offset:
                found[letter.partition] = f"{letter.reason}: {letter.message}"
    return found


async def write_activation(settings: Settings, activation: Activation) -> Written:
    """Write the activation; every task sees it at one place of its own log.

    Raises:
        TaskError: author or approver is no id.
        BrokerError: the broker does not take it; then it is on no partition.
    """
    event = _event(activation)
    value = msgspec.json.encode(event)
    try:
        producer = await Transactions.begin(settings, f"{settings.app_id}-policy")
        try:
            partitions = await producer.partitions(CONTROL)
            messages: Sequence[Message] = [Message(CONTROL, partition, None, value) for partition in range(partitions)]
            offsets = await producer.commit([], messages)
        finally:
            await producer.close()
    except TransactionError as error:
        raise BrokerError(f"broker {settings.broker}: the activation was not written: {error}; try again") from error
    return Written(event.event_id, event.policy_id, event.digest, activation.mode, offsets)


def _event(activation: Activation) -> PolicyActivated:
    at_ms = time.time_ns() // 1_000_000
    policy, known = activation.policy, digest(activation.policy)
    event = PolicyActivated(
        event_id=f"policy-{activation.mode}-{known.removeprefix('sha256:')[:16]}-{at_ms}",
        at_ms=at_ms,
        policy_id=policy.id,
        digest=known,
        mode=activation.mode,
        body=body(policy),
        author=activation.author,
        approver=activation.approver,
    )
    try:
        msgspec.json.decode(msgspec.json.encode(event), type=PolicyActivated)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise TaskError(f"author and approver are ids of 1 to 64 characters: {error}") from None
    return event
