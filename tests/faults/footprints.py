"""How much memory and how many files processes hold, over time."""

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_EVERY_S = 2.0
_WARM_S = 90.0
"""For how long a process grows until it has what it needs."""
_MORE_MEMORY = 1.1
_MORE_FILES = 6
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Footprint(NamedTuple):
    at_s: float
    memory: int
    files: int


class Footprints:
    """Of every process, as long as it lives."""

    def __init__(self) -> None:
        self._taken: dict[int, list[Footprint]] = defaultdict(list)
        self._next_s = 0.0

    def take(self, pids: Iterable[int]) -> None:
        """Look, if it is time to."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _EVERY_S
        for pid in pids:
            place = Path("/proc") / str(pid)
            # It may have ended.
            with suppress(OSError):
                memory = int((place / "statm").read_text().split()[1]) * _PAGE
                self._taken[pid].append(Footprint(now_s, memory, len(os.listdir(place / "fd"))))

    def check_flat(self, long_s: float) -> None:
        """Who lived for `long_s` once warm held no more in its last quarter than in its first, by the median; and
        somebody did."""
        lives = [_warm(taken) for taken in self._taken.values()]
        lives = [life for life in lives if life and life[-1].at_s - life[0].at_s >= long_s]
        assert lives, f"no worker lived for {long_s:g} s"
        for life in lives:
            quarter = len(life) // 4
            before, after = life[:quarter], life[-quarter:]
            memory = [int(statistics.median(found.memory for found in part)) >> 20 for part in (before, after)]
            files = [statistics.median(found.files for found in part) for part in (before, after)]
            told = f"in {life[-1].at_s - life[0].at_s:.0f} s"
            assert memory[1] <= memory[0] * _MORE_MEMORY, f"memory grew from {memory[0]} to {memory[1]} MiB {told}"
            assert files[1] <= files[0] + _MORE_FILES, f"files grew from {files[0]:g} to {files[1]:g} {told}"


def _warm(taken: list[Footprint]) -> list[Footprint]:
    return [found for found in taken if found.at_s >= taken[0].at_s + _WARM_S]
