"""The stretch of a run that is measured, the same for every contestant."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.parts import BrokenPart

WARM: Final = 0.1


class Sample(NamedTuple):
    """At `at_s` (epoch seconds) a contestant had done `events` in all."""

    at_s: float
    events: int


class Window(NamedTuple):
    """What was done between two moments, in epoch seconds."""

    from_s: float
    until_s: float
    events: int


def steady(samples: Sequence[Sample], after: float = WARM) -> Window:
    """From when a part of all that was done was done, until all of it was.

    The first tenth, which is that part by default, holds what is done once: starting up, joining a group, warming up a
    compiler.

    Raises:
        BrokenPart: there are not two samples to measure between.
    """
    last = samples[-1] if samples else Sample(0.0, 0)
    first = next((sample for sample in samples if sample.events >= last.events * after), last)
    if last.at_s <= first.at_s:
        raise BrokenPart("all was done at once, between two looks: take more events")
    return Window(first.at_s, last.at_s, last.events - first.events)
