"""The rolling snapshot: what lets the commit log be cut without losing anybody.

Beside what changed, each commit carries on a few states that have not, and entries of the index of failures. A round
has begun at some commit; it is complete when borrowers and index have been gone through, each in an order in which a
change moves nobody. Then no state stands at or before that commit any more, and all of the log up to there can be
spared. Ticks keep it going while nothing else comes. It changes no state, no position and no output.
"""

from collections.abc import Mapping
from typing import NamedTuple

import structlog

from streams.engine.chunk import Folded
from streams.engine.incidents import borrower_of
from streams.store.contract import ROLL_FAILURES, Rolled
from streams.worker.commitlog import Carried, Committed, Roll

log = structlog.get_logger(__name__)


class CarriedOn(NamedTuple):
    """What a commit carries on: states, sealed, and next wake-ups, entries of the index of failures, and how far it is
    then."""

    states: dict[str, Carried]
    failures: list[str]
    roll: Roll


def carried_on(
    partition: int, before: Committed, rolled: Rolled, folded: Folded, blobs: Mapping[str, bytes | None]
) -> CarriedOn:
    """What the next commit carries on.

    Args:
        before: the last commit.
        rolled: what the store has answered at that commit to what its `roll` asks for.
        folded: what the next commit changes.
        blobs: the states given to the fold; None for a borrower that had none.
    """
    roll, erased = before.record.roll, set(folded.erased)
    touched = folded.changed.keys() | erased
    states = {name: state for name, state in rolled.states.items() if name not in touched}
    failures = [entry for entry in rolled.failures if borrower_of(entry) not in erased]
    new = sum(name in erased or (name in blobs and blobs[name] is None) for name in folded.changed)
    borrowers = roll.borrowers + new - len(erased)
    failures_after = rolled.failures[-1] if len(rolled.failures) == ROLL_FAILURES else None
    if rolled.after is not None or failures_after is not None:
        further = Roll(roll.after, roll.whole_after, borrowers, failures_after, rolled.after)
        return CarriedOn(states, failures, further)
    whole_after = roll.after
    if rolled.total != roll.borrowers:
        whole_after = roll.whole_after
        log.error(
            "nothing of the commit log can be spared: the store has other borrowers than were committed; run duewatch "
            "audit, then duewatch rebuild",
            task=partition,
            stored=rolled.total,
            committed=roll.borrowers,
        )
    return CarriedOn(states, failures, Roll(before.last, whole_after, borrowers))
