"""Factors that tighten: which are in force, for whom, how many; what they lead to is told in tests/stories."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from streams.engine.chunk import DeadLetter
from streams.engine.fold import Engine
from streams.engine.profile import Profile
from streams.engine.state import pack_task, unpack_task
from streams.engine.tightening import FACTORS_MAX, MacroFactor, fitting, shift_points
from streams.policy.loader import load
from streams.policy.model import Band, Tightening
from streams.replay.cycle import LocalTask
from streams.replay.explain import explain, explained
from streams.replay.explained_text import render
from streams.replay.found import find
from tests.engine.test_parking import ordered
from tests.replay.tape import Tape, ms

RULES = Tightening(
    bands=(Band(points=-15, upper=-2_000), Band(points=0, lower=-2_000, upper=1_000), Band(points=25, lower=1_000)),
    most_points=40,
)
END_MS = ms("2030-01-01")


def of(factor: float, product: str = "", segment: str = "", industry: str = "", region: str = "") -> MacroFactor:
    return MacroFactor("m", factor, END_MS, product, segment, industry, region, "", None)


def fold(task: LocalTask, tape: Tape) -> list[DeadLetter]:
    letters = [letter for folded in task.fold(ordered(tape.records)) for letter in folded.dead_letters]
    tape.records.clear()
    return letters


@pytest.mark.parametrize(
    ("factors", "points"),
    [
        ([], 0), ([0.0999], 0), ([0.1], 25), ([1.0], 25), ([-0.2], 0), ([-0.2001], -15), ([0.5, 0.5], 40),
        ([0.5, -0.5], 10), ([-1.0] * 9, -40),
    ],
)  # fmt: skip
def test_a_factor_has_the_points_of_its_band_and_all_together_no_more_than_the_policy_says(
    factors: list[float], points: int
) -> None:
    assert shift_points(RULES, [of(factor) for factor in factors]) == points


@pytest.mark.parametrize(
    ("scope", "fits"),
    [
        ({}, True), ({"segment": "worker"}, True), ({"segment": "student"}, False), ({"industry": "mining"}, True),
        ({"region": "south"}, False), ({"industry": "mining", "region": "north", "segment": "worker"}, True),
        ({"industry": "mining", "region": "south"}, False), ({"product": "cash"}, False),
    ],
)  # fmt: skip
def test_all_that_a_scope_names_must_fit(scope: dict[str, str], fits: bool) -> None:
    profile = Profile("worker", "CNY", 500_000, 20_000, 0, "p", industry="mining", region="north")
    assert (fitting([of(0.5, **scope)], profile, [], END_MS - 1, 20_000) != []) == fits
    assert fitting([of(0.5, **scope)], profile, [], END_MS, 20_000) == []
    assert (fitting([of(0.5, **scope)], None, [], 0, 20_000) != []) == (scope == {})


def test_factors_are_bounded_replaced_lifted_and_forgotten_when_they_have_ended() -> None:
    task, tape = LocalTask(Engine(load("standard"))), Tape()
    tape.tick("2026-01-01 01:00")
    for number in range(FACTORS_MAX):
        tape.control("2026-01-01 02:00", "macro_set", factor=0.1, indicator=f"i{number}", until_ms=ms("2026-01-05"))
    assert fold(task, tape) == []
    tape.control("2026-01-01 03:00", "macro_set", factor=0.2, indicator="more")
    (letter,) = fold(task, tape)
    assert (letter.reason, letter.message) == ("factors_full", "64 factors are in force; lift one with factor 0")
    tape.control("2026-01-01 04:00", "macro_set", factor=0.3, indicator="i0", scope={"segment": None})
    tape.control("2026-01-01 04:00", "macro_set", factor=0.0, indicator="i1")
    tape.control("2026-01-01 04:00", "macro_set", factor=-0.4, indicator="more", value=5.3)
    assert fold(task, tape) == []
    factors = task.task.factors
    assert [(factor.factor, factor.indicator, factor.value) for factor in factors[-2:]] == [
        (0.3, "i0", None), (-0.4, "more", 5.3),
    ]  # fmt: skip
    assert len(factors) == FACTORS_MAX
    assert unpack_task(pack_task(task.task)).factors == factors
    tape.tick("2026-01-05 01:00")
    assert fold(task, tape) == []
    assert len(task.task.factors) == FACTORS_MAX
    tape.tick("2026-01-06 01:00")
    assert fold(task, tape) == []
    assert [factor.indicator for factor in task.task.factors] == ["i0", "more"]


def test_explain_tells_what_shifts_the_thresholds_and_until_when(tmp_path: Path) -> None:
    tape = Tape()
    tape.profile("2026-01-01 10:00")
    tape.days("2026-01-01", "2026-01-02")
    tape.control("2026-01-02 10:00", "macro_set", factor=0.3, indicator="gdp", value=1.5, until_ms=ms("2026-01-08"))
    tape.days("2026-01-03", "2026-01-09")
    path = tape.write(tmp_path / "r.jsonl")
    known = find(path, "b1", ms("2026-01-07 12:00"), "standard")
    found = explained("b1", known)
    factor: dict[str, Any] = {"event_id": "e2", "factor": 0.3, "indicator": "gdp", "value": 1.5}
    assert json.loads(msgspec.json.encode(found.macro)) == {"shift_points": 20, "factors": [factor]}
    console = Console(record=True, width=120)
    console.print(render(found, known))
    assert "thresholds on the score shifted by +20: gdp +0.3" in console.export_text()
    assert explain(path, "b1", ms("2026-01-01 12:00")).macro is None
    assert explain(path, "b1", ms("2026-01-08 12:00")).macro is None
