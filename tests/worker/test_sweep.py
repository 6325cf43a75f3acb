"""While the wake-ups of a tick are fired in many passes, events go on: what a task folds in which pass, and that its
commit log has all of it repeated."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from faust.types import TP

from schemas.topics import COMMITS, CONTROL, INPUTS, OUTPUTS
from streams.engine import fold
from streams.engine.chunk import Folded, Sweep, TaskState
from streams.engine.fold import Engine
from streams.engine.order import LogRecord, Merge, Ordered
from streams.engine.state import pack_task, unpack_task
from streams.policy.loader import SHIPPED, load
from streams.replay import cycle
from streams.replay.cycle import LocalTask
from streams.replay.explain import explain
from streams.replay.replay import replay
from streams.store.seal import seal_all
from streams.worker import task
from streams.worker.commitlog import Committed
from streams.worker.pace import RECORDS_LEAST
from tests.replay.tape import Tape
from tests.worker.bench import PARTITION, Bench
from tests.worker.echo import Echo

INCIDENT = b"incident"
Given = list[tuple[str, int]]


class Sweeping(Echo):
    """Each control record begins a sweep of so many passes; of an incident, where its value says so. `meanwhile` is
    called at the folds of its numbers."""

    def __init__(self, passes: int, meanwhile: Mapping[int, Callable[[], None]] | None = None) -> None:
        super().__init__()
        self.given: list[Given] = []
        self.meanwhile = dict(meanwhile or {})
        self._passes = self._left = passes

    def fold(self, task: TaskState, chunk: Sequence[Ordered], *rest: Any) -> Folded:
        self.meanwhile.get(len(self.given), lambda: None)()
        self.given.append([(topic, offset) for _, topic, offset, _ in chunk])
        sweep = task.sweep
        control = next((at for at, (_, topic, _, _) in enumerate(chunk) if topic == CONTROL), len(chunk))
        if sweep is not None:
            folded = super().fold(task, chunk[:control], *rest)
            self._left -= not chunk
            folded.task.sweep = sweep if self._left else None
        else:
            folded = super().fold(task, chunk[: control + 1], *rest)
            if control < len(chunk):
                failures = ("", "~") if chunk[control][3].value == INCIDENT else None
                folded.task.sweep, self._left = Sweep(5, PARTITION, 0, "tick-0", failures), self._passes
        return folded


def at(topic: str, *offsets: int) -> Given:
    return [(topic, offset) for offset in offsets]


def reached(bench: Bench, topic: str) -> list[int]:
    return [committed.record.positions.get(topic, (0, 0))[0] for committed in bench.log.records()[1:]]


async def test_passes_of_a_sweep_and_what_is_there_take_turns_and_control_waits() -> None:
    engine = Sweeping(4)
    bench = Bench(engine)
    await bench.start()
    bench.end_all("control", "logins")
    bench.feed("control", range(2))
    # The first of them stands between the two ticks, the others behind the second.
    bench.feed("logins", range(4))
    await bench.until(lambda: len(bench.log.outputs) == 6 and not bench.task._behind)
    await bench.task.stop(1)
    ticks, first, others = at(CONTROL, 1), at("logins", 0), at("logins", 1, 2, 3)
    assert engine.given == [
        [*at(CONTROL, 0), *first, *ticks, *others],
        [*first, *ticks, *others],
        [], [], [], [],
        [*ticks, *others],
        others,
        [], [], [], [],
    ]  # fmt: skip
    # What waits in front of the task is not passed over by a pass that takes nothing.
    assert reached(bench, CONTROL) == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert reached(bench, "logins") == [0, 1, 1, 1, 1, 1, 1, 4, 4, 4, 4, 4]


async def test_what_comes_in_meanwhile_goes_in_between() -> None:
    engine = Sweeping(5)
    bench = Bench(engine)
    engine.meanwhile = {2: lambda: bench.feed("logins", range(2)), 4: lambda: bench.feed("logins", range(2, 3))}
    await bench.start()
    bench.end_all("control")
    bench.feed("control", range(1))
    await bench.until(lambda: len(engine.given) == 8 and not bench.task._behind)
    await bench.task.stop(1)
    assert engine.given == [at(CONTROL, 0), [], [], at("logins", 0, 1), [], at("logins", 2), [], []]


async def test_however_much_waits_a_sweep_is_not_held_up_for_long() -> None:
    engine = Sweeping(3)
    bench = Bench(engine, records=10_000)
    await bench.start()
    bench.end_all("control", "logins")
    bench.feed("control", range(1))
    bench.feed("logins", range(9_000), end=900_000)
    await bench.until(lambda: bench.task.positions[TP("logins", PARTITION)] == 9_000)
    await bench.task.stop(1)
    behind, beside, *rest = engine.given
    assert len(behind) > len(beside) >= RECORDS_LEAST
    assert [bool(chunk) for chunk in rest[:4]] == [False, True, False, True]


async def test_everything_waits_for_the_sweep_of_an_incident() -> None:
    engine = Sweeping(3)
    bench = Bench(engine)
    await bench.start()
    bench.end_all("control", "logins")
    bench.feed("control", range(1), value=INCIDENT)
    bench.feed("logins", range(2))
    await bench.until(lambda: len(bench.log.outputs) == 3)
    await bench.task.stop(1)
    assert engine.given == [[*at(CONTROL, 0), *at("logins", 0, 1)], [], [], [], at("logins", 0, 1)]


async def test_a_sweep_that_is_open_at_a_take_over_goes_on_there() -> None:
    engine = Sweeping(3)
    bench = Bench(engine)
    await bench.start()
    bench.store.silent = 1
    bench.end_all("control", "logins")
    bench.feed("control", range(1))
    bench.feed("logins", range(2))
    await bench.until(lambda: len(bench.log.outputs) == 3 and not bench.task._behind)
    await bench.task.stop(1)
    assert bench.log.records()[-1].record.positions["logins"][0] == 2


# --- the engine itself --------------------------------------------------------------------------------------------

BORROWERS = [f"b{number}" for number in range(9)]


def busy_mornings() -> Tape:
    """Nobody pays; the ticks of three late mornings have much to tell of everybody, and behind each many log in, one
    sends what cannot be read, and one is a new borrower."""
    tape = Tape()
    for borrower in BORROWERS:
        tape.profile("2026-01-01 09:00", borrower)
        tape.loan("2026-01-01 10:00", borrower)
    tape.days("2026-01-02", "2026-01-05")
    for number, day in enumerate(("2026-02-04", "2026-03-10", "2026-05-06")):
        tape.tick(f"{day} 01:00")
        for minute, borrower in enumerate(BORROWERS[number::2] + BORROWERS[:2]):
            tape.event(f"{day} 01:{minute:02d}", "login", borrower, outcome="ok", device_id="d", channel="app")
        tape.raw("logins", f"{day} 01:30", b"b3", b"{")
        tape.profile(f"{day} 01:31", f"new-{number}")
        tape.tick(f"{day} 01:40")
        tape.pays(f"{day} 01:41", 1_000, "b8")
    return tape


def chunk_of(
    records: Sequence[LogRecord], committed: Committed, before: Mapping[str, tuple[int, int]]
) -> list[Ordered]:
    """The records that a commit took."""
    merge = Merge(INPUTS, {topic: order_ms for topic, (_, order_ms) in before.items()})
    for topic, (end, _) in committed.record.positions.items():
        start = before.get(topic, (0, 0))[0]
        merge.push(topic, [record for record in records if record.topic == topic and start <= record.offset < end])
    return merge.take(INPUTS, len(records))


class Ran(NamedTuple):
    """A run of a worker on these records: its outputs by topic, and its commit log as it is and as it reads."""

    records: list[LogRecord]
    outputs: dict[str, list[bytes]]
    values: list[bytes]
    log: list[Committed]

    def recording(self, path: Path, values: Sequence[bytes]) -> Path:
        """The records and a part of the commit log."""
        tape = Tape()
        tape.records += self.records
        for value in values:
            tape.raw(COMMITS, "2026-06-01", None, value)
        return tape.write(path, partitions=1)


@pytest.fixture(params=[1, 4])
async def ran(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """`busy_mornings`, in passes of so many wake-ups."""
    for module in (fold, task, cycle):
        monkeypatch.setattr(module, "SWEEP_LIMIT", request.param)
    records = busy_mornings().records
    bench = Bench(Engine(load("standard"), partitions=1), records=10, topics=INPUTS)
    await bench.start()
    bench.feed_tape(records)
    ends = {TP(topic, PARTITION): len([record for record in records if record.topic == topic]) for topic in INPUTS}
    await bench.until(lambda: bench.task.positions == ends and bench.task._state.sweep is None)
    await bench.task.stop(1)
    outputs: dict[str, list[bytes]] = defaultdict(list)
    for message in bench.log.messages:
        if message.topic in OUTPUTS:
            outputs[message.topic].append(message.value or b"")
    return Ran(records, outputs, bench.log.commits, bench.log.records())


def replayed(
    recording: Path, out: Path, policy: str = "standard", chunk_records: int = 1_000
) -> dict[str, list[bytes]]:
    replay(recording, policy, out, chunk_records=chunk_records)
    found = {file.stem: file.read_bytes().splitlines() for file in out.glob("*.jsonl")}
    return {topic: lines for topic, lines in found.items() if topic in OUTPUTS and lines}


def in_any_order(outputs: Mapping[str, list[bytes]]) -> dict[str, list[bytes]]:
    return {topic: sorted(values) for topic, values in outputs.items()}


def test_commits_of_both_kinds_are_made_again_from_what_they_took(ran: Ran) -> None:
    """As an audit does it."""
    local, positions, beside = LocalTask(Engine(load("standard"), partitions=1)), ran.log[0].record.positions, 0
    for committed in ran.log[1:]:
        chunk, record = chunk_of(ran.records, committed, positions), committed.record
        beside += local.task.sweep is not None and len(chunk) > 0
        folded, due = local.fold_once(chunk)
        assert folded.taken == len(chunk)
        assert (seal_all(folded.changed), folded.wakes) == (record.changed, record.wakes)
        assert pack_task(folded.task) == record.packed_task
        local.keep(folded.changed, record.wakes, unpack_task(record.packed_task or b""), due)
        positions = record.positions
    assert beside > 5


def test_a_recording_with_its_commit_log_repeats_the_run_byte_for_byte(ran: Ran, tmp_path: Path) -> None:
    recording = ran.recording(tmp_path / "with-log", ran.values)
    for chunk_records in (3, 1_000):
        assert replayed(recording, tmp_path / "out", chunk_records=chunk_records) == ran.outputs
    for borrower in BORROWERS:
        decisions, told = [bytes(raw) for raw in explain(recording, borrower).decisions], f'"borrower_id":"{borrower}"'
        own = [value for values in ran.outputs.values() for value in values if told.encode() in value]
        assert sorted(own) == sorted(raw for raw in decisions if b'"borrower_id"' in raw)


def test_without_all_of_the_log_or_under_another_policy_the_same_comes_out_in_another_order(
    ran: Ran, tmp_path: Path
) -> None:
    plain = replayed(ran.recording(tmp_path / "plain", ()), tmp_path / "out")
    assert plain != ran.outputs
    assert in_any_order(plain) == in_any_order(ran.outputs)
    # A log that ends in the middle of a sweep, and one that begins there.
    middle = next(
        at for at, found in enumerate(ran.log) if at > 5 and unpack_task(found.record.packed_task or b"").sweep
    )
    for name, values in (("begun", ran.values[: middle + 1]), ("cut", ran.values[middle:])):
        found = replayed(ran.recording(tmp_path / name, values), tmp_path / "out")
        assert in_any_order(found) == in_any_order(ran.outputs)
    strict = SHIPPED["standard"].read_text().replace("id: standard", "id: strict").replace("at_hour: 9", "at_hour: 8")
    (tmp_path / "strict.yaml").write_text(strict)
    outcomes = [
        replayed(
            ran.recording(tmp_path / f"strict-{len(values)}", values), tmp_path / "out", str(tmp_path / "strict.yaml")
        )
        for values in ((), ran.values)
    ]
    assert in_any_order(outcomes[0]) == in_any_order(outcomes[1])
    assert outcomes[0].keys() == ran.outputs.keys()
