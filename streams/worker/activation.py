"""Writes `policy_activated` to every partition of `control`, in one transaction."""

import time
from typing import Literal

import msgspec
from msgspec import Struct

from schemas.inbound import PolicyActivated
from schemas.topics import CONTROL
from streams.config import Settings
from streams.policy.loader import body, digest
from streams.policy.model import Policy
from streams.worker.producer import Message, TransactionError, Transactions
from streams.worker.topics import BrokerError


class Activation(Struct, frozen=True):
    policy: Policy
    mode: Literal["live", "shadow", "retired"]
    author: str
    approver: str


class Written(Struct, frozen=True):
    """What was written: the event's id, the policy, and to how many partitions."""

    event_id: str
    policy_id: str
    digest: str
    mode: str
    partitions: int


async def write_activation(settings: Settings, activation: Activation) -> Written:
    """Write the activation; every task sees it at one place of its own log.

    Raises:
        BrokerError: the broker does not take it; then it is on no partition.
    """
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
    value = msgspec.json.encode(event)
    try:
        producer = await Transactions.begin(settings, f"{settings.app_id}-policy")
        try:
            partitions = await producer.partitions(CONTROL)
            await producer.commit([Message(CONTROL, partition, None, value) for partition in range(partitions)])
        finally:
            await producer.close()
    except TransactionError as error:
        raise BrokerError(f"broker {settings.broker}: the activation was not written: {error}; try again") from error
    return Written(event.event_id, policy.id, known, activation.mode, partitions)
