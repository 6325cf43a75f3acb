"""Whole worker processes on a real broker and store: each record once and in order, whatever becomes of them."""

import signal
from collections.abc import Callable

import pytest

from schemas.topics import DLQS, INPUTS
from tests.integration.rig import SESSION_S, Rig, expected, recording
from tests.parts import wait_until
from tests.worker.echo import BAD

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
    for part in (4, 2):
        worker = rig.start(echo=SLOW, chunk_records=200)
        rig.wait_for_outputs(total // part)
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
    records = recording(5, 12_000, rig.partitions)
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
    assert sum(map(len, rig.outputs())) < total
    rig.start()
    rig.wait_for_outputs(total, timeout_s=60 + SESSION_S)
    zombie.send(signal.SIGCONT)
    assert zombie.wait() == 1
    assert "task" in zombie.log
    assert rig.outputs() == wanted
