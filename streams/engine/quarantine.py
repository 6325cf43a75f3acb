"""Quarantine: a rule that fails on one borrower's event does not stop the others.

A fold that meets such a failure is thrown away whole and done again from what went in, so that no half-changed state of
anything is left. Where the same place fails in the same way again, the next fold puts that borrower in quarantine at
that place instead: as it stood before, with a mark that is packed with its facts. So a fold without failures pays
nothing, and one with failures is done three times, however many borrowers they hit.
"""

import traceback
from collections.abc import Mapping

from msgspec import UNSET, Struct

from schemas import outbound
from schemas.inbound import BorrowerEvent, ReviewDecided
from streams.engine.cases import Case
from streams.engine.chunk import Failure
from streams.engine.encode import Emitter
from streams.engine.state import Quarantine, StateError

REVIEW_REQUESTS = "review-requests"

Place = tuple[str, int, str]
"""(topic, offset, "") of a borrower's event, or ("", due moment, borrower) of a wake-up."""

STUMBLED = Quarantine(0, "", "", "")
"""The mark of a borrower whose state is half changed, in a fold that is thrown away."""


class Stumble(Struct, frozen=True):
    """A rule that failed: what is told of it, and the exception itself."""

    failure: Failure
    error: Exception


class Stumbles:
    """What has failed in the folds of one chunk so far. `certain` are the places that failed twice in the same way."""

    def __init__(self) -> None:
        self.certain: dict[Place, Failure] = {}
        self._once: dict[Place, Failure] = {}

    def note(self, found: Mapping[Place, Stumble]) -> None:
        """Note what one more fold of the same chunk has met.

        Raises:
            Exception: a place failed otherwise than the time before, or outside of the rules; the process must stop.
        """
        for place, stumble in found.items():
            before = self._once.setdefault(place, stumble.failure)
            if before is stumble.failure:
                continue
            if before.what != stumble.failure.what or place in self.certain:
                raise stumble.error
            self.certain[place] = stumble.failure


def is_a_rules(error: Exception) -> bool:
    """Whether a rule has failed, rather than the store or the machine."""
    return not isinstance(error, StateError | MemoryError)


def stumble_of(error: Exception, topic: str, offset: int) -> Stumble:
    """What to tell of a failure on the record at `offset` of `topic`: where in the code, never with what data."""
    steps = traceback.extract_tb(error.__traceback__)
    last = steps[-1]
    what = f"{type(error).__name__} in {_module(error)}.{last.name}, line {last.lineno}"
    return Stumble(Failure(topic, offset, what, "".join(traceback.format_list(steps))), error)


def _module(error: Exception) -> str:
    step = error.__traceback__
    assert step is not None
    while step.tb_next is not None:
        step = step.tb_next
    return str(step.tb_frame.f_globals.get("__name__", "?"))


def enter(case: Case, failure: Failure, emitter: Emitter) -> None:
    """Put a borrower in quarantine: mark it, wake it no more, and ask for a person."""
    request_id = emitter.emit(
        REVIEW_REQUESTS,
        outbound.ReviewRequested,
        "quarantine",
        proposed=None,
        why=f"a rule failed twice in the same way ({failure.what}): the borrower is in quarantine, its events are dead "
        "letters and nothing is decided about it until a review clears it",
    )
    case.borrower.facts.quarantine = Quarantine(emitter.as_of_ms, emitter.cause.event_id, request_id, failure.what)
    case.wake_ms = None
    case.touched = True


def lifts(event: BorrowerEvent, mark: Quarantine) -> bool:
    """Whether an event ends a quarantine: a review that clears it, and is about nothing else."""
    return (
        isinstance(event, ReviewDecided)
        and mark is not STUMBLED
        and event.decision == "clear"
        and event.about_event_id in (UNSET, mark.request_id)
    )


def leave(case: Case) -> None:
    """Take the mark off; all there is of the borrower is to be judged again, since wake-ups have passed it by."""
    case.borrower.facts.quarantine = None
    case.retroactive = case.new_profile = case.more_than_windows = True
