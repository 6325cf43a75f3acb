"""The watchdog ends what no longer gets on, and nothing else."""

import subprocess
import sys
import time

from streams.worker.watchdog import STALLED_EXIT, Watchdog


def test_judgement() -> None:
    watchdog = Watchdog(stall_s=60, stuck_s=5)
    now_s = time.monotonic()
    watchdog.beat(stalled_s=59)
    assert watchdog.judged(now_s + 4) is None
    assert "stood still" in str(watchdog.judged(now_s + 6))
    watchdog.beat(stalled_s=61)
    assert "nothing was committed for 61 s" in str(watchdog.judged(now_s))


def test_a_stuck_process_ends_with_its_stacks() -> None:
    program = """
import time
from streams.worker.watchdog import Watchdog
def a_fold_that_hangs():
    time.sleep(60)
Watchdog(stall_s=60, stuck_s=0.5).start()
a_fold_that_hangs()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == STALLED_EXIT
    assert "the event loop has stood still" in done.stderr
    assert "in a_fold_that_hangs" in done.stderr


def test_a_process_that_holds_the_interpreter_ends_too() -> None:
    program = """
import re
from streams.worker.watchdog import Watchdog
def a_rule_that_hangs():
    re.match("(a|aa)+$", "a" * 200 + "b")
watchdog = Watchdog(stall_s=60, stuck_s=0.2)
watchdog.start()
watchdog.beat(0)
a_rule_that_hangs()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in a_rule_that_hangs" in done.stderr


def test_stopped_it_lets_the_process_live() -> None:
    ended: list[str] = []
    watchdog = Watchdog(stall_s=60, stuck_s=0.1, end=ended.append)
    watchdog.start()
    watchdog.stop()
    assert not watchdog._thread.is_alive()
    assert ended == []
