"""Which worker owns which task.

A task is one partition number over all input topics, so that numbers are assigned, never single partitions. Faust's
own assignor keeps them together only where it believes that tables are to be kept; its fallback (round robin) splits
tasks in most layouts.
"""

from collections.abc import Iterable, Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

_VERSION = 1


class TaskAssignor(AbstractPartitionAssignor):
    """Assigns equal partition numbers of all topics, as evenly as can be, moving as few as can be.

    A member tells in its metadata which tasks it owns; whoever leads the group assigns from that.
    """

    name = "duewatch-task"

    def __init__(self) -> None:
        self._owned: list[int] = []

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        owned = ",".join(map(str, self._owned)).encode()
        return ConsumerProtocolMemberMetadata(_VERSION, sorted(topics), owned)

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        topics = sorted({topic for member in members.values() for topic in member.subscription})
        partitions = {topic: cluster.partitions_for_topic(topic) or set() for topic in topics}
        tasks = sorted(set().union(*partitions.values()))
        owners = share_out(tasks, {name: _owned(member.user_data) for name, member in members.items()})
        return {
            name: ConsumerProtocolMemberAssignment(
                _VERSION,
                [(topic, [task for task in owned if task in partitions[topic]]) for topic in topics],
                b"",
            )
            for name, owned in owners.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        self._owned = sorted({tp.partition for tp in assignment.partitions()})


def share_out(tasks: Iterable[int], owned: Mapping[str, Iterable[int]]) -> dict[str, list[int]]:
    """Tasks by member: their numbers differ by one at most, and a member keeps what it owned where its share allows.

    Args:
        tasks: all task numbers.
        owned: by member, the tasks it says it owns.
    """
    free = set(tasks)
    members = sorted(owned)
    share, more = divmod(len(free), len(members))
    kept: dict[str, list[int]] = {member: [] for member in members}
    for member in members:
        for task in owned[member]:
            if task in free and len(kept[member]) < share:
                kept[member].append(task)
                free.discard(task)
    # Then, as long as there are shares of one more, to those who owned more already.
    for member in members:
        extra = next((task for task in owned[member] if task in free), None)
        if more > 0 and extra is not None and len(kept[member]) == share:
            kept[member].append(extra)
            free.discard(extra)
            more -= 1
    rest = sorted(free, reverse=True)
    for member in members:
        while rest and len(kept[member]) < share:
            kept[member].append(rest.pop())
    for member in members:
        if rest and len(kept[member]) == share:
            kept[member].append(rest.pop())
    return {member: sorted(taken) for member, taken in kept.items()}


def _owned(user_data: bytes | None) -> list[int]:
    return [int(number) for number in (user_data or b"").decode().split(",") if number]
