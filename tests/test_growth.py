"""A population for the benchmarks: clones that a worker takes for its own borrowers, and what is told of them."""

import os
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from benchmarks import growth_page, recordings
from benchmarks.growth import GROWTH, Asked, Growth, Row, Typical, grow, read_growth
from benchmarks.population import RECORD_STATES, Population, Snapshot, encoded_of, snapshot_of
from benchmarks.recordings import PARTITIONS
from benchmarks.result import Run, this_machine
from benchmarks.sweep import SWEEP, Swept, Wanted, size_for, sweep
from benchmarks.traffic import LEAST_MS, TOPICS, live, stretch_of
from schemas.partitioning import partition_of
from schemas.topics import CONTROL, INPUTS
from streams.engine.calendar import DAY_MS
from streams.engine.erasure import uncount
from streams.engine.state import unpack, unpack_task
from streams.store.memory import MemoryStore
from streams.worker.commitlog import Committed, Reader
from tests.parts import BrokenPart, MissingPart

_TEMPLATES = (150, 6_000)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordings, "_CACHE", tmp_path_factory.mktemp("cache"))
        return snapshot_of(recordings.recording_of(1, *_TEMPLATES), lambda _: None)


@pytest.fixture
def population(snapshot: Snapshot) -> Population:
    return Population(snapshot, 3 * len(snapshot.templates) + 7)


def _read(population: Population, partition: int) -> list[Committed]:
    """The log of a task as its reader finds it."""
    values = [value for _, encoded in encoded_of(population.commits(partition)) for value in encoded.values]
    log = Reader(partition)
    fed = (log.feed(offset, value) for offset, value in enumerate(values))
    return [committed for committed in fed if committed is not None]


def test_a_population_stands_in_its_log_each_clone_once_where_it_belongs(population: Population) -> None:
    found: Counter[str] = Counter()
    for partition in range(PARTITIONS):
        records = [committed.record for committed in _read(population, partition)]
        names = [name for record in records for name in record.changed]
        assert {partition_of(name.encode(), PARTITIONS) for name in names} == {partition}
        assert (records[0].kind, records[0].seq) == ("claim", 1)
        assert records[-1].roll.borrowers == len(names)
        assert records[-1].positions == dict.fromkeys(INPUTS, (0, population.snapshot.clock_ms))
        found.update(names)
    assert found == Counter(population.name(clone) for clone in range(population.size))


def test_a_record_holds_a_bounded_number_of_states(snapshot: Snapshot) -> None:
    records = [record for record, _ in encoded_of(Population(snapshot, 10 * RECORD_STATES).commits(0))]
    sizes = [len(record.changed) for record in records[1:-1]]
    assert len(sizes) > 1
    assert set(sizes[:-1]) == {RECORD_STATES}


async def test_a_store_that_copies_the_log_holds_state_wake_up_and_failures_of_each_template(
    population: Population,
) -> None:
    templates = population.snapshot.templates
    for partition in range(PARTITIONS):
        store, log = MemoryStore(partition), _read(population, partition)
        last = log[-1].last
        await store.claim(last, log[-1].record.incarnation)
        applied: int | None = None
        for committed in log:
            await store.apply(last, applied, committed.change)
            applied = committed.last
        clones = {
            population.name(clone): templates[clone % len(templates)]
            for clone in range(population.size)
            if population.partition(clone) == partition
        }
        loaded = await store.load(last, last, list(clones), 10**15, population.size, ("", "~"))
        assert loaded.blobs == {name: template.state for name, template in clones.items()}
        assert loaded.due == sorted((one.wake_ms, name) for name, one in clones.items() if one.wake_ms is not None)
        assert loaded.failures == sorted(begin + name for name, one in clones.items() for begin in one.failures)
        assert (await store.roll(last, last, None, 0)).total == log[-1].record.roll.borrowers


def test_a_task_counts_its_clones(population: Population) -> None:
    for partition in range(PARTITIONS):
        log = _read(population, partition)
        packed = log[-1].record.packed_task
        assert packed is not None
        task = unpack_task(packed)
        assert (task.clock_ms, task.sweep) == (population.snapshot.clock_ms, None)
        states = [state for committed in log for state in committed.record.packed_states.values()]
        assert sum(task.levels.values()) == len(states)
        for state in states:
            uncount(unpack(state), task)
        left = [pair for by_bucket in task.loans.values() for pair in by_bucket.values()]
        assert all(pair == [0, 0] for pair in left)
        assert not any((*task.levels.values(), *task.statuses.values(), *task.reviews.values(), task.lying))


def test_typical_borrowers_have_one_open_loan_of_twelve_instalments(snapshot: Snapshot) -> None:
    typical = snapshot.typical().templates
    assert 0 < len(typical) < len(snapshot.templates)
    assert {len(unpack(one.state).facts.loans) for one in typical} == {1}


# --- traffic ----------------------------------------------------------------------------------------------------------


