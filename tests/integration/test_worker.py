"""Whole worker processes on a real broker and store: each record once and in order, whatever becomes of them."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from schemas.topics import DLQS, INPUTS
from streams.engine.order import LogRecord
from streams.worker.watchdog import STALLED_EXIT
from tests.integration.rig import SESSION_S, Rig, expected, recording
from tests.parts import wait_until
from tests.parts.kafka import Kafka
from tests.parts.redis import OwnRedis
from tests.worker.echo import BAD, HANG

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

SLOW = {"ECHO_PAUSE_S": "0.15"}


def test_one_worker_gives_each_record_once_and_in_order(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    records = recording(1, 6_000, rig.partitions)
    rig.produce(records)
    worker = rig.start(chunk_records=500)
    wanted = expected(records, rig.partitions)
    rig.wait_for_outputs(sum(map(len, wanted)))
    assert rig.outputs() == wanted
    refused = [message for topic in DLQS for messages in rig.read(topic) for message in messages]
    assert len(refused) == sum(record.value == BAD for record in records)
    for message in refused:
        headers = dict(message.headers())
        place = (headers["__dlq.errors.topic"].decode(), message.partition(), int(headers["__dlq.errors.offset"]))
        record = next(record for record in records if (record.topic, record.partition, record.offset) == place)
        assert (message.key(), message.value(), headers["h"]) == (record.key, record.value, record.headers[0][1])
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_commit_records_tile_the_input(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    records = recording(2, 3_000, rig.partitions)
    rig.produce(records)
    rig.start(chunk_records=300)
    rig.wait_for_outputs(sum(map(len, expected(records, rig.partitions))))
    for partition, log in enumerate(rig.commits()):
        assert [committed.record.kind for committed in log].count("claim") == 1
        assert [committed.record.seq for committed in log] == list(range(1, len(log) + 1))
        for topic in INPUTS:
            reached = [committed.record.positions.get(topic, (0, 0)) for committed in log]
            assert reached == sorted(reached)
            count = sum(record.topic == topic and record.partition == partition for record in records)
            assert reached[-1][0] == count


def test_killed_in_mid_stream_and_started_again(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    records = recording(3, 6_000, rig.partitions)
    rig.produce(records)
    wanted = expected(records, rig.partitions)
    total = sum(map(len, wanted))
    worker = rig.start(echo=SLOW, chunk_records=200)
    rig.wait_for_outputs(total // 4)
    worker.kill()
    assert sum(map(len, rig.outputs())) < total
    rig.start()
    rig.wait_for_outputs(total)
    assert rig.outputs() == wanted


def test_told_to_stop_in_mid_stream(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    records = recording(4, 4_000, rig.partitions)
    rig.produce(records)
    wanted = expected(records, rig.partitions)
    total = sum(map(len, wanted))
    worker = rig.start(echo=SLOW, chunk_records=200)
    rig.wait_for_outputs(total // 4)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert sum(map(len, rig.outputs())) < total
    # No transaction is left open: all that was written is decided, and the next worker need not wait for a session.
    rig.start()
    rig.wait_for_outputs(total)
    assert rig.outputs() == wanted


def test_the_other_worker_takes_over(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    records = recording(5, 8_000, rig.partitions)
    rig.produce(records)
    wanted = expected(records, rig.partitions)
    total = sum(map(len, wanted))
    first, second = rig.start(echo=SLOW, chunk_records=200), rig.start(echo=SLOW, chunk_records=200)
    wait_until(first.is_ready, "the first worker ready")
    wait_until(second.is_ready, "the second worker ready")
    rig.wait_for_outputs(total // 4)
    first.kill()
    assert sum(map(len, rig.outputs())) < total
    rig.wait_for_outputs(total)
    assert rig.outputs() == wanted
    assert second.exit_code is None
    # Each task was claimed twice at least, and by both: four by one, then its two by the other.
    assert all(sum(committed.record.kind == "claim" for committed in log) >= 2 for log in rig.commits())


def test_a_zombie_writes_nothing(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    records = recording(6, 8_000, rig.partitions)
    rig.produce(records)
    wanted = expected(records, rig.partitions)
    total = sum(map(len, wanted))
    zombie = rig.start(echo=SLOW, chunk_records=200)
    rig.wait_for_outputs(total // 4)
    zombie.send(signal.SIGSTOP)
    done = sum(map(len, rig.outputs()))
    assert done < total
    rig.start()
    # Once the other has begun, and not much later: who is suspended for very long is ended by its own watchdog.
    rig.wait_for_outputs(done + 1, timeout_s=60 + SESSION_S)
    zombie.send(signal.SIGCONT)
    assert zombie.wait() == 1
    assert "task" in zombie.log
    rig.wait_for_outputs(total)
    assert rig.outputs() == wanted


def test_a_fold_that_hangs_ends_the_process_and_tells_no_content(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(1)
    hanging = b"b0007", HANG + b" 4711.00 CNY"
    records = [LogRecord("logins", 0, n, 1_000 + n, *(hanging if n == 150 else (b"b1", b"{}"))) for n in range(200)]
    rig.produce(records)
    worker = rig.start(echo={"ECHO_HANGS": "1"})
    assert worker.wait() == STALLED_EXIT
    assert "the event loop has stood still" in worker.log
    assert "in fold" in worker.log
    assert "4711" not in worker.log
    assert "b0007" not in worker.log
    assert len(rig.outputs()[0]) < 200
    rig.start()
    rig.wait_for_outputs(200)
    assert rig.outputs() == expected(records, 1)


def test_one_worker_at_a_time_writes_the_ticks(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(3)
    first = rig.start(clock="worker", tick_every_s=0.5)
    second = rig.start(clock="worker", tick_every_s=0.5)
    wait_until(first.is_ready, "the first worker ready")
    wait_until(second.is_ready, "the second worker ready")
    wait_until(lambda: all(len(ticks) >= 4 for ticks in rig.read("control")), "ticks")
    # Whoever wrote them: the other one goes on.
    first.kill()
    seen = len(rig.read("control")[0])
    wait_until(lambda: len(rig.read("control")[0]) >= seen + 3, "more ticks")
    written = rig.read("control")
    ticks = [[json.loads(message.value()) for message in messages] for messages in written]
    assert [[message.timestamp()[1] for message in messages] for messages in written] == [
        [tick["at_ms"] for tick in by_partition] for by_partition in ticks
    ]
    shared = min(map(len, ticks))
    assert all(by_partition[:shared] == ticks[0][:shared] for by_partition in ticks)
    # A moment may be told again by the next owner of the clock, as the same event, and never an earlier one.
    assert all(tick["event_id"] == f"tick-{tick['at_ms']}" for tick in ticks[0])
    moments = [tick["at_ms"] for tick in ticks[0]]
    assert moments == sorted(moments)


def test_a_store_flushed_under_load_is_copied_from_the_log(
    kafka: Kafka, make_redis: Callable[[], OwnRedis], unique: str, tmp_path: Path
) -> None:
    redis = make_redis()
    rig = Rig(kafka, redis.url, unique, tmp_path, 4)
    records = recording(7, 6_000, rig.partitions)
    rig.produce(records)
    wanted = expected(records, rig.partitions)
    total = sum(map(len, wanted))
    try:
        worker = rig.start(echo=SLOW, chunk_records=200)
        rig.wait_for_outputs(total // 4)
        redis.flush()
        rig.wait_for_outputs(total)
        assert rig.outputs() == wanted
        assert worker.exit_code is None
        assert "copying the whole commit log" in worker.log
    finally:
        rig.close()


def test_inputs_with_other_partition_counts_are_refused(make_rig: Callable[..., Rig], kafka: Kafka) -> None:
    rig = make_rig(2)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for grown in admin.create_partitions([NewPartitions("logins", 3)]).values():
        grown.result()
    worker = rig.start()
    assert worker.wait() == 1
    assert "logins 3" in worker.log
