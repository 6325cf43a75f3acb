"""What processes use, from /proc, so that it can be told for any span of time afterwards."""

import os
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Usage:
    """CPU seconds and memory of named groups of processes, as of each `sample`.

    Args:
        groups: process ids by name; their threads count, their children do not.
    """

    def __init__(self, groups: Mapping[str, Sequence[int]]) -> None:
        self._groups = groups
        self._at_s: list[float] = []
        self._cpu_s: dict[str, list[float]] = {name: [] for name in groups}
        self._peak_mib = dict.fromkeys(groups, 0.0)
        self.sample()

    def sample(self) -> None:
        """Note what has been used up to now."""
        self._at_s.append(time.time())
        for name, pids in self._groups.items():
            self._cpu_s[name].append(sum(map(_cpu_s, pids)))
            self._peak_mib[name] = max(self._peak_mib[name], round(sum(map(_peak_mib, pids)), 1))

    def cpu_s(self, from_s: float, until_s: float) -> dict[str, float]:
        """CPU seconds used between two moments (epoch seconds), in a straight line from sample to sample."""
        return {name: self._at(cpu_s, until_s) - self._at(cpu_s, from_s) for name, cpu_s in self._cpu_s.items()}

    def _at(self, cpu_s: Sequence[float], moment_s: float) -> float:
        after = min(max(bisect_left(self._at_s, moment_s), 1), len(self._at_s) - 1)
        before_s, after_s = self._at_s[after - 1], self._at_s[after]
        part = min(max((moment_s - before_s) / (after_s - before_s), 0.0), 1.0)
        return cpu_s[after - 1] + part * (cpu_s[after] - cpu_s[after - 1])

    def peak_mib(self) -> dict[str, float]:
        """The most memory that each group has had resident up to the last sample, each process at its worst moment."""
        return dict(self._peak_mib)


def _cpu_s(pid: int) -> float:
    # The name of the program, in parentheses, may hold anything; of what follows user and system time are 12 and 13.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
