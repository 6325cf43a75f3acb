"""The chunk cycle: what a task folds and when, and what becomes of it when a step fails."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from faust.types import TP

from streams.engine.chunk import Folded, Sweep, TaskState
from streams.engine.order import Ordered
from streams.store.contract import Corrupted
from streams.worker.pace import FOLD_MOST_S
from streams.worker.producer import Ambiguous, Refused
from streams.worker.task import Refusing
from streams.worker.transport import Fetched
from tests.worker.bench import PARTITION, Bench
from tests.worker.echo import Echo


def told(topic: str, offset: int, count: int) -> bytes:
    return f'["{topic}",{PARTITION},{offset},{count}]'.encode()


class Sparing(Echo):
    """Folds two records at most in one go, and sweeps twice after that."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[list[int]] = []
        self._sweeps = 2

    def fold(self, task: TaskState, chunk: Sequence[Ordered], *rest: Any) -> Folded:
        self.chunks.append([offset for _, _, offset, _ in chunk])
        if task.sweep is not None:
            self._sweeps -= 1
            folded = super().fold(task, [], *rest)
            folded.task.sweep = task.sweep if self._sweeps else None
            return folded
        folded = super().fold(task, chunk[:2], *rest)
        if len(chunk) > 2:
            folded.task.sweep = Sweep(0, PARTITION, 0, "tick-0") if self._sweeps else None
        return folded


class Failing(Echo):
    def fold(self, *_: Any) -> Folded:
        raise ZeroDivisionError("b-17 has no income")


async def test_nothing_is_folded_while_a_topic_may_hold_earlier_records() -> None:
    bench = Bench(Echo())
    await bench.start()
    bench.end_all("logins", "repayments")
    bench.feed("logins", range(2))
    await bench.rest()
    assert bench.log.outputs == []
    bench.feed("repayments", range(1), end=9)
    await bench.until(lambda: len(bench.log.outputs) == 2)
    # Offset 1 of logins is later than all that is known of repayments, which goes on.
    assert bench.log.outputs == [told("logins", 0, 0), told("repayments", 0, 1)]
    bench.feed("repayments", range(1, 1), end=1)
    await bench.until(lambda: len(bench.log.outputs) == 3)
    await bench.task.stop(1)
    assert not bench.failures


async def test_records_left_by_a_fold_come_first_in_the_next_and_an_open_sweep_before_them() -> None:
    engine = Sparing()
    bench = Bench(engine)
    await bench.start()
    bench.end_all("logins")
    bench.feed("logins", range(5))
    await bench.until(lambda: len(bench.log.outputs) == 5)
    assert engine.chunks == [[0, 1, 2, 3, 4], [2, 3, 4], [2, 3, 4], [2, 3, 4], [4]]
    assert [committed.record.positions["logins"] for committed in bench.log.records()[1:]] == [
        (2, 10),
        (2, 10),
        (2, 10),
        (4, 30),
        (5, 40),
    ]
    await bench.task.stop(1)


async def test_positions_pass_markers_at_the_end() -> None:
    bench = Bench(Echo())
    await bench.start()
    bench.end_all("logins")
    bench.feed("logins", range(2), end=2)
    await bench.until(lambda: len(bench.log.outputs) == 2)
    bench.task.deliver(Fetched("logins", PARTITION, bench.inlet.session, 2, 3, 3, []))
    bench.feed("repayments", range(1))
    await bench.until(lambda: len(bench.log.outputs) == 3)
    assert bench.log.records()[-1].record.positions["logins"] == (3, 10)
    await bench.task.stop(1)


async def test_a_store_that_does_not_answer_holds_the_task_up_and_loses_nothing() -> None:
    bench = Bench(Echo())
    await bench.start()
    bench.end_all("logins")
    bench.store.silent = 2
    bench.feed("logins", range(2))
    bench.feed("logins", range(2, 4))
    await bench.until(lambda: len(bench.log.outputs) == 4)
    assert bench.log.outputs == [told("logins", offset, offset) for offset in range(4)]
    assert bench.takeovers == 1
    await bench.task.stop(1)


