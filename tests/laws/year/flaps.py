"""Steps that are taken again soon after they were given back, and whether there is a new cause."""

from typing import NamedTuple

from streams.policy.model import STATUSES, Policy
from streams.replay.explain import StandingShown
from tests.laws.year.told import CUT, DAY_MS, Event


class Retaken(NamedTuple):
    """A step taken again that names nothing as evidence that was delivered since. `undone` is the step that `restored`
    compensates, None where it gives back what was right."""

    borrower_id: str
    undone: Event | None
    restored: Event
    event: Event


class _Watched:
    """One who has been restricted: the steps taken, the last that was given back, and what was delivered since then."""

    def __init__(self) -> None:
        self.steps: dict[str, Event] = {}
        self.restored: Event | None = None
        self.delivered: set[str] = set()


class Watch:
    """Who has been restricted, what was given back to them, and which of their events were delivered since.

    `taken_again` counts the steps that were taken again, `retaken` are those of them still without a new cause.
    """

    def __init__(self, policy: Policy) -> None:
        self._within_ms = policy.limits.restoration.stage_days * DAY_MS
        self._watched: dict[str, _Watched] = {}
        self.retaken: list[Retaken] = []
        self.taken_again = 0

    def watches(self, name: str) -> bool:
        watched = self._watched.get(name)
        return watched is not None and watched.restored is not None

    def deliver(self, name: str, event_id: str) -> None:
        """An event of one who is watched was delivered."""
        self._watched[name].delivered.add(event_id)

    def take(self, name: str, event: Event) -> None:
        """Take the next limit event of a borrower."""
        if event["type"] in CUT:
            watched = self._watched.setdefault(name, _Watched())
            self._look(name, watched, event)
            watched.steps[event["event_id"]] = event
        elif event["type"] == "limit_restored":
            watched = self._watched.setdefault(name, _Watched())
            watched.restored = event
            watched.delivered.clear()

    def _look(self, name: str, watched: _Watched, event: Event) -> None:
        restored = watched.restored
        if restored is None:
            return
        if event["at_ms"] - restored["at_ms"] >= self._within_ms:
            watched.restored = None
        elif _takes_back(event, restored):
            self.taken_again += 1
            if not any(proof in watched.delivered for reason in event["reasons"] for proof in reason["evidence"]):
                undone = watched.steps.get(restored.get("compensates", ""))
                self.retaken.append(Retaken(name, undone, restored, event))


def _takes_back(event: Event, restored: Event) -> bool:
    harsher = STATUSES.index(event["to_status"]) > STATUSES.index(restored["to_status"])
    raised = restored["to_minor"] > restored["from_minor"]
    return harsher or (raised and event["to_minor"] < restored["to_minor"])


def rests_on_score(event: Event) -> bool:
    """Whether no rule of the ladder's own carries a step: its reasons are those of the score alone."""
    return all(reason["code"] != event["type"] for reason in event["reasons"])


def score_for(event: Event, standing: StandingShown) -> int:
    """The score that a step is judged by; to be frozen or zeroed, nobody loses points by what others say."""
    score = standing.own_score if event["to_status"] in ("frozen", "zeroed") else standing.score
    assert score is not None, "a step is taken by a judgement"
    return score
