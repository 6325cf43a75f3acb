"""The command `duewatch backtest`: what a policy would have done, before it does it to anybody."""

from pathlib import Path
from typing import Annotated, Any

import typer

_RecordingPath = Annotated[Path, typer.Argument(help="A folder, or a .jsonl[.gz|.zst] file.", show_default=False)]


def backtest(
    recording: _RecordingPath,
    out: Annotated[Path, typer.Option(help="The folder to make, for report and figures.", show_default=False)],
    policy: Annotated[
        str, typer.Option(help="`standard`, a policy file, or `recorded`: what was in force then.")
    ] = "standard",
    against: Annotated[str | None, typer.Option(help="Another one to put beside it.", show_default=False)] = None,
    horizon_days: Annotated[int, typer.Option(min=1, help="How long what becomes of people is followed.")] = 90,
    observe_on: Annotated[
        list[str] | None,
        typer.Option(
            help="Score everybody as of the beginning of this date; may be repeated.  [default: each month's]"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON for a program to read.")] = False,
) -> None:
    """Test a policy, or two side by side, on recorded topics, by what became of people: 30, 60, 90 days past due.

    Who was warned and restricted in time and who for nothing, how long before, how much less would have been owed, what
    came back too soon, and how well the score told them apart; by segment. Writes OUT/report.json and OUT/figures.csv.
    """
    from streams.replay.backtest.run import backtest

    report = backtest(recording, policy, against, out, horizon_days, observe_on or [])
    if as_json:
        _print_json(report)
        return
    from rich.console import Console

    from streams.replay.backtest.report_text import render

    Console().print(render(report))


def _print_json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
