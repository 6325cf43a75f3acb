"""Where on the scale of scores a decision can change, and whether a score has stayed between such places."""

from bisect import bisect_right

from streams.engine.score_fall import note, peaks_of
from streams.engine.standing import Standing
from streams.policy.model import Policy


class ScoreEdges:
    """Every score, and every fall of it within 7 and within 30 days, at which a decision of a policy can change."""

    __slots__ = ("_falls", "_scores")

    def __init__(self, policy: Policy) -> None:
        scores: set[int | None] = set()
        falls: tuple[set[int | None], set[int | None]] = (set(), set())
        for level in policy.warnings:
            scores |= {level.score_below, level.leave_score_from}
            falls[0].update((level.score_fall_7d_from, level.leave_score_fall_7d_below))
            falls[1].update((level.score_fall_30d_from, level.leave_score_fall_30d_below))
        for step in policy.limits.all_steps():
            for condition in step.when:
                scores.add(condition.score_below)
                falls[0].add(condition.score_fall_7d_from)
                falls[1].add(condition.score_fall_30d_from)
        self._scores = _sorted(scores)
        self._falls = _sorted(falls[0]), _sorted(falls[1])

    def keep(self, standing: Standing, score: int, tier: int, day: int, shift_points: int) -> bool:
        """Note a score as of `day` if it lies between the same edges as the last one did on its own day; whether it
        does. It asks the same of the falls, which the days alone can end, and of the score without the points lost by
        what others say, of which there are as many as before. Edges are `shift_points` higher."""
        if score != standing.score or day != standing.score_day or shift_points != standing.shift_points:
            before_day, before_shift = standing.score_day, standing.shift_points
            others_points = standing.others_points
            for more in (0, others_points) if others_points else (0,):
                before = self._place(standing, standing.score + more, before_day, before_shift)
                if self._place(standing, score + more, day, shift_points) != before:
                    return False
            note(standing, score, tier, day)
            standing.shift_points = shift_points
        return True

    def _place(self, standing: Standing, score: int, day: int, shift_points: int) -> tuple[int, int, int]:
        week, month = peaks_of(standing, day)
        of_week, of_month = self._falls
        return (
            bisect_right(self._scores, score - shift_points),
            0 if week is None else bisect_right(of_week, week - score),
            0 if month is None else bisect_right(of_month, month - score),
        )


def _sorted(edges: set[int | None]) -> list[int]:
    return sorted(edge for edge in edges if edge is not None)
