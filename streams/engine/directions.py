"""What people and other systems have told about a borrower: holds, decisions of reviewers, appeals, reports.

Facts as every other: the same under each policy. What a judgement has to act on once waits as a notice until the next
judgement; what lasts is kept as the instants at which it was last set and lifted. A borrower of whom nobody has said
anything has none of it.
"""

from msgspec import Struct, field

from schemas import inbound as wire
from schemas.inbound import given

NEVER = -1
APPEAL, BREAKER, NO_TOKEN, SECOND, PROBATION, NOTHING, LYING, OVERTURNED, MANUAL = CODES = (
    "appeal_filed",
    "breaker_open",
    "identity_unknown",
    "second_reviewer_needed",
    "probation_completed",
    "nothing_to_decide",
    "review_left_lying",
    "overturned_by_review",
    "manual_decision",
)
"""Codes that every policy has a text for. Why a review is asked for is one of these, or a suspicion's own."""
NO_HOLD, MANUAL_HOLD, LEGAL_HOLD = 0, 1, 2
"""From weak to strong: a manual hold stops what changes the limit, a legal one warnings, reminders and listings too."""


class Notice(Struct, array_like=True, gc=False):
    """An event that the next judgement acts on. `kind` is its type; fields it does not have are empty or None."""

    kind: str
    event_id: str
    at_ms: int
    about: str = ""
    word: str = ""
    """The decision of a reviewer, or the kind of a report."""
    reviewer: str = ""
    limit_minor: int | None = None
    until_ms: int | None = None


class Directions(Struct, array_like=True):
    """`hardship_until_ms` is None where the report did not say."""

    notices: list[Notice] = field(default_factory=list)
    legal_set_ms: int = NEVER
    legal_lifted_ms: int = NEVER
    manual_set_ms: int = NEVER
    manual_lifted_ms: int = NEVER
    hardship_ms: int = NEVER
    hardship_until_ms: int | None = None


def hold_on(directions: Directions | None) -> int:
    """The hold in force: NO_HOLD, MANUAL_HOLD or LEGAL_HOLD. One set and lifted at the same instant is in force."""
    if directions is None:
        return NO_HOLD
    if directions.legal_set_ms != NEVER and directions.legal_set_ms >= directions.legal_lifted_ms:
        return LEGAL_HOLD
    if directions.manual_set_ms != NEVER and directions.manual_set_ms >= directions.manual_lifted_ms:
        return MANUAL_HOLD
    return NO_HOLD


def take_hold(directions: Directions, event: wire.HoldSet | wire.HoldLifted) -> None:
    """The latest word by `at_ms` stands, in whatever order they come."""
    at_ms = event.at_ms
    if isinstance(event, wire.HoldSet):
        if event.kind == "legal":
            directions.legal_set_ms = max(directions.legal_set_ms, at_ms)
        else:
            directions.manual_set_ms = max(directions.manual_set_ms, at_ms)
    elif event.kind == "legal":
        directions.legal_lifted_ms = max(directions.legal_lifted_ms, at_ms)
    else:
        directions.manual_lifted_ms = max(directions.manual_lifted_ms, at_ms)


def take_hardship(directions: Directions, event: wire.HardshipReported) -> None:
    if event.at_ms >= directions.hardship_ms:
        directions.hardship_ms = event.at_ms
        directions.hardship_until_ms = given(event.until_ms)


def notice_of(event: wire.BorrowerEvent) -> Notice | None:
    """What the next judgement has to act on, None where an event asks for nothing of the kind."""
    notice = Notice(str(event.__struct_config__.tag), event.event_id, event.at_ms)
    if isinstance(event, wire.AppealFiled):
        notice.about, notice.word = event.about_event_id, event.text_code
    elif isinstance(event, wire.ReviewDecided):
        notice.about, notice.word, notice.reviewer = given(event.about_event_id) or "", event.decision, event.reviewer
        notice.limit_minor, notice.until_ms = given(event.limit_minor), given(event.expires_at_ms)
    elif isinstance(event, wire.FraudReported):
        return None if event.confirmed else notice
    elif isinstance(event, wire.ViolationReported):
        notice.word = "confirmed" if event.confirmed else ""
    elif isinstance(event, wire.BlacklistReported):
        return notice if event.listed else None
    return notice
