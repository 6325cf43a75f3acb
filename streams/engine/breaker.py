"""The breaker: so many zeroings and listings in an hour of the business clock and segment, and no more.

A bad policy or a bad feed must not close ten thousand accounts before someone looks. The number is shared out over the
tasks, and each task grants its share in the order in which it folds: what is granted does not depend on where a chunk
ends. What comes after goes to a person.
"""

from msgspec import Struct, field

from streams.policy.model import Breaker as Rules

HOUR_MS = 3_600_000


class Granted(Struct, array_like=True):
    """What a task has granted in one hour of the business clock, by kind and segment (``zeroed|worker``)."""

    hour: int = -1
    counts: dict[str, int] = field(default_factory=dict)


def share_of(most: int, partition: int, partitions: int) -> int:
    """The part of `most` that falls to one task; all parts together are exactly `most`."""
    return most // partitions + (1 if partition < most % partitions else 0)


def grant(granted: Granted, rules: Rules, kind: str, segment: str, as_of_ms: int, place: tuple[int, int]) -> bool:
    """Whether one more of a kind is granted; counts it if so. `place`: the task's partition, and how many there are."""
    hour = as_of_ms // HOUR_MS
    if hour != granted.hour:
        granted.hour = hour
        granted.counts = {}
    key = f"{kind}|{segment}"
    count = granted.counts.get(key, 0)
    if count >= share_of(rules.most(segment), *place):
        return False
    granted.counts[key] = count + 1
    return True
