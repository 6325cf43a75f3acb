"""A second, deliberately slow reading of the fall of a score: every answer from the whole list of scores."""

from collections.abc import Sequence


def fall(noted: Sequence[tuple[int, int]], day: int, score: int, span: int) -> int | None:
    """Points from the highest score at the end of one of the `span` days before `day` down to `score`.

    Args:
        noted: (day, score) of every judgement, in their order.
    """
    ends = []
    for back in range(1, span + 1):
        until_then = [before for noted_day, before in noted if noted_day <= day - back]
        ends += until_then[-1:]
    return max(0, max(ends) - score) if ends else None
