"""Rows in which Redis dies, forgets, lies, fills up or is slow."""

import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import redis

from streams.store.seal import CHECKSUM_BYTES
from tests.faults.cluster import Cluster
from tests.faults.conftest import MakeStage
from tests.faults.proxy import Proxy
from tests.faults.stage import Stage
from tests.parts.redis import OwnRedis, open_own_redis, open_own_sentinel

pytestmark = pytest.mark.timeout(400)


def under_way(make_stage: MakeStage, cluster: Cluster, share: float = 0.25, **settings: bool) -> Stage:
    """A stage whose worker has folded a share of the recording and goes on slowly."""
    stage = make_stage(cluster, **settings)
    stage.produce_all(stage.script.recording)
    stage.pace(0.25)
    stage.supervise(1)
    stage.wait_until_folded(stage.part(share))
    assert stage.commit_logs.folded < stage.total
    return stage


def said(stage: Stage, text: str) -> Callable[[], bool]:
    return lambda: any(text in worker.log for worker in stage._workers)


@pytest.mark.long
def test_redis_killed_and_back(make_stage: MakeStage, one_node: Cluster) -> None:
    """With its append-only file: what it said it had, it has."""
    stage = under_way(make_stage, one_node, appendonly=True)
    for share in (0.4, 0.6):
        stage.redis.kill()
        stage.kills += 1
        stage.wait_for(said(stage, "store does not answer"), "the worker notices")
        stage.redis.start()
        stage.wait_until_folded(stage.part(share))
    stage.finish()
    assert not said(stage, "copying the whole commit log")()


@pytest.mark.long
def test_redis_killed_and_empty(make_stage: MakeStage, one_node: Cluster) -> None:
    """Without one: it comes back with nothing, and is filled from the commit log."""
    stage = under_way(make_stage, one_node)
    stage.redis.kill()
    stage.kills += 1
    stage.redis.start()
    stage.wait_for(said(stage, "copying the whole commit log"), "the log is copied")
    stage.finish()


def test_redis_flushed(make_stage: MakeStage, one_node: Cluster) -> None:
    stage = under_way(make_stage, one_node)
    for share in (0.4, 0.6):
        stage.redis.flush()
        stage.wait_until_folded(stage.part(share))
    stage.finish()
    assert said(stage, "copying the whole commit log")()


@pytest.mark.long
def test_redis_flushed_under_full_load(make_stage: MakeStage, one_node: Cluster) -> None:
    """Nobody rests: it is filled again and again while records wait, and in the end nothing shows of it."""
    stage = make_stage(one_node, records=15_000)
    stage.produce_all(stage.script.recording)
    stage.pace(0)
    stage.supervise(2, chunk_records=400)
    for share in (0.2, 0.4, 0.6):
        stage.wait_until_folded(stage.part(share))
        with stage.store() as client:
            client.flushall()
    assert stage.commit_logs.folded < stage.total
    stage.finish()
    assert said(stage, "copying the whole commit log")()


def put_back(client: "redis.Redis", backup: dict[bytes, bytes]) -> None:
    """In one transaction, so that a worker sees the old state or the new."""
    pipe = client.pipeline(transaction=True)
    pipe.flushdb()
    for key, dumped in backup.items():
        pipe.restore(key, 0, dumped)
    pipe.execute()


def backed_up(client: "redis.Redis") -> dict[bytes, bytes]:
    """All keys as they are at one moment."""
    client.client_pause(10_000, all=False)
    backup: dict[bytes, bytes] = {key: client.dump(key) for key in client.keys("*")}  # type: ignore[misc]
    client.client_unpause()
    return backup


@pytest.mark.long
def test_redis_restored_from_an_old_backup(make_stage: MakeStage, one_node: Cluster) -> None:
    """Under a running worker: what it loads is refused as stale, and what the backup lacks is copied from the log."""
    stage = under_way(make_stage, one_node, 0.2)
    with stage.store() as client:
        backup = backed_up(client)
        stage.wait_until_folded(stage.part(0.5))
        put_back(client, backup)
    stage.finish()
    assert said(stage, "stale")()


