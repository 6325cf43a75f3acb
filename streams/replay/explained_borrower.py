"""The same decisions, told to the borrower: what happened, why, what would restore the account and when.

Without points, thresholds of rules, ids of events, other people, or anything that helps to game the rules. A reason is
told by the policy's own text, which is written for borrowers; one that could tell of other people, or of what is being
looked into, by a neutral one.
"""

import json
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.text import Text as Line

from streams.engine import delinquency
from streams.engine.calendar import iso_day
from streams.engine.features import FEATURE_INDEX, FEATURES
from streams.engine.shadows import SHADOW_DECISIONS
from streams.policy.model import Policy
from streams.replay.borrower_words import ACCOUNT, NEUTRAL, PLANS, UNDONE, WAY_BACK, WHAT, Language, say
from streams.replay.found import Found
from streams.replay.moment import iso_moment
from streams.replay.quantities import money

UNTOLD_GROUPS = ("links", "fraud", "listings")
"""Features of other people, and of what is being looked into."""


class DecisionTold(Struct, frozen=True):
    """A decision of a day. `way_back` is told with the newest decision on warnings and on the limit alone."""

    on: str
    what: list[str]
    why: list[str]
    way_back: list[str]


class ToldToBorrower(Struct, frozen=True):
    """A borrower's account as of a civil date, and what was decided until then, oldest first."""

    borrower_id: str
    language: Language
    as_of: str
    account: list[str]
    decisions: list[DecisionTold]


class _Account(NamedTuple):
    """What texts need to know of the account: what is overdue, as people write it ("" where nothing is), and the
    currencies of its loans."""

    overdue: str
    on: str
    zone: ZoneInfo
    language: Language
    currencies: dict[str, str]


def tell(borrower_id: str, found: Found, language: Language) -> ToldToBorrower:
    """What a borrower is told, in a language."""
    engine, borrower = found.task.engine, found.borrower
    judge = engine.judge_of(found.task.task)
    day = judge.calendar.day(found.as_of_ms)
    overdue: dict[str, int] = {}
    for loan in borrower.facts.loans.values():
        position = delinquency.position(loan, day, judge.policy.facts)
        if not position.ended and sum(position.overdue) > 0:
            overdue[loan.currency] = overdue.get(loan.currency, 0) + sum(position.overdue)
    words = ", ".join(money(minor, currency) for currency, minor in overdue.items())
    currencies = {name: loan.currency for name, loan in borrower.facts.loans.items()}
    account = _Account(words, iso_day(day), ZoneInfo(judge.calendar.zone), language, currencies)
    events = [json.loads(output.value) for output in found.told if output.topic != SHADOW_DECISIONS]
    policies = {event["policy"]["digest"]: judge.policy for event in events}
    for digest in policies:
        then = engine.judge_by(digest)
        policies[digest] = judge.policy if then is None else then.policy
    limit = borrower.standing.limit
    shown = [] if limit is None else [say(ACCOUNT["limit"], language, limit=money(limit.minor, limit.currency))]
    if words:
        shown.append(say(ACCOUNT["overdue"], language, overdue=words))
    # What was refused may have been a loan or a payment: then nothing is said to be all there is.
    if found.refused.total:
        shown.append(say(ACCOUNT["incomplete"], language))
    elif not words:
        shown.append(say(ACCOUNT["nothing_overdue"], language))
    if found.erased is not None:
        shown.append(say(ACCOUNT["erased"], language, on=iso_moment(found.erased.at_ms, account.zone)[:10]))
    return ToldToBorrower(borrower_id, language, account.on, shown, _decisions(events, policies, account))


def _decisions(events: list[dict[str, Any]], policies: dict[str, Policy], account: _Account) -> list[DecisionTold]:
    newest = {_about(event): event["event_id"] for event in events}
    told: list[DecisionTold] = []
    listed = False
    for event in events:
        kind = event["type"]
        if kind in ("blacklisted", "delisted"):
            # When keys change a listing is taken back and made again, or made once more: nothing of it has changed.
            if listed == (kind == "blacklisted"):
                continue
            listed = kind == "blacklisted"
        what = _what(event, account)
        if not what:
            continue
        way_back = _way_back(event, account) if newest[_about(event)] == event["event_id"] else []
        on = iso_moment(event["at_ms"], account.zone)[:10]
        told.append(DecisionTold(on, what, _why(event, policies[event["policy"]["digest"]], account), way_back))
    return told


