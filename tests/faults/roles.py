"""Which node of a cluster holds which role at the moment."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from typing import Protocol

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.coordination import FindCoordinatorRequest
from confluent_kafka.admin import AdminClient

from schemas.topics import COMMITS
from tests.parts import wait_until

_DESCRIBE_QUORUM = 55
_METADATA = b"__cluster_metadata"
_OF_TRANSACTIONS = 1


class Role(Protocol):
    """Gives the id of the node, None while nobody holds it; asked with bootstrap servers and app id."""

    def __call__(self, bootstrap: str, app_id: str) -> int | None: ...


def _leader(bootstrap: str, app_id: str) -> int | None:
    """Of the first task's commit log."""
    found = _admin(bootstrap).list_topics(COMMITS, timeout=5).topics[COMMITS].partitions[0].leader
    return int(found) if found >= 0 else None


def _coordinator_of_the_group(bootstrap: str, app_id: str) -> int | None:
    admin = _admin(bootstrap)
    return int(admin.describe_consumer_groups([app_id])[app_id].result(10).coordinator.id)


def _coordinator_of_transactions(bootstrap: str, app_id: str) -> int | None:
    """Of the first task's."""

    async def ask() -> int | None:
        client = AIOKafkaClient(bootstrap_servers=bootstrap)
        await client.bootstrap()
        try:
            asked = FindCoordinatorRequest(f"{app_id}-0", _OF_TRANSACTIONS)
            answer = await client.send(client.get_random_node(), asked)
            return None if answer.error_code else int(answer.coordinator_id)
        finally:
            await client.close()

    return asyncio.run(ask())


def _controller(bootstrap: str, app_id: str) -> int | None:
    """The leader of the metadata's quorum. What metadata tells clients is any node, so the quorum itself is asked."""
    topic = _compact(_METADATA) + b"\x02" + struct.pack(">i", 0) + b"\x00\x00"
    body = struct.pack(">hhihx", _DESCRIBE_QUORUM, 0, 1, -1) + b"\x02" + topic + b"\x00"
    for server in bootstrap.split(","):
        host, port = server.rsplit(":", 1)
        try:
            with socket.create_connection((host, int(port)), timeout=5) as line, line.makefile("rb") as answers:
                line.sendall(struct.pack(">i", len(body)) + body)
                (size,) = struct.unpack(">i", answers.read(4))
                answer = answers.read(size)
        except (OSError, struct.error):
            continue
        # Behind the name: count of partitions, number, error, leader.
        at = answer.find(_METADATA) + len(_METADATA) + 1
        _, error, leader = struct.unpack_from(">ihi", answer, at)
        if error == 0 and leader > 0:
            return int(leader)
    return None


def _compact(text: bytes) -> bytes:
    return bytes([len(text) + 1]) + text


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


ROLES: Mapping[str, Role] = {
    "leader of a commit log": _leader,
    "coordinator of transactions": _coordinator_of_transactions,
    "coordinator of the group": _coordinator_of_the_group,
    "controller": _controller,
}


def holder(role: str, bootstrap: str, app_id: str) -> int:
    """The id of the node that holds a role, as soon as one does."""
    found: list[int] = []

    def asked() -> bool:
        node = ROLES[role](bootstrap, app_id)
        found.extend([] if node is None else [node])
        return bool(found)

    wait_until(asked, f"a node is {role}", 30)
    return found[0]
