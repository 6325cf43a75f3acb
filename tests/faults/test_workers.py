"""Rows in which workers die, are stopped, or live on after their tasks have gone to others."""

import signal
import time
from functools import partial

import pytest

from schemas.topics import INPUTS
from streams.engine import fold
from streams.replay import cycle
from tests.faults.cluster import Cluster
from tests.faults.conftest import MakeStage
from tests.faults.points import CYCLE, TAKEOVER, Point
from tests.faults.stage import FaultWorker, Stage

pytestmark = pytest.mark.timeout(400)

SLOW_S = 0.1


def walk(stage: Stage, points: list[Point], exit_code: int) -> None:
    """One worker after the other, each ended at the next point."""
    for number, point in enumerate(points):
        stage.tell(f"{point.at} ({number + 1} of {len(points)})")
        if point.at == "takeover.wiped":
            stage.redis.flush()
        ended(stage.hire([point]), stage, point.at, exit_code)
        assert stage.marks()[-1]["at"] == point.at
        stage.give_up_seats()
    stage.supervise(1)
    stage.finish()
    assert [mark["at"] for mark in stage.marks()] == [point.at for point in points]


def ended(worker: FaultWorker, stage: Stage, what: str, exit_code: int, timeout_s: float = 60.0) -> None:
    stage.wait_for(lambda: worker.exit_code is not None, f"end of a worker: {what}", timeout_s)
    assert worker.exit_code == exit_code, f"{what}: exit {worker.exit_code}: {worker.log[-2_000:]}"


@pytest.mark.seeds(5)
def test_killed_in_the_cycle(stage: Stage) -> None:
    stage.pace(0.05)
    walk(stage, [Point(at, hit=stage.random.randint(1, 2)) for at in CYCLE], -signal.SIGKILL)


