"""Rows about what comes in and who works on it: bad records in bulk, jumping clocks, releases one after the other, and
everything at once for long."""

import json
import signal
import time
from pathlib import Path

import pytest

from schemas.topics import CONTROL, DLQS
from streams.engine.fold import Engine
from streams.engine.order import LogRecord
from streams.engine.state import unpack_task
from streams.policy import loader
from streams.replay.cycle import LocalTask, _Feed
from streams.replay.recording import Recording
from streams.worker.clock import tick_message
from tests.faults.cluster import Cluster
from tests.faults.conftest import MakeStage
from tests.faults.points import CYCLE, TAKEOVER, Point
from tests.faults.stage import Stage
from tests.faults.test_store import said
from tests.integration.live import comparable

pytestmark = pytest.mark.timeout(300)

_MINUTE_MS = 60_000
_SHIPPED = Path(loader.__file__).parent / "standard.yaml"


@pytest.mark.long
def test_bad_records_in_bulk(make_stage: MakeStage, one_node: Cluster) -> None:
    """Every sixth record cannot be read; workers are killed among them."""
    stage = make_stage(one_node, rounds=30)
    stage.produce_all(stage.script.recording)
    # Told to let them all become dead letters.
    stage.supervise(1, [[Point("cycle.sent", hit=4)], [Point("cycle.committed", hit=3)]], dead_letter_share=1)
    stage.finish()
    assert sum(len(stage.script.wanted.letters[topic]) for topic in DLQS) > 400
    assert len(stage.marks()) == 2


@pytest.mark.long
def test_the_clock_jumps(make_stage: MakeStage, one_node: Cluster) -> None:
    """The wall clock of whoever writes the ticks jumps ahead and back, the next one's is behind, then a day ahead:
    business time only goes forward, it is the same for all, and a day ahead is more than the broker takes."""
    stage = make_stage(one_node)
    stage.produce_all(stage.script.recording)
    stage.jump(0)
    stage.pace(0)
    stage.supervise(2, clock="worker", tick_every_s=0.5)
    ticked(stage, 3)
    stage.jump(30 * _MINUTE_MS)
    ticked(stage, 3)
    # Behind: this one writes nothing, the next one writes what has been and is not counted again.
    stage.jump(-120 * _MINUTE_MS)
    for worker in stage.running:
        worker.kill()
        stage.kills += 1
    ticked(stage, 3)
    stage.jump(24 * 60 * _MINUTE_MS)
    stage.wait_for(said(stage, "tick not written"), "a tick of tomorrow is refused")
    stage.jump(40 * _MINUTE_MS)
    ticked(stage, 2)
    # From here on time comes with the data again.
    stage.wanted_workers = 0
    for worker in stage.running:
        worker.send(signal.SIGTERM)
        worker.wait()
    at_ms = int(time.time() * 1000) + 55 * _MINUTE_MS
    ends = stage.ends()
    stage.send(
        LogRecord(CONTROL, n, ends[CONTROL, n], at_ms, None, tick_message(at_ms, n).value, [])
        for n in range(stage.partitions)
    )
    stage.supervise(1, clock="external")
    stage.finish(recorded=True)
    clocks = [task.clock_ms for task in map(unpack_task, (held.task for held in stage.outcome().held))]
    assert clocks == [at_ms] * stage.partitions


def ticked(stage: Stage, times: int) -> None:
    """Wait until every task has so many records of `control` more."""
    before = [stage.commit_logs.reached(CONTROL, n) for n in range(stage.partitions)]
    stage.wait_for(
        lambda: all(stage.commit_logs.reached(CONTROL, n) >= at + times for n, at in enumerate(before)), "ticks"
    )


@pytest.mark.long
def test_releases_with_other_policies_one_after_the_other(
    make_stage: MakeStage, one_node: Cluster, tmp_path: Path
) -> None:
    """Workers with a stricter policy take over from those with the old one, in mid-stream, in both directions: what
    each owner decided is what its own policy says of the state it found."""
    strict = tmp_path / "strict.yaml"
    shipped = _SHIPPED.read_text()
    strict.write_text(shipped.replace("id: standard", "id: strict").replace("  base: 650", "  base: 600"))
    assert strict.read_text() != shipped
    stage = make_stage(one_node)
    stage.produce_all(stage.script.recording)
    stage.pace(0.15)
    policies = {}
    for number, policy in enumerate(("standard", str(strict), "standard")):
        worker = stage.hire(policy=policy)
        policies[worker] = policy
        if number < 2:
            stage.wait_until_folded(stage.part(0.3 * (number + 1)))
            worker.kill()
            stage.kills += 1
            stage.give_up_seats()
    stage.finish(compare=False)
    fences = {
        (line["task"], line["fence"]): loader.load(policy)
        for worker, policy in policies.items()
        for line in worker.said("task taken over")
    }
    found = stage.outcome()
    recording = stage.record(tmp_path / "recorded")
    wanted: dict[str, list[bytes]] = {topic: [] for topic in found.outputs}
    with Recording.open(recording) as opened:
        for task, log in enumerate(stage.commit_logs.records):
            feed, local = _Feed(opened, task), None
            for committed in log:
                if committed.record.kind == "claim":
                    # A claim of an owner killed before it could tell was followed by nothing.
                    owners = fences.get((task, committed.last))
                    if owners is not None:
                        engine = Engine(owners, partitions=stage.partitions)
                        local = local or LocalTask(engine)
                        local.engine = engine
                    continue
                assert local is not None
                bounds = {topic: offset for topic, (offset, _) in committed.record.positions.items()}
                while chunk := feed.take(1_000, bounds):
                    for folded in local.fold(chunk):
                        for output in folded.outputs:
                            wanted[output.topic].append(output.value)
            assert local is not None
            held = found.held[task]
            assert {name: local.state(name) for name in held.states} == held.states, task
    for topic, values in wanted.items():
        assert comparable(topic, found.outputs[topic]) == comparable(topic, values), topic
    told = {json.loads(value)["policy"]["id"] for values in found.outputs.values() for value in values}
    assert told == {"standard", "strict"}


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_soak(make_stage: MakeStage, one_node: Cluster) -> None:
    """Three workers for long, each killed at some point; Redis, the broker and the network join in."""
    stage = make_stage(one_node, appendonly=True, partitions=4, records=9_000)
    stage.produce_all(stage.script.recording)
    stage.pace(1.0)
    random = stage.random
    steps = [name for name in (*CYCLE, *TAKEOVER) if name != "takeover.wiped"]
    plans = [[Point(random.choice(steps), hit=random.randint(1, 6))] for _ in range(40)]
    stage.supervise(3, plans)
    until = time.monotonic() + 600
    while time.monotonic() < until and stage.commit_logs.folded < stage.part(0.9):
        what = random.choice(["redis", "broker", "reset", "stall", "flush", "nothing"])
        stage.tell(f"{what}; {stage.commit_logs.folded} of {stage.total}")
        if what == "redis":
            stage.redis.kill()
            stage.kills += 1
            stage.redis.start()
        elif what == "broker":
            one_node.nodes[0].kill()
            stage.kills += 1
            one_node.start()
        elif what == "reset":
            one_node.proxy.reset()
        elif what == "stall":
            one_node.proxy.stall()
            time.sleep(random.uniform(0.5, 5))
            one_node.proxy.mend()
        elif what == "flush":
            stage.redis.flush()
        for _ in range(40):
            stage.look_after()
            stage.commit_logs.read(0.1)
    stage.next_plans.clear()
    stage.finish(timeout_s=180)
