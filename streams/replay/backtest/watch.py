"""One policy on a recording: what it decides, and whom it scores how at the observation dates."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from streams.engine.calendar import Calendar
from streams.engine.chunk import Folded
from streams.engine.fold import Engine
from streams.engine.loan import is_ended
from streams.engine.order import Ordered
from streams.engine.score import scored
from streams.policy.model import Policy
from streams.replay.backtest.signals import Signals, note
from streams.replay.cycle import LocalTask, chunks
from streams.replay.recording import Recording
from streams.replay.replay import Rules, tasks_of
from streams.replay.scorecard.sample import values_of
from streams.replay.stops import everybody, stops


class Watched(Struct, frozen=True):
    """What one policy has said. `scores`: at each observation date the score of everybody with an open loan; `policy`
    is the one in force at the end."""

    signals: dict[str, Signals]
    scores: list[dict[str, int]]
    policy: Policy


def watch(
    recording: Recording,
    rules: Rules,
    calendar: Calendar,
    observed: Sequence[int],
    advance: Callable[[int], None],
    at_end: Callable[[LocalTask], None],
) -> Watched:
    """Fold a recording under one policy.

    Args:
        observed: the observation dates, ascending; each is seen as it begins.
        at_end: takes every task at the end of the recording.

    Raises:
        RecordingError, CommitLogError: the recording cannot be read.
    """
    engine = Engine(rules.policy, partitions=recording.partition_count(), recorded_policies=rules.recorded)
    signals: dict[str, Signals] = {}
    scores: list[dict[str, int]] = [{} for _ in observed]
    policy = rules.policy
    moments = [calendar.start_ms(day) for day in observed]

    def seen(folded: Folded) -> None:
        note(folded.outputs, calendar, signals)

    for partition in tasks_of(recording):
        task = LocalTask(engine)
        for at in stops(task, _told(chunks(recording, partition), advance), moments, seen):
            scores[at].update(_scores(task, moments[at]))
        at_end(task)
        policy = engine.judge_of(task.task).policy
    return Watched(signals, scores, policy)


def _told(chunks: Iterable[Sequence[Ordered]], advance: Callable[[int], None]) -> Iterator[Sequence[Ordered]]:
    for chunk in chunks:
        yield chunk
        advance(len(chunk))


def _scores(task: LocalTask, as_of_ms: int) -> dict[str, int]:
    judge = task.engine.judge_of(task.task)
    day = judge.calendar.day(as_of_ms)
    found: dict[str, int] = {}
    for name, borrower in everybody(task):
        facts = borrower.facts
        if any(loan.disbursed_day <= day and not is_ended(loan, day) for loan in facts.loans.values()):
            values = judge.scorable(facts, values_of(borrower, task, as_of_ms), as_of_ms)
            segment = "" if facts.profile is None else facts.profile.segment
            found[name] = scored(judge.compiled, values, segment).score
    return found
