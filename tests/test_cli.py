"""The command line: one line for an error, exit codes, JSON for programs."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streams import cli, program
from streams.policy.loader import SHIPPED
from streams.replay.cycle import LocalTask
from tests.replay.tape import Tape

Run = tuple[int, str, str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `duewatch` with the arguments given: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["duewatch", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, told.out, told.err

    return call


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.days("2026-01-01", "2026-02-20")
    return tape.write(tmp_path / "r.jsonl")


COMMANDS = (
    "demo", "worker", "doctor", "rebuild", "audit", "erase", "config show", "topics create", "topics check", "simulate",
    "record", "produce", "replay", "backtest", "explain", "import uci-credit", "policy lint", "policy test",
    "policy diff", "policy activate", "policy schema", "dlq ls", "dlq show", "dlq replay",
    "schemas export", "schemas machines", "schemas check", "scorecard fit",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_for_each_option(command: str, run: Any) -> None:
    code, out, err = run(*command.split(), "--help")
    assert (code, err) == (0, "")
    assert "Usage" in out
    described = [line for line in out.splitlines() if line.lstrip("│ *").startswith("--")]
    assert described
    assert all(len(line.strip("│ ").split("  ")) > 1 for line in described)


def test_without_a_command_it_shows_what_there_is(run: Any) -> None:
    code, out, _ = run()
    assert code == 0
    assert all(command.split()[0] in out for command in COMMANDS)


def test_version(run: Any) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("duewatch 0.")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["frob"], 2, "No such command 'frob'"),
        (["replay"], 2, "Missing"),
        (["replay", "r.jsonl", "--out", "o", "--workers", "0"], 2, "'--workers'"),
        (["replay", "r.jsonl", "--out", "o", "--fast"], 2, "No such option"),
        (["replay", "nowhere", "--out", "o"], 1, "nowhere: no such recording"),
        (["replay", "nowhere", "--out", "o", "--policy", "none.yaml"], 1, "none.yaml: cannot be read"),
        (["explain", "--recording", "r", "--borrower", "b", "--at", "2026-03-01"], 1, "add Z (UTC) or an offset"),
        (["explain", "--recording", "r", "--borrower", "b", "--lang", "zh"], 2, "--lang goes with --audience borrower"),
        (["produce", "nowhere"], 1, "nowhere: no such recording"),
        (["produce", "nowhere", "--rate", "1", "--speed", "1"], 2, "--rate or --speed"),
        (["produce", "nowhere", "--rate", "-1"], 2, "more than 0"),
        (["demo", "--for", "soon"], 2, "like 30s"),
        (["simulate"], 2, "either --out or --broker"),
        (["simulate", "--out", "o", "--rate", "5"], 2, "--rate goes with --broker"),
        (["record", "--out", "o", "--from", "monday"], 1, "--from monday"),
        (["audit", "--from", "monday"], 1, "--from monday"),
        (["policy", "lint", "none.yaml"], 1, "none.yaml"),
        (["import", "uci-credit", "none.csv", "--out", "o"], 1, "none.csv"),
        (["policy", "lint", ""], 1, "duewatch: no policy is named"),
        (["policy", "schema", "--out", "."], 1, "duewatch: .: Is a directory"),
        (["schemas", "machines", "--out", "none/file"], 1, "duewatch: none/file: No such file or directory"),
        (["simulate", "--out", f"{__file__}/o", "--events", "1"], 1, f"duewatch: {__file__}/o: Not a directory"),
        (["replay", "r", "--out", f"{__file__}/o"], 1, "r: no such recording"),
        (["backtest", "nowhere", "--out", f"{__file__}/o"], 1, "/o: cannot be made (File exists): give --out"),
        (["backtest", "nowhere", "--out", "/proc/o"], 1, "/proc/o: cannot be made (No such file or directory)"),
        (
            ["scorecard", "fit", "nowhere", "--out", "/proc/o", "--at", "2026-03-01T00:00:00Z"],
            1,
            "/proc/o: cannot be made",
        ),
        (
            ["scorecard", "fit", "nowhere", "--out", "o", "--at", "9999-12-31T23:59:59-14:00"],
            1,
            "--at 9999-12-31T23:59:59-14:00: is not between 1970 and the year 8999",
        ),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    arguments: list[str], code: int, line: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments)[0] == code
    _, out, err = run(*arguments)
    assert out == ""
    assert len(err.splitlines()) == 1
    assert line in err
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_cannot_be_used(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUEWATCH_REDIS_URL", "http://user:secret@host")
    code, _, err = run("config", "show")
    assert code == 1
    assert "redis_url" in err
    assert "secret" not in err
    assert len(err.splitlines()) == 1


def test_settings_are_shown_with_their_variables(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUEWATCH_REDIS_URL", "redis://user:secret@host:1/0")
    _, out, _ = run("config", "show")
    assert "DUEWATCH_TRANSACTION_DEADLINE_MS" in out
    code, shown, _ = run("config", "show", "--json")
    assert code == 0
    assert json.loads(shown)["broker"] == "127.0.0.1:9092"
    assert "secret" not in out + shown


def test_replay_tells_what_it_wrote(run: Any, recording: Path, tmp_path: Path) -> None:
    code, out, err = run("replay", recording, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "early-warnings" in out
    code, as_json, _ = run("replay", recording, "--out", tmp_path / "out", "--json")
    summary = json.loads(as_json)
    assert code == 0
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert {"events", "outputs", "dead_letters", "events_per_s", "output_sha256"} <= set(summary)


def test_replay_refuses_a_folder_that_is_not_its_own(run: Any, recording: Path, tmp_path: Path) -> None:
    code, _, err = run("replay", recording, "--out", tmp_path)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert recording.exists()


def test_ctrl_c_is_one_line_and_130(run: Any, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: LocalTask, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalTask, "fold", interrupted)
    assert run("replay", recording, "--out", tmp_path / "out") == (130, "", "duewatch: interrupted\n")
    assert not (tmp_path / "out").exists()


def test_a_defect_shows_where_it_happened(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(self: LocalTask, *_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(LocalTask, "fold", defect)
    monkeypatch.setattr(sys, "argv", ["duewatch", "replay", str(recording), "--out", str(tmp_path / "out")])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_explain_for_a_program_and_for_a_person(run: Any, recording: Path) -> None:
    asked = ("explain", "--recording", recording, "--borrower", "b1", "--at", "2026-02-10T00:00:00+08:00")
    code, out, _ = run(*asked, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["loans"][0]["dpd"]["contractual"] == 10
    code, text, err = run(*asked)
    assert (code, err) == (0, "")
    for told in ("10 days past due", "5,000.00 CNY", "A payment", "pay overdue 1,050.00 CNY by 2026-02-03", "watch"):
        assert told in " ".join(text.split())


def test_explain_for_the_borrower(run: Any, recording: Path) -> None:
    asked = ("explain", "--recording", recording, "--borrower", "b1", "--at", "2026-02-10T00:00:00+08:00")
    code, text, err = run(*asked, "--audience", "borrower")
    assert (code, err) == (0, "")
    assert "New draws are restricted: at most 2 in 30 days" in " ".join(text.split())
    code, out, _ = run(*asked, "--audience", "borrower", "--lang", "zh", "--json")
    found = json.loads(out)
    assert (code, found["language"], found["as_of"]) == (0, "zh", "2026-02-10")
    assert found["decisions"][0]["what"] == ["我们注意到您的还款可能出现困难。"]
    assert found["decisions"][-1]["way_back"][0] == "请支付逾期款项：1,050.00 CNY。"


def test_an_unknown_borrower_is_one_line(run: Any, recording: Path) -> None:
    code, out, err = run("explain", "--recording", recording, "--borrower", "zz")
    assert (code, out) == (1, "")
    assert "holds 1 borrowers" in err
    assert "b1" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("audience", ["lender", "borrower"])
@pytest.mark.parametrize(
    ("borrower", "at", "line"),
    [
        ("b1", "8999-12-31T23:59:59Z", "its last record is of 2026-02-20T01:00:00+08:00"),
        ("b1", "2026-02-22T00:00:00+08:00", "its last record is of 2026-02-20T01:00:00+08:00"),
        ("\udcff", "2026-02-20T00:00:00+08:00", "--borrower: is not UTF-8"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(
    borrower: str, at: str, line: str, audience: str, run: Any, recording: Path
) -> None:
    asked = ("explain", "--recording", recording, "--borrower", borrower, "--at", at)
    code, out, err = run(*asked, "--audience", audience)
    assert (code, out) == (1, "")
    assert line in err
    assert len(err.splitlines()) == 1


def test_lint_lists_every_flaw_with_its_line(run: Any, tmp_path: Path) -> None:
    flawed = tmp_path / "flawed.yaml"
    text = SHIPPED["standard"].read_text()
    flawed.write_text(text.replace("base: 650", "base: lots").replace("parked_events_max: 32", "parked_events_max: 0"))
    code, out, err = run("policy", "lint", flawed)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 2
    assert all(line.startswith(f"{flawed}:") for line in err.splitlines())
    code, as_json, _ = run("policy", "lint", flawed, "--json")
    assert code == 1
    assert json.loads(as_json)["errors"] == err.splitlines()
    code, as_json, _ = run("policy", "lint", "standard", "--json")
    assert code == 0
    assert json.loads(as_json)["digest"].startswith("sha256:")


def test_simulate_writes_a_recording_that_replays(run: Any, tmp_path: Path) -> None:
    where = tmp_path / "simulated"
    code, out, _ = run("simulate", "--seed", 1, "--borrowers", 3, "--events", 500, "--out", where, "--json")
    assert code == 0
    records = json.loads(out)["records"]
    code, out, _ = run("replay", where, "--out", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(out)["events"] == records


def test_schemas_are_written_and_checked(run: Any, tmp_path: Path) -> None:
    assert run("schemas", "export", "--out", tmp_path / "s")[0] == 0
    assert (tmp_path / "s" / "asyncapi.yaml").exists()
    assert run("schemas", "check") == (0, "", "")


@pytest.mark.parametrize(
    "command",
    ["topics check", "dlq ls", "erase b --reviewer r", "record --out r", "audit", "rebuild", "simulate",
     "policy activate standard --mode live --author a --approver b --yes"],
)  # fmt: skip
def test_no_broker_is_one_line(command: str, run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does the client log anything of its own."""
    code, out, err = run(*command.split(), "--broker", "127.0.0.1:1")
    assert (code, out) == (1, "")
    assert caplog.records == []
    assert err == (
        "duewatch: 127.0.0.1:1: KafkaConnectionError: is it up, do broker, kafka_security and user fit it, and may the "
        "user do this?\n"
    )


