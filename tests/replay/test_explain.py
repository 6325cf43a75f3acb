"""Explain: what a replay decided about one borrower, and what stood behind it."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from streams.engine.features import FEATURES
from streams.engine.score_fall import FEATURES as FALLS
from streams.policy.loader import load
from streams.replay.explain import explain, explained
from streams.replay.explained_text import render
from streams.replay.found import REFUSED_SHOWN, ExplainError, find
from streams.replay.manifest import RecordingError
from streams.replay.moment import parse_moment
from streams.replay.quantities import money
from streams.replay.recording import Recording
from streams.replay.replay import replay
from streams.replay.simulate.writing import simulate
from tests.replay.tape import Tape, ms


def overdue() -> Tape:
    """Due on 2026-01-31, never paid; ticks until 2026-05-05."""
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.loan("2026-01-01 10:00", "b2")
    tape.days("2026-01-01", "2026-05-05")
    return tape


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return overdue().write(tmp_path_factory.mktemp("explained") / "r.jsonl")


def shown(recording: Path, at: str | None = None, borrower: str = "b1") -> Any:
    """The explanation as a program reads it."""
    found = explain(recording, borrower, None if at is None else ms(at))
    return json.loads(msgspec.json.encode(found))


def text(path: Path, at: str | None = None, borrower: str = "b1", policy: str = "standard") -> str:
    """The explanation as a person reads it, in lines that are not broken."""
    console = Console(record=True, width=500, file=StringIO())
    found = find(path, borrower, None if at is None else ms(at), policy)
    console.print(render(explained(borrower, found), found))
    return console.export_text()


def test_the_shape_a_program_relies_on(recording: Path) -> None:
    found = shown(recording)
    amounts = {"principal_minor", "interest_minor", "fee_minor", "penalty_minor"}
    (loan,) = found["loans"]
    assert {"loan_id", "bucket", "dpd", "outstanding", "overdue", "unapplied_minor"} <= set(loan)
    assert {"contractual", "managed", "material"} <= set(loan["dpd"])
    assert set(loan["outstanding"]) == set(loan["overdue"]) == amounts
    assert list(found["features"]) == [feature.name for feature in (*FEATURES, *FALLS)]
    assert {"level", "score", "tier", "limit_status", "limit_minor"} <= set(found["standing"])
    raised = next(decision for decision in found["decisions"] if decision["type"] == "warning_raised")
    assert {"type", "event_id", "reasons", "cause", "policy"} <= set(raised)
    assert found["as_of"] == "2026-05-05T01:00:00+08:00"


@pytest.mark.parametrize(
    ("at", "contractual", "bucket", "overdue"),
    [
        ("2026-01-31 23:59", 0, "C", 0),
        ("2026-02-01 00:00", 1, "M1", 105_000),
        ("2026-04-30 12:00", 89, "M3", 105_000),
        ("2026-05-01 00:30", 90, "M3", 105_000),
        ("2026-05-02 00:30", 91, "M4", 105_000),
        ("2026-05-06 00:59", 95, "M4", 105_000),
    ],
)
def test_dpd_is_that_of_the_business_date_with_or_without_a_tick(
    at: str, contractual: int, bucket: str, overdue: int, recording: Path
) -> None:
    (loan,) = shown(recording, at)["loans"]
    assert (loan["dpd"]["contractual"], loan["dpd"]["managed"], loan["bucket"]) == (contractual, contractual, bucket)
    assert loan["dpd"]["material"] == contractual
    assert sum(loan["overdue"].values()) == overdue
    assert sum(loan["outstanding"].values()) == 105_000


def test_standing_waits_for_the_tick(recording: Path) -> None:
    before, after = shown(recording, "2026-02-01 00:59"), shown(recording, "2026-02-01 01:00")
    assert (before["standing"]["level"], after["standing"]["level"]) == ("none", "watch")
    assert before["loans"] == after["loans"]


def test_how_far_the_score_has_fallen_is_told_as_of_the_moment(recording: Path) -> None:
    scores = {
        on: shown(recording, f"{on} 12:00")["score"]["score"] for on in ("2026-01-31", "2026-02-03", "2026-02-20")
    }
    lost = scores["2026-01-31"] - scores["2026-02-03"]
    found = shown(recording, "2026-02-03 12:00")["features"]
    assert (found["score_fall_7d"], found["score_fall_30d"]) == (lost, lost)
    assert lost > 100
    later = shown(recording, "2026-02-20 12:00")["features"]
    assert later["score_fall_30d"] == scores["2026-01-31"] - scores["2026-02-20"]
    assert later["score_fall_7d"] < later["score_fall_30d"]
    first = shown(recording, "2026-01-01 12:00")["features"]
    assert (first["score_fall_7d"], first["score_fall_30d"]) == (None, None)


def test_a_zeroed_borrower(recording: Path) -> None:
    standing = shown(recording)["standing"]
    assert (standing["limit_status"], standing["limit_minor"], standing["level"]) == ("zeroed", 0, "critical")


def test_before_the_first_tick_nothing_is_judged(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.profile("2026-02-10", "b2")
    found = shown(tape.write(tmp_path / "r.jsonl"), "2026-02-10")
    assert found["clock"] is None
    assert found["standing"] == {
        "level": "none", "score": None, "own_score": None, "tier": None, "limit_status": None, "limit_minor": None,
        "limit_seq": None, "currency": None,
    }  # fmt: skip
    assert found["loans"][0]["dpd"]["contractual"] == 10
    assert found["decisions"] == []


def test_the_points_add_up_and_stand_beside_their_bands(recording: Path) -> None:
    found = shown(recording, "2026-02-20 12:00")
    score, card = found["score"], load("standard").score
    assert score["score"] == score["base"] + sum(factor["points"] for factor in score["factors"])
    assert score["score"] == score["base"] + sum(score["subtotals"].values())
    assert [factor["factor"] for factor in score["factors"]] == [factor.feature for factor in card.factors]
    for factor, rule in zip(score["factors"], card.factors, strict=True):
        lower, upper, value = factor["band"]["lower"], factor["band"]["upper"], factor["value"]
        assert value == found["features"][factor["factor"]]
        if value is None:
            assert (lower, upper, factor["points"]) == (None, None, rule.unknown)
            continue
        assert lower is None or lower <= value
        assert upper is None or value < upper
        assert (lower, upper, factor["points"]) in [(band.lower, band.upper, band.points) for band in rule.bands]
    arrears = next(factor for factor in score["factors"] if factor["factor"] == "worst_managed_dpd")
    assert arrears["band"] == {"lower": 15, "upper": 31}


@pytest.mark.parametrize("suffix", ["", ".jsonl"])
def test_decisions_are_the_lines_of_a_replay(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / "simulated"
    simulate(seed=5, borrowers=20, events=6_000, out=source, partitions=2)
    if suffix:
        with Recording.open(source) as opened:
            tape = Tape()
            tape.records = [
                r for topic in opened.topics() for p in opened.partitions(topic) for r in opened.records(topic, p)
            ]
        source = tape.write(tmp_path / f"simulated{suffix}")
    replay(source, "standard", tmp_path / "out")
    lines: dict[str, list[bytes]] = {}
    for file in sorted((tmp_path / "out").glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            lines.setdefault(json.loads(line)["borrower_id"], []).append(line)
    assert len(lines) > 3
    for borrower, expected in lines.items():
        found = [bytes(raw) for raw in explain(source, borrower).decisions]
        assert sorted(found) == sorted(expected)
        for topic in ("early-warnings", "limit-adjustments"):
            of_topic = (tmp_path / "out" / f"{topic}.jsonl").read_bytes().splitlines()
            assert [line for line in found if line in of_topic] == [line for line in of_topic if line in found]
        at_ms = json.loads(found[0])["at_ms"] + 3_600_000
        earlier = [bytes(raw) for raw in explain(source, borrower, at_ms).decisions]
        assert earlier == found[: len(earlier)]
        assert len(earlier) >= 1


def test_late_within_the_allowed_lateness_ends_in_the_same_facts(tmp_path: Path) -> None:
    def tape(received: str) -> Tape:
        tape = overdue()
        tape.pays("2026-02-03 12:00", 60_000, payment_id="p1", received=received)
        tape.pays("2026-02-08 12:00", 20_000, payment_id="p2")
        tape.event("2026-02-09 12:00", "charge_added", loan_id="L1", instalment_no=1, component="fee", amount_minor=700)
        tape.records.sort(key=lambda record: record.timestamp)
        renumbered = Tape()
        for record in tape.records:
            renumbered.raw(record.topic, "2026-01-01", record.key, record.value)
            renumbered.records[-1] = renumbered.records[-1]._replace(timestamp=record.timestamp)
        return renumbered

    on_time = tape("2026-02-03 12:00").write(tmp_path / "on_time.jsonl")
    late = tape("2026-02-10 11:00").write(tmp_path / "late.jsonl")
    for at in ("2026-02-10 12:00", "2026-03-01", "2026-05-05"):
        assert shown(late, at)["loans"] == shown(on_time, at)["loans"]
    assert shown(late, "2026-02-10")["loans"] != shown(on_time, "2026-02-10")["loans"]


def test_money_is_conserved_in_what_is_shown(tmp_path: Path) -> None:
    tape = overdue()
    tape.pays("2026-01-05", 60_000, payment_id="p1")
    tape.pays("2026-01-06", 70_000, payment_id="p2")
    tape.event("2026-01-07", "repayment_reversed", loan_id="L1", payment_id="p1", code="bounced")
    tape.records.sort(key=lambda record: record.timestamp)
    tape.records = [r._replace(offset=n) for n, r in enumerate(tape.records)]
    (loan,) = shown(tape.write(tmp_path / "r.jsonl"), "2026-01-08")["loans"]
    assert (loan["received_minor"], loan["reversed_minor"]) == (130_000, 60_000)
    assert loan["allocated_minor"] + loan["unapplied_minor"] == 70_000
    assert sum(loan["outstanding"].values()) == 35_000
    assert [row["status"] for row in loan["instalments"]] == ["unpaid"]


def test_only_this_borrowers_decisions(recording: Path) -> None:
    assert {decision["borrower_id"] for decision in shown(recording, borrower="b2")["decisions"]} == {"b2"}


# --- who was erased -----------------------------------------------------------------------------------------------


def erased(back: bool) -> Tape:
    """As `overdue`, erased on 2026-02-20; `back` a week later."""
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.days("2026-01-01", "2026-02-20")
    tape.event("2026-02-20 12:00", "borrower_erased", event_id="gone", reviewer="u1")
    if back:
        tape.profile("2026-02-27 09:00", limit_minor=70_000)
    tape.days("2026-02-21", "2026-03-20")
    tape.records.sort(key=lambda record: record.timestamp)
    return tape


def test_who_comes_again_is_told_nothing_from_before(tmp_path: Path) -> None:
    path = erased(back=True).write(tmp_path / "r.jsonl")
    found = shown(path)
    assert found["decisions"] == found["loans"] == []
    cause = {"topic": "reviews", "partition": 0, "offset": 0, "event_id": "gone"}
    assert found["erased"] == {"at": "2026-02-20T12:00:00+08:00", "cause": cause}
    assert "erased on 2026-02-20T12:00:00+08:00 by gone (reviews/0 offset 0)" in text(path)
    before = shown(path, "2026-02-20 11:59")
    assert (before["erased"], before["standing"]["level"]) == (None, "red")


def test_who_was_erased_is_said_to_have_been(tmp_path: Path) -> None:
    path = erased(back=False).write(tmp_path / "r.jsonl")
    for at in (None, ms("2026-02-20 12:00")):
        with pytest.raises(ExplainError, match=r"erased on 2026-02-20T12:00:00\+08:00 by gone \(reviews/0 offset 0\)"):
            explain(path, "b1", at)


def test_an_erasure_that_was_refused_has_erased_nothing(tmp_path: Path) -> None:
    tape = erased(back=False)
    tape.event("2026-02-19 12:00", "hold_set", kind="legal", reviewer="u1")
    hold, gone = tape.records[-1], next(record for record in tape.records if record.topic == "reviews")
    tape.records.remove(gone)
    tape.records[-1] = hold._replace(offset=0)
    tape.records.append(gone._replace(offset=1))
    found = shown(tape.write(tmp_path / "r.jsonl"))
    assert found["erased"] is None
    assert [one["reason"] for one in found["refused"]["newest"]] == ["legal_hold"]
    assert [decision["type"] for decision in found["decisions"]].count("warning_raised") == 1


# --- what was refused ---------------------------------------------------------------------------------------------


def test_what_was_refused_is_told(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00", currency="yuan")
    tape.loan("2026-01-01 10:00", "b2", currency="yuan")
    tape.pays("2026-01-02 10:00", 500)
    tape.days("2026-01-03", "2026-01-12")
    path = tape.write(tmp_path / "r.jsonl")
    refused = shown(path)["refused"]
    assert refused["count"] == 2
    assert refused["newest"][0] == {
        "topic": "repayments", "partition": 0, "offset": 0, "at": "2026-01-01T10:00:00+08:00",
        "reason": "invalid_value", "message": refused["newest"][0]["message"],
    }  # fmt: skip
    assert "currency" in refused["newest"][0]["message"]
    assert (refused["newest"][1]["offset"], refused["newest"][1]["reason"]) == (2, "unknown_loan")
    lines = text(path).splitlines()
    at = lines.index("refused, so that it counts for nothing here: 2 of this borrower's events")
    assert lines[at + 1].startswith("    repayments/0 offset 0, 2026-01-01T10:00:00+08:00: invalid_value (")
    assert lines[at + 2].startswith("    repayments/0 offset 2, 2026-01-02T10:00:00+08:00: unknown_loan (")
    assert shown(path, "2026-01-05")["refused"]["count"] == 1
    with pytest.raises(ExplainError, match=r": 1 refused, the last one repayments/0 offset 1 \(invalid_value: "):
        explain(path, "b2")


def test_of_what_was_refused_the_newest_are_named(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    for _ in range(REFUSED_SHOWN + 5):
        tape.raw("repayments", "2026-01-01 10:00", b"b1", b"{")
    path = tape.write(tmp_path / "r.jsonl")
    refused = shown(path)["refused"]
    assert (refused["count"], len(refused["newest"]), refused["newest"][0]["offset"]) == (25, 20, 5)
    assert "25 of this borrower's events, the newest 20 of them" in text(path)


def test_what_was_refused_before_an_erasure_is_forgotten(tmp_path: Path) -> None:
    tape = Tape()
    tape.raw("repayments", "2026-01-01 08:00", b"b1", b"{")
    tape.profile("2026-01-01 09:00")
    tape.event("2026-01-02 09:00", "borrower_erased", reviewer="u1")
    tape.profile("2026-01-03 09:00")
    path = tape.write(tmp_path / "r.jsonl")
    assert (shown(path, "2026-01-01 09:00")["refused"]["count"], shown(path)["refused"]["count"]) == (1, 0)


# --- what cannot be explained -------------------------------------------------------------------------------------


def test_an_unknown_borrower(recording: Path) -> None:
    with pytest.raises(ExplainError, match=r"no event of this borrower \(it holds 2 borrowers\)"):
        explain(recording, "b3")


def test_nothing_known_yet(recording: Path) -> None:
    with pytest.raises(ExplainError, match="no event of this borrower was accepted up to then"):
        explain(recording, "b1", ms("2025-12-31"))


def test_a_moment_that_the_recording_does_not_reach(recording: Path) -> None:
    for at in ("2026-05-06 01:01", "2099-01-01"):
        with pytest.raises(ExplainError, match=r"its last record is of 2026-05-05T01:00:00\+08:00"):
            explain(recording, "b1", ms(at))
    assert shown(recording, "2026-05-06 01:00")["as_of"] == "2026-05-06T01:00:00+08:00"


def test_one_borrower_in_two_tasks(tmp_path: Path) -> None:
    tape = overdue()
    tape.records.append(tape.records[0]._replace(partition=3))
    with pytest.raises(RecordingError, match="partitions 0, 3"):
        explain(tape.write(tmp_path / "r.jsonl"), "b1")


@pytest.mark.parametrize("text", ["2026-03-01", "2026-03-01T00:00:00", "yesterday", "2026-13-01T00:00:00Z"])
def test_a_moment_says_its_zone(text: str) -> None:
    with pytest.raises(RecordingError, match=r"^--at .*(add Z|write it as)"):
        parse_moment("--at", text)


def test_moments() -> None:
    assert parse_moment("--at", "2026-03-01T00:00:00+08:00") == ms("2026-03-01")
    assert parse_moment("--at", "2026-02-28T16:00:00.001Z") == ms("2026-03-01") + 1


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (120_000, "CNY", "1,200.00 CNY"),
        (5, "CNY", "0.05 CNY"),
        (1_200, "JPY", "1,200 JPY"),
        (1_234, "KWD", "1.234 KWD"),
    ],
)
def test_money_as_people_write_it(minor: int, currency: str, text: str) -> None:
    assert money(minor, currency) == text