def _about(event: dict[str, Any]) -> str:
    """Of what a later event has the last word."""
    if "previous_level" in event:
        return "warning"
    return "limit" if "limit_seq" in event else ""


# --- what, why, and the way back ----------------------------------------------------------------------------------


def _what(event: dict[str, Any], account: _Account) -> list[str]:
    """What happened, none where a borrower is not told."""
    kind, language = event["type"], account.language
    text = WHAT.get(event["why"] if kind == "review_requested" else kind)
    if text is None:
        return []
    words: dict[str, object] = dict(event) | event.get("draws", {})
    if "limit_seq" in event:
        words["from_money"] = money(event["from_minor"], event["currency"])
        words["to_money"] = money(event["to_minor"], event["currency"])
    if kind == "waiver_proposed":
        words["money"] = money(event["amount_minor"], account.currencies[event["loan_id"]])
    if kind == "plan_offered":
        words["plans"] = "; ".join(_plan(option, language) for option in event["options"])
    undone = [say(UNDONE, language)] if "compensates" in event and kind != "delisted" else []
    return [*undone, say(text, language, **words)]


def _plan(option: dict[str, Any], language: Language) -> str:
    schedule = option["schedule"]
    return say(PLANS[option["kind"]], language, count=len(schedule), last_on=schedule[-1]["due_on"])


def _why(event: dict[str, Any], policy: Policy, account: _Account) -> list[str]:
    """The reasons in the policy's own words, each once."""
    reasons = [(reason["code"], reason["value"]) for reason in event.get("reasons", [])]
    if event["type"] == "blacklisted":
        reasons.append((event["reason"], None))
    untold, texts = untold_codes(policy), policy.reasons
    said = [
        say(NEUTRAL if code in untold or value == "confirmed" or code not in texts else texts[code], account.language)
        for code, value in reasons
    ]
    return list(dict.fromkeys(said))


def untold_codes(policy: Policy) -> set[str]:
    """Reasons that are told by the neutral text."""
    suspicions = policy.suspicions
    codes = {suspicions.fraud.reason, suspicions.listed_elsewhere.reason, suspicions.violation.reason}
    for factor in policy.score.factors:
        if FEATURES[FEATURE_INDEX[factor.feature]].group in UNTOLD_GROUPS or factor.subtotal == "links":
            codes.add(factor.reason)
    return codes


def _way_back(event: dict[str, Any], account: _Account) -> list[str]:
    recovery, language = event.get("recovery"), account.language
    if recovery is None:
        return []
    action, earliest_on, by_on = recovery["action"], recovery.get("earliest_on", ""), recovery.get("by_on", "")
    if action == "pay_overdue" and not account.overdue:
        action = "complete_probation"
    told = [say(WAY_BACK[action], language, overdue=account.overdue)]
    if action == "pay_overdue" and by_on >= account.on:
        told.append(say(WAY_BACK["pay_by"], language, by_on=by_on))
    if earliest_on > account.on:
        told.append(say(WAY_BACK[_about(event)], language, earliest_on=earliest_on))
    return told


def render(told: ToldToBorrower) -> RenderableType:
    """What is told, as text to read."""
    language = told.language
    parts = [Line(say(ACCOUNT["as_of"], language, on=told.as_of), style="bold"), *map(Line, told.account)]
    if not told.decisions:
        parts.append(Line(say(ACCOUNT["nothing_decided"], language)))
    for decision in told.decisions:
        parts += [Line(), Line(f"{decision.on}  {' '.join(decision.what)}")]
        for heading, lines in (("why", decision.why), ("way_back", decision.way_back)):
            if lines:
                parts.append(Line(f"    {say(ACCOUNT[heading], language)}: {' '.join(lines)}"))
    return Group(*parts)