def test_a_terminal_shows_what_it_can(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(SHIPPED["standard"].read_text().replace("keep_bp: 7000", "keep_bp: 5000"))
    for arguments, shown in (
        ((), "limits ? steps"),
        (("--json",), "limits › steps"),
    ):
        latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
        monkeypatch.setattr(sys, "stdout", latin)
        code, _, err = run("policy", "diff", "standard", mine, *arguments)
        assert (code, err) == (0, "")
        assert shown in latin.buffer.getvalue().decode("utf-8" if arguments else "latin-1")
    monkeypatch.setattr(sys, "stdout", None)
    assert run("schemas", "check")[0] == 0


def test_output_that_nobody_takes() -> None:
    """A full disk is an error in one line; a reader that has seen enough is none, for texts by Typer and rich too."""
    program = [sys.executable, "-m", "streams.cli"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*program, "policy", "schema"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert (ended.returncode, ended.stderr) == (1, "duewatch: No space left on device\n")
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([*program, "replay", "--help"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_ctrl_c_while_the_program_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "streams.cli", Interrupted())
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "duewatch: interrupted\n")


def test_a_command_imports_what_it_needs_alone() -> None:
    """In a process of its own: nothing heavy for a help text, no traceback for output that nobody reads on."""
    probe = (
        "import sys; sys.argv = ['duewatch', 'replay', '--help']\n"
        "from streams.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'aiokafka', 'faust', 'pyarrow', 'redis'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.splitlines()[-1] == "[]"
    unread = subprocess.Popen(
        [sys.executable, "-m", "streams.cli", "config", "show"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert unread.stdout is not None
    unread.stdout.close()
    assert unread.stderr is not None
    assert unread.stderr.read() == ""
    unread.stderr.close()
    unread.wait(60)