@pytest.mark.long
def test_redis_fails_over_and_loses_writes(make_stage: MakeStage, one_node: Cluster) -> None:
    """Primary and workers are parted from replica and sentinel: what is written then is lost when the sentinel promotes
    the replica and the address of the store leads there."""
    stage = make_stage(one_node)
    stage.produce_all(stage.script.recording)
    stage.pace(0.25)
    with ExitStack() as opened:
        line = Proxy(port_of(stage.redis), frames=False)
        opened.callback(line.close)
        replica = open_own_redis()
        opened.callback(replica.close)
        follow(stage, replica, line)
        sentinel = open_own_sentinel(line.port)
        opened.callback(sentinel.close)
        stage.wait_for(lambda: sentinel.replicas() == 1, "the sentinel knows the replica")
        stage.supervise(1)
        stage.wait_until_folded(stage.part(0.25))
        line.stall()
        stage.tell("parted")
        stage.wait_for(lambda: sentinel.primary_port() == port_of(replica), "the sentinel promotes the replica")
        stage.wait_until_folded(stage.commit_logs.folded + 200)
        stage.redis_proxy.lead_to(sentinel.primary_port())
        stage.redis.kill()
        stage.kills += 1
        stage.follow(replica)
        stage.finish()
    assert said(stage, "stale")()


def port_of(server: OwnRedis) -> int:
    return int(server.url.rsplit(":", 1)[1].split("/")[0])


def follow(stage: Stage, replica: OwnRedis, line: Proxy) -> None:
    """Let a server copy the stage's, over a line of its own."""
    with stage.store() as primary, redis.Redis.from_url(replica.url) as follower:
        primary.config_set("repl-diskless-sync-delay", "0")
        follower.replicaof("127.0.0.1", str(line.port))
        stage.wait_for(lambda: follower.info("replication")["master_link_status"] == "up", "the replica follows")


def test_redis_out_of_memory(make_stage: MakeStage, one_node: Cluster) -> None:
    """Nothing goes on, nothing is lost; with more memory it does."""
    stage = under_way(make_stage, one_node)
    with stage.store() as client:
        client.config_set("maxmemory", "1mb")
        stage.wait_for(said(stage, "OutOfMemory"), "the worker notices")
        folded = stage.commit_logs.folded
        time.sleep(1.0)
        stage.read_commits()
        # What was under way has been committed; no task goes beyond one chunk that is not in the store.
        assert stage.commit_logs.folded - folded <= 150 * stage.partitions
        client.config_set("maxmemory", "0")
    stage.finish()


@pytest.mark.long
def test_redis_slow(make_stage: MakeStage, one_node: Cluster) -> None:
    """Answers take long, then longer than the worker waits."""
    stage = under_way(make_stage, one_node)
    stage.redis_proxy.delay_s = 0.3
    stage.wait_until_folded(stage.part(0.4))
    stage.redis_proxy.stall()
    stage.wait_for(said(stage, "store does not answer"), "the worker notices")
    stage.redis_proxy.mend()
    stage.finish()


def test_redis_that_would_evict(stage: Stage) -> None:
    """No worker starts on it."""
    with stage.store() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        worker = stage.hire()
        stage.wait_for(lambda: worker.exit_code is not None, "a Redis that evicts is refused", 60)
        assert worker.exit_code == 1
        assert "would evict state: maxmemory-policy is allkeys-lru" in worker.log
        client.config_set("maxmemory-policy", "noeviction")
    stage.supervise(1)
    stage.finish()


def keys_of(client: "redis.Redis", stage: Stage, task: int) -> list[bytes]:
    return sorted(key for key in client.keys(f"{{{stage.app_id}:{task}}}:b:*") if isinstance(key, bytes))


@pytest.mark.long
def test_a_state_is_damaged(make_stage: MakeStage, one_node: Cluster) -> None:
    """It is another borrower's whole state behind its own checksum, which tells; the task is copied anew."""
    stage = under_way(make_stage, one_node, 0.3)
    with stage.store() as client:
        keys = keys_of(client, stage, 1)
        states = [value for value in client.mget(keys) if isinstance(value, bytes)]
        for key, own, other in zip(keys, states, [*states[1:], states[0]], strict=True):
            client.set(key, own[:CHECKSUM_BYTES] + other[CHECKSUM_BYTES:])
    stage.finish()
    assert said(stage, "does not match its checksum")()


def test_a_state_is_deleted(make_stage: MakeStage, one_node: Cluster) -> None:
    """Somebody deletes keys by hand, or Redis was told to evict after the worker had started: it is missed, and the
    task is copied anew."""
    stage = under_way(make_stage, one_node, 0.3)
    with stage.store() as client:
        for key in keys_of(client, stage, 1):
            client.delete(key)
    stage.finish()
    assert said(stage, "a state has vanished")()
