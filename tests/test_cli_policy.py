"""The commands for policies: what they print, and how they end."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from streams.policy.loader import SHIPPED
from streams.worker import activation
from tests.replay.test_policy_tests import Sent, overdue
from tests.test_cli import run

__all__ = ["run"]
STANDARD = SHIPPED["standard"].read_text(encoding="utf-8")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(STANDARD.replace("id: standard", "id: mine").replace("keep_bp: 7000", "keep_bp: 5000"))
    return file


def test_lint_advises(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(STANDARD.replace("cool_down_days: 14", "cool_down_days: 0"))
    code, out, err = run("policy", "lint", file)
    assert code == 1
    assert out.startswith(f"{file}: policy standard, sha256:")
    assert "warnings[0].cool_down_days: 0 lets watch be raised again" in err
    code, out, _ = run("policy", "lint", file, "--json")
    found = json.loads(out)
    assert (code, found["errors"], found["id"]) == (1, [], "standard")
    (remark,) = found["remarks"]
    assert (remark["severity"], remark["file"], remark["field"]) == ("advice", str(file), "warnings[0].cool_down_days")


def test_test_says_what_was_decided_instead(run: Any, mine: Path) -> None:
    assert run("policy", "test", "standard")[0] == 0
    code, out, _ = run("policy", "test", mine)
    assert code == 1
    assert "FAILED  nobody pays" in out
    assert "expected warning_escalated red; limit_decreased 350000; decided warning_escalated red; limit_dec" in out
    code, out, _ = run("policy", "test", mine, "--json")
    found = json.loads(out)
    assert (code, found["passed"]) == (1, False)
    assert found["tests"][0]["differences"][0]["day"] == 45


def test_a_policy_without_tests_has_passed_none(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "bare.yaml"
    file.write_text(STANDARD[: STANDARD.index("tests:")])
    code, out, _ = run("policy", "test", file)
    assert code == 1
    assert "has no tests" in out


def test_diff(run: Any, mine: Path, tmp_path: Path) -> None:
    code, out, _ = run("policy", "diff", "standard", "standard")
    assert (code, out) == (0, "both say the same\n")
    code, out, _ = run("policy", "diff", "standard", mine)
    assert code == 0
    assert "70 %" in out
    assert "50 %" in out
    recording = overdue(tmp_path)
    code, out, _ = run("policy", "diff", "standard", mine, "--recording", recording)
    assert code == 0
    assert "something else decided of 1 borrowers" in " ".join(out.split())
    code, out, _ = run("policy", "diff", "standard", mine, "--recording", recording, "--json")
    found = json.loads(out)
    assert found["differences"] == [
        {"part": "limits › steps › decreased", "what": "keep", "before": "70 %", "after": "50 %"}
    ]
    assert found["decisions"]["changed"][0]["type"] == "limit_decreased"


PEOPLE = ("--author", "ann", "--approver", "bob")


def test_activate(run: Any, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent()
    monkeypatch.setattr(activation, "Transactions", sent)
    code, out, _ = run("policy", "activate", "standard", "--mode", "live", *PEOPLE, "--yes", "--json")
    assert (code, json.loads(out)["partitions"]) == (0, 3)
    sent.messages.clear()
    code, _, err = run("policy", "activate", mine, "--mode", "shadow", *PEOPLE, "--yes")
    assert code == 1
    assert "1 of its tests fail (nobody pays" in err
    assert sent.messages == []


def test_activate_asks_and_wants_two_people(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent()
    monkeypatch.setattr(activation, "Transactions", sent)
    for answer in ("n\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code, _, err = run("policy", "activate", "standard", "--mode", "live", *PEOPLE)
        assert code == 1
        assert err.endswith("duewatch: not activated\n")
    code, _, err = run(
        "policy", "activate", "standard", "--mode", "live", "--author", "ann", "--approver", "ann", "--yes"
    )
    assert (code, "the same person" in err) == (2, True)
    assert sent.messages == []
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    code, out, _ = run("policy", "activate", "standard", "--mode", "live", *PEOPLE)
    assert code == 0
    assert "standard is live: written to 3 partitions as policy-live-" in out
