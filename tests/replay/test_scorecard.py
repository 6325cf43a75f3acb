"""Points from outcomes: what is learnt is what there is, moves one way, and is measured on others."""

import json
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import pstdev, quantiles
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("sklearn", reason="needs duewatch[fit]")

from streams import cli
from streams.engine.features import FEATURE_INDEX, FEATURES
from streams.policy.loader import load
from streams.policy.model import Scorecard
from streams.replay.manifest import RecordingError
from streams.replay.scorecard.additive import direction, fit, scores_of
from streams.replay.scorecard.fitting import cross_scores, fit_recording, in_half
from streams.replay.scorecard.measure import auc_of, power
from streams.replay.scorecard.sample import DELAY_DPD, Sample, Values, by_ledger, read_labels
from tests.replay.tape import Tape

POLICY = load("standard")
DATA = Path(__file__).parents[2] / "data" / "uci-default" / "odd.csv.gz"


def values(**known: int | None) -> Values:
    row: Values = [None] * len(FEATURES)
    for name, value in known.items():
        row[FEATURE_INDEX[name]] = value
    return row


def sample_of(count: int, seed: int = 1) -> Sample:
    """Risk rises with lateness, falls with paying on time; who has no loan is in between; logins are noise."""
    rng = Random(seed)
    rows, bad = [], []
    for _ in range(count):
        late, on_time = rng.choice((0, 0, 0, 3, 10, 20)), rng.randrange(0, 10_001)
        if rng.random() < 0.1:
            rows.append(values(logins_7d=rng.randrange(9), days_since_login=rng.randrange(90)))
            bad.append(rng.random() < 0.3)
        else:
            rows.append(values(mean_lateness_days=late, on_time_ratio_bp=on_time, days_since_login=rng.randrange(90)))
            bad.append(rng.random() < 0.05 + 0.02 * late + 0.3 * (10_000 - on_time) / 10_000)
    return Sample([f"b{number:05d}" for number in range(count)], rows, bad)


SAMPLE = sample_of(4_000)


@pytest.fixture(scope="module")
def card() -> Scorecard:
    return fit(POLICY, SAMPLE)


def factor_of(card: Scorecard, feature: str) -> Any:
    return next(factor for factor in card.factors if factor.feature == feature)


def test_points_move_one_way_and_cover_every_value(card: Scorecard) -> None:
    for before, factor in zip(POLICY.score.factors, card.factors, strict=True):
        assert (factor.feature, factor.subtotal, factor.reason) == (before.feature, before.subtotal, before.reason)
        points = [band.points for band in factor.bands]
        if direction(before):
            assert points == sorted(points, reverse=direction(before) == 1), factor.feature
        assert factor.bands[0].lower is None
        assert factor.bands[-1].upper is None
        assert all(one.upper == other.lower for one, other in pairwise(factor.bands))
    late = [band.points for band in factor_of(card, "mean_lateness_days").bands]
    assert late[0] > 0 > late[-1]


def test_the_unknown_has_points_of_its_own(card: Scorecard) -> None:
    late = factor_of(card, "mean_lateness_days")
    on_time = factor_of(card, "on_time_ratio_bp")
    unknown = late.unknown + on_time.unknown
    assert late.bands[-1].points + on_time.bands[0].points < unknown < late.bands[0].points + on_time.bands[-1].points


def test_what_the_sample_does_not_show_stays(card: Scorecard) -> None:
    for feature in ("income_fall_bp", "loans_taken_7d", "worst_managed_dpd"):
        assert factor_of(card, feature) == factor_of(POLICY.score, feature)


def test_thresholds_keep_their_sense(card: Scorecard) -> None:
    given, fitted = (scores_of(POLICY, each, SAMPLE.values) for each in (POLICY.score, card))
    assert abs(quantiles(given)[2] - quantiles(fitted)[2]) <= 1
    assert pstdev(fitted) == pytest.approx(pstdev(given), rel=0.05)


def test_points_are_measured_on_others() -> None:
    crossed = cross_scores(POLICY, SAMPLE, 0)
    halves = [in_half(name, 0) for name in SAMPLE.borrowers]
    assert 0.45 < sum(halves) / len(halves) < 0.55
    assert halves != [in_half(name, 1) for name in SAMPLE.borrowers]
    noise = Random(5)
    shuffled = Sample(SAMPLE.borrowers, SAMPLE.values, [noise.random() < 0.2 for _ in SAMPLE.bad])
    assert auc_of(crossed, SAMPLE.bad) > 0.65
    assert 0.45 < auc_of(cross_scores(POLICY, shuffled, 0), shuffled.bad) < 0.55


def test_a_fit_is_the_same_every_time() -> None:
    few = sample_of(600)
    assert fit(POLICY, few) == fit(POLICY, few)


