"""`python -m tests.laws.year --borrowers 50000`; what is claimed: `tests/laws/year/__init__.py`."""

import argparse
import os
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.compiled import compiled_tree
from streams.replay.progress import progress
from tests.laws.year.check import Found
from tests.laws.year.run import Interrupted, Year, run
from tests.parts import BrokenPart, MissingPart

_INTERRUPTED = 130
_SHOWN = 10
_FIGURES = {
    "borrowers": "borrowers",
    "records": "events",
    "outputs": "outputs",
    "dead letters": "dead_letters",
    "limit chains": "chains",
    "  with a hole": "holes",
    "steps taken again soon after they were given back": "taken_again",
    "  without a new cause": "flaps",
    "touched by an outage": "touched",
    "  excused by an incident that was told": "excused",
    "  marked at the end": "marked",
    "restricted": "restricted",
    "zeroed": "zeroed",
    "restrictions whose way back ended within the year": "due",
    "  restored": "restored",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.laws.year")
    parser.add_argument("--borrowers", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that share the partitions")
    parser.add_argument("--interpreted", action="store_true", help="do not compile the engine")
    asked = parser.parse_args()
    if min(asked.borrowers, asked.days, asked.workers) < 1:
        parser.error("--borrowers, --days and --workers must be at least 1")
    year = Year(asked.seed, asked.borrowers, asked.days)
    began_s = time.perf_counter()
    try:
        recording, found = run(year, asked.workers, None if asked.interpreted else compiled())
    except Interrupted as stop:
        print(f"year: interrupted; {stop}", file=sys.stderr)
        return _INTERRUPTED
    except KeyboardInterrupt:
        print("year: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPart as error:
        print(f"year: {error}", file=sys.stderr)
        return 1
    show(year, found, time.perf_counter() - began_s)
    for offender in found.offenders[:_SHOWN]:
        print(
            f"{offender.claim}: {offender.borrower_id}: {offender.what}: "
            f"look at it with duewatch explain --recording {recording} --borrower {offender.borrower_id}",
            file=sys.stderr,
        )
    return 1 if found.offenders else 0


def compiled() -> Path | None:
    """Where the engine is compiled; None where nothing here can compile it."""
    try:
        with progress("compiling the engine", None):
            return compiled_tree()
    except MissingPart as missing:
        print(f"year: the engine runs as it stands: {missing}", file=sys.stderr)
        return None


def show(year: Year, found: Found, took_s: float) -> None:
    """The figures of a year."""
    table = Table(title=f"seed {year.seed}, {year.days} days, {took_s:,.0f} s", title_justify="left")
    table.add_column("figure")
    table.add_column("", justify="right")
    for name, figure in _FIGURES.items():
        table.add_row(name, f"{getattr(found, figure):,}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
