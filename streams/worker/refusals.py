"""When too much is refused: the worker stops before it dumps a topic into its dead letters.

A few bad records are a matter of their producer. Every second record of a topic, or one borrower after the other on
whom a rule fails, is a broken release, of theirs or of ours: then a person is to look first. It is decided before the
commit, so that nothing of the chunk that goes too far is written; what went before is counted in the commit log, so
that a restart does not begin to count anew.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streams.config import PREFIX, Settings
from streams.engine.chunk import Folded
from streams.engine.order import Ordered

QUARANTINED = "quarantined"

Recent = Mapping[str, tuple[int, int]]
"""By input topic: records lately, and how many of them were refused; under QUARANTINED: records of all topics, and
borrowers put in quarantine."""


class Poisoned(Exception):
    """Too much is refused to go on without a person: one line, what, how much, and what to do."""


class PoisonLimit(NamedTuple):
    """The worker stops where `share` of about the last `window` records of a topic and at least `least` of them are
    refused (a share of 1: never), or more than `quarantines` borrowers were put in quarantine among as many records."""

    window: int
    share: float
    least: int
    quarantines: int

    @classmethod
    def of(cls, settings: Settings) -> "PoisonLimit":
        return cls(
            settings.dead_letter_window,
            settings.dead_letter_share,
            settings.dead_letter_least,
            settings.quarantine_most,
        )


def counted(recent: Recent, chunk: Sequence[Ordered], folded: Folded, limit: PoisonLimit, partition: int) -> Recent:
    """`recent` with one more chunk, of which `folded` came.

    Raises:
        Poisoned: the chunk must not be committed.
    """
    records = Counter(topic for _, topic, _, _ in chunk[: folded.taken])
    # What follows from a quarantine is no news: one busy borrower must not stop its whole partition.
    letters = [letter for letter in folded.dead_letters if letter.reason != QUARANTINED]
    refused = Counter(letter.record.topic for letter in letters)
    after: dict[str, tuple[int, int]] = {}
    if limit.share < 1:
        for topic in sorted({*recent, *records, *refused} - {QUARANTINED}):
            seen, bad = recent.get(topic, (0, 0))
            seen, bad = seen + records[topic], bad + refused[topic]
            if refused[topic] and bad >= limit.least and bad >= limit.share * max(seen, bad):
                reasons = Counter(letter.reason for letter in letters if letter.record.topic == topic)
                raise Poisoned(_refused(partition, topic, bad, seen, reasons.most_common(1)[0][0]))
            after[topic] = _forgotten(seen, bad, limit.window)
    seen, borrowers = recent.get(QUARANTINED, (0, 0))
    seen, borrowers = seen + folded.taken, borrowers + len(folded.quarantined)
    if folded.quarantined and borrowers > limit.quarantines:
        raise Poisoned(_quarantined(partition, borrowers, folded.quarantined[-1].what))
    after[QUARANTINED] = _forgotten(seen, borrowers, limit.window)
    return after


def _forgotten(seen: int, bad: int, window: int) -> tuple[int, int]:
    """Both numbers cut down to a window once they are of two. Not at each step: rounding would lose what is rare."""
    return (seen, bad) if seen < 2 * window else (window, bad * window // seen)


def _refused(partition: int, topic: str, bad: int, seen: int, reason: str) -> str:
    return (
        f"task {partition}: {bad} of the last {max(seen, bad)} records of {topic} are refused, now mostly for "
        f"{reason}: nothing of this chunk is committed; mend what sends them (or our last release), or let them all "
        f"become dead letters with {PREFIX}DEAD_LETTER_SHARE=1"
    )


def _quarantined(partition: int, borrowers: int, what: str) -> str:
    return (
        f"task {partition}: a rule fails on one borrower after the other ({borrowers} lately, the last with {what}): "
        "nothing of this chunk is committed; go back to the last good release or policy, or let them all go into "
        f"quarantine with a higher {PREFIX}QUARANTINE_MOST"
    )