def test_power_is_what_pairs_say() -> None:
    rng = Random(3)
    scores = [rng.randrange(20) for _ in range(120)]
    bad = [rng.random() < 0.6 - score / 50 for score in scores]
    pairs = [
        (w, b) for w, worse in zip(scores, bad, strict=True) if worse for b, o in zip(scores, bad, strict=True) if not o
    ]
    wins = sum(1.0 if w < b else 0.5 if w == b else 0.0 for w, b in pairs)
    found = power(scores, bad)
    assert found.auc.value == pytest.approx(wins / len(pairs), abs=1e-4)
    assert found.auc.low < found.auc.value < found.auc.high
    below = [
        abs(
            sum(s <= at for s, o in zip(scores, bad, strict=True) if o) / sum(bad)
            - sum(s <= at for s, o in zip(scores, bad, strict=True) if not o) / (len(bad) - sum(bad))
        )
        for at in range(20)
    ]
    assert found.ks.value == pytest.approx(max(below), abs=1e-4)


def test_outcomes_from_the_ledger() -> None:
    seen = {
        "late": values(worst_contractual_dpd=DELAY_DPD),
        "soon": values(worst_contractual_dpd=5),
        "never": values(),
        "after": values(worst_contractual_dpd=0),
    }
    day_ms = 86_400_000
    reported = {
        "soon": [(10 * day_ms, 1), (40 * day_ms, DELAY_DPD)],
        "after": [(100 * day_ms, DELAY_DPD)],
        "late": [(1, 61)],
        "never": [(40 * day_ms, DELAY_DPD - 1)],
    }
    found = by_ledger(seen, reported, 0)
    assert dict(zip(found.borrowers, found.bad, strict=True)) == {"soon": True, "never": False, "after": False}


def test_the_command_on_real_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def call(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["duewatch", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        assert ended.value.code == 0, told.err
        return str(told.out)

    call("import", "uci-credit", DATA, "--out", tmp_path / "uci", "--customers", 600)
    labels, out = tmp_path / "uci" / "labels.parquet", tmp_path / "fit"
    at = ("--earlier", "2005-09-01T00:00:00+08:00")
    report = json.loads(call("scorecard", "fit", tmp_path / "uci", "--labels", labels, "--out", out, "--json", *at))
    assert json.loads((out / "report.json").read_text()) == report
    assert report["given"]["borrowers"] == 600
    assert report["given"]["auc"]["value"] > 0.65
    assert report["fitted"]["auc"]["value"] > 0.65
    assert 200 < report["out_of_time"]["borrowers"] == report["given_out_of_time"]["borrowers"] < 400
    fitted = [factor["feature"] for factor in report["factors"] if factor["fitted"]]
    assert "mean_lateness_days" in fitted
    assert call("policy", "lint", out / "policy.yaml").startswith(f"{out / 'policy.yaml'}: policy standard-fitted")
    assert (out / "scorecard.yaml").read_text().splitlines()[1] == "score:"
    shown = call("scorecard", "fit", tmp_path / "uci", "--labels", labels, "--out", tmp_path / "again")
    assert "fitted, on others" in shown
    assert (tmp_path / "again" / "scorecard.yaml").read_bytes() == (out / "scorecard.yaml").read_bytes()


def test_outcomes_must_be_enough_and_given(tmp_path: Path) -> None:
    moments = ("the end", None)
    with pytest.raises(RecordingError, match="no outcomes: give --labels"):
        fit_recording(tmp_path / "r", tmp_path / "out", "standard", None, None, None, moments)
    (tmp_path / "out").mkdir()
    with pytest.raises(RecordingError, match="is there already"):
        fit_recording(tmp_path / "r", tmp_path / "out", "standard", None, 1, None, moments)


def labels_in(tmp_path: Path, *rows: tuple[str | None, bool | None]) -> Path:
    file = tmp_path / "labels.parquet"
    columns = {"borrower_id": [row[0] for row in rows], "bad": pa.array([row[1] for row in rows], pa.bool_())}
    pq.write_table(pa.table(columns), file)
    return file


def test_labels_that_say_two_things_or_nothing(tmp_path: Path) -> None:
    assert read_labels(labels_in(tmp_path, ("b1", True), ("b1", True), ("b2", False))) == {"b1": True, "b2": False}
    twice = labels_in(tmp_path, ("b1", True), ("b1", False), ("b2", False), ("b1", True), ("b2", True), ("b3", True))
    with pytest.raises(RecordingError, match=r"labels.parquet: 2 borrowers have both outcomes"):
        read_labels(twice)
    for row in (("b1", None), (None, True)):
        with pytest.raises(RecordingError, match="a row has no borrower or no outcome"):
            read_labels(labels_in(tmp_path, row))
    with pytest.raises(RecordingError, match=rf"^{tmp_path}/nope: no such file: give a Parquet file"):
        read_labels(tmp_path / "nope")


def test_labels_of_others(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    recording = tape.write(tmp_path / "r.jsonl")
    labels = labels_in(tmp_path, ("someone", True), ("else", False))
    with pytest.raises(RecordingError, match="none of the 2 labelled borrowers is in the recording"):
        fit_recording(recording, tmp_path / "out", "standard", labels, None, None, ("the end", None))
    assert not (tmp_path / "out").exists()
