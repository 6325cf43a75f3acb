"""Whom an incident reaches: the graces of a loan, and the hours that login features skip.

    incident_opened, incident_closed (control) ── the task's list of incidents
                                                         │
    attempts and due dates of a loan ────────────────────┴── graces of the loan, days that login features skip

A grace runs from the failure (or the due date) to the incident's end and some days more. It is a function of the loan
and of the list, whatever came first: an incident may be opened long after the fact, and a failure told long after the
incident. The incidents of the list are those that the policy still remembers; what earlier ones gave stays.
"""

from collections.abc import Collection, Sequence

from streams.engine.behaviour import Logins
from streams.engine.calendar import Calendar
from streams.engine.incidents import FOREVER_MS, Incident, last_day
from streams.engine.loan import (
    ATTEMPT,
    ATTEMPT_DAY,
    ATTEMPT_MS,
    ATTRIBUTION,
    ATTRIBUTIONS,
    DUE,
    FOREVER_DAY,
    NONE,
    PAID_DAY,
    REPLACED,
    ROW,
    UNPAID,
    Loan,
)
from streams.policy.model import IncidentRules


def graces_of(
    loan: Loan, incidents: Sequence[Incident], rules: IncidentRules, calendar: Calendar
) -> tuple[list[int], list[str]]:
    """The `graces` and `grace_ids` of a loan under the incidents a task knows.

    Of every incident that asks for it: from the first failure inside it that the rules count or, where incidents reach
    what is due, from the first due date inside it on which the instalment was not paid.
    """
    listed = {incident.incident_id for incident in incidents}
    found = [
        (loan.graces[2 * at], loan.graces[2 * at + 1], incident_id)
        for at, incident_id in enumerate(loan.grace_ids)
        if incident_id not in listed
    ]
    for incident in incidents:
        if _concerns(incident, loan):
            first = _first_failure(loan, incident, rules)
            if rules.reach == "due":
                due = _first_due(loan, incident, calendar)
                first = due if first == NONE or NONE < due < first else first
            if first != NONE:
                found.append((first, last_day(incident, calendar), incident.incident_id))
    found.sort()
    return [day for grace in found for day in grace[:2]], [incident_id for _, _, incident_id in found]


def _concerns(incident: Incident, loan: Loan) -> bool:
    return incident.all or (incident.platform in ("", loan.platform) and incident.product in ("", loan.product))


def _first_failure(loan: Loan, incident: Incident, rules: IncidentRules) -> int:
    first = NONE
    attempts, channel = loan.attempts, "" if incident.all else incident.channel
    from_ms, until_ms = incident.from_ms, incident.until_ms
    for index, used in enumerate(loan.attempt_channels):
        at = index * ATTEMPT
        day = attempts[at + ATTEMPT_DAY]
        if day == NONE or not from_ms <= attempts[at + ATTEMPT_MS] <= until_ms:
            continue
        if channel in ("", used) and ATTRIBUTIONS[attempts[at + ATTRIBUTION]] in rules.attributions:
            first = day if first == NONE else min(first, day)
    return first


def _first_due(loan: Loan, incident: Incident, calendar: Calendar) -> int:
    """A loan belongs to the channels over which anything was paid or tried before the incident ended; one on which
    nothing was, to any."""
    channel = "" if incident.all else incident.channel
    if channel and loan.channels:
        if channel not in loan.channels:
            return NONE
        if loan.channel_since[loan.channels.index(channel)] > incident.until_ms:
            return NONE
    if incident.until_ms < incident.from_ms:
        return NONE
    from_day = calendar.day(incident.from_ms)
    until_day = FOREVER_DAY if incident.until_ms >= FOREVER_MS else calendar.day(incident.until_ms)
    rows = loan.rows
    for at in range(0, len(rows), ROW):
        due, paid = rows[at + DUE], rows[at + PAID_DAY]
        if due > until_day:
            return NONE
        if due >= from_day and paid != REPLACED and not 0 <= paid <= due:
            return due
    return NONE


def give(loan: Loan, incidents: Sequence[Incident], rules: IncidentRules, calendar: Calendar) -> str:
    """Bring the graces of a loan up to date. Returns the incident whose grace changed, "" where none did.

    The stretches of arrears are to be counted again then: grace is in force on past days too.
    """
    if not loan.grace_ids and (not incidents or (rules.reach == "failed" and not loan.attempt_channels)):
        return ""
    graces, grace_ids = graces_of(loan, incidents, rules, calendar)
    if graces == loan.graces and grace_ids == loan.grace_ids:
        return ""
    before = {(loan.graces[2 * at], loan.graces[2 * at + 1], name) for at, name in enumerate(loan.grace_ids)}
    after = {(graces[2 * at], graces[2 * at + 1], name) for at, name in enumerate(grace_ids)}
    loan.graces, loan.grace_ids = graces, grace_ids
    loan.applied = NONE
    return min(before ^ after)[2]


def newly_overdue(loan: Loan, day: int) -> list[int]:
    """Due dates that have passed unpaid by a business date and have not been noted yet; they are from now on."""
    rows, noted = loan.rows, loan.noted_due
    days: list[int] = []
    for at in range(loan.first * ROW, len(rows), ROW):
        due = rows[at + DUE]
        if due >= day:
            break
        if due > noted and rows[at + PAID_DAY] == UNPAID and due not in days:
            days.append(due)
    if days:
        loan.noted_due = days[-1]
    return days


# --- logins -------------------------------------------------------------------------------------------------------


def skip_logins(logins: Logins, loans: Collection[Loan], incidents: Sequence[Incident], calendar: Calendar) -> bool:
    """Note the business hours that login features skip; whether that changes them.

    An incident counts for everybody, for who has logged in over its channel, or for who has a loan of its platform or
    product.
    """
    skips: list[int] = []
    for incident in incidents:
        if incident.until_ms >= incident.from_ms and _kept_out(incident, logins, loans):
            until = FOREVER_DAY * 24 if incident.until_ms >= FOREVER_MS else calendar.hour(incident.until_ms)
            skips += (calendar.hour(incident.from_ms), until)
    if skips == logins.skips:
        return False
    logins.skips = skips
    return True


def _kept_out(incident: Incident, logins: Logins, loans: Collection[Loan]) -> bool:
    if incident.all:
        return True
    if incident.channel:
        return incident.channel in logins.channels
    return any(_concerns(incident, loan) for loan in loans)
