"""What one policy says of one borrower in the course of time: its warning level, and its rung and limit."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct, field

from streams.engine.calendar import Calendar
from streams.engine.chunk import Output
from streams.engine.score_fall import REASONS as FALL_REASONS
from streams.policy.model import LEVELS, STATUSES

WARNINGS, ADJUSTMENTS = "early-warnings", "limit-adjustments"


HARDER = frozenset(
    ("warning_raised", "warning_escalated", "draws_restricted", "limit_decreased", "limit_frozen", "limit_zeroed")
)
EASIER = frozenset(("warning_lowered", "warning_cleared", "limit_restored"))
"""`limit_rebased` is in neither: it was decided elsewhere."""


class Change(Struct, frozen=True):
    """A change of warning level or of the limit, on a business date. `kind` is the type of its event, `place` the level
    or the rung it leads to (0: none, normal), `previous` the one it leaves. `by_score`: it rests on the score
    alone. `undoes`: it compensates a decision. Amounts are of limits alone, in minor units of `currency`."""

    kind: str
    day: int
    place: int
    previous: int
    by_score: bool
    undoes: bool
    from_minor: int = 0
    to_minor: int = 0
    currency: str = ""


class Signals(Struct):
    """All changes of one borrower, in the order of their emission."""

    warnings: list[Change] = field(default_factory=list)
    limits: list[Change] = field(default_factory=list)


class _Reason(Struct, frozen=True):
    code: str
    points: int


class _Warning(Struct, frozen=True):
    at_ms: int
    level: str
    previous_level: str
    reasons: list[_Reason]
    compensates: str | None = None


class _Adjustment(Struct, frozen=True):
    at_ms: int
    from_minor: int
    to_minor: int
    from_status: str
    to_status: str
    currency: str
    reasons: list[_Reason]
    compensates: str | None = None


class Standing(Struct, frozen=True):
    """Where a borrower stands at the start of a business date. `since_day`: since when there has been such a warning or
    restriction without a break. `from_minor`: the limit before that."""

    since_day: int
    from_minor: int
    place: int
    to_minor: int
    currency: str


_warning = msgspec.json.Decoder(_Warning)
_adjustment = msgspec.json.Decoder(_Adjustment)


def note(outputs: Iterable[Output], calendar: Calendar, signals: dict[str, Signals]) -> None:
    """Add the warnings and limit adjustments among some outputs to what is known, by borrower."""
    for output in outputs:
        if output.topic not in (WARNINGS, ADJUSTMENTS):
            continue
        of_borrower = signals.setdefault(output.key.decode(), Signals())
        if output.topic == WARNINGS:
            of_borrower.warnings.append(_warned(output.kind, _warning.decode(output.value), calendar))
        else:
            of_borrower.limits.append(_adjusted(output.kind, _adjustment.decode(output.value), calendar))


def _warned(kind: str, event: _Warning, calendar: Calendar) -> Change:
    places = LEVELS.index(event.level), LEVELS.index(event.previous_level)
    return Change(kind, calendar.day(event.at_ms), *places, _by_score(event.reasons), event.compensates is not None)


def _adjusted(kind: str, event: _Adjustment, calendar: Calendar) -> Change:
    return Change(
        kind,
        calendar.day(event.at_ms),
        STATUSES.index(event.to_status),
        STATUSES.index(event.from_status),
        _by_score(event.reasons),
        event.compensates is not None,
        event.from_minor,
        event.to_minor,
        event.currency,
    )


def _by_score(reasons: Sequence[_Reason]) -> bool:
    """Rules that were met, and what people or other systems have told, cost no points; scored factors always do. The
    fall of the score is a rule, but one about the score."""
    return bool(reasons) and all(reason.points or reason.code in FALL_REASONS for reason in reasons)


def in_force(changes: Sequence[Change], day: int, from_place: int = 1) -> Standing | None:
    """What the changes before a business date come to; None where that is below the level or rung `from_place`."""
    found: Standing | None = None
    for change in changes:
        if change.day >= day:
            break
        if change.place < from_place:
            found = None
        else:
            began = (change.day, change.from_minor) if found is None else (found.since_day, found.from_minor)
            found = Standing(*began, change.place, change.to_minor, change.currency)
    return found


def first_day(changes: Sequence[Change], from_day: int, from_place: int) -> int | None:
    """The first business date from `from_day` on that stands at the level or rung `from_place`, or comes to it."""
    if in_force(changes, from_day, from_place) is not None:
        return from_day
    return next((change.day for change in changes if change.day >= from_day and change.place >= from_place), None)
