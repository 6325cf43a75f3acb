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
_TOGETHER_S = 60.0
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
                self.note(pid, Footprint(now_s, memory, len(os.listdir(place / "fd"))))

    def note(self, pid: int, found: Footprint) -> None:
        """Add what was found of a process; each is told in the order of time."""
        self._taken[pid].append(found)

    def check_flat(self, long_s: float) -> None:
        """Who lived for `long_s` once warm holds no more files in its last quarter than in its first, and no more
        memory than a process that started `long_s` later, at the same time, by the median; and there were both.

        What borrowers' states take grows with their age, for the old process and the young one alike. What only the
        old one has is left over.
        """
        lives = [life for life in map(_warm, self._taken.values()) if life]
        old = [life for life in lives if life[-1].at_s - life[0].at_s >= long_s]
        assert old, f"no worker lived for {long_s:g} s"
        pairs = [
            (life, late, met)
            for life in old
            for late in lives
            if late[0].at_s >= life[0].at_s + long_s and (met := _met(life, late)) is not None
        ]
        assert pairs, f"no worker that started {long_s:g} s later is there to compare with"
        for life in old:
            quarter = len(life) // 4
            files = [statistics.median(found.files for found in part) for part in (life[:quarter], life[-quarter:])]
            told = f"in {life[-1].at_s - life[0].at_s:.0f} s"
            assert files[1] <= files[0] + _MORE_FILES, f"files grew from {files[0]:g} to {files[1]:g} {told}"
        for life, late, (began_s, ended_s) in pairs:
            memory = [
                int(statistics.median(found.memory for found in part if began_s <= found.at_s <= ended_s)) >> 20
                for part in (life, late)
            ]
            told = f"{late[0].at_s - life[0].at_s:.0f} s younger"
            assert memory[0] <= memory[1] * _MORE_MEMORY, f"memory is {memory[0]} MiB, {memory[1]} of one {told}"


def _warm(taken: list[Footprint]) -> list[Footprint]:
    return [found for found in taken if found.at_s >= taken[0].at_s + _WARM_S]


def _met(life: list[Footprint], late: list[Footprint]) -> tuple[float, float] | None:
    """From when until when both were warm; None where that is too short to compare them."""
    began_s, ended_s = max(life[0].at_s, late[0].at_s), min(life[-1].at_s, late[-1].at_s)
    return (began_s, ended_s) if ended_s - began_s >= _TOGETHER_S else None
