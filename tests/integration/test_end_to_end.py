"""The main job, end to end: what goes through real workers comes out as a replay of the same records says."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.partitioning import partition_of
from schemas.topics import CONTROL, DLQS, INPUTS, OUTPUTS
from streams.engine.order import LogRecord
from streams.replay.simulate.writing import simulate
from streams.replay.uci import import_uci
from tests.integration.bad import bad_of, spoiled
from tests.integration.live import (
    PARTITIONS,
    Live,
    Outcome,
    check_commits_tile,
    check_same,
    in_order,
    replayed,
    written,
)
from tests.parts.kafka import Kafka
from tests.parts.redis import OwnRedis
from tests.replay.tape import SHANGHAI, Tape

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

_UCI = Path(__file__).parents[2] / "data" / "uci-default" / "odd.csv.gz"
_CUSTOMERS = 200
_SEED = 7
_BORROWERS = 150
_EVENTS = 20_000
_PIECES = 4


@pytest.fixture
def make_live(
    kafka: Kafka, make_redis: Callable[[], OwnRedis], unique: str, tmp_path: Path
) -> Iterator[Callable[[], Live]]:
    """Fresh topics and a fresh store; the workers of a test end with it."""
    with ExitStack() as opened:

        def make() -> Live:
            live = Live(kafka, make_redis(), unique, tmp_path)
            opened.callback(live.close)
            return live

        yield make


@pytest.fixture(scope="module")
def uci(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A recording of real histories, and what it must come to."""
    folder = tmp_path_factory.mktemp("uci")
    import_uci(_UCI, folder / "recording", _CUSTOMERS, PARTITIONS)
    return folder / "recording", replayed(folder / "recording", folder / "out")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A recording of a simulated population with bad records among the good, and what it must come to."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(_SEED, _BORROWERS, _EVENTS, folder / "good", PARTITIONS)
    written(spoiled(in_order(folder / "good")), folder / "recording")
    return folder / "recording", replayed(folder / "recording", folder / "out")


@pytest.mark.parametrize("workers", [1, 3])
def test_real_histories_come_out_as_replayed(
    make_live: Callable[[], Live], uci: tuple[Path, Outcome], workers: int
) -> None:
    recording, wanted = uci
    live = make_live()
    live.produce_all(recording)
    # None folds before the group is complete: else the first one might have done it all.
    live.hold_store()
    started = [live.worker(redis_timeout_s=60) for _ in range(workers)]
    shares = shared_evenly(live, workers)
    live.let_store_go()
    live.wait_until_done()
    check_same(live.outcome(), wanted)
    check_commits_tile(live)
    assert live.members() == shares
    assert all(worker.exit_code is None for worker in started)
    assert not any(worker.said("task is taken over again") for worker in started)
    ids = [json.loads(value)["event_id"] for topic in OUTPUTS for value in wanted.outputs[topic]]
    assert len(set(ids)) == len(ids) > 500


def shared_evenly(live: Live, workers: int) -> list[dict[str, set[int]]]:
    """What each member has been given, once all are in: as many as the others, the same partitions of every input."""

    def even() -> bool:
        members = live.members()
        return len(members) == workers and all(members) and sum(map(partitions_of, members)) == PARTITIONS

    live.wait_for(even, f"{workers} members with all partitions")
    members = live.members()
    for member in members:
        assert set(member) == set(INPUTS)
        assert all(numbers == member[INPUTS[0]] for numbers in member.values())
    assert sorted(number for member in members for number in member[INPUTS[0]]) == list(range(PARTITIONS))
    assert sorted(map(partitions_of, members)) == sorted(len(range(n, PARTITIONS, workers)) for n in range(workers))
    return members


def partitions_of(member: dict[str, set[int]]) -> int:
    return len(member.get(INPUTS[0], ()))


