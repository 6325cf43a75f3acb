"""What an incident's grace does to counters and login features; whom it reaches is told in tests/stories."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.inbound import Login
from streams.engine import delinquency, windows
from streams.engine.calendar import DAY_MS, HOUR_MS, Calendar
from streams.engine.features import evaluate_logins
from streams.engine.fold import Engine
from streams.engine.graces import skip_logins
from streams.engine.incidents import FOREVER_MS, Incident
from streams.engine.state import unpack
from streams.policy.loader import load
from streams.replay.cycle import LocalTask, chunks
from streams.replay.explain import explain
from streams.replay.recording import Recording
from tests.replay.tape import Tape, ms

UTC = Calendar("UTC")


def outage(tape: Tape, told: str, from_on: str, until_on: str, grace_days: int = 0) -> None:
    tape.control(
        told, "incident_opened", incident_id="i1", scope={"channel": "bank_a"}, from_ms=ms(f"{from_on} 00:00"),
        until_ms=ms(f"{until_on} 23:00"), grace_days=grace_days, cause="outage",
    )  # fmt: skip


def dpd(tape: Tape, tmp_path: Path, on: str) -> dict[str, Any]:
    found = explain(tape.write(tmp_path / f"{on}.jsonl"), "b1", ms(f"{on} 12:00"))
    counters: dict[str, Any] = json.loads(msgspec.json.encode(found))["loans"][0]["dpd"]
    return {name: counters[name] for name in ("contractual", "managed", "material")}


@pytest.mark.parametrize(
    ("on", "contractual", "managed", "material"),
    [("2026-02-09", 9, 9, 9), ("2026-02-10", 10, 9, 9), ("2026-02-14", 14, 9, 9), ("2026-02-15", 15, 10, 10)],
)
def test_material_days_stand_still_in_a_grace_and_go_on_after_it(
    tmp_path: Path, on: str, contractual: int, managed: int, material: int
) -> None:
    tape = Tape()
    tape.loan("2026-01-01 12:00")
    attempt = {"attempt_id": "T1", "amount_minor": 105_000, "method": "auto_debit", "channel": "bank_a"}
    tape.event("2026-02-10 12:00", "repayment_failed", loan_id="L1", code="timeout", **attempt)
    tape.days("2026-01-02", "2026-02-11")
    outage(tape, "2026-02-11 12:00", "2026-02-10", "2026-02-12", grace_days=2)
    tape.days("2026-02-12", "2026-02-20")
    # Told on the 11th: on the 10th itself nobody could know.
    wanted = {"contractual": contractual, "managed": managed, "material": material}
    if on == "2026-02-10":
        wanted |= {"managed": 10, "material": 10}
    assert dpd(tape, tmp_path, on) == wanted


def test_arrears_that_began_in_a_grace_are_not_material_before_its_end(tmp_path: Path) -> None:
    tape = Tape()
    tape.loan("2026-01-01 12:00")
    attempt = {"attempt_id": "T1", "amount_minor": 105_000, "method": "auto_debit", "channel": "bank_a"}
    tape.event("2026-01-31 09:00", "repayment_failed", loan_id="L1", code="timeout", **attempt)
    tape.days("2026-01-02", "2026-01-31")
    outage(tape, "2026-01-31 12:00", "2026-01-31", "2026-02-05")
    tape.days("2026-02-01", "2026-02-20")
    assert dpd(tape, tmp_path, "2026-02-05") == {"contractual": 5, "managed": 0, "material": 0}
    assert dpd(tape, tmp_path, "2026-02-08") == {"contractual": 8, "managed": 3, "material": 3}


# --- logins -------------------------------------------------------------------------------------------------------


def logged_in(days: list[int], failed_hours: list[int]) -> windows.Windows:
    """One login a day at noon over `app`; failed ones in hours since 1970."""
    kept = windows.Windows()
    told = [(day * DAY_MS + 12 * HOUR_MS, "ok") for day in days] + [(hour * HOUR_MS, "failed") for hour in failed_hours]
    for number, (at_ms, outcome) in enumerate(sorted(told)):
        fields = {"type": "login", "event_id": f"e{number}", "at_ms": at_ms, "borrower_id": "b1", "outcome": outcome}
        windows.observe_login(kept, UTC, msgspec.convert(fields | {"device_id": "d", "channel": "app"}, Login))
    return kept


def incident(from_ms: int, until_ms: int, **scope: Any) -> Incident:
    asked = {"channel": "", "platform": "", "product": "", "all": False} | scope
    return Incident("i1", asked["channel"], asked["platform"], asked["product"], asked["all"], from_ms, until_ms, 3)


def test_days_without_access_are_no_fall_of_logins() -> None:
    kept = logged_in(list(range(1_000, 1_036)), [])
    logins = kept.logins
    assert logins is not None
    logins.channels = ["app"]
    day = 1_040
    before = evaluate_logins(logins, day, day * 24 + 12)
    assert before[:3] == (2, 10_000 - 2 * 40_000 // 28, 5)
    down = incident(1_036 * DAY_MS, day * DAY_MS, channel="app")
    assert skip_logins(logins, [], [down], UTC)
    assert evaluate_logins(logins, day, day * 24 + 12)[:3] == (7, 0, 0)
    assert not skip_logins(logins, [], [down], UTC)
    assert skip_logins(logins, [], [incident(1_036 * DAY_MS, FOREVER_MS, channel="web")], UTC)
    assert evaluate_logins(logins, day, day * 24 + 12)[:5] == before[:5]


def test_logins_that_failed_in_an_incident_do_not_count_by_the_hour() -> None:
    hour = 1_040 * 24 + 12
    logins = logged_in([1_000], [hour - 20, hour - 5, hour - 4, hour]).logins
    assert logins is not None
    assert evaluate_logins(logins, 1_040, hour)[3] == 4
    skip_logins(logins, [], [incident((hour - 5) * HOUR_MS, (hour - 4) * HOUR_MS, all=True)], UTC)
    assert evaluate_logins(logins, 1_040, hour)[3] == 2


def test_an_episode_of_excused_days_is_none_however_late_that_is_told(tmp_path: Path) -> None:
    tape = Tape()
    tape.loan("2026-01-01 12:00")
    attempt = {"attempt_id": "T1", "amount_minor": 105_000, "method": "auto_debit", "channel": "bank_a"}
    tape.event("2026-01-31 09:00", "repayment_failed", loan_id="L1", code="timeout", **attempt)
    tape.days("2026-01-02", "2026-03-10")
    assert episodes(tape, tmp_path) == 1
    outage(tape, "2026-03-10 12:00", "2026-01-31", "2026-03-08")
    tape.days("2026-03-11", "2026-03-20")
    assert episodes(tape, tmp_path) == 0


def episodes(tape: Tape, tmp_path: Path) -> int:
    facts = load("standard").facts
    task = LocalTask(Engine(load("standard")))
    with Recording.open(tape.write(tmp_path / f"{len(tape.records)}.jsonl")) as recording:
        for chunk in chunks(recording, 0):
            for _ in task.fold(chunk):
                pass
    loan = unpack(task.state("b1") or b"").facts.loans["L1"]
    return len(delinquency.episode_days(loan, loan.as_of_day, 365, facts))
