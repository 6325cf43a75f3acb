"""What the allocator keeps of a peak is given back to the system."""

import os
import platform
from pathlib import Path

import pytest

from streams.worker.allocator import give_back

MIB = 1 << 20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_what_was_freed_below_what_is_in_use_is_given_back() -> None:
    # Too large for Python's own pools, too small for a mapping of their own.
    pieces = [bytes(2_000) for _ in range(100_000)]
    in_use = pieces[::1_000]
    del pieces
    kept = resident()
    give_back()
    assert kept - resident() > 100 * MIB
    assert len(in_use) == 100