@pytest.mark.seeds(3)
def test_killed_while_a_sweep_is_open(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks that wake several are swept one wake-up at a time, while events go on: the next owner goes on with both."""
    for module in (fold, cycle):
        monkeypatch.setattr(module, "SWEEP_LIMIT", 1)
    stage.faults["FAULTS_AILMENT"] = "fires_one_wake_up_at_a_time"
    stage.pace(0.05)
    walk(stage, [Point(at, hit=stage.random.randint(10, 25)) for at in CYCLE], -signal.SIGKILL)
    assert stage.commit_logs.went_beside()


@pytest.mark.seeds(5)
def test_killed_in_the_takeover(stage: Stage) -> None:
    walk(stage, [Point(at, hit=stage.random.randint(1, 4)) for at in TAKEOVER], -signal.SIGKILL)


@pytest.mark.long
def test_told_to_stop(stage: Stage) -> None:
    """SIGTERM in a transaction, before one, and in a take-over: each ends in good order."""
    stage.pace(SLOW_S)
    places = ("cycle.sent", "cycle.committed", "takeover.claimed")
    walk(stage, [Point(at, do="term", hit=stage.random.randint(1, 2)) for at in places], 0)


# --- zombies ----------------------------------------------------------------------------------------------------------


def zombie(stage: Stage, at: str, hit: int = 2) -> FaultWorker:
    """A worker stopped at a point beyond its session, and woken when another one has its task and gets on."""
    stage.pace(SLOW_S)
    stage.produce_all(stage.script.recording)
    # What ends the zombie is what it meets, not its own deadline.
    stage.worker_settings |= {"transaction_timeout_ms": 120_000, "transaction_deadline_ms": 90_000}
    stopped = stage.hire([Point(at, do="stop", hit=hit)])
    stage.wait_for_mark(at)
    stage.tell(f"stopped at {at}")
    claims = claims_of(stage)
    folded = stage.commit_logs.folded
    stage.supervise(2)
    stage.wait_for(lambda: claims_of(stage) > claims, "the task is with another one")
    stage.wait_for(lambda: stage.commit_logs.folded > folded, "it gets on")
    stage.wanted_workers = 1
    stopped.send(signal.SIGCONT)
    stage.tell("awake again")
    ended(stopped, stage, "the zombie", 1)
    return stopped


def claims_of(stage: Stage) -> int:
    stage.read_commits()
    return sum(committed.record.kind == "claim" for log in stage.commit_logs.records for committed in log)


def test_zombie_before_its_commit(make_stage: MakeStage, one_node: Cluster) -> None:
    """Everything is sent, only the end of the transaction is not: the broker refuses it."""
    stage = make_stage(one_node, partitions=1, records=1_200)
    stopped = zombie(stage, "cycle.sent")
    assert "ProducerFenced" in stopped.log
    stage.finish()


def test_zombie_between_commit_and_store(make_stage: MakeStage, one_node: Cluster) -> None:
    """It has committed, another one has copied that and more: the store refuses it."""
    stage = make_stage(one_node, partitions=1, records=1_200)
    stopped = zombie(stage, "cycle.committed")
    assert "fenced" in stopped.log
    stage.finish()


@pytest.mark.long
@pytest.mark.parametrize("at", ["takeover.fenced", "takeover.store_fenced"])
def test_zombie_in_its_takeover(make_stage: MakeStage, one_node: Cluster, at: str) -> None:
    """It would put its claim behind a later one, or empty a store that is another one's by now."""
    stage = make_stage(one_node, partitions=1, records=1_200)
    zombie(stage, at, hit=1)
    stage.finish()


@pytest.mark.long
def test_a_slow_owner_comes_back_late(make_stage: MakeStage, one_node: Cluster) -> None:
    """It sits in a transaction while the group gives its task away, for longer than its grace."""
    stage = make_stage(one_node, partitions=4)
    stage.produce_all(stage.script.recording)
    stage.pace(SLOW_S)
    stage.hire([Point("cycle.sent", do="sleep", sleep_s=5.0, hit=n) for n in (2, 3, 4)])
    stage.wait_for_mark("cycle.sent")
    stage.supervise(2)
    stage.finish()


@pytest.mark.long
def test_a_worker_cut_off_from_the_broker(make_stage: MakeStage, one_node: Cluster) -> None:
    """A network that parts one worker from Kafka, not from Redis: its tasks go to the other one while it still tries to
    end what it has begun; then it is back."""
    stage = make_stage(one_node)
    stage.pace(0.25)
    stage.produce_all(stage.script.recording)
    lonely = stage.hire(broker=one_node.aside)
    stage.wait_until_folded(stage.part(0.05))
    stage.supervise(2)
    stage.wait_for(lambda: len(stage.members()) == 2 and is_whole(stage), "each has tasks")
    (aside,) = one_node.asides
    aside.stall()
    stage.tell("one is cut off")
    stage.wait_for(lambda: len(stage.members()) == 1 and is_whole(stage), "its tasks are with the other one")
    # Before that it may have lost its tasks while it still waits for an answer.
    stage.wait_for(lambda: "is taken over again" in lonely.log or lonely.exit_code == 1, "it gives up what it began")
    stage.wait_until_folded(stage.commit_logs.folded + 300)
    aside.mend()
    stage.tell("it is back")
    stage.wait_until_folded(stage.commit_logs.folded + 100)
    stage.finish()


@pytest.mark.long
def test_a_transaction_times_out(stage: Stage) -> None:
    """The worker stands still, not for so long that it loses its tasks, but the broker has aborted meanwhile."""
    stage.pace(SLOW_S)
    stage.faults |= {"FAULTS_SESSION_S": "30"}
    stage.worker_settings |= {"transaction_timeout_ms": 2_000, "transaction_deadline_ms": 1_500}
    for at in ("cycle.outputs_queued", "cycle.sent"):
        worker = stage.hire([Point(at, do="stop", hit=2)])
        stage.wait_for_mark(at)
        time.sleep(3.5)
        worker.send(signal.SIGCONT)
        before = stage.commit_logs.folded
        stage.wait_for(partial(got_on, stage, worker, before), at)
        worker.send(signal.SIGTERM)
        stage.wait_for(lambda worker=worker: worker.exit_code is not None, "stopped")  # type: ignore[misc]
    stage.supervise(1)
    stage.finish()


def got_on(stage: Stage, worker: FaultWorker, folded: int) -> bool:
    """Whether more is folded, or the worker has ended."""
    return stage.commit_logs.folded > folded or worker.exit_code is not None


# --- rebalances -------------------------------------------------------------------------------------------------------


def storm(make_stage: MakeStage, cluster: Cluster, partitions: int, most: int, moves: int) -> None:
    """Workers come, are stopped and killed; whenever the group has settled nobody owns a part of a task."""
    stage = make_stage(cluster, partitions=partitions)
    stage.pace(0.25)
    stage.produce_all(stage.script.recording)
    stage.supervise(2)
    for move in range(moves):
        count = stage.random.randint(1, most)
        stage.tell(f"move {move + 1} of {moves}: {count} workers")
        while len(stage.running) > count:
            leaving = stage.random.choice(stage.running)
            stage.wanted_workers = count
            if stage.random.random() < 0.5:
                leaving.kill()
                stage.kills += 1
            else:
                leaving.send(signal.SIGTERM)
                leaving.wait()
        stage.supervise(count)
        # Now and then before the group has settled.
        if stage.random.random() < 0.7:
            stage.wait_for(lambda: is_whole(stage), "every partition has an owner")
    stage.supervise(2)
    stage.finish(timeout_s=120)


def is_whole(stage: Stage) -> bool:
    """Whether all partitions are owned; whoever owns any owns the same numbers of every input."""
    members = stage.members()
    for member in members:
        numbers = {frozenset(member.get(topic, ())) for topic in INPUTS}
        assert len(numbers) == 1, f"a member owns parts of tasks: {member}"
    return sum(len(member.get(INPUTS[0], ())) for member in members) == stage.partitions


def test_rebalance_storm_over_3_partitions(make_stage: MakeStage, one_node: Cluster) -> None:
    storm(make_stage, one_node, partitions=3, most=3, moves=3)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("partitions", [5, 12])
def test_rebalance_storm(make_stage: MakeStage, one_node: Cluster, partitions: int) -> None:
    storm(make_stage, one_node, partitions, most=5, moves=12)


def test_an_assignment_that_splits_tasks(stage: Stage) -> None:
    """The group hands out other numbers of one input than of another: both workers stop and say so."""
    split = [stage.hire(faults={"FAULTS_AILMENT": "splits_tasks"}) for _ in range(2)]
    for worker in split:
        stage.wait_for(lambda worker=worker: worker.exit_code is not None, "a split assignment is refused", 60)  # type: ignore[misc]
    # The first may have had all of it before the second came, and the last one alone has nothing to share.
    told = [worker for worker in split if "partition numbers differ between inputs" in worker.log]
    assert told, stage.last_words()
    stage.supervise(1)
    stage.finish()
