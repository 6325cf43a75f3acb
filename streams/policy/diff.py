"""What differs between two policies, in the words of a risk analyst: part by part, before and after."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from streams.policy.model import Band, Condition, Factor, Policy

NOTHING = "—"
_KEYS: tuple[str, ...] = ("name", "level", "status", "feature", "kind")
"""What the entries of a list are known by, where they have one of these fields."""


class Difference(Struct, frozen=True):
    """`part` is the place in the policy, `what` the field or band; `before` and `after` as people read them."""

    part: str
    what: str
    before: str
    after: str


def differences(before: Policy, after: Policy) -> list[Difference]:
    """All that differs but the ids, in the order of the policy; none where both say the same."""
    return [
        difference
        for name in before.__struct_fields__
        if name != "id"
        for difference in _compared(name, getattr(before, name), getattr(after, name))
    ]


def _compared(part: str, before: Any, after: Any) -> Iterator[Difference]:
    if before == after:
        return
    if isinstance(before, Factor) and isinstance(after, Factor):
        yield from _factor(part, before, after)
    elif isinstance(before, Struct) and type(before) is type(after):
        for name in before.__struct_fields__:
            yield from _field(part, name, getattr(before, name), getattr(after, name))
    elif isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _field(part, str(name), before.get(name), after.get(name))
    elif isinstance(before, tuple) and isinstance(after, tuple):
        yield from _lists(part, before, after)
    else:
        owner, _, field = part.rpartition(" › ")
        yield Difference(owner or part, label(field), shown(field, before), shown(field, after))


def _field(part: str, name: str, before: Any, after: Any) -> Iterator[Difference]:
    yield from _compared(f"{part} › {name}", before, after)


def _lists(part: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[Difference]:
    key = _key_of([*before, *after])
    if key is None:
        owner, _, field = part.rpartition(" › ")
        gone = [item for item in before if item not in after]
        come = [item for item in after if item not in before]
        if gone or come:
            before, after = tuple(gone), tuple(come)
        yield Difference(owner or part, label(field), shown(field, before), shown(field, after))
        return
    olds, news = {key(item): item for item in before}, {key(item): item for item in after}
    for name in [*olds, *(name for name in news if name not in olds)]:
        yield from _compared(f"{part} › {name}", olds.get(name), news.get(name))
    kept = [name for name in olds if name in news]
    if kept != [name for name in news if name in olds]:
        yield Difference(part, "order", ", ".join(olds), ", ".join(news))


def _key_of(items: Sequence[Any]) -> Callable[[Any], str] | None:
    """What tells the entries of a list apart; None where nothing does."""
    for name in _KEYS:
        names = [getattr(item, name, None) for item in items]
        if items and all(isinstance(found, str) for found in names):
            return lambda item: str(getattr(item, name))
    return None


# --- factors ------------------------------------------------------------------------------------------------------


def _factor(part: str, before: Factor, after: Factor) -> Iterator[Difference]:
    """Points by value: where the bands of one do not fit those of the other, by the parts they share."""
    edges = sorted({band.upper for band in (*before.bands, *after.bands) if band.upper is not None})
    lower: int | None = None
    for upper in [*edges, None]:
        old, new = _points(before.bands, lower), _points(after.bands, lower)
        if old != new:
            yield Difference(part, interval(lower, upper), _signed(old), _signed(new))
        lower = upper
    for name in before.__struct_fields__:
        if name != "bands":
            yield from _field(part, name, getattr(before, name), getattr(after, name))


def _points(bands: tuple[Band, ...], value: int | None) -> int:
    """The points of a value; None is below every edge."""
    return next(band.points for band in bands if band.upper is None or value is None or value < band.upper)


def interval(lower: int | None, upper: int | None) -> str:
    """Values from `lower` to below `upper`, in words."""
    if lower is None:
        return "any value" if upper is None else f"below {upper}"
    return f"{lower} and more" if upper is None else f"{lower} to below {upper}"


def _signed(points: int) -> str:
    return f"{points:+d} points" if points else "0 points"


def label(field: str) -> str:
    """The name of a field in words; units are shown with the values."""
    words = field.removesuffix("_bp").removesuffix("_days").replace("_", " ")
    return words.replace("dpd", "DPD")


# --- values -------------------------------------------------------------------------------------------------------


def shown(field: str, value: Any) -> str:
    """A value as people read it: shares in percent, conditions and entries in words."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Condition):
        return condition_text(value)
    if isinstance(value, Struct):
        given = {name: getattr(value, name) for name in value.__struct_fields__ if getattr(value, name) is not None}
        return ", ".join(f"{name} {shown(name, part)}" for name, part in given.items())
    if isinstance(value, tuple):
        separator = "; or " if field == "when" else "; " if any(isinstance(item, Struct) for item in value) else ", "
        return separator.join(shown(field, item) for item in value) or NOTHING
    if isinstance(value, int) and field.endswith("_bp"):
        return f"{value / 100:g} %"
    if isinstance(value, int) and field.endswith("_days"):
        return f"{value} days"
    if isinstance(value, int) and (field in ("unknown", "points")):
        return _signed(value)
    return str(value)


def condition_text(condition: Condition) -> str:
    """A condition in words: managed DPD from 15 and level from red."""
    terms: list[str] = []
    for name in condition.__struct_fields__:
        value = getattr(condition, name)
        if value is None or value is False:
            continue
        words = label(name)
        if value is True:
            terms.append(words)
        elif isinstance(value, Struct):
            terms.append(f"{words} ({shown(name, value)})")
        else:
            terms.append(f"{words} {value}")
    return " and ".join(terms)
