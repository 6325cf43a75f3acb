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


class PeopleShown(Struct, frozen=True):
    """The hold in force; until when the limit is as a reviewer has set it; from which limit status up, and until when,
    the policy takes no rung; whether the borrower is on the consortium's blacklist. None: no such decision."""

    hold: Literal["manual", "legal"] | None
    limit_set_until: str | None
    no_status_from: str | None
    no_status_until: str | None
    listed: bool
    reviews: list[ReviewShown]


def people(oversight: Oversight | None, directions: Directions | None, as_of_ms: int, zone: ZoneInfo) -> PeopleShown:
    """What holds at an instant."""
    known = oversight or Oversight()
    spared = known.rung_until_ms > as_of_ms
    holds: tuple[None, Literal["manual"], Literal["legal"]] = (None, "manual", "legal")
    return PeopleShown(
        hold=holds[hold_on(directions)],
        limit_set_until=iso_moment(known.limit_until_ms, zone) if known.limit_until_ms > as_of_ms else None,
        no_status_from=status_of(known.rung_below) if spared else None,
        no_status_until=iso_moment(known.rung_until_ms, zone) if spared else None,
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
    if shown.no_status_from is not None:
        lines.append(f"by decision of a reviewer not {shown.no_status_from} or harder until {shown.no_status_until}")
    if shown.listed:
        lines.append("on the consortium's blacklist")
    for review in shown.reviews:
        about = f" about {review.about}" if review.about else ""
        lines.append(f"open review: {review.why}{about}, since {review.asked_at}, asked {review.times_asked} times")
    return lines