def test_killed_and_stopped_in_mid_stream(make_live: Callable[[], Live], simulated: tuple[Path, Outcome]) -> None:
    recording, wanted = simulated
    live = make_live()
    live.produce_all(recording)
    total = len(in_order(recording))

    folding = live.worker(chunk_records=100)
    live.wait_until_folded(total // 4)
    folding.kill()
    live.read_commits()
    assert live.commit_logs.folded < total

    committing = live.worker(chunk_records=100)
    live.wait_until_folded(total // 2)
    catch_between_commit_and_store(live)
    committing.kill()
    assert live.commit_logs.folded < total
    live.let_store_go()

    stopped = live.worker(chunk_records=100)
    live.wait_until_folded(total * 3 // 4)
    stopped.send(signal.SIGTERM)
    assert stopped.wait() == 0
    live.read_commits()
    assert live.commit_logs.folded < total

    live.worker()
    live.wait_until_done()
    check_same(live.outcome(), wanted)
    check_commits_tile(live)
    for log in live.commit_logs.records:
        assert [committed.record.kind for committed in log].count("claim") >= 4


def catch_between_commit_and_store(live: Live) -> None:
    """Hold the store at a moment when something is committed that it does not hold yet."""

    def caught() -> bool:
        live.hold_store()
        live.read_commits()
        if not live.store_is_level():
            return True
        live.let_store_go()
        return False

    live.wait_for(caught, "a commit that the store lacks")


def test_bad_records_are_put_aside_and_a_late_topic_is_remembered(
    make_live: Callable[[], Live], simulated: tuple[Path, Outcome], tmp_path: Path
) -> None:
    recording, in_time = simulated
    records = in_order(recording)
    live = make_live()
    worker = live.worker()
    size = -(-len(records) // _PIECES)
    late: list[LogRecord] = []
    for start in range(0, len(records), size):
        piece = records[start : start + size]
        live.send([*late, *(record for record in piece if record.topic != "transactions")])
        live.wait_until_done()
        late = [record for record in piece if record.topic == "transactions"]
    live.send(late)
    live.wait_until_done()
    assert worker.exit_code is None

    check_dead_letters(live, {place_of(record): (record, reason) for record, reason in bad_of(records)})
    found = live.outcome()
    # What came late has been judged late; the commit log remembers when.
    assert found.outputs != in_time.outputs
    check_same(found, replayed(live.record(tmp_path / "recorded"), tmp_path / "out"))
    # But what is bad is bad whenever it comes.
    assert found.letters == in_time.letters


def place_of(record: LogRecord) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def check_dead_letters(live: Live, bad: dict[tuple[str, int, int], tuple[LogRecord, str]]) -> None:
    """Each bad record, and nothing else, is in its dead-letter topic: as it came, with its reason."""
    seen = set()
    for topic, messages in live.messages(DLQS).items():
        for message in messages:
            headers = dict(message.headers())
            place = topic.removesuffix(".dlq"), message.partition(), int(headers["__dlq.errors.offset"])
            record, reason = bad[place]
            assert headers["__dlq.errors.topic"].decode() == record.topic
            assert int(headers["__dlq.errors.partition"]) == record.partition
            assert headers["__dlq.errors.reason"].decode() == reason
            assert (message.key(), message.value(), message.timestamp()[1]) == (
                record.key,
                record.value,
                record.timestamp,
            )
            assert message.headers()[: len(record.headers)] == list(record.headers)
            assert place not in seen
            seen.add(place)
    assert seen == bad.keys()


def test_the_worker_writes_the_ticks_and_what_waits_is_woken_by_them(
    make_live: Callable[[], Live], tmp_path: Path
) -> None:
    live = make_live()
    due_on = datetime.now(SHANGHAI).date() - timedelta(days=100)
    records, borrowers = overdue_since(due_on.isoformat(), (due_on - timedelta(days=20)).isoformat())
    live.send(records)
    ticking = live.worker(clock="worker", tick_every_s=0.5)
    live.wait_for(lambda: all(live.commit_logs.reached(CONTROL, task) > 8 for task in range(PARTITIONS)), "ticks")
    ticking.send(signal.SIGTERM)
    assert ticking.wait() == 0
    # What it has written and not folded is folded by another one, which writes none.
    live.worker()
    live.wait_until_done()

    ticks = check_ticks(live)
    for borrower in borrowers:
        check_woken(live, borrower, due_on.toordinal(), ticks)
    check_same(live.outcome(), replayed(live.record(tmp_path / "recorded"), tmp_path / "out"))


def overdue_since(due_on: str, taken_on: str) -> tuple[list[LogRecord], list[str]]:
    """A loan in each partition that falls due and is never paid; the last tick is of the day it was taken."""
    records: list[LogRecord] = []
    borrowers = []
    for partition in range(PARTITIONS):
        borrower = next(
            name for name in map("b{}".format, range(100)) if partition_of(name.encode(), PARTITIONS) == partition
        )
        tape = Tape()
        tape.profile(f"{taken_on} 08:00", borrower)
        tape.loan(f"{taken_on} 09:00", borrower, due=due_on)
        tape.tick(f"{taken_on} 10:00")
        records += [record._replace(partition=partition) for record in tape.records]
        borrowers.append(borrower)
    return records, borrowers


def check_ticks(live: Live) -> list[str]:
    """The ids of the worker's ticks: on every partition the same, once, in order, each in a transaction of its own."""
    ids = []
    for messages in live.read(CONTROL):
        told: list[dict[str, Any]] = [json.loads(message.value()) for message in messages]
        moments = [tick["at_ms"] for tick in told]
        assert moments == sorted(set(moments))
        assert [tick["event_id"] for tick in told] == [f"tick-{at_ms}" for at_ms in moments]
        assert [message.timestamp()[1] for message in messages] == moments
        assert {message.key() for message in messages} == {None}
        # Behind each stands the marker that ends its transaction; the first was sent without one.
        assert [message.offset() for message in messages] == [0, *range(1, 2 * len(messages) - 1, 2)]
        ids.append([tick["event_id"] for tick in told[1:]])
    assert all(of_partition == ids[0] for of_partition in ids)
    return ids[0]


def check_woken(live: Live, borrower: str, due_day: int, ticks: list[str]) -> None:
    """The worker's first tick has told every bucket that the loan had passed through, as of the day it did."""
    messages = live.messages(["delinquency"])["delinquency"]
    events = [json.loads(message.value()) for message in messages if message.key() == borrower.encode()]
    changes = [event for event in events if event["type"] == "bucket_changed"]
    days = [datetime.fromtimestamp(event["at_ms"] / 1000, SHANGHAI).toordinal() - due_day for event in changes]
    assert list(zip([event["to"] for event in changes], days, strict=True)) == [
        ("M1", 1),
        ("M2", 31),
        ("M3", 61),
        ("M4", 91),
    ]
    assert {event["cause"]["topic"] for event in changes} == {CONTROL}
    assert {event["cause"]["event_id"] for event in changes} == {ticks[0]}
