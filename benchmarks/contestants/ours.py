"""Ours: the small fold as an engine of the worker, with all that the worker does around an engine.

`python -m benchmarks.contestants.ours SETUP` is one worker process: transport, merge, take-over, one transaction a
chunk with warnings and commit record, state in Redis. `settings` are the worker's own.
"""

import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from benchmarks.contestants import rule
from benchmarks.contestants.events import decode
from benchmarks.contestants.program import Progress, read_setup
from streams.config import load_settings
from streams.engine.cases import Cases
from streams.engine.chunk import Folded, Output, Span, TaskState, Wake
from streams.engine.order import Ordered
from streams.worker.app import run_with
from streams.worker.observer import Silent

_FOLDED = ("events", "folded")


class Needs(NamedTuple):
    borrowers: list[str]
    due_until_ms: int | None = None
    failures: Span | None = None


class SmallFold:
    """An engine for `streams.worker.task.Task`. Warnings go to `output`; topics that have no window are passed over."""

    def __init__(self, output: str) -> None:
        self._output = output

    def needs(self, task: TaskState, chunk: Sequence[Ordered], cases: Cases) -> Needs:
        keys = {record.key for _, topic, _, record in chunk if topic in rule.PLACES}
        return Needs([(key or b"").decode() for key in keys])

    def fold(
        self,
        task: TaskState,
        chunk: Sequence[Ordered],
        blobs: Mapping[str, bytes | None],
        due: Sequence[Wake],
        cases: Cases,
        failures: Sequence[str],
    ) -> Folded:
        folded = Folded(replace(task), taken=len(chunk))
        changed = folded.changed
        states = {name: blob or rule.EMPTY for name, blob in blobs.items()}
        events = 0
        for _, topic, _, record in chunk:
            place = rule.PLACES.get(topic)
            if place is None:
                continue
            event = decode(record.value or b"")
            borrower_id, amount = event.borrower_id, event.amount
            state, total = rule.moved(states[borrower_id], place, event.at_ms, amount, rule.WINDOW_MS[topic])
            states[borrower_id] = changed[borrower_id] = state
            events += 1
            if amount > rule.THRESHOLD_MINOR:
                value = rule.warning(borrower_id, event.event_id, amount, total)
                folded.outputs.append(Output(self._output, record.key or b"", value, "warning"))
        folded.counts = {_FOLDED: events}
        return folded


class Telling(Silent):
    """Tells what is committed and applied, and stops the worker after the last event."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def chunk_done(self, partition: int, records: int, folded: Folded) -> None:
        if self._progress.add(folded.counts[_FOLDED]):
            signal.raise_signal(signal.SIGTERM)


def main() -> int:
    """Run one worker; returns its exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    setup = read_setup()
    settings = load_settings(
        broker=setup["bootstrap"],
        redis_url=setup["redis_url"],
        app_id=setup["name"],
        clock="external",
        **setup["settings"],
    )
    return run_with(settings, lambda _: SmallFold(setup["output"]), Telling(Progress(setup["events"])))


if __name__ == "__main__":
    sys.exit(main())
