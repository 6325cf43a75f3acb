"""An engine that shows what the worker does with it: it tells each record, and how many of its borrower came before.

Run as a program it is a worker process with that engine; settings come from the environment, as for any worker.
"""

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from streams.config import load_settings
from streams.engine.cases import Cases
from streams.engine.chunk import DeadLetter, Folded, Output, Span, TaskState, Wake
from streams.engine.order import Ordered
from streams.worker.app import run_with
from streams.worker.observer import Silent

OUTPUT = "early-warnings"
BAD = b"bad"
HANG = b"hang"


class Needs(NamedTuple):
    borrowers: list[str]
    due_until_ms: int | None = None
    failures: Span | None = None


class Echo:
    """Puts out one message per record: its place, and the count of its borrower, which lives in the borrower's state.

    A record without a key belongs to no borrower, one with the value BAD is a dead letter. `pause_s` makes a fold slow.
    `every` puts out only each n-th record of a borrower. Where it `hangs`, a record with a value that begins with HANG
    is never done.
    """

    def __init__(self, pause_s: float = 0.0, every: int = 1, hangs: bool = False) -> None:
        self._hangs = hangs
        self._pause_s = pause_s
        self._every = every

    def needs(self, task: TaskState, chunk: Sequence[Ordered], cases: Cases) -> Needs:
        return Needs(list({key.decode(): None for _, _, _, record in chunk if (key := record.key)}))

    def fold(
        self,
        task: TaskState,
        chunk: Sequence[Ordered],
        blobs: Mapping[str, bytes | None],
        due: Sequence[Wake],
        cases: Cases,
        failures: Sequence[str] = (),
    ) -> Folded:
        folded = Folded(structs.replace(task, statuses=dict(task.statuses)), taken=len(chunk))
        counts: dict[str, int] = {}
        for _, topic, offset, record in chunk:
            if record.value == BAD:
                folded.dead_letters.append(DeadLetter(record, "malformed_json", "not JSON", "decode"))
                continue
            if self._hangs and (record.value or b"").startswith(HANG):
                time.sleep(3_600)
            borrower = (record.key or b"").decode()
            count = counts.get(borrower)
            if count is None:
                blob = blobs.get(borrower)
                count = 0 if blob is None else int(blob)
            counts[borrower] = count + 1
            if count % self._every == 0:
                value = b'["%b",%d,%d,%d]' % (topic.encode(), record.partition, offset, count)
                folded.outputs.append(Output(OUTPUT, record.key or b"none", value, "echo"))
        folded.task.statuses["records"] = task.statuses.get("records", 0) + len(chunk)
        folded.changed = {borrower: b"%d" % count for borrower, count in counts.items() if borrower}
        if self._pause_s:
            time.sleep(self._pause_s)
        return folded


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    env = os.environ
    echo = Echo(float(env.get("ECHO_PAUSE_S", "0")), int(env.get("ECHO_EVERY", "1")), env.get("ECHO_HANGS") == "1")
    return run_with(load_settings(), lambda _: echo, Silent())


if __name__ == "__main__":
    sys.exit(main())
