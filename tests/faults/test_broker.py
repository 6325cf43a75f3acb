"""Rows in which Kafka dies, refuses, hides behind a bad network, or loses what it should have kept."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.faults.cluster import Cluster
from tests.faults.conftest import MakeStage
from tests.faults.points import Point
from tests.faults.proxy import END_TXN, PRODUCE, Verdict
from tests.faults.test_store import said, under_way

pytestmark = pytest.mark.timeout(400)

MINUTE_S = 60.0


def configure(cluster: Cluster, topic: str, name: str, value: str) -> None:
    """Change one setting of a topic, at once."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(20)


@pytest.mark.long
def test_a_send_is_refused(make_stage: MakeStage, one_node: Cluster) -> None:
    """One output topic takes nothing for a while: no transaction that lacks it is committed."""
    stage = under_way(make_stage, one_node, 0.2)
    configure(one_node, "early-warnings", "max.message.bytes", "150")
    until = stage.part(0.8)
    refused = said(stage, "MessageSizeTooLarge")
    stage.wait_for(lambda: refused() or stage.commit_logs.folded > until, "a send is refused")
    configure(one_node, "early-warnings", "max.message.bytes", "1048576")
    stage.finish()
    assert refused()


class LateEnd:
    """Holds back the end of one transaction and cuts its producer off, and tells when the next one is open: when its
    outputs are sent, its commit record is not."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._caught: bytes | None = None
        self.opened = 0

    def __call__(self, key: int, frame: bytes) -> Verdict:
        if key == END_TXN and self._caught is None:
            self._left -= 1
            if self._left < 0:
                self._caught = transactional_id(frame)
                return "hold"
        if key == PRODUCE and self._caught is not None and self._caught in frame and b"commits" not in frame:
            self.opened += 1
        return "pass"


def transactional_id(frame: bytes) -> bytes:
    """Of an EndTxn: the first string behind API key, version, correlation id and client id."""
    at = 8
    at += 2 + int.from_bytes(frame[at : at + 2], "big")
    return frame[at + 2 : at + 2 + int.from_bytes(frame[at : at + 2], "big")]


def test_the_end_of_a_transaction_comes_late(make_stage: MakeStage, one_node: Cluster) -> None:
    """The request is under way for long. Its sender has given up and the next transaction is open when it arrives;
    then its sender dies."""
    stage = make_stage(one_node, partitions=1, records=1_200)
    stage.produce_all(stage.script.recording)
    stage.pace(0.05)
    # Between outputs and commit record, so that the late request arrives there. Not every chunk has outputs.
    lingers = [Point("cycle.outputs_queued", do="sleep", sleep_s=0.5, hit=n) for n in range(60)]
    for _ in range(2):
        one_node.proxy.judge = late = LateEnd(after=4)
        worker = stage.hire(lingers)
        stage.wait_for(lambda: one_node.proxy.held > 0, "the end of a transaction is held back")
        stage.wait_for(lambda late=late: late.opened > 0, "the next transaction is open")  # type: ignore[misc]
        assert one_node.proxy.release() == 1
        worker.kill()
        stage.kills += 1
        stage.give_up_seats()
    one_node.proxy.judge = None
    stage.supervise(1)
    stage.finish()


class LostEnds:
    """Of every few transactions one whose end is lost, or the answer to it."""

    def __init__(self, verdict: Verdict, every: int) -> None:
        self._verdict = verdict
        self._every = every
        self._asked = self.lost = 0

    def __call__(self, key: int, _: bytes) -> Verdict:
        if key != END_TXN:
            return "pass"
        self._asked += 1
        if self._asked % self._every:
            return "pass"
        self.lost += 1
        return self._verdict


@pytest.mark.long
@pytest.mark.parametrize("verdict", ["drop", "mute"])
def test_the_end_of_a_transaction_is_lost(make_stage: MakeStage, one_node: Cluster, verdict: Verdict) -> None:
    """It never arrives, or it does and nobody hears of it: for the sender that is the same, for the log it is not."""
    stage = under_way(make_stage, one_node, 0.2)
    one_node.proxy.judge = lost = LostEnds(verdict, every=6)
    stage.wait_until_folded(stage.part(0.8))
    one_node.proxy.judge = None
    stage.finish()
    assert lost.lost > 3
    assert said(stage, "is taken over again")()


@pytest.mark.long
def test_broker_killed_and_back(make_stage: MakeStage, one_node: Cluster) -> None:
    stage = under_way(make_stage, one_node, 0.2)
    one_node.nodes[0].kill()
    stage.kills += 1
    time.sleep(1.0)
    one_node.start()
    stage.finish(timeout_s=90)


@pytest.mark.long
def test_broker_stopped_and_back(make_stage: MakeStage, one_node: Cluster) -> None:
    stage = under_way(make_stage, one_node, 0.2)
    one_node.nodes[0].restart()
    stage.finish(timeout_s=90)


@pytest.mark.long
@pytest.mark.parametrize("way", ["down", "suspended"])
def test_broker_away_for_a_minute(make_stage: MakeStage, one_node: Cluster, way: str) -> None:
    """Longer than sessions, transactions and the patience of the watchdog; suspended, connections stay open."""
    stage = under_way(make_stage, one_node, 0.2)
    (node,) = one_node.nodes
    if way == "suspended":
        assert node.pid is not None
        os.kill(node.pid, signal.SIGSTOP)
        stage.hold(MINUTE_S, way)
        os.kill(node.pid, signal.SIGCONT)
    else:
        node.stop()
        stage.hold(MINUTE_S, way)
        one_node.start()
    stage.finish(timeout_s=90)


def test_everything_killed_at_once(make_stage: MakeStage, one_node: Cluster) -> None:
    """Power fails: two workers, Redis and the broker."""
    stage = under_way(make_stage, one_node, 0.2, appendonly=True)
    stage.supervise(2)
    stage.wait_until_folded(stage.part(0.35))
    stage.wanted_workers = 0
    for worker in stage.running:
        worker.kill()
        stage.kills += 1
    stage.redis.kill()
    one_node.nodes[0].kill()
    stage.kills += 2
    one_node.start()
    stage.redis.start()
    stage.supervise(2)
    stage.finish(timeout_s=90)


@pytest.mark.long
def test_a_bad_network(make_stage: MakeStage, one_node: Cluster) -> None:
    """Slow, then losing one piece in ten, then resetting connections, then silent for longer than a session, then
    gone."""
    stage = under_way(make_stage, one_node, 0.15)
    proxy = one_node.proxy
    stage.tell("delays")
    proxy.delay_s = 0.05
    stage.wait_until_folded(stage.part(0.25))
    proxy.delay_s = 0.0
    stage.tell("losses")
    proxy.loss = 0.1
    stage.wait_until_folded(stage.part(0.3))
    proxy.loss = 0.0
    for share in (0.35, 0.4, 0.45):
        stage.tell("resets")
        proxy.reset()
        stage.wait_until_folded(stage.part(share))
    stage.tell("silence")
    proxy.stall()
    time.sleep(5.0)
    proxy.mend()
    stage.wait_until_folded(stage.part(0.55))
    stage.tell("gone")
    proxy.cut()
    time.sleep(4.0)
    proxy.mend()
    stage.finish(timeout_s=90)


def test_inputs_deleted_before_they_were_read(make_stage: MakeStage, one_node: Cluster) -> None:
    """A worker that finds records gone that nobody has read stops and says which, at each start."""
    stage = under_way(make_stage, one_node, 0.2)
    stage.wanted_workers = 0
    for worker in stage.running:
        worker.kill()
        stage.kills += 1
    stage.read_commits()
    stage.give_up_seats()
    reached = stage.commit_logs.reached("transactions", 0)
    admin = AdminClient({"bootstrap.servers": one_node.bootstrap, "log_level": 0})
    for gone in admin.delete_records([TopicPartition("transactions", 0, reached + 3)]).values():
        gone.result(20)
    told = f"transactions was read up to offset {reached} but now begins at {reached + 3}"
    for _ in range(2):
        worker = stage.hire()
        stage.wait_for(lambda worker=worker: worker.exit_code is not None, "records deleted unread are noticed", 60)  # type: ignore[misc]
        assert worker.exit_code == 1
        assert told in worker.log
        stage.give_up_seats()
    stage.read_commits()
    assert stage.commit_logs.reached("transactions", 0) == reached


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 160 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no small disk: mounting a tmpfs needs root and CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def confined(small_disk: Path) -> Iterator[Cluster]:
    """A node that stores on the small disk."""
    cluster = Cluster(settings={"log.dirs": str(small_disk / "data")})
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.mark.long
@pytest.mark.timeout(400)
def test_the_brokers_disk_is_full(small_disk: Path, confined: Cluster, make_stage: MakeStage) -> None:
    """The broker ends by itself; with room again and started again it has lost nothing that was committed."""
    stage = under_way(make_stage, confined, 0.15)
    filler = small_disk / "filler"
    with filler.open("wb") as sink, contextlib.suppress(OSError):
        while True:
            sink.write(bytes(1 << 16))
            sink.flush()
    stage.tell("the disk is full")
    stage.wait_for(lambda: confined.pid is None, "the broker ends", 60)
    filler.unlink()
    confined.nodes[0].kill()
    confined.start()
    stage.finish()
