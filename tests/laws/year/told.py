"""What is kept of a borrower while a partition is folded: what was decided, and what excuses it."""

import json
from collections.abc import Iterable
from typing import Any

from streams.engine.calendar import Calendar
from streams.policy.model import Policy

Event = dict[str, Any]
DAY_MS = 86_400_000
CUT = ("draws_restricted", "limit_decreased", "limit_frozen", "limit_zeroed")
RAISED = ("warning_raised", "warning_escalated")
_KEPT = (
    "type", "event_id", "at_ms", "compensates", "limit_seq", "from_minor", "to_minor", "from_status", "to_status",
    "level", "previous_level", "score", "reasons",
)  # fmt: skip
_HEEDED = tuple(
    f'{{"type":"{kind}'.encode()
    for kind in ("repayment_failed", "failure_reattributed", "incident_", "hold_", "profile_set", "tick")
)


class Told:
    """One borrower: its limit and warning events, the entries of the blacklist, and of the inputs what is asked for.

    `first_limit_minor` is that of the profile at its first judgement, `holds` are (day set, day lifted or None).
    """

    def __init__(self) -> None:
        self.limits: list[Event] = []
        self.warnings: list[Event] = []
        self.listed_days: list[int] = []
        self.failures: dict[str, Event] = {}
        self.revised: dict[str, str] = {}
        self.first_limit_minor: int | None = None
        self.holds: list[tuple[int, int | None]] = []


class Tellers:
    """Everybody of a partition, and the incidents that were told."""

    def __init__(self, policy: Policy) -> None:
        self.calendar = Calendar(policy.facts.calendar.zone)
        self.people: dict[str, Told] = {}
        self.incidents: dict[str, Event] = {}
        self._borrowers_own = set(policy.facts.attribution.borrower)
        self._clock_runs = False

    def of(self, name: str) -> Told:
        told = self.people.get(name)
        if told is None:
            told = self.people[name] = Told()
        return told

    def hear(self, value: bytes) -> None:
        """Take an input."""
        if not value.startswith(_HEEDED):
            return
        event = json.loads(value)
        kind = event["type"]
        if kind == "tick":
            self._clock_runs = True
            return
        if kind.startswith("incident_"):
            self.incidents[event["incident_id"]] = self.incidents.get(event["incident_id"], {}) | event
            return
        told = self.of(event["borrower_id"])
        if kind == "repayment_failed":
            told.failures[event["attempt_id"]] = event
        elif kind == "failure_reattributed":
            told.revised[event["attempt_id"]] = event["attribution"]
        elif kind == "profile_set":
            # Nobody is judged before the first tick.
            if told.first_limit_minor is None or not self._clock_runs:
                told.first_limit_minor = event["limit_minor"]
        elif kind == "hold_set":
            told.holds.append((self.calendar.day(event["at_ms"]), None))
        elif told.holds:
            told.holds[-1] = (told.holds[-1][0], self.calendar.day(event["at_ms"]))

    def keep(self, name: str, event: Event, told_ms: int) -> Event:
        """Take an output that is a decision; `told_ms` is the order time of the record that it is of, which the
        business clock of its `at_ms` has not reached."""
        kept = {field: event[field] for field in _KEPT if field in event} | {"told_ms": told_ms}
        told = self.of(name)
        if "limit_seq" in event:
            told.limits.append(kept)
        elif "previous_level" in event:
            told.warnings.append(kept)
        elif event["type"] == "blacklisted":
            told.listed_days.append(self.calendar.day(event["at_ms"]))
        elif event["type"] == "delisted":
            told.listed_days.pop(0)
        return kept

    def own(self, told: Told) -> list[Event]:
        """The failed attempts that the borrower caused."""
        return [
            failed
            for attempt_id, failed in told.failures.items()
            if told.revised.get(attempt_id, "borrower" if failed["code"] in self._borrowers_own else "") == "borrower"
        ]

    def excused(self, told: Told, end_ms: int) -> tuple[dict[str, set[int]], set[str]]:
        """(by loan the days that outages excuse, the events of the failures that they explain)"""
        days: dict[str, set[int]] = {}
        explained: set[str] = set()
        own = {failed["attempt_id"] for failed in self.own(told)}
        for attempt_id, failed in told.failures.items():
            for incident in [] if attempt_id in own else self.incidents.values():
                until_ms = incident.get("until_ms") or end_ms
                inside = incident["from_ms"] <= failed["at_ms"] <= until_ms
                if inside and incident["scope"]["channel"] == failed["channel"]:
                    last_day = self.calendar.day(until_ms) + incident["grace_days"]
                    first_day = self.calendar.day(failed["at_ms"])
                    days.setdefault(failed["loan_id"], set()).update(range(first_day, last_day + 1))
                    explained.add(failed["event_id"])
        return days, explained


def in_force(limits: Iterable[Event]) -> list[Event]:
    """The restrictions of a chain that are in force at its end."""
    standing: list[Event] = []
    for event in limits:
        if event["type"] in CUT:
            standing.append(event)
        elif event.get("compensates") is not None:
            standing = [taken for taken in standing if taken["event_id"] != event["compensates"]]
        if event["to_status"] == "normal":
            standing = []
    return standing


def levels_in_force(warnings: Iterable[Event], levels: tuple[str, ...]) -> list[Event]:
    """The warnings that carry the level at the end."""
    standing: list[Event] = []
    for event in warnings:
        if event["type"] in RAISED:
            standing.append(event)
        else:
            at = levels.index(event["level"])
            standing = [raised for raised in standing if levels.index(raised["previous_level"]) < at]
    return standing
