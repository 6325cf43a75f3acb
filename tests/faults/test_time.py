"""Rows about what comes in and who works on it: bad records in bulk, jumping clocks, releases one after the other, and
everything at once for long."""

import json
import signal
import time
from pathlib import Path

import msgspec
import pytest

from schemas.topics import CONTROL, DLQS
from streams.engine.fold import Engine
from streams.engine.order import LogRecord
from streams.engine.state import OLDEST_SCHEMA, SCHEMA, pack, unpack, unpack_task
from streams.policy import loader
from streams.replay.cycle import LocalTask, _Feed
from streams.replay.recording import Recording
from streams.worker.clock import tick_message
from tests.faults.cluster import Cluster
from tests.faults.conftest import MakeStage
from tests.faults.footprints import Footprints
from tests.faults.points import CYCLE, TAKEOVER, Point
from tests.faults.stage import Stage
from tests.faults.test_store import said
from tests.integration.live import comparable

pytestmark = pytest.mark.timeout(300)

SOAK_S = 1_800.0
_MINUTE_MS = 60_000
_SHIPPED = Path(loader.__file__).parent / "standard.yaml"


@pytest.mark.long
def test_bad_records_in_bulk(make_stage: MakeStage, one_node: Cluster) -> None:
    """Every sixth record cannot be read; workers are killed among them."""
    stage = make_stage(one_node, rounds=30)
    stage.produce_all(stage.script.recording)
    # Told to let them all become dead letters.
    deaths = [[Point("cycle.sent", hit=4)], [Point("cycle.committed", hit=3)]]
    stage.supervise(1, deaths, dead_letter_least=1_000_000)
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
def test_releases_one_after_the_other(make_stage: MakeStage, one_node: Cluster, tmp_path: Path) -> None:
    """A release with another state schema and a stricter policy takes over in mid-stream, and one with the old policy
    after it: what each owner decided is what its own policy says of the state it found. The release before cannot have
    the task back, as it would drop what it does not know."""
    strict = tmp_path / "strict.yaml"
    shipped = _SHIPPED.read_text()
    strict.write_text(shipped.replace("id: standard", "id: strict").replace("  base: 650", "  base: 600"))
    assert strict.read_text() != shipped
    stage = make_stage(one_node)
    stage.produce_all(stage.script.recording)
    stage.pace(0.15)
    older = {"FAULTS_AILMENT": "is_a_release_older"}
    policies = {stage.hire(faults=older, policy="standard"): "standard"}
    stage.wait_until_folded(stage.part(0.3))
    gone(stage)
    policies[stage.hire(policy=str(strict))] = str(strict)
    stage.wait_until_folded(stage.part(0.6))
    gone(stage)
    back = stage.hire(faults=older, policy="standard")
    policies[back] = "standard"
    stage.wait_for(lambda: back.exit_code is not None, "the release before gives up")
    assert back.exit_code == 1
    assert f"has schema {SCHEMA}, this version reads {OLDEST_SCHEMA}; run the newer version" in back.log
    stage.give_up_seats()
    policies[stage.hire(policy="standard")] = "standard"
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
                for folded in local.fold(feed.within(bounds, 1_000), committed=True):
                    for output in folded.outputs:
                        wanted[output.topic].append(output.value)
            assert local is not None
            held = found.held[task]
            # Who had nothing happen to it since stands there as the older release has left it.
            assert {name: local.state(name) for name in held.states} == migrated(held.states), task
    for topic, values in wanted.items():
        assert comparable(topic, found.outputs[topic]) == comparable(topic, values), topic
    told = {json.loads(value)["policy"]["id"] for values in found.outputs.values() for value in values}
    assert told == {"standard", "strict"}
    records = [found.record for log in stage.commit_logs.records for found in log]
    blobs = [record.packed_states[name] for record in records for name in record.changed]
    assert {msgspec.msgpack.decode(blob)[0] for blob in blobs} == {OLDEST_SCHEMA, SCHEMA}


def gone(stage: Stage) -> None:
    """The only worker is killed, and its seat given up."""
    (worker,) = stage.running
    worker.kill()
    stage.kills += 1
    stage.give_up_seats()


def migrated(states: dict[str, bytes]) -> dict[str, bytes]:
    return {name: pack(unpack(state)) for name, state in states.items()}


@pytest.mark.long
@pytest.mark.timeout(3_000)
def test_soak(make_stage: MakeStage, one_node: Cluster) -> None:
    """Three workers for half an hour, one of them and later all for long, the others killed at some point; Redis, the
    broker and the network join in. Who lives long holds no more files in the end than at the beginning, and no more
    memory than one that starts for the last quarter."""
    stage = make_stage(one_node, appendonly=True, records=120_000)
    stage.produce_all(stage.script.recording)
    stage.pace(2.5)
    # Long enough for what the network does here: who lives on is to be seen living on.
    stage.faults |= {"FAULTS_SESSION_S": "8"}
    random = stage.random
    steps = [name for name in (*CYCLE, *TAKEOVER) if name != "takeover.wiped"]
    plans = [[Point(random.choice(steps), hit=random.randint(1, 6))] for _ in range(60)]
    stage.hire()
    stage.supervise(3, plans)
    prints = Footprints()
    until = time.monotonic() + SOAK_S
    latecomer = False
    while (left := until - time.monotonic()) > 0:
        if left < SOAK_S / 4 and not latecomer:
            stage.next_plans.clear()
            stage.running[-1].kill()
            stage.kills += 1
            latecomer = True
        what = random.choice(["redis", "broker", "reset", "stall", "flush", "nothing", "nothing"])
        stage.tell(
            f"{what}; {stage.kills_seen()} kills; {stage.commit_logs.folded} of {stage.total}; {left:.0f} s more"
        )
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
        for _ in range(200):
            stage.look_after()
            prints.take([worker.pid for worker in stage.running])
            stage.commit_logs.read(0.1)
    assert stage.commit_logs.folded < stage.total, "there was nothing left to do"
    stage.finish(timeout_s=300)
    prints.check_flat(SOAK_S / 4)
