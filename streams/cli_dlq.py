"""The commands of `duewatch dlq`: what was refused, why, and sending it again."""

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streams.config import Settings
    from streams.worker.dlq import Wanted

dlq_group = typer.Typer(help="Dead letters: records that were refused, and why.", no_args_is_help=True)


class _Input(StrEnum):
    repayments = "repayments"
    logins = "logins"
    transactions = "transactions"
    signals = "signals"
    reviews = "reviews"
    control = "control"


_Topics = Annotated[
    list[_Input] | None, typer.Option("--topic", help="Of this input alone; may be repeated.  [default: all]")
]
_Reason = Annotated[str | None, typer.Option(help="Refused for this reason alone.")]
_Fingerprint = Annotated[str | None, typer.Option(help="Of this cause alone, as `ls` names it.")]
_Borrower = Annotated[str | None, typer.Option(help="Of this borrower alone.")]
_Broker = Annotated[str | None, typer.Option(help="Kafka bootstrap servers, HOST:PORT[,HOST:PORT...].")]
_Json = Annotated[bool, typer.Option("--json", help="Write JSON for a program to read.")]


def _print_json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _settings(broker: str | None) -> "Settings":
    from streams.config import load_settings

    return load_settings(broker=broker)


def _chosen(topics: list[_Input] | None) -> list[str]:
    return [topic.value for topic in topics or _Input]


def _wanted(reason: str | None, fingerprint: str | None, borrower: str | None) -> "Wanted":
    from streams.engine.decode import REASONS
    from streams.worker.dlq import Wanted

    if reason is not None and reason not in REASONS:
        raise typer.BadParameter(f"--reason {reason}: is none of {', '.join(REASONS)}")
    return Wanted(reason, fingerprint, borrower)


@dlq_group.command("ls")
def dlq_ls(
    topic: _Topics = None,
    reason: _Reason = None,
    fingerprint: _Fingerprint = None,
    borrower: _Borrower = None,
    broker: _Broker = None,
    as_json: _Json = False,
) -> None:
    """Count the dead letters by topic and cause, the largest pile first. Shows nothing of what they hold."""
    from streams.worker.dlq import piles

    found = asyncio.run(piles(_settings(broker), _chosen(topic), _wanted(reason, fingerprint, borrower)))
    if as_json:
        _print_json(found)
        return
    for pile in found:
        assert pile.first is not None
        where = f"first at partition {pile.first[0]}, offset {pile.first[1]}"
        print(f"{pile.letters:>9,}  {pile.topic}  {pile.reason}: {pile.message}  ({pile.fingerprint}, {where})")
    if not found:
        print("no dead letters")


@dlq_group.command("show")
def dlq_show(
    topic: Annotated[_Input, typer.Argument(help="The input it was refused from.", show_default=False)],
    partition: Annotated[int, typer.Argument(min=0, help="Its partition.", show_default=False)],
    offset: Annotated[int, typer.Argument(min=0, help="Its offset in the dead-letter topic.", show_default=False)],
    content: Annotated[bool, typer.Option("--content", help="Show key and value too: personal data.")] = False,
    broker: _Broker = None,
    as_json: _Json = False,
) -> None:
    """Show one dead letter: where it came from, and why it was refused."""
    import msgspec

    from streams.worker.dlq import letter_at

    held = asyncio.run(letter_at(_settings(broker), topic.value, partition, offset))
    shown = msgspec.to_builtins(held.letter)
    if content:
        shown["key"] = None if held.key is None else held.key.decode("utf-8", "replace")
        shown["value"] = None if held.value is None else held.value.decode("utf-8", "replace")
    if as_json:
        _print_json(shown)
        return
    for name, value in shown.items():
        print(f"{name:<14}{value}")


@dlq_group.command("replay")
def dlq_replay(
    topic: _Topics = None,
    reason: _Reason = None,
    fingerprint: _Fingerprint = None,
    borrower: _Borrower = None,
    broker: _Broker = None,
    as_json: _Json = False,
) -> None:
    """Send dead letters again, as they were, to where they came from and in their order.

    Mend first what they were refused for. What was taken meanwhile is a duplicate then, and changes nothing within the
    policy's `duplicate_days`. A letter that was refused three times more stays where it is.
    """
    from streams.worker.dlq import replay

    wanted = _wanted(reason, fingerprint, borrower)
    if topic is None and reason is None and fingerprint is None and borrower is None:
        raise typer.BadParameter("say which: --topic, --reason, --fingerprint or --borrower")
    done = asyncio.run(replay(_settings(broker), _chosen(topic), wanted))
    if as_json:
        _print_json(done)
    else:
        print(f"{done.sent:,} sent again{f', {done.left:,} left: sent too often already' if done.left else ''}")
