"""The decisions about a borrower, for the eye of a collections officer: what, why, the way back, and the cause.

Where an event carries no reasons (nothing is held against anyone who is restored), why it came is told from what it
does carry: what it undoes, the incident, the freeze that has run out, the reviewer.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

from rich.text import Text

from streams.engine.directions import OVERTURNED
from streams.replay.explain import ClassificationShown, Explained
from streams.replay.explained_reasons import reason_in_words
from streams.replay.found import Found, place
from streams.replay.moment import iso_moment
from streams.replay.quantities import money

_Event = dict[str, Any]
_CLASSES = ClassificationShown.__struct_fields__
_UNDONE = {
    **dict.fromkeys(("warning_raised", "warning_escalated", "warning_lowered"), "warning"),
    "draws_restricted": "restriction of draws",
    "limit_decreased": "decrease of the limit",
    "limit_frozen": "freeze",
    "limit_zeroed": "zeroing",
    "due_date_shifted": "shift of the due date",
    "blacklisted": "listing",
}
"""What a compensating event undoes, by the type of that."""


class Telling:
    """Tells the events of one borrower, of the live policy or of a shadow."""

    def __init__(self, shown: Explained, found: Found) -> None:
        self._zone = ZoneInfo(shown.zone)
        self._engine = found.task.engine
        self._reviewers = found.reviewers
        self._home = found.borrower.facts.windows.currency
        self._currencies = {loan.loan_id: loan.currency for loan in shown.loans}
        self._events = {event["event_id"]: event for event in map(_read, (*shown.decisions, *shown.shadow_decisions))}

    def lines(self, decisions: Iterable[Any]) -> Iterator[Text]:
        """All of them, in their order."""
        home, freeze = self._home, None
        for raw in decisions:
            event = _read(raw)
            # Ways back are told in the home currency, which the limit follows.
            home = event.get("currency", home)
            yield Text(f"{iso_moment(event['at_ms'], self._zone)}  {self._what(event)}")
            for detail in self._details(event, home, freeze):
                yield Text(f"    {detail}", style="dim")
            if event["type"] == "limit_frozen":
                freeze = event
            elif event["type"] == "limit_restored" and event["to_status"] != "frozen":
                freeze = None

    def _details(self, event: _Event, home: str, freeze: _Event | None) -> Iterator[str]:
        for option in event.get("options", []):
            yield f"option {self._option(option, event)}"
        proposed = event.get("proposed")
        if proposed is not None:
            yield f"proposed: {self._what(proposed)}"
        why = self._why(event, freeze)
        if why:
            yield f"why: {why}"
        policy = self._engine.policy_by(event["policy"]["digest"])
        for reason in event.get("reasons", []):
            yield reason_in_words(reason, policy, self._named)
        if "recovery" in event:
            yield f"way back: {_recovery(event['recovery'], home)}"
        cause = event.get("cause")
        if cause is not None:
            where = place(cause["topic"], cause["partition"], cause["offset"])
            yield f"because of {self._named(cause['event_id'])} ({where})"

    # --- what ---------------------------------------------------------------------------------------------------------

    def _what(self, event: _Event) -> str:
        kind = event["type"]
        told = ""
        if "limit_seq" in event:
            currency = event["currency"]
            amounts = f"{money(event['from_minor'], currency)} to {money(event['to_minor'], currency)}"
            told = f": {amounts}, {event['to_status']}{_draws(event)}"
        elif "previous_level" in event:
            told = f": {event['previous_level']} to {event['level']}, score {event['score']}, tier {event['tier']}"
        elif kind == "bucket_changed":
            told = f": loan {event['loan_id']} from {event['from']} to {event['to']}"
        elif kind == "classification_changed":
            told = f": loan {event['loan_id']}, {classed(ClassificationShown(*(event[name] for name in _CLASSES)))}"
        elif kind == "due_date_shifted":
            days = f"{event['from_on']} to {event['to_on']}"
            told = f": loan {event['loan_id']}, instalment {event['instalment_no']}, {days}"
        elif kind == "waiver_proposed":
            amount = self._of_loan(event["amount_minor"], event)
            told = f": loan {event['loan_id']}, instalment {event['instalment_no']}, {event['component']} {amount}"
        elif kind == "blacklisted":
            told = f": {event['reason']}, until {event['expires_on']}"
        elif kind == "review_requested":
            told = f": {event['why']}"
        elif "loan_id" in event:
            told = f": loan {event['loan_id']}"
        return f"{kind.replace('_', ' ')}{told}{self._undone(event)}"

    def _undone(self, event: _Event) -> str:
        if "compensates" not in event:
            return ""
        undone = self._events.get(event["compensates"])
        if undone is None:
            return " (undoes an earlier event)"
        what = _UNDONE.get(undone["type"], undone["type"].replace("_", " "))
        return f" (undoes the {what} of {iso_moment(undone['at_ms'], self._zone)[:10]})"

    def _option(self, option: _Event, event: _Event) -> str:
        rows = option["schedule"]
        total = sum(row["principal_minor"] + row["interest_minor"] + row["fee_minor"] for row in rows)
        kind = option["kind"].replace("_", " ")
        count = f"{len(rows)} instalment{'' if len(rows) == 1 else 's'}"
        together = self._of_loan(total, event)
        return f"{option['plan_id']}: {kind}, {count} until {rows[-1]['due_on']}, {together} together"

    def _of_loan(self, minor: int, event: _Event) -> str:
        return money(minor, self._currencies[event["loan_id"]])

    # --- why ----------------------------------------------------------------------------------------------------------

    def _named(self, event_id: str) -> str:
        """An event by its id, and whose decision it was."""
        reviewer = self._reviewers.get(event_id)
        return event_id if reviewer is None else f"{event_id} by reviewer {reviewer}"

    def _why(self, event: _Event, freeze: _Event | None) -> str:
        """Why an event came that has no reasons, or more of it than they say; "" where there is no more to say."""
        kind, incident_id = event["type"], event.get("incident_id")
        if incident_id is not None:
            return f"incident {incident_id}"
        if kind == "delisted":
            return "the zeroing is over, or what the listing rests on does not hold"
        codes = {reason["code"] for reason in event.get("reasons", [])}
        if "compensates" in event:
            return "" if OVERTURNED in codes else "what it rested on turned out never to have been"
        # The reasons of a level that is left are those for which there still is one below it.
        if kind in ("warning_lowered", "warning_cleared"):
            return "what the level looks for has been over for its dwell time"
        if kind == "limit_rebased":
            return "the limit was set elsewhere"
        if kind != "limit_restored" or codes:
            return ""
        if freeze is not None and self._has_run_out(freeze, event):
            return f"the freeze of {iso_moment(freeze['at_ms'], self._zone)[:10]} has run out"
        return "the next stage of the way back was reached"

    def _has_run_out(self, freeze: _Event, event: _Event) -> bool:
        """Whether a freeze was for some days: then its way back is to wait, or to ask for a review."""
        recovery = freeze.get("recovery", {})
        if event["from_status"] != "frozen" or recovery.get("action") != "request_review":
            return False
        return "earliest_on" in recovery and recovery["earliest_on"] <= iso_moment(event["at_ms"], self._zone)[:10]


def _read(raw: Any) -> _Event:
    event: _Event = json.loads(bytes(raw))
    return event


def _draws(event: _Event) -> str:
    draws = event.get("draws")
    if draws is None:
        return ""
    return f", at most {draws['max_30d']} draws in 30 days, at least {draws['min_gap_h']} hours apart"


def _recovery(recovery: _Event, currency: str) -> str:
    told = str(recovery["action"]).replace("_", " ")
    if "amount_minor" in recovery:
        told += f" {money(recovery['amount_minor'], currency)}"
    if "by_on" in recovery:
        told += f" by {recovery['by_on']}"
    return told + (f"; restored from {recovery['earliest_on']}" if "earliest_on" in recovery else "")


def classed(shown: ClassificationShown) -> str:
    """The regulatory view of a loan, as a line."""
    default = "in default" if shown.default_flag else "not in default"
    tier = shown.five_tier.replace("_", " ")
    return f"IFRS 9 stage {shown.ifrs9_stage}, five tiers {tier}, FFIEC {shown.ffiec}, {default}"
