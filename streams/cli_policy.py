"""The commands of `duewatch policy`: what a risk analyst does with a policy file before and when it is put in force."""

import asyncio
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streams.policy.lint import Remark
    from streams.policy.loader import Loaded
    from streams.policy.model import Policy
    from streams.replay.policy_diff import DecisionDiff
    from streams.replay.policy_tests import Outcome

_ID_MAX = 64
"""Of an id in an event (`schemas.inbound.Id`)."""
policy_group = typer.Typer(help="Policies: what a risk analyst decides, as one file.", no_args_is_help=True)

_PolicyFile = Annotated[str, typer.Argument(help="A policy file, or a shipped policy's name.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="Write JSON for a program to read.")]


def _print_json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


# --- lint and test ------------------------------------------------------------------------------------------------


@policy_group.command("lint")
def policy_lint(policy: _PolicyFile, as_json: _Json = False) -> None:
    """Check a policy file: every mistake with file, line and field, and what to do about it.

    Besides mistakes it names what the policy hardly means: rules that nothing reaches, thresholds that flap, texts that
    no rule gives. The exit code is 1 where there is anything to say.
    """
    from streams.policy.lint import lint
    from streams.policy.loader import PolicyError, digest

    try:
        loaded, remarks = lint(policy)
    except PolicyError as error:
        if not as_json:
            raise
        _print_json({"errors": error.all_errors, "remarks": []})
        raise typer.Exit(1) from None
    if as_json:
        errors = [remark.text for remark in remarks if remark.severity == "error"]
        known = {} if loaded is None else {"id": loaded.policy.id, "digest": digest(loaded.policy)}
        _print_json({"errors": errors, "remarks": remarks} | known)
    else:
        _tell(remarks)
        if loaded is not None:
            print(f"{policy}: policy {loaded.policy.id}, {digest(loaded.policy)}")
    raise typer.Exit(1 if remarks else 0)


def _tell(remarks: "list[Remark]") -> None:
    for remark in remarks:
        print(remark.text if remark.severity == "error" else f"{remark.text} (advice)", file=sys.stderr)


@policy_group.command("test")
def policy_test(policy: _PolicyFile, as_json: _Json = False) -> None:
    """Play the tests of a policy file through the real decision path: tables of day, event and what is decided.

    The exit code is 1 if one fails, or if there are none.
    """
    from streams.policy.loader import load_file
    from streams.replay.policy_tests import run_tests

    loaded = load_file(policy)
    outcomes = run_tests(loaded)
    passed = bool(outcomes) and all(outcome.passed for outcome in outcomes)
    if as_json:
        _print_json({"passed": passed, "tests": outcomes})
    else:
        _tell_outcomes(loaded, outcomes)
    raise typer.Exit(0 if passed else 1)


def _tell_outcomes(loaded: "Loaded", outcomes: "list[Outcome]") -> None:
    for outcome in outcomes:
        print(f"{'passed' if outcome.passed else 'FAILED'}  {outcome.name}")
        for difference in outcome.differences:
            if difference.problem:
                print(f"        {outcome.place}: day {difference.day}: {difference.problem}")
            else:
                expected, decided = (
                    "; ".join(items) or "nothing" for items in (difference.expected, difference.decided)
                )
                print(f"        {outcome.place}: day {difference.day}: expected {expected}; decided {decided}")
    if not outcomes:
        print(f"{loaded.source}: has no tests; write some under `tests:` as in the shipped standard.yaml")


@policy_group.command("schema")
def policy_schema(
    out: Annotated[Path | None, typer.Option(help="File to write to.  [default: standard output]")] = None,
) -> None:
    """Write the JSON Schema of a policy file, with which an editor completes, explains and checks what one writes.

    In the file's first line: # yaml-language-server: $schema=PATH
    """
    from streams.policy import schema

    if out is None:
        print(schema.text(), end="")
    else:
        out.write_text(schema.text(), encoding="utf-8")


# --- diff ---------------------------------------------------------------------------------------------------------


@policy_group.command("diff")
def policy_diff(
    before: _PolicyFile,
    after: _PolicyFile,
    recording: Annotated[
        Path | None, typer.Option(help="Also what would have been decided differently on it.", show_default=False)
    ] = None,
    as_json: _Json = False,
) -> None:
    """Show what differs between two policies: points by value, thresholds, steps, texts.

    With a recording: how many decisions differ, by kind and segment, with borrower and moment of some, for `explain`.
    """
    from streams.policy.diff import differences
    from streams.policy.loader import load
    from streams.replay.policy_diff import compare

    olds, news = load(before), load(after)
    found = differences(olds, news)
    decided = None if recording is None else compare(recording, olds, news)
    if as_json:
        _print_json({"differences": found} | ({} if decided is None else {"decisions": decided}))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not found:
        console.print("both say the same", highlight=False)
    else:
        table = Table(
            "part", "what", olds.id, news.id if news.id != olds.id else f"{news.id} (new)", header_style="bold"
        )
        for difference in found:
            table.add_row(difference.part, difference.what, difference.before, difference.after)
        console.print(table)
    if decided is not None:
        _tell_decisions(decided, console, olds, news)


def _tell_decisions(decided: "DecisionDiff", console: Any, before: "Policy", after: "Policy") -> None:
    from zoneinfo import ZoneInfo

    from rich.table import Column, Table

    from streams.replay.moment import iso_moment

    zone = ZoneInfo(before.facts.calendar.zone)
    console.print(
        f"{decided.events:,} records: {decided.decisions_before:,} decisions under {before.id}, "
        f"{decided.decisions_after:,} under {after.id}; something else decided of {decided.borrowers:,} borrowers",
        highlight=False,
    )
    if not decided.changed:
        return
    names = ("decision", "segment", "only before", "only after", "both")
    table = Table(*(Column(name, no_wrap=True) for name in names), box=None)
    for column in table.columns[2:5]:
        column.justify = "right"
    for changed in decided.changed:
        counts = (f"{count:,}" for count in (changed.only_before, changed.only_after, changed.both))
        table.add_row(changed.type, changed.segment, *counts)
    console.print(table)
    # Not in the table, which would cut them to its width: they are there to be copied.
    print("for example (duewatch explain --recording ... --borrower ID --at MOMENT):")
    for changed in decided.changed:
        for policy, examples in ((before, changed.examples_before), (after, changed.examples_after)):
            for example in examples[:1]:
                moment = iso_moment(example.seen_ms, zone)
                print(f"  {changed.type} {example.detail} under {policy.id}: {example.borrower_id} {moment}")


# --- activation ---------------------------------------------------------------------------------------------------


class _Mode(StrEnum):
    live = "live"
    shadow = "shadow"
    retired = "retired"


@policy_group.command("activate")
def policy_activate(
    policy: _PolicyFile,
    mode: Annotated[_Mode, typer.Option(help="Put it live, run it as a shadow beside the live one, or end a shadow.")],
    author: Annotated[str, typer.Option(help="Who wrote it.", show_default=False)],
    approver: Annotated[str, typer.Option(help="Who approved it; another person.", show_default=False)],
    untested: Annotated[bool, typer.Option("--untested", help="Also where the policy file has no tests.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until every task has decided on it.")] = 60.0,
    broker: Annotated[str | None, typer.Option(help="Kafka bootstrap servers, HOST:PORT[,HOST:PORT...].")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: _Json = False,
) -> None:
    """Put a policy in force on every partition, in one transaction, after lint and its own tests; wait for the outcome.

    It acts from its place in the log on: on each borrower at its next event or wake-up. A shadow decides on
    `shadow-decisions` alone. Every task decides whether it takes it: one with another facts section than the live one,
    say, is refused (a dead letter `invalid_policy`). The exit code is 1 if it is refused, or not in force yet.
    """
    from streams.config import load_settings
    from streams.engine.activation import same_person
    from streams.policy.lint import lint
    from streams.policy.loader import PolicyError, digest, load
    from streams.replay.policy_tests import run_tests
    from streams.worker.activation import Activation, activate

    author, approver = _person("--author", author), _person("--approver", approver)
    settings = load_settings(broker=broker)
    loaded, remarks = lint(policy)
    if loaded is None:
        raise PolicyError(tuple(remark.text for remark in remarks))
    in_settings = load(settings.policy)
    if same_person(author, approver) and in_settings.approval.two_persons:
        raise typer.BadParameter("--author and --approver are the same person; have another person approve")
    outcomes = run_tests(loaded)
    failed = [outcome.name for outcome in outcomes if not outcome.passed]
    if failed and mode is not _Mode.retired:
        raise PolicyError(
            (f"{policy}: {len(failed)} of its tests fail ({failed[0]}): see duewatch policy test {policy}",)
        )
    if not outcomes and mode is not _Mode.retired and not untested:
        raise PolicyError((f"{policy}: has no tests: write some under `tests:`, or give --untested",))
    if not as_json:
        _tell(remarks)
    known = digest(loaded.policy)
    if not yes:
        told = f"{loaded.policy.id} ({known[:19]}) is to be {mode.value} on {settings.broker}"
        people = f"by {author}, approved by {approver}, {len(outcomes) - len(failed)} tests passed"
        if not _confirmed(f"{told}; {people}. Go on?"):
            print("duewatch: not activated", file=sys.stderr)
            raise typer.Exit(1)
    activated = asyncio.run(activate(settings, Activation(loaded.policy, mode.value, author, approver), wait))
    if as_json:
        _print_json(activated)
    else:
        print(*activated.lines, sep="\n")
    raise typer.Exit(0 if activated.done else 1)


def _person(flag: str, given: str) -> str:
    """An id as events carry them, without blanks around it."""
    name = given.strip()
    if not 1 <= len(name) <= _ID_MAX:
        raise typer.BadParameter(f"{flag}: give an id of 1 to {_ID_MAX} characters")
    return name


def _confirmed(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False