@pytest.mark.parametrize("committed", [True, False])
async def test_an_unknown_outcome_is_read_from_the_log(committed: bool) -> None:
    bench = Bench(Echo())
    await bench.start()
    bench.end_all("logins")
    bench.log.failing = [(Ambiguous("no answer"), committed)]
    session = bench.inlet.session
    bench.feed("logins", range(3))
    await bench.until(lambda: bench.inlet.session != session)
    await bench.until(lambda: bench.task.ready)
    start = bench.inlet.positions[TP("logins", PARTITION)]
    assert start == (3 if committed else 0)
    bench.feed("control", range(0))
    bench.feed("repayments", range(0))
    bench.feed("logins", range(start, 5))
    await bench.until(lambda: len(bench.log.outputs) == 5)
    assert bench.log.outputs == [told("logins", offset, offset) for offset in range(5)]
    await bench.task.stop(1)


async def test_the_worker_stops_when_the_broker_refuses_again_and_again() -> None:
    bench = Bench(Echo())
    await bench.start()
    bench.log.failing = [(Refused("too large"), False), *[(Refused("too large"), False)] * 4]
    bench.end_all("logins")
    bench.feed("logins", range(1))
    await bench.until(lambda: bench.failures)
    assert isinstance(bench.failures[0], Refusing)
    assert bench.log.outputs == []


async def test_a_damaged_state_is_copied_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Echo())
    asked: list[bool] = []
    take = bench.task._take

    async def noted(anew: bool) -> Any:
        asked.append(anew)
        return await take(anew)

    monkeypatch.setattr(bench.task, "_take", noted)
    await bench.start()

    async def damaged(*_: Any) -> Any:
        monkeypatch.undo()
        monkeypatch.setattr(bench.task, "_take", noted)
        raise Corrupted("checksum")

    monkeypatch.setattr(bench.store, "load", damaged)
    bench.end_all("logins")
    bench.feed("logins", range(1))
    await bench.until(lambda: len(asked) == 2)
    assert asked == [False, True]
    await bench.task.stop(1)


async def test_a_store_at_another_commit_is_never_computed_from() -> None:
    bench = Bench(Echo())
    await bench.start()
    bench.end_all("logins")
    bench.feed("logins", range(2))
    await bench.until(lambda: len(bench.log.outputs) == 2)
    await bench.store.wipe(bench.log.records()[0].last)
    bench.feed("logins", range(2, 3))
    await bench.until(lambda: bench.takeovers == 2 and bench.task.ready)
    assert bench.inlet.positions[TP("logins", PARTITION)] == 2
    bench.end_all("logins")
    bench.feed("logins", range(2, 3))
    await bench.until(lambda: len(bench.log.outputs) == 3)
    assert bench.log.outputs[-1] == told("logins", 2, 2)
    await bench.task.stop(1)


async def test_what_belongs_to_an_earlier_session_is_left_out() -> None:
    bench = Bench(Echo())
    await bench.start()
    session = bench.inlet.session
    bench.inlet.session = session - 1
    bench.feed("logins", range(7, 9))
    bench.inlet.session = session
    bench.end_all("logins")
    bench.feed("logins", range(1))
    await bench.until(lambda: bench.log.outputs == [told("logins", 0, 0)])
    assert not bench.failures
    await bench.task.stop(1)


async def test_a_gap_in_what_is_handed_over_stops_the_worker() -> None:
    bench = Bench(Echo())
    await bench.start()
    bench.end_all("logins")
    bench.feed("logins", range(1, 2))
    await bench.rest()
    assert "logins went on at offset 1 instead of 0" in str(bench.failures[0])
    assert bench.log.outputs == []


