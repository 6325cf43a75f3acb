"""The watchdog: a thread of the operating system that ends the process when it no longer gets on.

A consumer that slowly dies looks idle from inside. So work that stands still, and an event loop that stands still,
end the process with the stacks of all threads on stderr; the supervisor starts it anew.

A thread of Python needs the interpreter's lock, and what holds up the loop may hold that too (one regular expression
suffices). So behind it there is a timer of `faulthandler`, which needs no lock; it knows no exit code but 1.
"""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

STALLED_EXIT = 70
STUCK_S = 5.0
_LOCKED_TIMES = 4
"""How many times as long the loop may not turn before the timer ends the process."""
_CHECK_S = 0.5


class Watchdog:
    """Watches one event loop and its work.

    Args:
        stall_s: for how long work may be there without getting on.
        stuck_s: for how long the event loop may not turn.
        end: called with what is wrong; by default it dumps all stacks and ends the process.
    """

    def __init__(self, stall_s: float, stuck_s: float = STUCK_S, end: Callable[[str], None] | None = None) -> None:
        self._stall_s = stall_s
        self._stuck_s = stuck_s
        self._end = _end_process if end is None else end
        self._has_timer = end is None
        self._beat_s = time.monotonic()
        self._stalled_s = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._wind_up()

    def beat(self, stalled_s: float) -> None:
        """Called from the event loop, several times in `stuck_s`: it turns, and work has not got on for
        `stalled_s`."""
        self._stalled_s = stalled_s
        self._beat_s = time.monotonic()
        self._wind_up()

    def stop(self) -> None:
        """End the watch and its thread: one that wakes up while the interpreter is taken down may crash the process."""
        self._stopped.set()
        if self._has_timer:
            faulthandler.cancel_dump_traceback_later()
        if self._thread.is_alive():
            self._thread.join()

    def _wind_up(self) -> None:
        if self._has_timer and self._thread.is_alive() and not self._stopped.is_set():
            faulthandler.dump_traceback_later(self._stuck_s * _LOCKED_TIMES, exit=True, file=sys.stderr)

    def _watch(self) -> None:
        checked_s = time.monotonic()
        while not self._stopped.wait(_CHECK_S):
            now_s = time.monotonic()
            if now_s - checked_s > 3 * _CHECK_S:
                # We stood still ourselves: the process was suspended or starved, which says nothing about the loop.
                self._beat_s = now_s
            checked_s = now_s
            what = self.judged(now_s)
            if what is not None:
                self._end(what)
                return

    def judged(self, now_s: float) -> str | None:
        """What is wrong at `now_s` on the monotonic clock."""
        if now_s - self._beat_s > self._stuck_s:
            return f"the event loop has stood still for {now_s - self._beat_s:.0f} s"
        if self._stalled_s > self._stall_s:
            return f"there is work, but nothing was committed for {self._stalled_s:.0f} s"
        return None


def _end_process(what: str) -> None:
    print(f"duewatch: {what}: stacks follow, exit {STALLED_EXIT}", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(STALLED_EXIT)
