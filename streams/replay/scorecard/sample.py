"""Borrowers as of a moment of a recording: their features as the engine computes them, and what became of them."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from streams.engine import delinquency, features
from streams.engine.calendar import DAY_MS
from streams.engine.chunk import Folded, Output
from streams.engine.fold import Engine
from streams.engine.state import Borrower
from streams.policy.model import Policy
from streams.replay.cycle import LocalTask, chunks
from streams.replay.manifest import RecordingError
from streams.replay.progress import progress
from streams.replay.recording import Recording
from streams.replay.replay import tasks_of
from streams.replay.stops import everybody, stops

Values = list[int | None]
"""Features in the order of FEATURES."""
DELAY_DPD = 31
"""Contractual days past due that count as the outcome where no labels are given: more than a month late."""
WITHIN_DAYS = 62
"""How long after the moment they are looked for."""


class Sample(Struct, frozen=True):
    """Borrowers in the order of their ids; `bad` is the outcome."""

    borrowers: list[str]
    values: list[Values]
    bad: list[bool]


class _Seen(Struct, frozen=True):
    """What one pass saw: features by borrower at each moment, and (at_ms, contractual DPD) of each reported class."""

    at: list[dict[str, Values]]
    reported: dict[str, list[tuple[int, int]]]


class _Dpd(Struct, frozen=True):
    contractual: int


class _Classed(Struct, frozen=True):
    at_ms: int
    dpd: _Dpd


_classed = msgspec.json.Decoder(_Classed)


def observe(recording: Recording, policy: Policy, moments: Sequence[int | None]) -> _Seen:
    """Fold a recording once, and look at everybody at each of `moments` (ascending; None: the end).

    Raises:
        RecordingError, CommitLogError: the recording cannot be read.
    """
    engine = Engine(policy, partitions=recording.partition_count(), recorded_policies=False)
    seen = _Seen([{} for _ in moments], {})
    tasks = tasks_of(recording)
    with progress("tasks", len(tasks)) as advance:
        for partition in tasks:
            task = LocalTask(engine)
            for at in stops(task, chunks(recording, partition), moments, partial(_note, seen)):
                seen.at[at].update(_everybody(task, moments[at]))
            advance(1)
    return seen


def _note(seen: _Seen, folded: Folded) -> None:
    for borrower_id, at_ms, dpd in _reported(folded.outputs):
        seen.reported.setdefault(borrower_id, []).append((at_ms, dpd))


def _reported(outputs: Iterable[Output]) -> Iterator[tuple[str, int, int]]:
    for output in outputs:
        if output.kind == "classification_changed":
            event = _classed.decode(output.value)
            yield output.key.decode(), event.at_ms, event.dpd.contractual


def _everybody(task: LocalTask, moment: int | None) -> dict[str, Values]:
    as_of_ms = task.task.clock_ms if moment is None else moment
    if as_of_ms is None:
        return {}
    return {borrower_id: values_of(borrower, task, as_of_ms) for borrower_id, borrower in everybody(task)}


def values_of(borrower: Borrower, task: LocalTask, as_of_ms: int) -> Values:
    """The features of a borrower as of a moment that its task has come to."""
    judge = task.engine.judge_of(task.task)
    day, loans = judge.calendar.day(as_of_ms), borrower.facts.loans.values()
    positions = [delinquency.position(loan, day, judge.policy.facts) for loan in loans]
    still_open = [position for position in positions if not position.ended]
    return features.evaluate(
        borrower.facts.windows,
        loans,
        as_of_ms,
        judge.calendar,
        max((position.managed for position in still_open), default=None),
        max((position.contractual for position in still_open), default=None),
    )


def labelled(seen: dict[str, Values], labels: dict[str, bool]) -> Sample:
    """Everybody of whom the outcome is known."""
    borrowers = sorted(borrower for borrower in seen if borrower in labels)
    return Sample(borrowers, [seen[name] for name in borrowers], [labels[name] for name in borrowers])


def part(sample: Sample, kept: Sequence[bool]) -> Sample:
    """Those of a sample that are `kept`."""
    return Sample(
        list(compress(sample.borrowers, kept)), list(compress(sample.values, kept)), list(compress(sample.bad, kept))
    )


def is_late(values: Values) -> bool:
    """Whether somebody is more than a month late already."""
    return (values[features.FEATURE_INDEX["worst_contractual_dpd"]] or 0) >= DELAY_DPD


def by_ledger(seen: dict[str, Values], reported: dict[str, list[tuple[int, int]]], moment_ms: int) -> Sample:
    """Everybody who was not more than a month late at a moment, and whether they were within two months of it."""
    borrowers = sorted(name for name, values in seen.items() if not is_late(values))
    end_ms = moment_ms + WITHIN_DAYS * DAY_MS
    bad = [
        any(dpd >= DELAY_DPD and moment_ms < at_ms <= end_ms for at_ms, dpd in reported.get(name, ()))
        for name in borrowers
    ]
    return Sample(borrowers, [seen[name] for name in borrowers], bad)


def read_labels(path: Path) -> dict[str, bool]:
    """Outcomes by borrower, of a Parquet file with `borrower_id` and one column of truth values.

    Raises:
        RecordingError: it is no such file, or somebody in it has no outcome, or both.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file: give a Parquet file of labels")
    try:
        table: Any = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        told = str(error).partition("\n")[0]
        raise RecordingError(f"{path}: {told}: give a Parquet file of labels") from None
    others = [name for name in table.column_names if name != "borrower_id"]
    if "borrower_id" not in table.column_names or len(others) != 1 or not pa.types.is_boolean(table[others[0]].type):
        raise RecordingError(f"{path}: has not the columns of labels: give borrower_id and one column of booleans")
    labels: dict[str, bool] = {}
    opposite: set[str] = set()
    for borrower, bad in zip(table["borrower_id"].to_pylist(), table[others[0]].to_pylist(), strict=True):
        if borrower is None or bad is None:
            raise RecordingError(f"{path}: a row has no borrower or no outcome: leave out who has none")
        if labels.setdefault(borrower, bad) != bad:
            opposite.add(borrower)
    if opposite:
        raise RecordingError(f"{path}: {len(opposite):,} borrowers have both outcomes: give each one alone")
    return labels
