"""What explain shows of what people have decided about a borrower, and are asked."""

from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from streams.engine.directions import Directions, hold_on
from streams.engine.limits import status_of
from streams.engine.standing import Oversight
from streams.replay.moment import iso_moment


class ReviewShown(Struct, frozen=True):
    """A review that nobody has decided yet; `about` is the event it is about, "" where it is about the borrower."""

    why: str
    about: str
    asked_at: str
    times_asked: int


class BarShown(Struct, frozen=True):
    """No status from this one up is taken, until then: nothing at all, where it `exempts`; else nothing but for fraud
    that is confirmed anew, and of a `suspicion` only a freeze for another one."""

    status: str
    until: str
    exempts: bool
    suspicion: bool


class PeopleShown(Struct, frozen=True):
    """The hold in force; until when the limit is as a reviewer has set it (None: no such decision); what the policy is
    kept from; whether the borrower is on the consortium's blacklist."""

    hold: Literal["manual", "legal"] | None
    limit_set_until: str | None
    kept_from: list[BarShown]
    listed: bool
    reviews: list[ReviewShown]


def people(oversight: Oversight | None, directions: Directions | None, as_of_ms: int, zone: ZoneInfo) -> PeopleShown:
    """What holds at an instant."""
    known = oversight or Oversight()
    holds: tuple[None, Literal["manual"], Literal["legal"]] = (None, "manual", "legal")
    return PeopleShown(
        hold=holds[hold_on(directions)],
        limit_set_until=iso_moment(known.limit_until_ms, zone) if known.limit_until_ms > as_of_ms else None,
        kept_from=[
            BarShown(status_of(bar.at), iso_moment(bar.until_ms, zone), bar.exempts, bar.suspicion)
            for bar in known.rung_bars
            if bar.until_ms > as_of_ms
        ],
        listed=known.listing is not None and len(known.listing.entries) > 0,
        reviews=[
            ReviewShown(review.why, review.about, iso_moment(review.opened_ms, zone), len(review.event_ids))
            for review in known.reviews
        ],
    )


def in_words(shown: PeopleShown) -> list[str]:
    """A line for each thing there is."""
    lines = []
    if shown.hold is not None:
        lines.append(f"{shown.hold} hold")
    if shown.limit_set_until is not None:
        lines.append(f"limit set by a reviewer until {shown.limit_set_until}")
    for bar in shown.kept_from:
        what = f"not {bar.status} for a suspicion" if bar.suspicion else f"not {bar.status} or harder"
        lines.append(f"by decision of a reviewer {what} until {bar.until}")
    if shown.listed:
        lines.append("on the consortium's blacklist")
    for review in shown.reviews:
        about = f" about {review.about}" if review.about else ""
        lines.append(f"open review: {review.why}{about}, since {review.asked_at}, asked {review.times_asked} times")
    return lines
