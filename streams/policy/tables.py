"""What a policy file holds beside the policy: its tests, as tables of days, events and what is to be decided.

They do not travel with the policy and do not change its digest.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from msgspec import Meta, field

from streams.policy.checks import Finding, Path
from streams.policy.model import Model, Policy

DATES_DAYS = 36_525
"""How far from the first day of a test a civil date may be, in days: a hundred years."""

Day = Annotated[int, Meta(ge=0, le=3_660)]


class Row(Model, frozen=True, rename={"fields": "with"}):
    """What happens on a day, and what is decided on it.

    `day` counts from the first day of the test; `event` is the type of an inbound event, `with` its fields (what goes
    without saying may be left out; a number in a field of civil dates is such a day). `expect` lists the decisions of
    the day: type, and level, limit or bucket.
    """

    day: Day
    event: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    expect: tuple[str, ...] = ()


class Table(Model, frozen=True):
    """One test: a borrower's days, from top to bottom. Nothing may be decided that is not in it."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    rows: tuple[Row, ...]


class PolicyFile(Policy, frozen=True):
    """A policy and its tests, as one document."""

    tests: tuple[Table, ...] = ()


def findings(tests: tuple[Table, ...]) -> Iterator[Finding]:
    """Civil dates of tests that no calendar has."""
    for at, table in enumerate(tests):
        for number, row in enumerate(table.rows):
            yield from _dates(row.fields, ("tests", at, "rows", number, "with"))


def _dates(part: Any, path: Path) -> Iterator[Finding]:
    inside = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for name, value in inside:
        if isinstance(name, str) and name.endswith("_on") and isinstance(value, int):
            if abs(value) > DATES_DAYS:
                yield (*path, name), f"is more than {DATES_DAYS} days from the first day; give a nearer one"
        else:
            yield from _dates(value, (*path, name))


def policy_of(file: PolicyFile) -> Policy:
    return Policy(**{name: getattr(file, name) for name in Policy.__struct_fields__})
