"""How many records a chunk takes."""

from streams.worker.pace import FOLD_LEAST_S, FOLD_MOST_S, RECORDS_LEAST, SHARE, Pace


def at_rate(rate: int, most: int = 1_000_000) -> Pace:
    """A pace that has seen nothing but folds at `rate` records a second."""
    pace = Pace(most)
    for _ in range(100):
        pace.note(rate, 1.0)
    return pace


def test_the_further_behind_the_longer_within_bounds() -> None:
    pace = at_rate(20_000)
    taken = [pace.records(waiting) for waiting in (0, 1, 20_000, 80_000, 160_000, 1_000_000, 9_000_000)]
    shortest, longest = 20_000 * FOLD_LEAST_S, 20_000 * FOLD_MOST_S
    assert taken == [shortest, shortest, 20_000 / SHARE, 80_000 / SHARE, longest, longest, longest]


def test_slow_folds_make_short_chunks_and_fast_ones_long() -> None:
    assert at_rate(2_000).records(10**6) < at_rate(20_000).records(10**6)
    pace = at_rate(20_000)
    before = pace.records(0)
    pace.note(1_000, 1.0)
    assert RECORDS_LEAST < pace.records(0) < before


def test_a_chunk_has_bounds_whatever_the_pace() -> None:
    assert at_rate(100_000, most=700).records(10**9) == 700
    assert at_rate(RECORDS_LEAST).records(0) == RECORDS_LEAST


def test_few_records_tell_nothing_of_the_pace() -> None:
    pace = at_rate(20_000)
    before = pace.records(0)
    pace.note(RECORDS_LEAST - 1, 60.0)
    pace.note(0, 5.0)
    assert pace.records(0) == before
