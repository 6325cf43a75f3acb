"""A score that has moved is judged again only where a decision can change."""

import pytest

from streams.engine.score_edges import ScoreEdges
from streams.engine.standing import Standing
from streams.policy.loader import load

DAY = 20_500


@pytest.mark.parametrize(
    ("before", "after", "others_points", "kept"),
    [
        (300, 250, 0, True),
        (300, 320, 0, False),
        # Frozen is who is below 320 without what others say: nothing of the score itself tells of that.
        (300, 250, 70, False),
        (280, 260, 70, True),
    ],
)
def test_a_score_is_kept_between_its_edges_and_those_of_the_score_without_what_others_say(
    before: int, after: int, others_points: int, kept: bool
) -> None:
    standing = Standing(score=before, score_day=DAY, others_points=others_points)
    assert ScoreEdges(load("standard")).keep(standing, after, 4, DAY, 0) is kept
    assert standing.score == (after if kept else before)
