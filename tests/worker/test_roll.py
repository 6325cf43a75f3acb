"""The rolling snapshot: wherever the commit log is cut by its leave, the rest holds everybody."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import msgspec
from msgspec import structs

from streams.engine.chunk import Folded, TaskState
from streams.engine.order import Ordered
from streams.store.contract import ROLL_FAILURES, Rolled
from streams.store.memory import MemoryStore
from streams.worker.commitlog import CommitRecord, Committed, Roll
from streams.worker.roll import carried_on
from tests.worker.bench import Bench
from tests.worker.echo import Echo

BUDGET = 40


class Waking(Echo):
    """States of some size, a wake-up for everybody, and now and then somebody who is erased."""

    def fold(self, task: TaskState, chunk: Sequence[Ordered], *rest: Any) -> Folded:
        folded = super().fold(task, chunk, *rest)
        folded.changed = {name: b"%010d" % int(count) for name, count in folded.changed.items()}
        folded.wakes = {name: int(count) for name, count in folded.changed.items()}
        blobs: Mapping[str, bytes | None] = rest[0]
        gone = [name for name, count in folded.changed.items() if int(count) % 7 == 0 and blobs.get(name) is not None]
        for name in gone:
            del folded.changed[name], folded.wakes[name]
        folded.erased = gone
        return folded


async def fed(chunks: int, borrowers: int) -> Bench:
    """A task that has committed so many chunks, of few borrowers each, and idled in between."""
    bench = Bench(Waking(), carry_bytes=BUDGET)
    await bench.start()
    bench.end_all("logins")
    random = Random(3)
    for offset in range(chunks):
        # A few come all the time, most but once in a while.
        name = random.choice(range(3)) if random.random() < 0.7 else random.randrange(borrowers)
        bench.feed("logins", range(offset, offset + 1), key=b"b%03d" % name)
        await bench.until(lambda: len(bench.log.outputs) == offset + 1)  # noqa: B023 - awaited at once
    await bench.task.stop(1)
    assert not bench.failures
    return bench


async def copied(records: Sequence[Committed]) -> tuple[dict[str, bytes | None], Mapping[str, int | None], int]:
    """What a store holds that has copied these commits: states, wake-ups, and how many states."""
    store = MemoryStore(3)
    end = records[-1].last
    await store.claim(end, "log")
    applied: int | None = None
    for committed in records:
        await store.apply(end, applied, committed.change)
        applied = committed.last
    names = sorted([name async for name in store.borrowers()])
    looked = await store.look(end, end, names)
    return looked.states, looked.wakes, looked.wake_count


async def test_wherever_the_log_may_be_cut_the_rest_holds_everybody() -> None:
    bench = await fed(chunks=220, borrowers=40)
    records = bench.log.records()
    cuts = 0
    for end in range(2, len(records), 7):
        whole = await copied(records[:end])
        cut = records[end - 1].record.roll.whole_after + 1
        rest = [committed for committed in records[:end] if committed.first >= cut]
        assert await copied(rest) == whole
        assert len(whole[0]) == records[end - 1].record.roll.borrowers
        cuts = max(cuts, cut)
    # Rounds do get done, one after the other, and what may be cut is not far behind the end.
    assert len({committed.record.roll.whole_after for committed in records}) > 5
    assert cuts > 120


async def test_a_commit_carries_no_more_than_its_budget_and_nothing_that_it_changes() -> None:
    bench = await fed(chunks=120, borrowers=40)
    for committed in bench.log.records():
        record = committed.record
        assert not record.carried.keys() & (record.changed.keys() | set(record.erased))
        # One may go over it.
        assert sum(len(state) for state, _ in record.carried.values()) < BUDGET + 10
    assert any(committed.record.carried for committed in bench.log.records())
    assert any(committed.record.erased for committed in bench.log.records())


def test_the_log_is_not_cut_on_the_word_of_a_store_that_misses_somebody() -> None:
    before = Committed(CommitRecord("chunk", 5, "log", roll=Roll(20, 3, 10)), 30, 30, b"")
    folded = Folded(TaskState())
    nobody_left = Rolled({"a": (b"1", None)}, None, 10)
    assert carried_on(0, before, nobody_left, folded, {}) == ({"a": (b"1", None)}, [], Roll(30, 20, 10))
    for total in (9, 11):
        assert carried_on(0, before, structs.replace(nobody_left, total=total), folded, {}).roll == Roll(30, 3, 10)
    assert carried_on(0, before, structs.replace(nobody_left, after="a"), folded, {}).roll == Roll(20, 3, 10, None, "a")


def test_who_is_new_and_who_is_gone_is_counted() -> None:
    before = Committed(CommitRecord("chunk", 5, "log", roll=Roll(20, 3, 10)), 30, 30, b"")
    folded = Folded(TaskState(), erased=["gone", "again"])
    folded.changed = {"new": b"1", "known": b"1", "kept": b"1", "again": b"1"}
    rolled = Rolled({"a": (b"1", None), "gone": (b"1", 5)}, None, 10, ["0000001|a", "0000001|gone"])
    carried = carried_on(0, before, rolled, folded, {"new": None, "known": b"0", "again": b"0"})
    # One came, two went, of whom one came again.
    assert carried == ({"a": (b"1", None)}, ["0000001|a"], Roll(30, 20, 10))


def test_a_round_of_the_log_before_begins_anew_with_the_borrowers() -> None:
    # They were found by age, without a place.
    before = msgspec.convert([20, 3, 10, None], Roll)
    assert before == Roll(20, 3, 10, None, "")


def test_a_round_goes_through_the_index_of_failures_too() -> None:
    entries = [f"0000001|b{n:04d}" for n in range(ROLL_FAILURES)]
    before = Committed(CommitRecord("chunk", 5, "log", roll=Roll(20, 3, 10)), 30, 30, b"")
    first = carried_on(0, before, Rolled({}, None, 10, entries), Folded(TaskState()), {})
    assert first == ({}, entries, Roll(20, 3, 10, entries[-1], None))
    before = structs.replace(before, record=structs.replace(before.record, roll=first.roll))
    assert carried_on(0, before, Rolled({}, None, 10, ["0000002|a"]), Folded(TaskState()), {}).roll == Roll(30, 20, 10)
