"""What rows came to: shown while they run, kept in a ledger where one is named, and summed up at the end."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Literal

import msgspec
import pytest
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Outcome = Literal["held", "violated", "skipped", "caught", "got away"]
"""The last two of a row with workers that lack a protection."""

_VIOLATIONS = ("violated", "got away")


class Ran(msgspec.Struct, frozen=True):
    """One run of a row; `told` is the first difference, or why it was skipped."""

    row: str
    seed: int
    outcome: Outcome
    kills: int
    seconds: float
    told: str = ""


class Ledger:
    """Runs of rows, kept in a file from one `make faults-long` to the next: what held is not run again."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_bytes().splitlines() if path is not None and path.exists() else []
        self.runs = [msgspec.json.decode(line, type=Ran) for line in lines]

    @property
    def held(self) -> set[tuple[str, int]]:
        return {(ran.row, ran.seed) for ran in self.runs if ran.outcome == "held"}

    def note(self, ran: Ran) -> None:
        self.runs.append(ran)
        if self._path is not None:
            with self._path.open("ab") as sink:
                sink.write(msgspec.json.encode(ran) + b"\n")


class Tally:
    """Counts rows, kills and violations, and shows how far it is.

    Args:
        rows: how many are to run.
        ledger: what ran before, and where runs are kept.
        capture: pytest's, to be passed by.
        shows: whether to show progress.
    """

    def __init__(self, rows: int, ledger: Ledger, capture: Any, *, shows: bool) -> None:
        self._ledger = ledger
        self._before = len(ledger.runs)
        self._capture = capture
        self._began_s = time.monotonic()
        self._console = Console(file=self._real_stderr(), soft_wrap=True)
        columns = (
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._task = self._progress.add_task("starting Kafka", total=rows)
        if shows:
            self._progress.start()

    def _real_stderr(self) -> IO[str]:
        """Past pytest's capture, which would show it only of a row that failed."""
        if self._capture is None:
            return os.fdopen(os.dup(2), "w")
        with self._capture.global_and_fixture_disabled():
            return os.fdopen(os.dup(2), "w")

    def tell(self, what: str) -> None:
        self._progress.update(self._task, description=escape(what))

    def count(self, ran: Ran) -> None:
        self._ledger.note(ran)
        self._progress.advance(self._task)
        outcome = f"[red]{ran.outcome}[/red]" if ran.outcome in _VIOLATIONS else ran.outcome
        place = f"{escape(ran.row)}, seed {ran.seed}"
        self._console.print(f"  {place}: {outcome}, {ran.kills} kills, {ran.seconds:.0f} s", highlight=False)
        if ran.told:
            self._console.print(f"    {escape(ran.told)}", highlight=False)

    def end(self) -> None:
        """Print what there is of each row, what was violated, and the summary as the last line."""
        self._progress.stop()
        if self._capture is None:
            self._print()
        else:
            with self._capture.global_and_fixture_disabled():
                self._print()

    def _print(self) -> None:
        runs = _newest(self._ledger.runs)
        for line in _table(runs):
            print(line)
        for ran in runs:
            if ran.outcome in _VIOLATIONS:
                print(f"violation: {ran.row}, seed {ran.seed}: {ran.told}")
            if ran.outcome == "violated":
                print(f"  once more: make faults SEED={ran.seed} ROW={ran.row}")
        seconds = time.monotonic() - self._began_s
        before = f" ({self._before} runs before in the ledger)" if self._before else ""
        print(f"faults: {_summary(runs)}, {seconds:.0f} s{before}", flush=True)


def _newest(runs: Iterable[Ran]) -> list[Ran]:
    """The last run of each row and seed."""
    return list({(ran.row, ran.seed): ran for ran in runs}.values())


def _table(runs: list[Ran]) -> list[str]:
    """A line for each row: with how many seeds, killed and violated how often, how long in all."""
    lines = ["| row | seeds | kills | violated | seconds |", "|---|---|---|---|---|"]
    for row in dict.fromkeys(ran.row for ran in runs):
        own = [ran for ran in runs if ran.row == row]
        violated = sum(ran.outcome in _VIOLATIONS for ran in own)
        seeds = sum(ran.outcome != "skipped" for ran in own)
        seconds = sum(ran.seconds for ran in own)
        lines.append(f"| `{row}` | {seeds} | {sum(ran.kills for ran in own)} | {violated} | {seconds:.0f} |")
    return lines


def _summary(runs: list[Ran]) -> str:
    seeds = sorted({ran.seed for ran in runs})
    parts = [
        f"{len({ran.row for ran in runs})} rows",
        f"{len(runs)} runs over seeds {', '.join(map(str, seeds)) or 'none'}",
        f"{sum(ran.kills for ran in runs)} kills",
        f"{sum(ran.outcome in _VIOLATIONS for ran in runs)} violations",
    ]
    skipped = [ran.row for ran in runs if ran.outcome == "skipped"]
    return ", ".join(parts) + (f", skipped: {', '.join(skipped)}" if skipped else "")


TALLY = pytest.StashKey[Tally]()
