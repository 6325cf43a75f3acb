"""What a feature is: one column of the list that the scorecard looks at."""

from typing import NamedTuple

Value = int | None
CAP_BP = 100_000
"""Ratios to an income that may be nothing end here."""
NEVER = 1 << 40
"""A day or hour that does not come."""


class Feature(NamedTuple):
    """One column of the feature list.

    `proof` names the kind of event that proves its value; `proof_days` is how far back such an event may lie (0: any
    age, since what proves an absence is the last time the thing was seen). Arrears are proved by the loans themselves.
    """

    name: str
    group: str
    unit: str
    proof: str
    proof_days: int
    meaning: str


def leaves(times: list[int], at: int, span: int) -> int:
    """The day (or hour) on which the entry at `at`, the oldest of a window of `span` days (or hours), leaves it."""
    return times[at] + span if at < len(times) else NEVER


def sum_between(column: list[int], start: int, end: int) -> int:
    """The sum of a column from one place to before another, without a list of its own for it."""
    found = 0
    for at in range(start, end):
        found += column[at]
    return found
