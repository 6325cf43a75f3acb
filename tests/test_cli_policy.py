"""The commands for policies: what they print, and how they end."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from streams.policy.loader import SHIPPED
from streams.worker import activation
from streams.worker.activation import Activated, Activation
from tests.replay.test_policy_tests import overdue
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
    told = " ".join(out.split())
    assert "something else decided of 1 borrowers" in told
    (moment,) = set(re.findall(r"limit_decreased \d+ under \w+: b1 (2026-\S+)$", out, re.MULTILINE))
    code, out, _ = run(
        "explain", "--recording", recording, "--borrower", "b1", "--at", moment, "--policy", mine, "--json"
    )
    assert (code, json.loads(out)["decisions"][-1]["type"]) == (0, "limit_decreased")
    code, out, _ = run("policy", "diff", "standard", mine, "--recording", recording, "--json")
    found = json.loads(out)
    assert found["differences"] == [
        {"part": "limits › steps › decreased", "what": "keep", "before": "70 %", "after": "50 %"}
    ]
    assert found["decisions"]["changed"][0]["type"] == "limit_decreased"


PEOPLE = ("--author", "ann", "--approver", "bob")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Activation]:
    """What was to be activated; every task takes what bears the id standard, the others refuse it."""
    seen: list[Activation] = []

    async def activate(_: object, activation: Activation, wait_s: float) -> Activated:
        assert wait_s == 60
        seen.append(activation)
        known = (f"policy-{activation.mode}-1", activation.policy.id, "sha256:1", activation.mode)
        if activation.policy.id == "standard":
            return Activated(*known, in_force=[0, 1, 2])
        return Activated(*known, in_force=[0], refused={1: "invalid_policy: no"}, waiting=[2])

    monkeypatch.setattr(activation, "activate", activate)
    return seen


def test_activate(run: Any, mine: Path, asked: list[Activation]) -> None:
    code, out, _ = run("policy", "activate", "standard", "--mode", "live", *PEOPLE, "--yes", "--json")
    assert (code, json.loads(out)["in_force"]) == (0, [0, 1, 2])
    asked.clear()
    code, _, err = run("policy", "activate", mine, "--mode", "shadow", *PEOPLE, "--yes")
    assert code == 1
    assert "1 of its tests fail (nobody pays" in err
    assert asked == []


def test_activate_says_that_a_policy_is_not_in_force(run: Any, mine: Path, asked: list[Activation]) -> None:
    code, out, _ = run("policy", "activate", mine, "--mode", "retired", *PEOPLE, "--yes")
    assert code == 1
    assert out.splitlines()[:3] == [
        "mine: written to 3 partitions as policy-retired-1",
        "mine is retired in 1 of 3 tasks",
        "refused by 1 of 3 tasks: invalid_policy: no",
    ]


def test_activate_wants_tests(run: Any, tmp_path: Path, asked: list[Activation]) -> None:
    file = tmp_path / "bare.yaml"
    file.write_text(STANDARD[: STANDARD.index("tests:")])
    code, _, err = run("policy", "activate", file, "--mode", "live", *PEOPLE, "--yes")
    assert (code, asked) == (1, [])
    assert "has no tests: write some under `tests:`, or give --untested" in err
    assert run("policy", "activate", file, "--mode", "live", *PEOPLE, "--yes", "--untested")[0] == 0


@pytest.mark.parametrize(
    ("author", "approver", "told"),
    [
        ("ann", "ann", "the same person"),
        ("Ann", "ann ", "the same person"),
        ("", "bob", "--author: give an id of 1 to 64 characters"),
        ("ann", " ", "--approver: give an id of 1 to 64 characters"),
        ("ann", "b" * 65, "--approver: give an id"),
    ],
)
def test_activate_wants_two_people(author: str, approver: str, told: str, run: Any, asked: list[Activation]) -> None:
    people = ("--author", author, "--approver", approver)
    code, _, err = run("policy", "activate", "standard", "--mode", "live", *people, "--yes")
    assert (code, asked) == (2, [])
    assert told in err


def test_activate_asks(run: Any, monkeypatch: pytest.MonkeyPatch, asked: list[Activation]) -> None:
    for answer in ("n\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code, _, err = run("policy", "activate", "standard", "--mode", "live", *PEOPLE)
        assert code == 1
        assert err.endswith("duewatch: not activated\n")
    assert asked == []
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    code, out, _ = run("policy", "activate", "standard", "--mode", "live", *PEOPLE)
    assert code == 0
    assert "standard is live in 3 of 3 tasks" in out
