"""What lint advises on: what nothing reaches, and what flaps; each with the line of the file."""

from pathlib import Path

import pytest

from streams.policy.advice import implies, score_range
from streams.policy.lint import lint
from streams.policy.loader import PolicyError, load
from streams.policy.model import Condition
from tests.policy.test_loader import STANDARD, marked

MACRO = STANDARD[STANDARD.index("macro:\n") : STANDARD.index("    - {lower: 5000, points: 40}\n")]
MACRO += "    - {lower: 5000, points: 40}\n"
# What of the standard policy is replaced | by what | the advice.
ODD = [
    ("from_score: 680,", "▶from_score: 980,", "score.tiers[0].from_score: no score reaches A: the highest"),
    ("    score_below: 320", "▶    score_below: -9000", "warnings[3].score_below: no score is below -9000: the lowest"),
    ("leave_score_from: 600", "▶leave_score_from: 2000", "warnings[0].leave_score_from: watch is never left"),
    ("score_fall_30d_from: 130", "▶score_fall_30d_from: 9000", "warnings[0].score_fall_30d_from: no score falls by"),
    (
        "    leave_score_fall_7d_below: 60",
        "▶    leave_score_fall_7d_below: 95",
        "warnings[0].leave_score_fall_7d_below: only 5 points below score_fall_7d_from 100: the level would flap",
    ),
    (
        "    score_fall_7d_from: 100",
        "▶    score_fall_7d_from: 130",
        "warnings[0].score_fall_7d_from: is never needed: who falls by 130 in 7 days has fallen by 130 in 30",
    ),
    (
        "        - {level_from: amber}\n",
        "        - {level_from: amber}\n▶        - {score_fall_7d_from: 9000}\n",
        "limits.steps[0].when[2].score_fall_7d_from: never holds: the card spans",
    ),
    ("    dwell_days: 7\n", "▶    dwell_days: 0\n", "warnings[0].dwell_days: 0 lets watch end the moment it may"),
    ("cool_down_days: 14", "▶cool_down_days: 0", "warnings[0].cool_down_days: 0 lets watch be raised again"),
    ("leave_score_from: 600", "▶leave_score_from: 585", "warnings[0].leave_score_from: only 5 points above"),
    (
        "  restoration:\n    probation_days: 90",
        "  restoration:\n▶    probation_days: 0",
        "limits.restoration.probation_days: 0 gives the limit back on the day arrears are cleared",
    ),
    ("    stage_days: 30", "▶    stage_days: 0", "limits.restoration.stage_days: 0 passes every stage at once"),
    (
        "        - {managed_dpd_from: 4}\n",
        "        - {managed_dpd_from: 4}\n▶        - {managed_dpd_from: 9, material: true}\n",
        "limits.steps[0].when[1]: is never needed: whenever it holds, when[0] holds too",
    ),
    (
        "        - {level_from: amber}\n",
        "        - {level_from: amber}\n▶        - {level_from: amber}\n",
        "limits.steps[0].when[2]: is never needed: whenever it holds, when[1] holds too",
    ),
    (
        "        - {managed_dpd_from: 4}\n",
        "        - {managed_dpd_from: 4}\n▶        - {score_below: -9000}\n",
        "limits.steps[0].when[1].score_below: never holds: the lowest score the card gives is",
    ),
    (
        "          - {managed_dpd_from: 15}\n",
        "          - {managed_dpd_from: 15}\n▶          - {managed_dpd_from: 16}\n",
        "limits.by_segment.student[1].when[1]: is never needed: whenever it holds, when[0] holds too",
    ),
    (
        MACRO,
        "macro:\n  most_points: 900\n▶  bands:\n    - {upper: 1, points: 0}\n    - {lower: 1, points: 900}\n",
        "macro.bands: 900 points lift leave_score_from of watch to 1500: the highest score is",
    ),
    ("reasons:\n", "reasons:\n▶  old_reason: {en: Old., zh: 旧。}\n", "reasons.old_reason: no rule gives this reason"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), ODD, ids=[row[2][:50] for row in ODD])
def test_names_the_line_of_what_is_odd(old: str, new: str, expected: str, tmp_path: Path) -> None:
    assert old in STANDARD
    text, line = marked(STANDARD.replace(old, new, 1))
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    loaded, remarks = lint(str(file))
    assert loaded is not None
    assert {remark.severity for remark in remarks} == {"advice"}
    assert f"{file}:{line}: {expected}" in "\n".join(remark.text for remark in remarks)


def test_a_condition_that_lists_too_is_not_the_same_as_one_that_does_not() -> None:
    plain, harder = Condition(managed_dpd_from=90), Condition(managed_dpd_from=120, blacklists=True)
    assert not implies(harder, plain)
    assert implies(Condition(managed_dpd_from=120), plain)
    assert not implies(plain, Condition(managed_dpd_from=120))


def test_there_is_nothing_to_say_of_the_shipped_policy() -> None:
    loaded, remarks = lint("standard")
    assert loaded is not None
    assert remarks == []
    least, most = score_range(loaded.policy)
    assert least < 320 < 680 < most


def test_mistakes_are_errors_with_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(STANDARD.replace("base: 650", "base: many"), encoding="utf-8")
    loaded, (remark,) = lint(str(file))
    assert loaded is None
    line = STANDARD[: STANDARD.index("base: 650")].count("\n") + 1
    assert (remark.severity, remark.line, remark.field) == ("error", line, "score.base")
    assert remark.text == f"{file}:{line}: score.base: expected a whole number, found 'many'"


def test_no_file_is_no_remark(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        lint(str(tmp_path / "nowhere.yaml"))


def test_tests_do_not_change_what_is_activated(tmp_path: Path) -> None:
    file = tmp_path / "bare.yaml"
    file.write_text(STANDARD[: STANDARD.index("tests:")], encoding="utf-8")
    assert load(str(file)) == load("standard")
