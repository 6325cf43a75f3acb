"""Steps that are taken again soon after they were given back, and whether there is a new cause."""

from typing import NamedTuple

from streams.policy.model import STATUSES, Policy
from tests.laws.year.told import CUT, DAY_MS, Event


class Retaken(NamedTuple):
    """A step taken again that names nothing as evidence that was delivered since it was given back."""

    borrower_id: str
    restored: Event
    event: Event


class _Watched(NamedTuple):
    restored: Event
    delivered: set[str]


class Watch:
    """To whom something was given back, and which of their events were delivered since.

    `taken_again` counts the steps that were taken again, `retaken` are those of them still without a new cause.
    """

    def __init__(self, policy: Policy) -> None:
        self._within_ms = policy.limits.restoration.stage_days * DAY_MS
        self._watched: dict[str, _Watched] = {}
        self.retaken: list[Retaken] = []
        self.taken_again = 0

    def watches(self, name: str) -> bool:
        return name in self._watched

    def deliver(self, name: str, event_id: str) -> None:
        """An event of one who is watched was delivered."""
        self._watched[name].delivered.add(event_id)

    def take(self, name: str, event: Event) -> None:
        """Take the next limit event of a borrower."""
        if event["type"] == "limit_restored":
            self._watched[name] = _Watched(event, set())
            return
        watched = self._watched.get(name)
        if watched is None or event["type"] not in CUT:
            return
        restored = watched.restored
        if event["at_ms"] - restored["at_ms"] >= self._within_ms:
            del self._watched[name]
        elif _takes_back(event, restored):
            self.taken_again += 1
            if not any(proof in watched.delivered for reason in event["reasons"] for proof in reason["evidence"]):
                self.retaken.append(Retaken(name, restored, event))


def _takes_back(event: Event, restored: Event) -> bool:
    harsher = STATUSES.index(event["to_status"]) > STATUSES.index(restored["to_status"])
    raised = restored["to_minor"] > restored["from_minor"]
    return harsher or (raised and event["to_minor"] < restored["to_minor"])