def test_events_are_told_of_clones_of_their_borrower_under_ids_of_their_own(population: Population) -> None:
    templates = {template.name for template in population.snapshot.templates}
    stretch = stretch_of(population, 1_000)
    records = list(live(population, stretch, 1))
    told = [(record, msgspec.json.decode(record.value or b"")) for record in records if record.topic != CONTROL]
    assert {record.topic for record, _ in told} <= set(TOPICS)
    assert 900 < len(told) < 1_200
    # The recording itself tells a few events twice.
    assert len({event["event_id"] for _, event in told}) == len(
        {(event["event_id"], record.key) for record, event in told}
    )
    for record, event in told:
        assert record.key == event["borrower_id"].encode()
        assert record.partition == partition_of(record.key, PARTITIONS)
        assert event["borrower_id"].partition("-")[2] in templates
    ticks = Counter(record.timestamp for record in records if record.topic == CONTROL)
    assert set(ticks.values()) == {PARTITIONS}
    assert population.snapshot.clock_ms < min(ticks) <= max(ticks) <= stretch.until_ms


def test_the_same_seed_tells_the_same(population: Population) -> None:
    stretch = stretch_of(population, 500)
    first, second, other = (list(live(population, stretch, seed)) for seed in (1, 1, 2))
    assert first == second != other


def test_twice_as_many_borrowers_take_half_the_time_for_as_many_events(snapshot: Snapshot) -> None:
    count, start_ms = len(snapshot.templates), snapshot.clock_ms
    once, twice, often = (stretch_of(Population(snapshot, count * times), 500) for times in (1, 2, 500))
    assert (once.until_ms - start_ms) / (twice.until_ms - start_ms) == pytest.approx(2, rel=0.3)
    assert once.share == pytest.approx(1, abs=0.05)
    assert often.until_ms <= start_ms + LEAST_MS
    assert often.share < 0.5


def test_a_population_for_a_sweep_is_as_large_as_its_wake_ups_ask_for(snapshot: Snapshot) -> None:
    population = Population(snapshot, size_for(snapshot, 400))
    assert population.waking_until(snapshot.clock_ms + DAY_MS) == pytest.approx(400, rel=0.2)


def test_a_recording_that_ends_too_early_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "_CACHE", tmp_path)
    with pytest.raises(BrokenPart, match="take more events"):
        snapshot_of(recordings.recording_of(1, 500, 300), lambda _: None)


# --- the page ---------------------------------------------------------------------------------------------------------


def _row(borrowers: int) -> Row:
    run = Run("", 0, 1_000, 2.0, 500.0, {"contestant": 80.0, "redis": 9.5}, peak_mib={"contestant": 1_024.0})
    return Row(borrowers, 1, 12.5, 3.0, 2_100.0, 1_524.0, 735.0, 40, run)


_GROWTH = Growth(this_machine(), {}, {}, [_row(50_000), _row(5_000_000)], Typical(50_000, 2_048.0, 1_796.0, 800.0), 0.9)


def test_the_figures_stand_between_their_marks() -> None:
    page = f"before\n{growth_page.BEGIN}\nold\n{growth_page.END}\nafter\n"
    filled = growth_page.filled(page, growth_page.block(_GROWTH, None))
    assert filled.startswith("before\n")
    assert filled.endswith("\nafter\n")
    assert "old" not in filled
    assert "| 5,000,000 | 1 | 12.5 | 3.0 | 2,100 |" in filled
    assert "**2,048 bytes**" in filled
    assert growth_page.filled(filled, growth_page.block(_GROWTH, None)) == filled


def test_the_plot_is_drawn_for_any_number_of_sizes() -> None:
    for rows in (_GROWTH.rows, _GROWTH.rows[:1], []):
        ElementTree.fromstring(growth_page.plot(msgspec.structs.replace(_GROWTH, rows=rows)))


def test_page_and_plot_are_those_of_the_result_files() -> None:
    found = read_growth(GROWTH)
    if found is None:
        pytest.skip("no result is kept: python -m benchmarks growth, then growth --doc")
    page = growth_page.PAGE.read_text()
    assert growth_page.filled(page, growth_page.block(found, growth_page.read_sweep(SWEEP))) == page
    assert growth_page.PLOT.read_text() == growth_page.plot(found)


# --- on real parts ----------------------------------------------------------------------------------------------------


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.timeout(300)
def test_workers_take_a_population_for_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "_CACHE", tmp_path / "cache")
    asked = Asked(1, _TEMPLATES, 1_500, {}, None)
    try:
        grown = grow(asked, [300], [1], 0, tmp_path / "growth.json")
        swept = sweep(asked, Wanted(60, 100.0, 2))
    except MissingPart as missing:
        if os.environ.get("DUEWATCH_REQUIRE_REAL") == "1":
            raise
        pytest.skip(str(missing))
    (row,) = grown.rows
    assert read_growth(tmp_path / "growth.json") == grown
    assert min(row.take_over_s, row.rebuild_s) > 0
    assert row.state_bytes < row.redis_bytes_per_borrower < 10_000
    assert (row.run.dead_letters, row.run.events > 0) == (0, True)
    assert msgspec.json.decode(msgspec.json.encode(swept), type=Swept) == swept
    assert swept.wakes == pytest.approx(60, rel=0.3)
    assert swept.seconds == max(swept.seconds_by_partition) > 0
    assert 0 < swept.p50_ms <= swept.p99_ms <= swept.highest_ms