async def test_an_exception_of_the_engine_stops_the_worker_with_nothing_written() -> None:
    bench = Bench(Failing())
    await bench.start()
    bench.end_all("logins")
    bench.feed("logins", range(1))
    await bench.until(lambda: bench.failures)
    assert isinstance(bench.failures[0], ZeroDivisionError)
    assert len(bench.log.records()) == 1
    assert bench.inlet.opened == set()


async def test_a_full_topic_is_shut_and_the_one_waited_for_is_not() -> None:
    bench = Bench(Echo(), records=100)
    await bench.start()
    logins, repayments = TP("logins", PARTITION), TP("repayments", PARTITION)
    bench.end_all("logins", "repayments")
    bench.feed("logins", range(100), end=500)
    assert logins not in bench.inlet.opened
    assert repayments in bench.inlet.opened
    await bench.rest()
    bench.feed("repayments", range(0))
    await bench.until(lambda: logins in bench.inlet.opened)
    await bench.until(lambda: len(bench.log.outputs) == 100)
    await bench.task.stop(1)


async def test_a_chunk_shrinks_when_its_fold_is_slow() -> None:
    bench = Bench(Echo(pause_s=FOLD_MOST_S * 1.2), records=4_000)
    await bench.start()
    bench.end_all("logins")
    bench.feed("logins", range(3_000))
    await bench.until(lambda: len(bench.log.records()) >= 3)
    await bench.task.stop(2)
    sizes = [later - earlier for earlier, later in pairs(bench)]
    assert sizes[0] > sizes[1]


async def test_a_chunk_is_larger_where_the_log_is_known_to_go_on() -> None:
    sizes = []
    for end in (3_000, 900_000):
        bench = Bench(Echo(), records=20_000)
        await bench.start()
        bench.end_all("logins")
        bench.task.told_end("logins", end)
        bench.feed("logins", range(3_000))
        await bench.until(lambda bench=bench: len(bench.log.records()) >= 2)  # type: ignore[misc]
        await bench.task.stop(2)
        sizes.append(max(later - earlier for earlier, later in pairs(bench)))
    assert sizes[0] < sizes[1] == 3_000


def pairs(bench: Bench) -> list[tuple[int, int]]:
    reached = [committed.record.positions.get("logins", (0, 0))[0] for committed in bench.log.records()]
    return list(pairwise(reached))


async def test_stopping_ends_after_the_chunk_under_way() -> None:
    bench = Bench(Echo())
    await bench.start()
    bench.end_all("logins")
    bench.feed("logins", range(3))
    await bench.task.stop(1)
    assert bench.log.outputs in ([], [told("logins", offset, offset) for offset in range(3)])
    assert not bench.task.ready
    assert bench.inlet.opened == set()


async def test_idling_is_no_stall() -> None:
    bench = Bench(Echo())
    now_s = bench.task.progress_s
    # Not taken over yet is work too.
    assert bench.task.stalled_s(now_s + 50) == 50
    await bench.start()
    bench.end_all()
    now_s = bench.task.progress_s
    assert bench.task.stalled_s(now_s + 500) == 0
    # The fetcher may have died without a word: the broker, asked past it, tells of records that never came.
    bench.task.told_end("logins", 5)
    assert bench.task.stalled_s(now_s + 560) == 60
    await bench.task.stop(1)


async def test_the_last_chunk_is_work_until_it_is_in_the_store() -> None:
    bench = Bench(Echo())
    await bench.start()
    bench.end_all("logins")
    bench.store.silent = 1_000_000
    bench.feed("logins", range(1))
    await bench.until(lambda: bench.store.silent < 1_000_000)
    now_s = bench.task.progress_s
    assert bench.task.stalled_s(now_s + 50) == 50
    bench.store.silent = 0
    await bench.until(lambda: bench.task.positions[TP("logins", PARTITION)] == 1)
    assert bench.task.stalled_s(now_s + 5_000) == 0
    await bench.task.stop(1)
