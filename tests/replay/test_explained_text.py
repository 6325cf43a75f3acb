"""What a collections officer reads: amounts in their currency, values in their unit, and why each decision came."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from rich.console import Console

from streams.policy.loader import body, digest, load
from streams.policy.model import Policy
from streams.replay.explain import explain, explained
from streams.replay.explained_reasons import reason_in_words
from streams.replay.explained_text import render
from streams.replay.found import find
from tests.replay.tape import Tape, ms

STANDARD = load("standard")


def lines(tape: Tape, path: Path, at: str | None = None, policy: str = "standard") -> list[str]:
    """The explanation of b1 as a person reads it, in lines that are not broken."""
    found = find(tape.write(path / "r.jsonl"), "b1", None if at is None else ms(at), policy)
    console = Console(record=True, width=500, file=StringIO())
    console.print(render(explained("b1", found), found))
    return [line.rstrip() for line in console.export_text().splitlines()]


def decided(told: list[str], what: str) -> list[str]:
    """The first decision whose line says `what`, with its details."""
    at = next(number for number, line in enumerate(told) if what in line)
    details = []
    for line in told[at + 1 :]:
        if not line.startswith("    "):
            break
        details.append(line.strip())
    return [told[at], *details]


def overdue(currency: str = "CNY") -> Tape:
    """Due on 2026-01-31, beside a loan in euros on which nothing is due; ticks until 2026-05-05."""
    tape = Tape()
    tape.event(
        "2026-01-01 09:00", "profile_set", segment="worker", limit_minor=500_000, currency=currency,
        onboarded_on="2025-01-01",
    )  # fmt: skip
    tape.loan("2026-01-01 10:00", loan_id="L0", due="2026-12-31", currency="EUR")
    tape.loan("2026-01-01 10:00", currency=currency)
    tape.days("2026-01-01", "2026-05-05")
    return tape


@pytest.mark.parametrize(("currency", "amount"), [("CNY", "1,050.00 CNY"), ("JPY", "105,000 JPY")])
def test_the_way_back_is_told_in_the_home_currency(currency: str, amount: str, tmp_path: Path) -> None:
    told = lines(overdue(currency), tmp_path, "2026-02-16 12:00")
    ways = [line for line in told if "way back: pay overdue" in line]
    assert len(ways) == 5
    assert all(f"pay overdue {amount} by" in line for line in ways)


def test_who_has_another_home_currency_by_now_is_told_in_that_of_then(tmp_path: Path) -> None:
    tape = overdue()
    tape.event(
        "2026-05-05 12:00", "profile_set", segment="worker", limit_minor=80_000, currency="EUR",
        onboarded_on="2025-01-01",
    )  # fmt: skip
    told = lines(tape, tmp_path)
    assert "80,000" not in told
    assert "pay overdue 1,050.00 CNY" in " ".join(decided(told, "limit decreased"))
    assert "pay overdue 1,050.00 CNY" in " ".join(decided(told, "amber to red"))


def test_a_restriction_tells_its_cap_and_an_offer_its_plans(tmp_path: Path) -> None:
    told = lines(overdue(), tmp_path)
    restricted = decided(told, "draws restricted")[0]
    assert restricted.endswith("draws_restricted, at most 2 draws in 30 days, at least 72 hours apart")
    whole = "1,050.00 CNY"
    assert decided(told, "plan offered: loan L1")[1:4] == [
        f"option instalments-1-2026-04-01: instalments, 12 instalments until 2027-04-01, {whole} together",
        f"option deferral-2-2026-04-01: deferral, 1 instalment until 2026-05-31, {whole} together",
        f"option partner_refinance-3-2026-04-01: partner refinance, 24 instalments until 2028-04-01, {whole} together",
    ]
    asked = decided(told, "review requested: identity_unknown")
    assert asked[1] == "proposed: blacklisted: long_overdue, until 2031-04-30"


def test_what_is_undone_is_named_by_kind_and_day(tmp_path: Path) -> None:
    tape = overdue()
    tape.pays("2026-05-05 11:00", 105_000, value_on="2026-01-31", event_id="late")
    told = lines(tape, tmp_path)
    undone = [line.partition(" (undoes ")[2] for line in told if "(undoes " in line]
    assert undone == [
        "the warning of 2026-03-03)", "the warning of 2026-02-15)", "the warning of 2026-02-08)",
        "the warning of 2026-02-01)", "the zeroing of 2026-05-01)", "the freeze of 2026-03-03)",
        "the decrease of the limit of 2026-02-15)", "the restriction of draws of 2026-02-04)",
    ]  # fmt: skip
    back = decided(told, "(undoes the freeze of 2026-03-03)")
    assert back[1] == "why: what it rested on turned out never to have been"
    assert back[-1].startswith("because of late (repayments/0 offset ")


def test_a_freeze_that_has_run_out_says_so(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.days("2026-01-02", "2026-01-03")
    tape.event("2026-01-03 11:00", "violation_reported", kind="cash_out", confirmed=True, event_id="v1")
    tape.days("2026-01-04", "2026-01-20")
    told = lines(tape, tmp_path)
    assert decided(told, "limit frozen")[1].endswith("(rule_violation: proof v1)")
    assert decided(told, "limit restored")[1] == "why: the freeze of 2026-01-03 has run out"


def test_a_stage_and_a_level_that_is_left_say_why(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.days("2026-01-01", "2026-02-10")
    tape.pays("2026-02-10 12:00", 105_000)
    tape.days("2026-02-11", "2026-06-30")
    told = lines(tape, tmp_path)
    assert decided(told, "limit restored")[1] == "why: the next stage of the way back was reached"
    lowered = decided(told, "warning lowered: amber to watch")
    assert lowered[1] == "why: what the level looks for has been over for its dwell time"


def test_a_reviewer_is_named_and_an_incident(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.days("2026-01-01", "2026-01-31")
    tape.fails("2026-01-31 12:00")
    tape.event(
        "2026-01-31 13:00", "review_decided", event_id="r1", decision="set_limit", limit_minor=400_000, reviewer="ann"
    )
    tape.days("2026-02-01", "2026-02-03")
    tape.penalty("2026-02-03 12:00", 700)
    tape.outage("2026-02-03 13:00", "2026-01-31", "2026-02-03")
    tape.days("2026-02-04", "2026-02-05")
    told = lines(tape, tmp_path)
    by_hand = decided(told, "limit decreased: 5,000.00 CNY to 4,000.00 CNY")
    assert "(manual_decision: proof r1 by reviewer ann)" in by_hand[1]
    assert by_hand[-1] == "because of r1 by reviewer ann (reviews/0 offset 0)"
    assert decided(told, "due date shifted: loan L1, instalment 1, 2026-01-31 to ")[1] == "why: incident i1"
    assert "waiver proposed: loan L1, instalment 1, penalty 7.00 CNY" in " ".join(told)
    assert decided(told, "(undoes the warning of 2026-02-01)")[1] == "why: incident i1"


def test_what_a_reviewer_overturns_is_told_by_the_reviewers_reason(tmp_path: Path) -> None:
    tape = overdue()
    frozen = next(
        event
        for event in map(json.loads, map(bytes, explain(tape.write(tmp_path / "before.jsonl"), "b1").decisions))
        if event["type"] == "limit_frozen"
    )
    about = frozen["event_id"]
    tape.event("2026-05-05 11:00", "review_decided", decision="overturn", reviewer="ann", about_event_id=about)
    undone = decided(lines(tape, tmp_path), "(undoes the freeze of 2026-03-03)")
    assert not any(line.startswith("why: ") for line in undone)
    assert "(overturned_by_review: limit_frozen, proof " in undone[1]
    assert undone[1].endswith(f" by reviewer ann, {about})")


def activate(tape: Tape, at: str, policy: Policy) -> None:
    """Let a policy run as a shadow from a moment on."""
    tape.control(
        at, "policy_activated", policy_id=policy.id, digest=digest(policy), mode="shadow", body=body(policy),
        author="ann", approver="bob",
    )  # fmt: skip


def test_what_a_shadow_would_have_decided_has_a_section_of_its_own(tmp_path: Path) -> None:
    tape = Tape()
    activate(tape, "2026-01-01 08:00", structs.replace(STANDARD, id="strict"))
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.days("2026-01-01", "2026-02-16")
    told = lines(tape, tmp_path, policy="recorded")
    at = told.index("shadow strict would have")
    assert decided(told[at:], "warning raised") == decided(told[:at], "warning raised")
    assert "(arrears_started: 1 day, threshold 1 day, proof " in " ".join(decided(told[at:], "warning raised"))
    assert not any("bucket changed" in line for line in told[at:])


def test_two_versions_of_a_shadow_are_told_apart(tmp_path: Path) -> None:
    first = structs.replace(STANDARD, id="strict")
    second = structs.replace(first, reviews=structs.replace(first.reviews, decision_days=30))
    tape = Tape()
    activate(tape, "2026-01-01 08:00", first)
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.days("2026-01-01", "2026-02-02")
    activate(tape, "2026-02-02 08:00", second)
    tape.days("2026-02-03", "2026-02-16")
    told = lines(tape, tmp_path, policy="recorded")
    headings = [line for line in told if line.startswith("shadow ")]
    assert headings == [f"shadow strict ({digest(policy)[:15]}) would have" for policy in (first, second)]


# --- reasons ------------------------------------------------------------------------------------------------------


def reason(code: str, value: int | str | None, threshold: int | str | None = None, points: int = 0) -> dict[str, Any]:
    return {"code": code, "text": "T.", "value": value, "threshold": threshold, "points": points, "evidence": []}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (reason("debt_grew", 27_130, 13_000, -20), "debt_grew: 271.3 %, threshold 130.0 %, -20 points"),
        (reason("not_seen", None, None, -10), "not_seen: unknown, -10 points"),
        (reason("rule_violation", None), "rule_violation"),
        (reason("arrears_continue", 15, 15), "arrears_continue: 15 days, threshold 15 days"),
        (reason("limit_zeroed", 91, 90), "limit_zeroed: 91 days, threshold 90 days"),
        (reason("limit_zeroed", 3, 3), "limit_zeroed: 3, threshold 3"),
        (reason("limit_zeroed", "confirmed", "confirmed"), "limit_zeroed: confirmed, threshold confirmed"),
        (reason("score_fell_7d", 120, 100), "score_fell_7d: 120 points, threshold 100 points"),
        (reason("overturned_by_review", "limit_frozen"), "overturned_by_review: limit_frozen"),
    ],
)  # fmt: skip
def test_values_are_told_in_their_unit(given: dict[str, Any], told: str) -> None:
    assert reason_in_words(given, STANDARD, str) == f"T. ({told})"


def test_without_its_policy_numbers_stand_as_they_are() -> None:
    told = reason_in_words(reason("debt_grew", 27_130, 13_000), None, str)
    assert told == "T. (debt_grew: 27,130, threshold 13,000)"
