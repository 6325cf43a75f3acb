"""Plays the tables of `classification/`: how supervisors and accountants would class a loan, day by day.

Every classification_changed must stand in the table, on the day it speaks of, and nothing else may; other decisions are
left out. What a row may say is in the README beside the tables.
"""

import json
from pathlib import Path

import pytest

from streams.replay.explain import explain
from tests.stories.telling import policy_of, tape_of
from tests.stories.test_decisions import by_day, expected_by_day
from tests.stories.test_stories import Story, stories


@pytest.mark.parametrize("story", stories(Path(__file__).parent / "classification"), ids=lambda story: story.name)
def test_classification(story: Story, tmp_path: Path) -> None:
    found = explain(tape_of(story).write(tmp_path / "story.jsonl"), "b1", policy=policy_of(story.policy, tmp_path))
    events = [json.loads(bytes(raw)) for raw in found.decisions]
    classed = [event for event in events if event["type"] == "classification_changed"]
    assert by_day(classed) == expected_by_day(story)
