"""Back-tests: every figure of a small lender that is worked out by hand, and outcomes that are the simulator's own."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import pyarrow.parquet as pq
import pytest

from streams.engine.calendar import Calendar, day_of, iso_day
from streams.engine.chunk import Output, TaskState
from streams.engine.fold import Engine
from streams.engine.loan import Loan
from streams.engine.spells import spells
from streams.engine.state import Borrower, Facts, Quarantine, pack
from streams.policy.loader import SHIPPED, body, digest, load
from streams.replay.backtest.dates import period_of
from streams.replay.backtest.decisions import Period, Person, people_of, put_decisions, put_false, put_flaps
from streams.replay.backtest.exposure import saved
from streams.replay.backtest.figures import Figure, Sheet, wilson
from streams.replay.backtest.outcomes import OUTCOMES, Histories, History
from streams.replay.backtest.report_text import render
from streams.replay.backtest.run import EVERYBODY, Report, backtest
from streams.replay.backtest.scores import band_edges, by_chance, put_scores, stability
from streams.replay.backtest.signals import Change, Signals, in_force, note
from streams.replay.backtest.watch import Watched, watch
from streams.replay.cycle import LocalTask
from streams.replay.recording import Recording, beside
from streams.replay.replay import Rules
from streams.replay.simulate.writing import GROUND_TRUTH, simulate
from streams.replay.stops import everybody
from tests.replay.tape import Tape, ms
from tests.test_cli import run

__all__ = ["run"]
STANDARD = SHIPPED["standard"].read_text(encoding="utf-8")
POLICY = load("standard")
CALENDAR = Calendar("Asia/Shanghai")
OBSERVED_ON = "2026-01-15"


def day(on: str) -> int:
    return CALENDAR.day(ms(on))


# --- a small lender -----------------------------------------------------------------------------------------------
# 105 borrowers owe 1,050.00 on 2026-01-31, with a limit of 5,000.00 each:
#   35 workers who never pay            30 days past due on 03-02, 60 on 04-01, 90 on 05-01; 30 of them changed employer
#   35 freelancers who pay on 02-10     10 days past due at most; 10 of them changed employer
#   35 students who pay on 01-31        never past due
# `standard` warns on 1 day past due (02-01), restricts draws on 4 (02-04), takes 30 % off on 15 (02-15), freezes on 31.
NEVER, LATE, ON_TIME = (tuple(f"{name}{number:02d}" for number in range(35)) for name in ("never", "late", "on-time"))
SEGMENTS = ((NEVER, "worker"), (LATE, "freelancer"), (ON_TIME, "student"))


def lender() -> Tape:
    tape = Tape()
    for group, segment in SEGMENTS:
        for name in group:
            fields = {"segment": segment, "limit_minor": 500_000, "currency": "CNY", "onboarded_on": "2025-01-01"}
            tape.event("2026-01-01 09:00", "profile_set", name, **fields)
            tape.loan("2026-01-01 10:00", name, f"L-{name}")
    for name in (*NEVER[:30], *LATE[:10]):
        tape.event("2026-01-10 10:00", "profile_changed", name, field="employer")
    for group, paid_on in ((ON_TIME, "2026-01-31"), (LATE, "2026-02-10")):
        for name in group:
            tape.pays(f"{paid_on} 12:00", 105_000, name, f"L-{name}", payment_id=f"p-{name}")
    tape.profile("2026-01-02", "gone")
    tape.loan("2026-01-02", "gone", "L-gone")
    tape.event("2026-03-01 12:00", "borrower_erased", "gone", reviewer="r1")
    tape.days("2026-01-01", "2026-08-01")
    return tape


class Lived(NamedTuple):
    watched: Watched
    histories: Histories
    path: Path


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    path = lender().write(tmp_path_factory.mktemp("lender") / "r.jsonl")
    histories = Histories(POLICY.facts, day("2026-07-31"))
    with Recording.open(path) as recording:
        rules = Rules(POLICY, False)
        watched = watch(recording, rules, CALENDAR, [day(OBSERVED_ON)], lambda _: None, histories.take)
    return Lived(watched, histories, path)


def sheet_of(tested: Lived, horizon_days: int = 90, from_on: str = OBSERVED_ON, segment: str = EVERYBODY) -> Sheet:
    group = {name: history for name, history in tested.histories.of.items() if segment in (EVERYBODY, history.segment)}
    sheet = Sheet("standard", segment)
    put_scores(sheet, tested.watched.scores, [day(OBSERVED_ON)], group, horizon_days)
    period = Period(day(from_on), day("2026-07-31"), horizon_days)
    put_decisions(sheet, people_of(tested.watched, group), period, POLICY, POLICY.facts)
    return sheet


def told(sheet: Sheet, figure: str, dpd: int | None = None) -> tuple[int, float | int | None]:
    """(sample size, value)"""
    (found,) = [each for each in sheet.figures if (each.figure, each.dpd) == (figure, dpd)]
    return found.n, found.value


def test_outcomes_are_those_of_the_ledger(tested: Lived) -> None:
    history = tested.histories.of["never00"]
    assert [history.reached(dpd, 0, day("2026-07-31")) for dpd in OUTCOMES] == [
        day("2026-03-02"), day("2026-04-01"), day("2026-05-01"),
    ]  # fmt: skip
    assert tested.histories.of["late00"].spells == {1: [(day("2026-02-01"), day("2026-02-10"))], 30: [], 60: [], 90: []}
    assert "gone" not in tested.histories.of


@pytest.mark.parametrize(("dpd", "reached_on"), [(30, "2026-03-02"), (60, "2026-04-01"), (90, "2026-05-01")])
def test_an_outcome_counts_up_to_the_last_day_of_the_horizon(dpd: int, reached_on: str, tested: Lived) -> None:
    exactly_days = day(reached_on) - day(OBSERVED_ON)
    for horizon_days, late in ((exactly_days - 1, 0.0), (exactly_days, 0.3333), (exactly_days + 1, 0.3333)):
        assert told(sheet_of(tested, horizon_days), "became_late", dpd) == (105, late)


def test_who_is_so_late_already_is_not_observed(tested: Lived) -> None:
    scores = [dict.fromkeys((*NEVER, *LATE, *ON_TIME), 600)]
    for on, n in (("2026-04-30", 105), ("2026-05-01", 70), ("2026-05-02", 70)):
        sheet = Sheet("standard", EVERYBODY)
        put_scores(sheet, scores, [day(on)], tested.histories.of, 60)
        assert told(sheet, "became_late", 90) == (n, 0.3333 if n == 105 else 0.0)


def test_power_of_the_score_is_what_pairs_say(tested: Lived) -> None:
    """Who changed employer scores lower: 30 of 35 bad ones, 10 of 70 good ones."""
    scores = tested.watched.scores[0]
    assert len({scores[name] for name in (*NEVER[:30], *LATE[:10])}) == 1
    assert len({scores[name] for name in (*NEVER[30:], *LATE[10:], *ON_TIME)}) == 1
    assert scores["never00"] < scores["never34"]
    sheet = sheet_of(tested)
    assert told(sheet, "score_auc", 30) == (105, round((30 * 60 + (30 * 10 + 5 * 60) / 2) / (35 * 70), 4))
    assert told(sheet, "score_ks", 30) == (105, round(30 / 35 - 10 / 70, 4))
    assert told(sheet, "score_auc", 90) == (105, None)


def test_catches_and_their_lead_times(tested: Lived) -> None:
    sheet = sheet_of(tested)
    for dpd, late_on in ((30, "2026-03-02"), (60, "2026-04-01"), (90, "2026-05-01")):
        for name, since in (("warned", "2026-02-01"), ("restricted", "2026-02-04"), ("cut", "2026-02-15")):
            assert told(sheet, f"caught_{name}", dpd) == (35, 1.0)
            assert told(sheet, f"caught_{name}_early", dpd) == (35, 0.0)
            assert told(sheet, f"lead_{name}", dpd) == (35, day(late_on) - day(since))


def test_decisions_count_from_the_first_date_on(tested: Lived) -> None:
    sheet = sheet_of(tested, from_on="2026-03-02")
    assert told(sheet, "caught_warned", 30) == (0, None)
    assert told(sheet, "caught_warned", 60) == (35, 1.0)


@pytest.mark.parametrize(
    ("dpd", "horizon_days", "false"), [(30, 25, 70), (30, 26, 35), (90, 85, 70), (90, 86, 35), (90, 87, 35)]
)
def test_a_restriction_is_false_when_the_outcome_stays_away_for_the_horizon(
    dpd: int, horizon_days: int, false: int, tested: Lived
) -> None:
    """Restricted on 02-04: 26 days before 30 days past due, 86 before 90. Who paid on time never was restricted."""
    assert told(sheet_of(tested, horizon_days), "false_restricted", dpd) == (70, round(false / 70, 4))
    assert told(sheet_of(tested, horizon_days), "false_cut", dpd)[0] == 35


def test_what_cannot_be_followed_to_its_end_is_neither_true_nor_false(tested: Lived) -> None:
    """The last day that is over is 07-31, 177 days after the restriction of 02-04."""
    for horizon_days, followed in ((176, 70), (177, 70), (178, 0)):
        sheet = sheet_of(tested, horizon_days)
        assert told(sheet, "false_restricted", 90) == (followed, 0.5 if followed else None)
        assert told(sheet, "restricted_not_followed", 90) == (70, 70 - followed)


def test_amounts(tested: Lived) -> None:
    sheet = sheet_of(tested)
    for dpd in OUTCOMES:
        assert told(sheet, "exposure", dpd) == (35, 35 * 105_000)
        assert told(sheet, "exposure_saved", dpd) == (35, 0)
        assert told(sheet, "limit_cut", dpd) == (35, 35 * 150_000)


def test_each_segment_has_its_own_figures_and_small_samples_have_none(tested: Lived) -> None:
    workers, students = sheet_of(tested, segment="worker"), sheet_of(tested, segment="student")
    assert told(workers, "became_late", 30) == (35, 1.0)
    assert told(workers, "false_restricted", 30) == (35, 0.0)
    assert told(students, "became_late", 30) == (35, 0.0)
    assert told(students, "caught_warned", 30) == (0, None)
    assert told(students, "false_restricted", 30) == (0, None)
    few = Sheet("standard", "few")
    few.share("x", 29, 29)
    few.share("y", 30, 30)
    few.quartiles("z", [1] * 29, dpd=30)
    assert [(figure.n, figure.value) for figure in few.figures] == [(29, None), (30, 1.0), (29, None)]


# --- parts --------------------------------------------------------------------------------------------------------


def change(kind: str, at: int, place: int, previous: int = 0, **fields: Any) -> Change:
    return Change(**({"kind": kind, "day": at, "place": place, "previous": previous} | DEFAULT | fields))


DEFAULT = {"by_score": True, "undoes": False, "from_minor": 1000, "to_minor": 1000, "currency": "CNY"}
NEVER_LATE = History("worker", {1: [], 30: [], 60: [], 90: []}, [])


@pytest.mark.parametrize(
    ("reasons", "by_score"),
    [
        ([("paid_late_often", -30), ("much_cash", -10)], True),
        ([("score_fell_7d", 0), ("much_cash", -10)], True),
        ([("arrears_started", 0), ("much_cash", -10)], False),
        ([("fraud_suspected", 0)], False),
        ([], False),
    ],
)
def test_what_rests_on_the_score_alone_is_known_by_its_reasons(reasons: list[tuple[str, int]], by_score: bool) -> None:
    event = {"at_ms": ms("2026-02-01"), "level": "watch", "previous_level": "none"}
    event["reasons"] = [{"code": code, "points": points} for code, points in reasons]
    signals: dict[str, Signals] = {}
    note([Output("early-warnings", b"b1", msgspec.json.encode(event), "warning_raised")], CALENDAR, signals)
    assert signals["b1"].warnings == [Change("warning_raised", day("2026-02-01"), 1, 0, by_score, False)]


def test_what_is_in_force_begins_with_its_unbroken_stretch() -> None:
    changes = [
        change("draws_restricted", 10, 1),
        change("limit_restored", 20, 0, 1),
        change("draws_restricted", 30, 1),
        change("limit_decreased", 35, 2, 1, to_minor=700),
    ]
    since = [None if found is None else (found.since_day, found.to_minor) for found in map(in_force_at(changes), DAYS)]
    assert since == [None, (10, 1000), (10, 1000), None, None, (30, 1000), (30, 700)]
    cut = in_force(changes, 36, from_place=2)
    assert cut is not None
    assert (cut.since_day, cut.from_minor, cut.to_minor) == (35, 1000, 700)
    assert in_force(changes, 35, from_place=2) is None


DAYS = (10, 11, 20, 21, 30, 31, 36)


def in_force_at(changes: list[Change]) -> Callable[[int], Any]:
    return lambda at: in_force(changes, at)


def test_a_restriction_in_force_on_the_first_day_counts_from_there() -> None:
    restricted = [change("draws_restricted", 10, 1)]
    history = msgspec.structs.replace(NEVER_LATE, spells={1: [(50, 200)], 30: [(80, 200)], 60: [], 90: []})
    for from_day, horizon_days, expected in ((60, 20, (1, 0)), (60, 19, (1, 1)), (79, 1, (1, 0)), (80, 20, (0, 0))):
        sheet = Sheet("standard", EVERYBODY)
        put_false(sheet, "restricted", [(restricted, history)] * 30, 1, Period(from_day, 200, horizon_days), 30)
        n, share = told(sheet, "false_restricted", 30)
        assert (n / 30, 0 if share is None else share) == expected


def test_who_is_so_late_on_the_first_day_counts_for_no_such_outcome() -> None:
    """Not even when it comes again: 30 days past due on day 50 and on day 90."""
    late = {1: [(20, 70), (60, 100)], 30: [(50, 70), (90, 100)], 60: [], 90: []}
    person = Person(Signals([change("warning_raised", 21, 1)]), msgspec.structs.replace(NEVER_LATE, spells=late))
    for from_day, n in ((49, 30), (50, 0), (69, 0), (70, 30)):
        sheet = Sheet("standard", EVERYBODY)
        put_decisions(sheet, [person] * 30, Period(from_day, 200, 90), POLICY, POLICY.facts)
        assert told(sheet, "caught_warned", 30)[0] == n


@pytest.mark.parametrize(
    ("again", "overdue", "flaps"),
    [
        (change("draws_restricted", 130, 1), [], 1),
        (change("draws_restricted", 131, 1), [], 0),
        (change("draws_restricted", 130, 1, by_score=False), [], 0),
        (change("draws_restricted", 130, 1), [(120, 121)], 0),
        (change("draws_restricted", 130, 1), [(50, 100)], 1),
        (change("limit_rebased", 110, 1), [], 0),
    ],
)
def test_a_flap_is_taken_back_within_its_dwell_time_without_a_cause(
    again: Change, overdue: list[tuple[int, int]], flaps: int
) -> None:
    """Stages of `standard` take 30 days; the limit is given back on day 100."""
    history = msgspec.structs.replace(NEVER_LATE, spells={1: overdue, 30: [], 60: [], 90: []})
    restored = change("limit_restored", 100, 0, 1)
    undone = msgspec.structs.replace(restored, undoes=True)
    people = [Person(Signals([], [restored, again]), history), Person(Signals([], [undone, again]), history)]
    for ends_day, expected in ((130, (1, flaps)), (129, (0, 0))):
        sheet = Sheet("standard", EVERYBODY)
        put_flaps(sheet, people, Period(0, ends_day, 90), POLICY)
        assert told(sheet, "flaps_restricted") == expected


def test_a_warning_flaps_within_the_dwell_time_of_its_level() -> None:
    """`standard`: watch 7 days, amber 14."""
    for level, dwell_days in ((1, 7), (2, 14)):
        for after_days, flaps in ((dwell_days, 1), (dwell_days + 1, 0)):
            lowered = change("warning_lowered", 100, level - 1, level)
            raised = change("warning_raised", 100 + after_days, level, level - 1)
            sheet = Sheet("standard", EVERYBODY)
            put_flaps(sheet, [Person(Signals([lowered, raised], []), NEVER_LATE)], Period(0, 200, 90), POLICY)
            assert told(sheet, "flaps_warned") == (1, flaps)


def test_stability_is_the_sum_over_the_bands() -> None:
    before = [number // 10 for number in range(100)]
    edges = band_edges(before)
    assert edges == list(range(1, 10))
    after = [0] * 60 + [9] * 40
    shares = [(60.5 if band == 0 else 40.5 if band == 9 else 0.5) / 105 for band in range(10)]
    assert stability(before, after, edges) == pytest.approx(sum((q - 0.1) * math.log(q / 0.1) for q in shares))
    assert stability(before, before, edges) == 0
    assert band_edges([5] * 100) == []
    # 16.919: chi-squared of 9 degrees of freedom.
    assert by_chance(100, 400, 9) == pytest.approx((0.01 + 0.0025) * 16.919, rel=0.01)
    rng = Random(1)
    below = 0
    for _ in range(400):
        first, second = ([rng.gauss(600, 80) for _ in range(n)] for n in (500, 300))
        scores, later = [round(score) for score in first], [round(score) for score in second]
        below += stability(scores, later, band_edges(scores)) < by_chance(500, 300, 9)
    assert 0.92 < below / 400 < 0.98


def test_wilsons_interval() -> None:
    # Wilson, 1927, as tabulated: 10 of 20, 0 of 20.
    assert wilson(10, 20) == (0.2993, 0.7007)
    assert wilson(0, 20) == (0.0, 0.1611)


def test_the_erased_and_those_in_quarantine_are_left_out() -> None:
    task = LocalTask(Engine(POLICY))
    stuck = Borrower(facts=Facts(quarantine=Quarantine(0, "e", "r", "what")))
    task.keep({"stuck": pack(stuck), "well": pack(Borrower())}, {}, TaskState())
    histories = Histories(POLICY.facts, 100)
    histories.take(task)
    assert (set(histories.of), histories.left_out) == ({"well"}, {"stuck"})


# --- draws that would have been refused ---------------------------------------------------------------------------


def test_exposure_saved_is_what_was_drawn_against_the_policy(tmp_path: Path) -> None:
    """L1 (1,050.00 owed) and L2 were there before; L3 is drawn while the limit is as the case says. Nobody pays."""
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    for at, loan_id in (("2026-01-01 10:00", "L1"), ("2026-01-02 10:00", "L2"), ("2026-01-20 10:00", "L3")):
        tape.loan(at, loan_id=loan_id)
    tape.days("2026-01-01", "2026-05-02")
    histories = Histories(POLICY.facts, day("2026-05-01"))
    with Recording.open(tape.write(tmp_path / "r.jsonl")) as recording:
        watch(recording, Rules(POLICY, False), CALENDAR, [], lambda _: None, histories.take)
    loans = histories.of["b1"].loans
    reached = day("2026-05-01")

    def of(kind: str, on: str, place: int, to_minor: int, from_minor: int = 500_000) -> dict[str, int]:
        taken = change(kind, day(on), place, from_minor=from_minor, to_minor=to_minor)
        return saved(loans, [taken], day("2026-01-01"), reached, POLICY.facts)

    assert of("limit_frozen", "2026-01-19", 3, 500_000) == {"CNY": 105_000}
    assert of("limit_frozen", "2026-01-20", 3, 500_000) == {}
    assert of("draws_restricted", "2026-01-19", 1, 500_000) == {}
    # 210,000 are used, so that a limit of 250,000 has room for 40,000 of the 100,000: three fifths are refused.
    assert of("limit_decreased", "2026-01-19", 2, 250_000) == {"CNY": 63_000}
    assert of("limit_decreased", "2026-01-19", 2, 310_000) == {}
    # The limit before had no room for it either.
    assert of("limit_decreased", "2026-01-19", 2, 150_000, from_minor=200_000) == {}
    # A refused loan uses nothing: frozen before L2, the limit cut later leaves room beside L1 alone.
    frozen = [
        change("limit_frozen", day("2026-01-01"), 3),
        change("limit_decreased", day("2026-01-10"), 2, 3, to_minor=250_000, from_minor=500_000),
    ]
    frozen[0] = msgspec.structs.replace(frozen[0], from_minor=500_000, to_minor=500_000)
    assert saved(loans, frozen, day("2026-01-01"), reached, POLICY.facts) == {"CNY": 105_000}
    assert saved(loans, frozen, day("2026-01-03"), reached, POLICY.facts) == {"CNY": 63_000}


# --- the command --------------------------------------------------------------------------------------------------


def figures_of(report: Report, policy: str) -> dict[tuple[str, str, int | None], Figure]:
    return {(f.segment, f.figure, f.dpd): f for f in report.figures if f.policy == policy}


def test_two_policies_side_by_side(run: Any, tested: Lived, tmp_path: Path) -> None:
    """Another ladder, and other facts: a due date that counts as 1 day. Outcomes stay those of the first ledger."""
    other = tmp_path / "other.yaml"
    text = STANDARD.replace("id: standard", "id: other").replace("keep_bp: 7000", "keep_bp: 9000")
    other.write_text(text.replace("due_date_counts_as: 0", "due_date_counts_as: 1"))
    arguments = ("--against", other, "--observe-on", OBSERVED_ON, "--horizon-days", 100)
    code, out, err = run("backtest", tested.path, *arguments, "--out", tmp_path / "out", "--json")
    assert (code, err) == (0, "")
    report = msgspec.json.decode(out, type=Report)
    assert (tmp_path / "out" / "report.json").read_text() == out
    assert (report.borrowers, report.left_out, report.observed_on) == (105, 1, [OBSERVED_ON])
    assert (report.decisions_until_on, report.ends_on) == (iso_day(day("2026-07-31") - 100), "2026-07-31")
    first, second = figures_of(report, "standard"), figures_of(report, "other")
    assert list(report.policies) == ["standard", "other"]
    assert first.keys() == second.keys()
    for segment in (EVERYBODY, "worker"):
        for found, cut_minor, lead_days in ((first, 150_000, 86), (second, 50_000, 87)):
            assert found[segment, "limit_cut", 30].value == 35 * cut_minor
            assert found[segment, "lead_restricted", 90].value == lead_days
            assert found[segment, "became_late", 60].n == (105 if segment == EVERYBODY else 35)
        # By its own count the other policy zeroes a day before the first one's ledger comes to 90.
        assert (first[segment, "limit_cut", 90].value, second[segment, "limit_cut", 90].value) == (
            5_250_000,
            17_500_000,
        )
    written = list(csv.DictReader((tmp_path / "out" / "figures.csv").read_text().splitlines()))
    assert len(written) == len(report.figures)
    assert [(row["policy"], row["figure"], row["n"]) for row in written] == [
        (figure.policy, figure.figure, str(figure.n)) for figure in report.figures
    ]
    code, shown, err = run("backtest", tested.path, *arguments, "--out", tmp_path / "again")
    assert (code, err) == (0, "")
    assert "105 borrowers" in shown
    assert "1 left out" in shown
    for name in ("report.json", "figures.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_every_figure_has_words(tested: Lived, tmp_path: Path) -> None:
    dates = ["2026-01-15", "2026-02-15"]
    report = backtest(tested.path, "standard", None, tmp_path / "out", 30, dates)
    render(report)
    assert {figure.on for figure in report.figures} == {None, *dates}
    assert {figure.figure for figure in report.figures if figure.on and figure.dpd is None} == {
        "score_stability", "score_stability_by_chance",
    }  # fmt: skip


def test_recorded_is_what_was_in_force_then(tmp_path: Path) -> None:
    """Activated on 02-10, a milder step is taken on 02-15."""
    mild = STANDARD.replace("id: standard", "id: mild").replace("keep_bp: 7000", "keep_bp: 9000")
    path = tmp_path / "mild.yaml"
    path.write_text(mild)
    policy = load(str(path))
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.days("2026-01-01", "2026-02-09")
    tape.control(
        "2026-02-10 00:30", "policy_activated", policy_id="mild", digest=digest(policy), mode="live",
        body=body(policy), author="ann", approver="bob",
    )  # fmt: skip
    tape.days("2026-02-10", "2026-04-01")
    source = tape.write(tmp_path / "r.jsonl")
    report = backtest(source, "recorded", "standard", tmp_path / "out", 30, ["2026-01-20"])
    cuts = {
        figure.policy: figure.value for figure in report.figures if (figure.figure, figure.dpd) == ("limit_cut", 30)
    }
    assert cuts == {"recorded": 50_000, "standard": 150_000}


def test_policies_of_one_name_are_told_apart(tmp_path: Path, tested: Lived) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(STANDARD.replace("keep_bp: 7000", "keep_bp: 9000"))
    report = backtest(tested.path, "standard", str(path), tmp_path / "out", 30, [OBSERVED_ON])
    names = list(report.policies)
    assert len(set(names)) == 2
    assert [name.split(" ")[0] for name in names] == ["standard", "standard"]
    assert all(report.policies[name].digest.startswith(name.split(" ")[1]) for name in names)


def test_dates_that_are_chosen_leave_room_on_both_sides(tested: Lived) -> None:
    with Recording.open(tested.path) as recording:
        for horizon_days, dates in (
            (90, ["2026-02-01", "2026-03-01", "2026-04-01", "2026-05-01"]),
            (91, ["2026-02-01", "2026-03-01", "2026-04-01", "2026-05-01"]),
            (92, ["2026-02-01", "2026-03-01", "2026-04-01"]),
            (181, ["2026-01-31"]),
        ):
            observed, period = period_of(recording, CALENDAR, [], horizon_days)
            assert [iso_day(each) for each in observed] == dates
            assert (period.from_day, iso_day(period.ends_day)) == (observed[0], "2026-07-31")
        given = ["2026-05-02", "2026-01-02", "2026-05-02"]
        observed, period = period_of(recording, CALENDAR, given, 90)
        assert [iso_day(each) for each in observed] == ["2026-01-02", "2026-05-02"]


def test_what_cannot_be_tested_is_one_line(run: Any, tested: Lived, tmp_path: Path) -> None:
    def line(*arguments: object) -> str:
        code, out, err = run("backtest", *arguments, "--out", tmp_path / "out")
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert not (tmp_path / "out").exists()
        return str(err)

    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert "holds no input records: there is nothing to test on" in line(empty)
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    assert "has no tick on partition 0" in line(tape.write(tmp_path / "silent.jsonl"))
    tape.days("2026-01-01", "2026-03-01")
    short = tape.write(tmp_path / "short.jsonl")
    assert "covers 2026-01-01 to 2026-02-28, which is less than 30 days and the horizon of 90" in line(short)
    bare = line(short, "--horizon-days", 10, "--observe-on", "2026-02-01")
    assert "nobody had an open loan on 2026-02-01" in bare
    assert "--observe-on monday: not a date" in line(tested.path, "--observe-on", "monday")
    assert "give a later date" in line(tested.path, "--observe-on", "2026-01-01")
    assert "give a date up to 2026-05-02" in line(tested.path, "--observe-on", "2026-05-03")
    assert "--against is the policy itself" in line(tested.path, "--against", "standard")
    assert "none.yaml" in line(tested.path, "--policy", "none.yaml")
    (tmp_path / "there").mkdir()
    code, _, err = run("backtest", tested.path, "--out", tmp_path / "there")
    assert code == 1
    assert "is there already" in err
    assert run("backtest", tested.path, "--out", tmp_path / "out", "--horizon-days", 0)[0] == 2


# --- a simulated lender -------------------------------------------------------------------------------------------


def test_outcomes_are_the_simulators_own(tmp_path: Path) -> None:
    """Late and doubled events, bounced payments, plans and write-offs among them.

    The simulator looks in the morning: who pays on the very day is so late there, and is not at the end of that day.
    """
    path = tmp_path / "simulated"
    simulate(seed=3, borrowers=150, events=10**6, out=path, partitions=2, days=220)
    with Recording.open(path) as recording:
        observed, period = period_of(recording, CALENDAR, [], 90)
        histories = Histories(POLICY.facts, period.ends_day)
        loans: dict[str, list[Loan]] = {}

        def at_end(task: LocalTask) -> None:
            loans.update((name, list(borrower.facts.loans.values())) for name, borrower in everybody(task))
            histories.take(task)

        watched = watch(recording, Rules(POLICY, False), CALENDAR, observed, lambda _: None, at_end)
    truth: dict[int, dict[str, int]] = {dpd: {} for dpd in OUTCOMES}
    for row in pq.read_table(beside(path, GROUND_TRUTH)).to_pylist():
        for dpd in OUTCOMES:
            true_on = row[f"reached_{dpd}_on"]
            if true_on is not None and day_of(true_on) <= period.ends_day:
                truth[dpd][row["borrower_id"]] = day_of(true_on)
    assert iso_day(observed[0]) == "2026-02-01"
    sheet = Sheet("standard", EVERYBODY)
    put_scores(sheet, watched.scores[:1], observed[:1], histories.of, 90)
    for dpd, known in truth.items():
        for name, reached in list(known.items()):
            before = [spells(loan, [dpd - 1], period.ends_day, POLICY.facts)[0] for loan in loans[name]]
            if any(end == reached for of_loan in before for _, end in of_loan):
                del known[name]
        found = {name: history.reached(dpd, 0, period.ends_day) for name, history in histories.of.items()}
        assert {name: reached for name, reached in found.items() if reached is not None} == known
        n, share = told(sheet, "became_late", dpd)
        late = [name for name in watched.scores[0] if 0 < known.get(name, 0) - observed[0] <= 90]
        assert share == round(len(late) / n, 4)
    assert all(len(truth[dpd]) >= least for dpd, least in ((30, 20), (60, 10), (90, 5)))
