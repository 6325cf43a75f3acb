"""Plays the tables of `behaviour/`: what is known of one borrower at a moment, as `explain` shows it.

A row's expectation holds at its own moment, after all that happened until then; several rows of one moment are one, and
the last says what is expected. What a row may say is in the README beside the tables.
"""

import json
import re
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from streams.engine import score_fall
from streams.engine.features import FEATURES
from streams.replay.explain import Explained, explain
from streams.replay.replay import rules_of
from tests.replay.tape import ms
from tests.stories.telling import policy_of, tape_of, timed
from tests.stories.test_stories import Story, stories

STORIES = stories(Path(__file__).parent / "behaviour")
UNITS = {feature.name: feature.unit for feature in (*FEATURES, *score_fall.FEATURES)}
SUBTOTALS = ("ability", "willingness", "behaviour", "external", "links")
HUNDREDTHS = ("minor", "hundredths of a standard deviation")
WHY = re.compile(r"why (\w+) (\d): .+")
WAY_BACK = re.compile(r"way back from (\w+): .+")
NOTHING_ELSE = "nothing else is known"
rules_read_once = cache(rules_of)
"""A story asks a dozen times under one policy, and reading its text takes longer than all else."""


def expected_of(row_expects: str) -> list[str]:
    return [item for item in row_expects.split("; ") if item]


def written(name: str, value: int | None) -> str:
    """A feature's value: shares in percent, amounts with their hundredths, everything else in whole numbers."""
    unit = UNITS[name]
    if value is None:
        return f"{name} unknown"
    if unit == "bp":
        return f"{name} {hundredths(value)} %"
    return f"{name} {hundredths(value) if unit in HUNDREDTHS else value}"


def hundredths(value: int) -> str:
    return f"{Decimal(value) / 100:.2f}"


def seen(item: str, found: Explained, named: set[str]) -> str:
    """What is true of what an expectation asks for, in its words; `named` is all that the row names."""
    name, _, rest = item.partition(" ")
    if name in found.features:
        return written(name, found.features[name])
    if item == NOTHING_ELSE:
        others = {name: value for name, value in found.features.items() if value is not None and name not in named}
        return "; ".join(written(name, value) for name, value in others.items()) or NOTHING_ELSE
    if name in SUBTOTALS:
        return f"{name} {getattr(found.score.subtotals, name)}"
    if name == "points":
        factor = next(factor for factor in found.score.factors if factor.factor == rest.split(" ")[0])
        return f"points {factor.factor} {factor.points}"
    return told(item, found)


def told(item: str, found: Explained) -> str:
    """The score as a whole, or what the last decision of a type says of itself."""
    why, way_back = WHY.fullmatch(item), WAY_BACK.fullmatch(item)
    if why is not None:
        reasons = latest(why.group(1), found)["reasons"]
        at = int(why.group(2)) - 1
        return f"why {why.group(1)} {why.group(2)}: {reason_told(reasons[at]) if at < len(reasons) else 'nothing more'}"
    if way_back is not None:
        return f"way back from {way_back.group(1)}: {recovery_told(latest(way_back.group(1), found)['recovery'])}"
    whole = {
        "score": str(found.score.score),
        "tier": found.score.tier,
        "probability": f"{hundredths(found.score.probability_bp)} %",
    }
    name = item.split(" ", 1)[0]
    return f"{name} {whole[name]}"


def latest(kind: str, found: Explained) -> dict[str, Any]:
    events: list[dict[str, Any]] = [json.loads(bytes(raw)) for raw in found.decisions]
    return next(event for event in reversed(events) if event["type"] == kind)


def reason_told(reason: dict[str, Any]) -> str:
    proof = " ".join(reason["evidence"])
    return f"{reason['code']} {reason['value']} from {reason['threshold']}, {reason['points']} points, proof {proof}"


def recovery_told(recovery: dict[str, Any]) -> str:
    words = str(recovery["action"]).replace("_", " ")
    if "amount_minor" in recovery:
        words += f" {hundredths(recovery['amount_minor'])}"
    if "by_on" in recovery:
        words += f" by {recovery['by_on']}"
    return f"{words}, restored from {recovery['earliest_on']}"


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_behaviour(story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.replay.found.rules_of", rules_read_once)
    policy = policy_of(story.policy, tmp_path)
    recording = tape_of(story, policy).write(tmp_path / "story.jsonl")
    wrong = []
    for on, happening, expected in story.rows:
        wanted = expected_of(expected)
        if not wanted:
            continue
        time, _ = timed(happening)
        found = explain(recording, "b1", ms(f"{on} {time}"), policy)
        named = {item.split(" ", 1)[0] for item in wanted}
        wrong += [f"{on} {time}: {true}, not {item}" for item in wanted if (true := seen(item, found, named)) != item]
    assert wrong == []


def test_every_feature_stands_in_a_table_both_known_and_unknown() -> None:
    told_of = {item for story in STORIES for _, _, expected in story.rows for item in expected_of(expected)}
    unknown = {name for name in UNITS if f"{name} unknown" in told_of}
    known = {item.split(" ", 1)[0] for item in told_of if not item.endswith(" unknown")}
    assert [name for name in UNITS if name not in known & unknown] == []
