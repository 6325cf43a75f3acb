"""The contract of a contestant's program, whatever it is written in; only Python's own library, for the peers' sake.

A program has one argument, a `Setup` as JSON. It reads the topics of `rule.WINDOW_MS` from their beginning, and after
about every tenth of a second in which it got on, it writes a line {"at_s": epoch seconds, "events": how many events
it has folded}. When it has folded all `events` it commits what is open and ends by itself.
"""

import json
import os
import sys
import time
from typing import Final, TypedDict

from benchmarks.contestants.rule import THRESHOLD_MINOR, WINDOW_MS

_EVERY_S: Final = 0.1
_LOOK_EVERY: Final = 100


class Setup(TypedDict):
    """`name` is an id that no run before has had, `folder` an empty folder of its own, `output` the topic for warnings.
    `settings` are what a contestant is tuned with, by their names in its own documentation."""

    name: str
    bootstrap: str
    redis_url: str
    output: str
    events: int
    partitions: int
    folder: str
    state_bytes: int
    settings: dict[str, str | int | float]
    windows_ms: dict[str, int]
    threshold_minor: int


def read_setup() -> Setup:
    """The program's argument."""
    setup: Setup = json.loads(sys.argv[1])
    if setup["windows_ms"] != WINDOW_MS or setup["threshold_minor"] != THRESHOLD_MINOR:
        raise ValueError("this program has other rules than those asked for")
    return setup


class Progress:
    """Counts what has been folded and tells it."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._done = 0
        self._told_s = 0.0

    def add(self, events: int = 1) -> bool:
        """Note events as folded; returns whether these were the last."""
        before, self._done = self._done, self._done + events
        ended = self._done >= self._events
        if ended or self._done // _LOOK_EVERY > before // _LOOK_EVERY:
            now_s = time.time()
            if ended or now_s - self._told_s >= _EVERY_S:
                self._told_s = now_s
                # Past sys.stdout, which Faust turns into log lines.
                os.write(1, f'{{"at_s": {now_s}, "events": {self._done}}}\n'.encode())
        return ended
