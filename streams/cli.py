"""The command line.

An error is one line on stderr and an exit code: 1 for what could not be done, 2 for a command line that cannot be read,
130 for Ctrl-C. What a command needs is imported when it runs, so that each starts at once.
"""

import asyncio
import io
import logging
import re
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from streams.cli_backtest import backtest
from streams.cli_dlq import dlq_group
from streams.cli_policy import policy_group

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streams.config import Settings
    from streams.engine.blacklist import Signer
    from streams.worker.findings import Finding

_INTERRUPTED = 130
_Shown = TypeVar("_Shown")
app = typer.Typer(
    name="duewatch",
    help="Post-loan credit watch: how overdue each loan is, how behaviour has changed, and what to do about it.\n\n"
    "Settings come from DUEWATCH_* in the environment (see `duewatch config show`); flags win.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _group(name: str, text: str) -> typer.Typer:
    group = typer.Typer(help=text, no_args_is_help=True)
    app.add_typer(group, name=name)
    return group


topics = _group("topics", "Create the Kafka topics, or check those that are there.")
config = _group("config", "The settings in force.")
app.add_typer(policy_group, name="policy")
app.add_typer(dlq_group, name="dlq")
schemas_group = _group("schemas", "JSON Schema and AsyncAPI of every message.")
import_group = _group("import", "Turn real data into a recording.")
scorecard_group = _group("scorecard", "Points of a scorecard from what became of people.")

_Json = Annotated[bool, typer.Option("--json", help="Write JSON for a program to read.")]
_Broker = Annotated[str | None, typer.Option(help="Kafka bootstrap servers, HOST:PORT[,HOST:PORT...].")]
_RecordingPath = Annotated[Path, typer.Argument(help="A folder, or a .jsonl[.gz|.zst] file.", show_default=False)]
_Policy = Annotated[
    str,
    typer.Option(help="`standard`, a policy file (activations in the recording are then ignored), or `recorded`."),
]
_Keys = Annotated[
    Path | None,
    typer.Option("--blacklist-keys", help="File with the consortium's keys.  [default: placeholders, key id none]"),
]
_Workers = Annotated[int, typer.Option(min=1, help="Processes that share the partitions; the outputs are the same.")]
_NewRecording = Annotated[
    Path, typer.Option(help="Where to write the recording: a folder, or a .jsonl[.gz|.zst] file.", show_default=False)
]
_Tasks = Annotated[
    list[int] | None, typer.Option("--task", min=0, help="This partition alone; may be repeated.  [default: all]")
]
_Rate = Annotated[float | None, typer.Option(help="Events a second.  [default: as fast as the broker takes them]")]


def main() -> NoReturn:
    """The program `duewatch`."""
    _set_up_output()
    _hush()
    try:
        code = app(standalone_mode=False)
        # Closed by who started us, it is None.
        if sys.stdout is not None:
            sys.stdout.flush()
    except (BrokenPipeError, SystemExit):
        # Whoever read our output has seen enough; Typer and rich make an exit of that. Python would complain once more
        # when it closes the output.
        sys.stdout = None
        code = 0
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        code = _fail(f"{where}{error.strerror or error}")
        # What could not be written would be tried again at the end.
        sys.stdout = None
    except typer.TyperException as error:
        message = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
        # A group without a command has shown its help instead.
        code = _fail(f"{message} (see --help)", 2) if message else 2
    except Exception as error:
        if not isinstance(error, _told()):
            raise
        code = _fail(str(error))
    if code == _INTERRUPTED:
        _fail("interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _set_up_output() -> None:
    """A terminal that cannot show a character shows another in its place; JSON for programs is UTF-8 everywhere."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = "utf-8" if "--json" in sys.argv else None
        sys.stdout.reconfigure(encoding=encoding, errors="replace")


def _hush() -> None:
    """What the Kafka client logs while it tries is told in one line when it has given up."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _fail(message: str, code: int = 1) -> int:
    print(f"duewatch: {' '.join(message.split())}", file=sys.stderr)
    return code


def _signer(keys: Path | None) -> "Signer | None":
    from streams.blacklist_keys import load_keys

    return None if keys is None else load_keys(keys)


def _told() -> tuple[type[Exception], ...]:
    """Exceptions whose message is meant for the user; any other is a defect and shows where it happened."""
    from streams.config import ConfigError
    from streams.engine.state import StateError
    from streams.policy.loader import PolicyError
    from streams.replay.audit.report import AuditError
    from streams.replay.found import ExplainError
    from streams.replay.manifest import RecordingError
    from streams.store.contract import StoreError
    from streams.worker.commitlog import CommitLogError
    from streams.worker.owners import OwnedError
    from streams.worker.producer import TransactionError
    from streams.worker.takeover import TakeoverError
    from streams.worker.tasklogs import TaskError
    from streams.worker.topics import BrokerError

    of_policy_and_recordings = (ConfigError, StateError, PolicyError, ExplainError, RecordingError)
    of_tasks = (
        AuditError,
        StoreError,
        CommitLogError,
        TakeoverError,
        TransactionError,
        OwnedError,
        TaskError,
        BrokerError,
    )
    return of_policy_and_recordings + of_tasks


def _settings(**flags: Any) -> "Settings":
    from streams.config import load_settings

    return load_settings(**flags)


def _quiet(settings: "Settings") -> "Settings":
    """Let the parts of a worker that a command uses log errors alone; returns the settings given."""
    from streams.log import start_logging

    start_logging(settings.model_copy(update={"log_level": "error"}))
    _hush()
    return settings


def _print_json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _show(shown: _Shown, render: Callable[[_Shown], "RenderableType"], as_json: bool) -> None:
    """Print for a program, or as text."""
    if as_json:
        _print_json(shown)
        return
    from rich.console import Console

    Console().print(render(shown))


def _print_findings(findings: Iterable["Finding"], as_json: bool) -> None:
    """Print what was found; exit code 1 where there is an error among it."""
    from streams.worker.findings import failed

    findings = list(findings)
    if as_json:
        _print_json(findings)
    else:
        for finding in findings:
            print(finding.line)
    raise typer.Exit(1 if failed(findings) else 0)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"duewatch {version('duewatch')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _duewatch(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


# --- running the service ------------------------------------------------------------------------------------------


@app.command()
def demo(
    duration: Annotated[
        str | None, typer.Option("--for", help="End by itself after 30s, 5m or 1h.  [default: on Ctrl-C]")
    ] = None,
) -> None:
    """Show the whole service at work, on this machine alone: broker, Redis, worker and a simulated lender in one.

    Needs no Docker and no Java, and leaves nothing behind.
    """
    from streams.demo import run_demo

    raise typer.Exit(run_demo(None if duration is None else _seconds(duration)))


def _seconds(duration: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(s|m|h|)", duration)
    if found is None:
        raise typer.BadParameter(f"{duration}: give a number and s, m or h, like 30s")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


class _Audience(StrEnum):
    LENDER = "lender"
    BORROWER = "borrower"


class _Language(StrEnum):
    EN = "en"
    ZH = "zh"


class _Clock(StrEnum):
    worker = "worker"
    external = "external"


@app.command()
def worker(
    broker: _Broker = None,
    policy: Annotated[str | None, typer.Option(help="A shipped policy's name or the path of a policy file.")] = None,
    clock: Annotated[_Clock | None, typer.Option(help="Who writes ticks: the workers, or who produces events.")] = None,
) -> None:
    """Watch: read the input topics, keep state in Redis, write warnings and limit adjustments.

    Start as many as there are partitions, on as many machines as you like; each takes its share. Stop one with Ctrl-C
    or SIGTERM: it finishes its transaction first. Metrics are on http://127.0.0.1:9464/metrics (DUEWATCH_HTTP_PORT).
    """
    from streams.log import start_logging
    from streams.worker.app import run_worker

    settings = _settings(broker=broker, policy=policy, clock=None if clock is None else clock.value)
    start_logging(settings)
    raise typer.Exit(run_worker(settings))


@app.command()
def doctor(broker: _Broker = None, as_json: _Json = False) -> None:
    """Check policy, broker, topics, Redis and clocks: a line each, what is wrong and how to mend it.

    Writes nothing. The exit code is 1 if a worker could not run here.
    """
    from streams.worker.doctor import examine

    _print_findings(asyncio.run(examine(_settings(broker=broker))), as_json)


@app.command()
def rebuild(
    broker: _Broker = None,
    tasks: _Tasks = None,
    as_json: _Json = False,
) -> None:
    """Empty Redis and copy it anew from the commit log, while no worker runs.

    Workers do the same by themselves where Redis is empty or damaged; this is for an operator who wants it done, and
    watched, before they start. Ctrl-C leaves it safe: what is left is told, and whoever takes a task over copies on.
    """
    from streams.replay.progress import progress
    from streams.worker.rebuild import plan, rebuild

    settings = _quiet(_settings(broker=broker))
    rebuilt = asyncio.run(plan(settings, tasks or ()))
    try:
        with progress("copying", sum(one.offsets for one in rebuilt.tasks)) as advance:
            asyncio.run(rebuild(settings, rebuilt, advance))
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    finally:
        if as_json:
            _print_json(rebuilt)
        else:
            for one in rebuilt.tasks:
                print(one.line)


@app.command()
def audit(
    broker: _Broker = None,
    tasks: _Tasks = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="From this offset of the commit log, or this moment (ISO 8601), on."),
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Up to before this offset or moment.")] = None,
    policy: Annotated[str | None, typer.Option(help="The policy that the workers were started with.")] = None,
    show_borrowers: Annotated[
        bool, typer.Option("--show-borrowers", help="Name the borrower of each difference: personal data.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Make commits again with the engine, and compare: states, outputs, dead letters, and what Redis holds now.

    Changes nothing, and may run beside workers. The exit code is 1 if anything differs. Outputs are read committed, as
    consumers downstream must.
    """
    from streams.policy.loader import load
    from streams.replay.audit import run as auditing
    from streams.replay.audit.report import Audit
    from streams.replay.progress import progress
    from streams.worker.tasklogs import choose_tasks

    wanted = auditing.parse_range(since, until)
    settings = _quiet(_settings(broker=broker, policy=policy))
    told = Audit()

    async def run() -> None:
        chosen = await choose_tasks(settings, tasks or ())
        with progress("auditing", await auditing.offsets(settings, chosen)) as advance:
            await auditing.audit(settings, load(settings.policy), chosen, wanted, told, advance)

    try:
        asyncio.run(run())
    finally:
        if not show_borrowers:
            told = told.without_borrowers()
        if as_json:
            _print_json(told)
        else:
            for line in told.lines():
                print(line)
    raise typer.Exit(1 if told.differences else 0)


@app.command()
def erase(
    borrower: Annotated[str, typer.Argument(help="The borrower's id.", show_default=False)],
    reviewer: Annotated[str, typer.Option(help="Who decided it, as in reviews.", show_default=False)],
    broker: _Broker = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it is done.")] = 60.0,
    as_json: _Json = False,
) -> None:
    """Erase all that is kept of a borrower: from Redis at once, from the commit log within its retention.

    Not undone by a rebuild or an old backup of Redis. Stop its events first: later ones begin a new, empty borrower.
    Input, output and dead-letter topics are the operator's (docs/operate.md). The exit code is 1 if it is not done yet.
    """
    from streams.worker.erase import erase

    erased = asyncio.run(erase(_settings(broker=broker), borrower, reviewer, wait))
    if as_json:
        _print_json(erased)
    else:
        print(erased.line)
    raise typer.Exit(0 if erased.done else 1)


@config.command("show")
def config_show(as_json: _Json = False) -> None:
    """Show every setting with its variable and value; secrets are masked."""
    from rich.console import Console
    from rich.table import Column, Table

    from streams.config import PREFIX, Settings, shown

    values = shown(_settings())
    if as_json:
        _print_json(values)
        return
    table = Table(Column("variable", no_wrap=True), "value", "what it is", box=None, header_style="bold")
    for name, value in values.items():
        text = "" if value is None else str(value)
        table.add_row(f"{PREFIX}{name.upper()}", text, Settings.model_fields[name].description or "")
    Console().print(table)


@topics.command("create")
def topics_create(
    broker: _Broker = None,
    partitions: Annotated[int, typer.Option(min=1, help="Of each topic: there can be as many workers.")] = 12,
    as_json: _Json = False,
) -> None:
    """Create every topic that is not there; those that are stay as they are."""
    from streams.worker.topics import create_topics, open_admin

    async def run() -> list["Finding"]:
        async with open_admin(_settings(broker=broker)) as admin:
            return await create_topics(admin, partitions)

    _print_findings(asyncio.run(run()), as_json)


@topics.command("check")
def topics_check(broker: _Broker = None, as_json: _Json = False) -> None:
    """Check that the topics have the partitions and settings that the service relies on. Changes nothing."""
    from streams.worker.topics import check_topics, open_admin

    async def run() -> list["Finding"]:
        async with open_admin(_settings(broker=broker)) as admin:
            return await check_topics(admin)

    _print_findings(asyncio.run(run()), as_json)


# --- recordings ---------------------------------------------------------------------------------------------------


@app.command()
def simulate(
    out: Annotated[
        Path | None,
        typer.Option(help="Write a recording here, and ground_truth.parquet beside it.", show_default=False),
    ] = None,
    broker: Annotated[str | None, typer.Option(help="Send to this Kafka instead; stop with Ctrl-C.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 1,
    borrowers: Annotated[int, typer.Option(min=1, help="How many.")] = 1_000,
    events: Annotated[int | None, typer.Option(min=1, help="About how many.  [default: 100,000 into --out]")] = None,
    rate: _Rate = None,
    as_json: _Json = False,
) -> None:
    """Invent a population of borrowers and what happens to them: habits that drift into trouble, outages, fraud rings.

    Time comes with the events, faster than life: workers that read them from Kafka need --clock external.
    """
    from streams.replay.simulate import writing

    if (out is None) == (broker is None):
        raise typer.BadParameter("give either --out or --broker")
    if out is not None:
        if rate is not None:
            raise typer.BadParameter("--rate goes with --broker")
        records = writing.simulate(seed, borrowers, 100_000 if events is None else events, out)
        where = str(out)
    else:
        settings = _settings(broker=broker)
        sent = writing.simulate_into_kafka(settings, seed, borrowers, rate=rate, events=events)
        records, where = asyncio.run(sent).records, settings.broker
    if as_json:
        _print_json({"records": records})
    else:
        print(f"{records:,} records written to {where}")


@app.command()
def record(
    out: _NewRecording,
    broker: _Broker = None,
    since: Annotated[str | None, typer.Option("--from", help="From this moment on (ISO 8601), by timestamp.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Up to before this moment (ISO 8601).")] = None,
    as_json: _Json = False,
) -> None:
    """Write what the input topics and the commit log hold at this moment to a recording.

    A replay of it then repeats, byte for byte, what the workers decided.
    """
    from streams.replay.moment import parse_moment
    from streams.replay.record import record

    from_ms = None if since is None else parse_moment("--from", since)
    until_ms = None if until is None else parse_moment("--until", until)
    records = asyncio.run(record(_settings(broker=broker), out, from_ms=from_ms, until_ms=until_ms))
    if as_json:
        _print_json({"records": records})
    else:
        print(f"{records:,} records written to {out}")


@app.command()
def produce(
    recording: _RecordingPath,
    broker: _Broker = None,
    rate: _Rate = None,
    speed: Annotated[float | None, typer.Option(help="How many times faster than recorded.")] = None,
    as_json: _Json = False,
) -> None:
    """Send a recording's input records into Kafka: same partitions, timestamps, keys and bytes.

    Its ticks are among them: workers that read them need --clock external.
    """
    from streams.replay.produce import produce
    from streams.replay.recording import Recording

    if rate is not None and speed is not None:
        raise typer.BadParameter("give --rate or --speed, not both")
    if any(pace is not None and pace <= 0 for pace in (rate, speed)):
        raise typer.BadParameter("--rate and --speed must be more than 0")
    with Recording.open(recording) as opened:
        produced = asyncio.run(produce(opened, _settings(broker=broker), rate=rate, speed=speed))
    if as_json:
        _print_json(produced)
        return
    print(f"{produced.records:,} records sent")
    if not produced.same_offsets:
        print("the topics were not empty: outputs will name other offsets than a replay of the recording does")


@app.command()
def replay(
    recording: _RecordingPath,
    out: Annotated[Path, typer.Option(help="Folder for the outputs; a replay's own is replaced.", show_default=False)],
    policy: _Policy = "standard",
    workers: _Workers = 1,
    blacklist_keys: _Keys = None,
    as_json: _Json = False,
) -> None:
    """Run a recording through the engine, without Kafka or Redis, into one file of outputs per topic.

    The same recording and policy give the same bytes. Writes OUT/<topic>.jsonl, OUT/<topic>.dlq.jsonl where records
    were refused, and OUT/summary.json.
    """
    from streams.replay.replay import replay

    summary = replay(recording, policy, out, workers, signer=_signer(blacklist_keys))
    if as_json:
        _print_json(summary)
        return
    print(f"{summary.events:,} events, {summary.events_per_s:,.0f} a second, policy {summary.policy.id}")
    for topic, count in summary.by_topic.items():
        print(f"{count:>12,}  {topic}")
    for reason, count in summary.dead_letters_by_reason.items():
        print(f"{count:>12,}  refused: {reason}")
    print(f"{out}: sha256 {summary.output_sha256}")


app.command()(backtest)


@app.command()
def explain(
    recording: Annotated[Path, typer.Option(help="A folder, or a .jsonl[.gz|.zst] file.", show_default=False)],
    borrower: Annotated[str, typer.Option(help="The borrower's id.", show_default=False)],
    at: Annotated[
        str | None, typer.Option(help="The moment, as 2026-03-01T00:00:00+08:00.  [default: the end]")
    ] = None,
    policy: _Policy = "standard",
    audience: Annotated[
        _Audience, typer.Option(help="For the lender, in full; or for the borrower, in plain words.")
    ] = _Audience.LENDER,
    lang: Annotated[
        _Language | None, typer.Option(help="The borrower's language.  [default: en]", show_default=False)
    ] = None,
    blacklist_keys: _Keys = None,
    as_json: _Json = False,
) -> None:
    """Show one borrower as of a moment: loans, days past due, features, score, standing, and why it was so decided."""
    from streams.replay.found import find
    from streams.replay.moment import parse_moment

    if lang is not None and audience is _Audience.LENDER:
        raise typer.BadParameter("--lang goes with --audience borrower")
    at_ms = None if at is None else parse_moment("--at", at)
    found = find(recording, borrower, at_ms, policy, _signer(blacklist_keys))
    if audience is _Audience.BORROWER:
        from streams.replay.explained_borrower import render as render_told
        from streams.replay.explained_borrower import tell

        _show(tell(borrower, found, (lang or _Language.EN).value), render_told, as_json)
        return
    from streams.replay.explain import explained
    from streams.replay.explained_text import render

    _show(explained(borrower, found), lambda shown: render(shown, found), as_json)


@import_group.command("uci-credit")
def import_uci_credit(
    file: Annotated[Path, typer.Argument(help="The data set as .csv or .csv.gz.", show_default=False)],
    out: _NewRecording,
    customers: Annotated[int | None, typer.Option(min=1, help="How many at most.  [default: all]")] = None,
    as_json: _Json = False,
) -> None:
    """Turn the UCI data "default of credit card clients" into a recording: bills, payments and repayment status.

    Beside it: the labels (never part of an event), and how the ledger's months compare with the recorded status.
    """
    from streams.replay.uci import import_uci, table

    report = import_uci(file, out, customers)
    if as_json:
        _print_json(report)
        return
    from rich.console import Console

    Console().print(*table(report), sep="\n")


@scorecard_group.command("fit")
def scorecard_fit(
    recording: _RecordingPath,
    out: Annotated[Path, typer.Option(help="The folder to make, for points, policy and report.", show_default=False)],
    labels: Annotated[
        Path | None,
        typer.Option(help="Outcomes: a Parquet file of borrower_id and true or false.  [default: arrears that follow]"),
    ] = None,
    at: Annotated[str | None, typer.Option(help="Score as of 2026-03-01T00:00:00+08:00.  [default: the end]")] = None,
    earlier: Annotated[
        str | None, typer.Option(help="Also set points as of this moment, and try them on others at the later one.")
    ] = None,
    policy: _Policy = "standard",
    as_json: _Json = False,
) -> None:
    """Set the points of a policy's factors by outcomes, and measure them on borrowers they were not set on.

    Writes scorecard.yaml (the section `score`), policy.yaml (the policy with it) and report.json. Needs duewatch[fit].
    """
    from streams.replay.moment import parse_moment

    try:
        from streams.replay.scorecard.fitting import fit_recording
        from streams.replay.scorecard.report_text import render
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise typer.Exit(_fail("scikit-learn is not installed: install duewatch[fit]")) from None

    at_ms, earlier_ms = (
        None if text is None else parse_moment(flag, text) for flag, text in (("--at", at), ("--earlier", earlier))
    )
    report = fit_recording(recording, out, policy, labels, at_ms, earlier_ms, (at or "the end", earlier))
    if as_json:
        _print_json(report)
        return
    from rich.console import Console

    Console().print(render(report))


# --- schemas ------------------------------------------------------------------------------------------------------


@schemas_group.command("export")
def schemas_export(
    out: Annotated[Path | None, typer.Option(help="Folder to write to.  [default: the package's own]")] = None,
) -> None:
    """Write JSON Schema of every message and the AsyncAPI document."""
    from schemas import export

    export.write(export.FOLDER if out is None else out)


@schemas_group.command("machines")
def schemas_machines(
    out: Annotated[Path | None, typer.Option(help="File to write to.  [default: standard output]")] = None,
) -> None:
    """Write the state machines of loans and borrowers as Markdown: tables, and diagrams drawn from them."""
    from streams.policy.loader import load
    from streams.replay.diagrams import document

    text = document(load("standard"))
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")


@schemas_group.command("check")
def schemas_check() -> None:
    """Check that the published schemas are those of the wire types; lists what is stale, exit code 1 then."""
    from schemas import export

    stale = export.stale()
    for name in stale:
        print(f"duewatch: schemas/{name}: stale; run duewatch schemas export", file=sys.stderr)
    raise typer.Exit(1 if stale else 0)


if __name__ == "__main__":
    main()
