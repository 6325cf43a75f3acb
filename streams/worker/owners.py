"""Who owns which task now, as the group's coordinator tells it: for commands that must leave a live worker alone."""

from collections.abc import Iterable

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from schemas.topics import CONTROL
from streams.config import Settings
from streams.worker.topics import open_admin

_STABLE = "Stable"


class OwnedError(Exception):
    """A task belongs to a worker that runs: one line, which task, whose, and what to do."""


async def task_owners(settings: Settings) -> dict[int, str]:
    """The host of the worker that the group has given each task to; tasks without a worker are left out.

    Raises:
        OwnedError: workers are joining or leaving: nobody can tell yet.
        streams.worker.topics.BrokerError: the broker does not answer, or refuses.
    """
    async with open_admin(settings) as admin:
        (answer,) = await admin.describe_consumer_groups([settings.app_id])
    owners: dict[int, str] = {}
    for _, _, state, _, _, members, *_ in answer.groups:
        if members and state != _STABLE:
            raise OwnedError(f"the workers of {settings.app_id} are sharing out their tasks ({state}): try again")
        for _, _, host, _, assignment, *_ in members:
            assigned = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else ()
            owners |= {tp.partition: host.lstrip("/") for tp in assigned if tp.topic == CONTROL}
    return owners


async def refuse_owned(settings: Settings, tasks: Iterable[int], instead: str) -> None:
    """Let nobody on who would get in the way of a worker.

    Raises:
        OwnedError: one of `tasks` has an owner, or nobody can tell; `instead` says what to do then.
    """
    owners = await task_owners(settings)
    owned = sorted(set(tasks) & owners.keys())
    if owned:
        hosts = ", ".join(sorted({owners[task] for task in owned}))
        which = f"task {owned[0]} is" if len(owned) == 1 else f"tasks {', '.join(map(str, owned))} are"
        raise OwnedError(
            f"{which} owned by a worker on {hosts}: {instead} (one that died counts as running for "
            f"session_timeout_s, {settings.session_timeout_s:g} s)"
        )
