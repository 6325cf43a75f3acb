"""The fall of the score: the short history gives what the whole list of scores says, and stays short."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine import decide, score_edges
from streams.engine.fold import Engine
from streams.engine.score_fall import SPANS, fallen, keep_to, note, peaks_of
from streams.engine.standing import Standing
from streams.policy.loader import load
from streams.replay.cycle import LocalTask, chunks
from streams.replay.recording import Recording
from streams.replay.simulate.writing import simulate
from tests.oracle.scores import fall

STEPS = st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 1, 2, 5, 9, 31, 40]), st.integers(400, 410)), max_size=120)
CARD = 7


@given(STEPS, st.integers(0, 45))
def test_a_fall_is_what_the_whole_list_of_scores_says(steps: list[tuple[int, int]], later: int) -> None:
    standing, noted, day = Standing(), [], 20_000
    keep_to(standing, CARD)
    for step, score in steps:
        day += step
        found = [fallen(peak, score) for peak in peaks_of(standing, day)]
        assert found == [fall(noted, day, score, span) for span in SPANS]
        note(standing, score, 0, day)
        noted.append((day, score))
    found = [fallen(peak, 405) for peak in peaks_of(standing, day + later)]
    assert found == [fall(noted, day + later, 405, span) for span in SPANS]


def test_time_alone_makes_no_fall() -> None:
    standing = Standing()
    keep_to(standing, CARD)
    for day, score in ((1, 600), (2, 650), (5, 500), (5, 580), (6, 560)):
        note(standing, score, 0, day)
    falls = [tuple(fallen(peak, 560) for peak in peaks_of(standing, day)) for day in range(6, 50)]
    for before, after in pairwise(falls):
        assert all(now is not None and was is not None and now <= was for was, now in zip(before, after, strict=True))
    assert falls[0] == (90, 90)
    assert falls[-1] == (0, 0)


def test_the_history_is_short_however_busy_the_borrower() -> None:
    usual, falling, rising = Standing(), Standing(), Standing()
    empty = len(msgspec.msgpack.encode(usual))
    for day in range(20_000, 20_400):
        note(usual, 640 + day % 3 * 10, 0, day)
        note(falling, 900 - (day - 20_000), 0, day)
        note(rising, 200 + (day - 20_000), 0, day)
    assert len(msgspec.msgpack.encode(usual)) - empty < 24
    assert len(msgspec.msgpack.encode(rising)) - empty < 16
    assert len(msgspec.msgpack.encode(falling)) - empty < 31 * 6 + 10


def test_another_scorecard_begins_anew() -> None:
    standing = Standing()
    keep_to(standing, CARD)
    note(standing, 600, 0, 10)
    note(standing, 600, 0, 11)
    assert peaks_of(standing, 12) == (600, 600)
    keep_to(standing, CARD)
    assert peaks_of(standing, 12) == (600, 600)
    keep_to(standing, CARD + 1)
    assert peaks_of(standing, 12) == (None, None)
    note(standing, 500, 0, 12)
    assert peaks_of(standing, 13) == (500, 500)


def test_over_a_population_falls_are_what_the_whole_lists_of_scores_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: dict[int, tuple[Standing, list[tuple[int, int]]]] = {}
    told: list[int] = []

    def noting(standing: Standing, score: int, tier: int, day: int) -> None:
        _, whose = noted.setdefault(id(standing), (standing, []))
        falls = [fallen(peak, score) for peak in peaks_of(standing, day)]
        assert falls == [fall(whose, day, score, span) for span in SPANS]
        told.append(falls[0] or 0)
        whose.append((day, score))
        note(standing, score, tier, day)

    monkeypatch.setattr(decide.score_fall, "note", noting)
    monkeypatch.setattr(score_edges, "note", noting)
    simulate(seed=5, borrowers=8, events=4_000, out=tmp_path / "recording", partitions=1)
    task = LocalTask(Engine(load("standard")))
    with Recording.open(tmp_path / "recording") as recording:
        for chunk in chunks(recording, 0):
            for _ in task.fold(chunk):
                pass
    assert len(noted) == 8
    assert max(told) > 50
