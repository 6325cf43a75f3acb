"""The difference of two policies in words."""

import json
from typing import Any

import pytest

from streams.policy.diff import Difference, differences, interval
from streams.policy.loader import body, load, loads

STANDARD = load("standard")


def changed(path: str, value: Any) -> list[Difference]:
    document = json.loads(body(STANDARD)) | {"id": "mine"}
    at: Any = document
    *steps, last = path.split(".")
    for step in steps:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[int(last) if isinstance(at, list) else last] = value
    return differences(STANDARD, loads(json.dumps(document), "mine"))


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("score.base", 640, ("score", "base", "650", "640")),
        ("score.factors.0.unknown", -5, ("score › factors › worst_managed_dpd", "unknown", "0 points", "-5 points")),
        ("score.factors.0.bands.0.points", 0, ("score › factors › worst_managed_dpd", "below 1", "+10 points",
                                               "0 points")),
        ("score.tiers.1.from_score", 630, ("score › tiers › B", "from score", "620", "630")),
        ("score.tiers.1.probability_bp", 250, ("score › tiers › B", "probability", "3 %", "2.5 %")),
        ("warnings.0.dwell_days", 9, ("warnings › watch", "dwell", "7 days", "9 days")),
        ("warnings.1.managed_dpd_from", 16, ("warnings › amber", "managed DPD from", "15", "16")),
        ("limits.steps.1.keep_bp", 6550, ("limits › steps › decreased", "keep", "70 %", "65.5 %")),
        ("limits.steps.0.when.0.managed_dpd_from", 5, ("limits › steps › draws_restricted", "when",
                                                       "managed DPD from 4", "managed DPD from 5")),
        ("limits.restoration.stages_bp", [5000, 10000], ("limits › restoration", "stages", "25 %", "—")),
        ("offers.options.0.months", 18, ("offers › options › instalments", "months", "12", "18")),
        ("reasons.income_fell.en", "Less income.", ("reasons › income_fell", "en",
                                                   "Income has fallen compared with earlier months.", "Less income.")),
        ("facts.dpd.due_date_counts_as", 1, ("facts › dpd", "due date counts as", "0", "1")),
        ("facts.material.absolute_minor.CNY", 90000, ("facts › material › absolute_minor", "CNY", "80000", "90000")),
    ],
)  # fmt: skip
def test_one_change_is_one_line(path: str, value: Any, told: tuple[str, str, str, str]) -> None:
    (difference,) = changed(path, value)
    assert (difference.part, difference.what, difference.before, difference.after) == told


def test_bands_are_compared_where_they_overlap() -> None:
    bands = [{"points": 10, "upper": 1}, {"points": -40, "lower": 1, "upper": 10}, {"points": -430, "lower": 10}]
    told = [(one.what, one.before, one.after) for one in changed("score.factors.0.bands", bands)]
    assert told == [
        ("8 to below 10", "-80 points", "-40 points"),
        ("10 to below 15", "-80 points", "-430 points"),
        ("15 to below 31", "-140 points", "-430 points"),
        ("31 to below 61", "-230 points", "-430 points"),
        ("61 to below 90", "-330 points", "-430 points"),
    ]


def test_a_factor_that_is_gone_is_told_whole() -> None:
    kept = json.loads(body(STANDARD))["score"]["factors"][1:]
    (difference,) = changed("score.factors", kept)
    assert (difference.part, difference.what, difference.after) == ("score › factors", "worst managed DPD", "—")
    assert "willingness" in difference.before


def test_equal_policies_differ_in_nothing() -> None:
    assert differences(STANDARD, loads(body(STANDARD), "again")) == []


def test_intervals() -> None:
    assert [interval(None, None), interval(None, 5), interval(2, 5), interval(5, None)] == [
        "any value", "below 5", "2 to below 5", "5 and more",
    ]  # fmt: skip
