"""Incidents: a failing channel, platform, product or everything, as the task keeps them (whom they reach: `graces`)."""

from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType, structs

from schemas.inbound import IncidentClosed, IncidentOpened
from streams.engine.calendar import DAY_MS, Calendar
from streams.engine.loan import FOREVER_DAY
from streams.policy.model import IncidentRules

FOREVER_MS = FOREVER_DAY * DAY_MS


class Incident(Struct, array_like=True, frozen=True, gc=False):
    """An incident as last told. An empty string: the scope does not ask for it. `until_ms` FOREVER_MS: still open."""

    incident_id: str
    channel: str
    platform: str
    product: str
    all: bool
    from_ms: int
    until_ms: int
    grace_days: int


def changed_by(
    event: IncidentOpened | IncidentClosed, incidents: Sequence[Incident]
) -> tuple[Incident | None, Incident] | None:
    """The incident before and after an event; None where the event closes one that is not known.

    An `incident_opened` of a known incident corrects it.
    """
    before = next((incident for incident in incidents if incident.incident_id == event.incident_id), None)
    if isinstance(event, IncidentClosed):
        return None if before is None else (before, structs.replace(before, until_ms=event.until_ms))
    scope = event.scope
    after = Incident(
        event.incident_id,
        _asked(scope.channel),
        _asked(scope.platform),
        _asked(scope.product),
        scope.all is True,
        event.from_ms,
        event.until_ms if isinstance(event.until_ms, int) else FOREVER_MS,
        event.grace_days,
    )
    return before, after


def _asked(name: str | UnsetType | None) -> str:
    return name if name is not None and name is not UNSET else ""


def last_day(incident: Incident, calendar: Calendar) -> int:
    """The last day of the grace that an incident gives."""
    if incident.until_ms >= FOREVER_MS:
        return FOREVER_DAY
    return calendar.day(incident.until_ms) + incident.grace_days


def forgotten(incident: Incident, day: int, rules: IncidentRules, calendar: Calendar) -> bool:
    """Whether failures in an incident are so old that no event is expected to touch it any more."""
    return last_day(incident, calendar) + rules.remember_days < day


def failure_key(day: int, borrower_id: str = "") -> str:
    """An entry of the task's index of failures; without a borrower what sorts before all those of the day."""
    return f"{max(day, 0):07d}|{borrower_id}"


def borrower_of(failure: str) -> str:
    return failure[8:]


def span_of(incident: Incident, clock_ms: int, calendar: Calendar) -> tuple[int, int]:
    """First and last business date on which an incident may have touched anybody until now."""
    # Events may be a day ahead of the clock.
    until_ms = min(incident.until_ms, clock_ms + 2 * DAY_MS)
    return calendar.day(incident.from_ms), calendar.day(max(until_ms, incident.from_ms))
