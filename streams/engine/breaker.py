"""The breaker: so many zeroings and listings in an hour of the business clock and segment, and no more.

A bad policy or a bad feed must not close ten thousand accounts before someone looks. The number is shared out over the
tasks, and each task grants its share in the order in which it folds: what is granted does not depend on where a chunk
ends. What comes after goes to a person.

The order is that of time but for one case: events that are folded beside a sweep are judged at its tick, ahead of the
wake-ups that the sweep has still to fire. Until it ends the hours before the newest count on, each by itself.
"""

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field

from schemas import outbound
from streams.engine.calendar import HOUR_MS
from streams.policy.model import Breaker as Rules

if TYPE_CHECKING:
    from streams.engine.view import View


class Gate(Protocol):
    """Between a zeroing and its event: the breaker, and the person who is asked where it does not grant one."""

    def grants(self, view: "View") -> bool: ...

    def ask(self, view: "View", proposed: outbound.BorrowerEvent) -> None: ...


class Granted(Struct, array_like=True):
    """What a task has granted in one hour of the business clock, by kind and segment (``zeroed|worker``); while a sweep
    of wake-ups is open also in hours before it, which stand in front (``491234|zeroed|worker``)."""

    hour: int = -1
    counts: dict[str, int] = field(default_factory=dict)


def share_of(most: int, partition: int, partitions: int) -> int:
    """The part of `most` that falls to one task; all parts together are exactly `most`."""
    return most // partitions + (1 if partition < most % partitions else 0)


def grant(
    granted: Granted, rules: Rules, kind: str, segment: str, as_of_ms: int, place: tuple[int, int], sweeping: bool
) -> bool:
    """Whether one more of a kind is granted; counts it if so.

    Args:
        place: the task's partition, and how many there are.
        sweeping: whether a sweep of wake-ups is open, so that hours before the newest are not over yet.
    """
    hour = as_of_ms // HOUR_MS
    if hour > granted.hour:
        granted.counts = _put_aside(granted) if sweeping else {}
        granted.hour = hour
    key = f"{kind}|{segment}" if hour == granted.hour else f"{hour}|{kind}|{segment}"
    count = granted.counts.get(key, 0)
    if count >= share_of(rules.most(segment), *place):
        return False
    granted.counts[key] = count + 1
    return True


def _put_aside(granted: Granted) -> dict[str, int]:
    return {key if _is_before(key) else f"{granted.hour}|{key}": count for key, count in granted.counts.items()}


def close_hours(granted: Granted) -> None:
    """The sweep has ended: no wake-up of an hour before the newest is left."""
    granted.counts = {key: count for key, count in granted.counts.items() if not _is_before(key)}


def _is_before(key: str) -> bool:
    return key[0].isdigit()
