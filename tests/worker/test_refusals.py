"""What is too much to refuse, and what is not."""

import pytest

from streams.engine.chunk import DeadLetter, Failure, Folded, TaskState
from streams.engine.order import LogRecord, Ordered
from streams.worker.refusals import Poisoned, PoisonLimit, Recent, counted
from tests.worker.bench import PARTITION, POISON, Bench
from tests.worker.echo import BAD, Echo

LIMIT = PoisonLimit(window=100, share=0.5, least=10, quarantines=2)


def fold(good: int, bad: int, topic: str = "logins", reason: str = "missing_field") -> tuple[list[Ordered], Folded]:
    """A chunk of one topic, bad records first."""
    records = [LogRecord(topic, 0, offset, 0, b"b", b"{}") for offset in range(good + bad)]
    letters = [DeadLetter(record, reason, "why", "decode") for record in records[:bad]]
    return [(0, topic, record.offset, record) for record in records], Folded(
        TaskState(), dead_letters=letters, taken=len(records)
    )


def after(recent: Recent, good: int, bad: int, limit: PoisonLimit = LIMIT, **of: str) -> Recent:
    return counted(recent, *fold(good, bad, **of), limit, 3)


def test_a_share_of_one_topic_is_too_much_whatever_else_comes_in() -> None:
    recent: Recent = {}
    for _ in range(9):
        recent = after(recent, good=50, bad=0, topic="logins")
        recent = after(recent, good=1, bad=1, topic="repayments")
    with pytest.raises(
        Poisoned, match="10 of the last 20 records of repayments are refused, now mostly for missing_fi"
    ):
        after(recent, good=1, bad=1, topic="repayments")


def test_few_are_never_too_much() -> None:
    assert after({}, good=0, bad=9)["logins"] == (9, 9)


def test_what_lies_long_ago_is_forgotten() -> None:
    recent = after({}, good=20, bad=9)
    recent = after(recent, good=10_000, bad=0)
    assert recent["logins"] == (100, 0)
    assert after(recent, good=0, bad=60)["logins"] == (160, 60)


@pytest.mark.parametrize("size", [1, 10, 40])
def test_chunk_size_hardly_matters(size: int) -> None:
    """60 % bad stops within a window, 30 % never does."""

    def stops(share: float) -> bool:
        recent: Recent = {}
        told = 0.0
        for _ in range(400 // size):
            told += size * share
            bad, told = int(told), told - int(told)
            try:
                recent = after(recent, size - bad, bad)
            except Poisoned:
                return True
        return False

    assert stops(0.6)
    assert not stops(0.3)


def test_a_share_of_one_lets_all_through_and_counts_from_zero_afterwards() -> None:
    recent = after({}, good=90, bad=9)
    through = after(recent, good=0, bad=500, limit=LIMIT._replace(share=1.0))
    assert "logins" not in through
    assert after(through, good=0, bad=9)["logins"] == (9, 9)


def test_letters_of_a_sweep_count_without_records() -> None:
    chunk, folded = fold(good=0, bad=12)
    folded.taken = 0
    with pytest.raises(Poisoned, match="12 of the last 12"):
        counted({}, chunk, folded, LIMIT, 3)


def test_a_busy_borrower_in_quarantine_stops_nobody() -> None:
    assert after({}, good=0, bad=500, reason="quarantined")["logins"] == (100, 0)


def test_borrower_after_borrower_in_quarantine_is_too_much() -> None:
    recent: Recent = {}
    failure = Failure("control", 7, "KeyError in rule, line 1", "")
    for number in range(3):
        chunk, folded = fold(good=5, bad=0)
        folded.quarantined = [failure]
        if number < 2:
            recent = counted(recent, chunk, folded, LIMIT, 3)
    assert recent["quarantined"] == (10, 2)
    with pytest.raises(Poisoned, match=r"task 3: .*\(3 lately, the last with KeyError in rule, line 1\)"):
        counted(recent, chunk, folded, LIMIT, 3)
    # Once it is long ago it is good again, and without a new one nothing is wrong.
    assert after(recent, good=1_000, bad=0)["quarantined"] == (100, 0)


async def test_nothing_of_the_refused_chunk_is_committed_and_a_restart_goes_on_counting() -> None:
    bench = Bench(Echo())
    await bench.start()
    bench.end_all("logins")
    bench.feed("logins", range(POISON.least - 1), value=BAD)
    await bench.until(lambda: len(bench.log.outputs) == POISON.least - 1)
    bench.feed("logins", range(POISON.least - 1, POISON.least + 3), value=BAD)
    await bench.until(lambda: bench.failures)
    assert isinstance(bench.failures[0], Poisoned)
    assert f"task {PARTITION}: 13 of the last 13 records of logins" in str(bench.failures[0])
    assert len(bench.log.outputs) == POISON.least - 1
    # Another worker: nine are known to it.
    again = Bench(Echo())
    again.log = bench.log
    await again.start()
    again.end_all("logins")
    again.feed("logins", range(POISON.least - 1, POISON.least), value=BAD)
    await again.until(lambda: again.failures)
    assert "10 of the last 10 records of logins" in str(again.failures[0])
    assert len(bench.log.outputs) == POISON.least - 1
