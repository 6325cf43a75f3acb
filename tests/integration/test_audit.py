"""`duewatch audit` on real parts: a healthy log is told so, beside a worker too, and each kind of damage is seen."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from redis import Redis

from schemas.topics import INPUTS
from streams.config import Settings
from streams.engine.order import Record
from streams.policy.loader import load
from streams.replay.audit.logs import Published
from streams.replay.audit.report import Audit, TaskAudit
from streams.replay.audit.run import Range, audit
from streams.replay.uci import import_uci
from streams.store.redis_store import RedisStore, open_redis
from streams.store.seal import seal
from streams.worker.erase import erase
from streams.worker.rebuild import plan, rebuild
from streams.worker.takeover import KafkaBroker, Takeover
from streams.worker.trim import Trimmer
from tests.integration.live import PARTITIONS, Live, in_order, written
from tests.parts.kafka import Kafka
from tests.parts.redis import OwnRedis

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

TASK = 2
_UCI = Path(__file__).parents[2] / "data" / "uci-default" / "odd.csv.gz"


async def audited(settings: Settings, wanted: Range | None = None, task: int = TASK) -> TaskAudit:
    told = Audit()
    await audit(settings, load("standard"), [task], wanted or Range(), told, lambda _: None)
    return told.tasks[0]


def kinds(told: TaskAudit) -> list[tuple[str, str]]:
    assert told.differences == len(told.shown)
    return [(difference.kind, difference.flaw) for difference in told.shown]


@pytest.fixture
def live(kafka: Kafka, make_redis: Callable[[], OwnRedis], unique: str, tmp_path: Path) -> "AsyncIterator[Live] | Any":
    """A worker that has folded real histories with bad records among them, and goes on."""
    import_uci(_UCI, tmp_path / "good", 80, PARTITIONS)
    records = in_order(tmp_path / "good")
    last = [record for record in records if record.topic == "repayments" and record.partition == TASK][-1]
    bad = [last._replace(offset=last.offset + n, value=b"{") for n in (1, 2)]
    written([*records, *bad], tmp_path / "recording")
    with ExitStack() as opened:
        live = Live(kafka, make_redis(), unique, tmp_path)
        opened.callback(live.close)
        live.produce_all(tmp_path / "recording")
        live.worker(chunk_records=100)
        live.wait_until_done()
        yield live


async def test_a_healthy_log_is_told_to_be_so_and_each_damage_is_seen(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = live.config
    commits = live.commit_logs.records[TASK]
    chunks = [commit for commit in commits if commit.record.kind == "chunk"]

    # Beside the worker.
    whole = await audited(settings)
    assert kinds(whole) == []
    assert (whole.commits, whole.last, whole.notes) == (len(chunks), commits[-1].last, [])
    assert whole.outputs > 50
    assert whole.dead_letters == 2
    assert whole.stored is not None
    assert whole.stored > 5
    middle = Range(from_offset=chunks[1].last, until_offset=chunks[3].last)
    part = await audited(settings, middle)
    assert kinds(part) == []
    assert (part.first, part.commits) == (chunks[1].last, 2)

    backup = backup_of(live)
    erased = await erase_one(live)
    assert kinds(await audited(settings)) == []

    live._workers[0].send(signal.SIGTERM)
    assert live._workers[0].wait() == 0
    await restore_old(live, backup, erased)
    await published_otherwise(live, monkeypatch)
    await stored_otherwise(live)
    other_policy(live)
    await cut_and_compared(live)


def keys_of(live: Live, client: Redis) -> list[bytes]:
    return sorted(client.scan_iter(match=f"{{{live.app_id}:{TASK}}}:*"))


def backup_of(live: Live) -> dict[bytes, bytes]:
    """All that the store holds of the task now."""
    with Redis.from_url(live.config.redis_url.get_secret_value()) as client:
        return {key: client.dump(key) for key in keys_of(live, client)}


async def erase_one(live: Live) -> bytes:
    """A borrower erased beside the worker; returns its key in the store."""
    with Redis.from_url(live.config.redis_url.get_secret_value()) as client:
        key = next(key for key in keys_of(live, client) if b":b:" in key)
        name = key.decode().rpartition(":b:")[2]
        erased = await erase(live.config, name, "u1", 60)
        assert erased.done
        assert (erased.task, erased.known) == (TASK, True)
        assert name not in erased.line
        assert not client.exists(key)
        assert client.zscore(f"{{{live.app_id}:{TASK}}}:wakes", name) is None
        again = await erase(live.config, name, "u1", 60)
        assert again.done
        assert again.known is False
    return key


async def restore_old(live: Live, backup: dict[bytes, bytes], erased: bytes) -> None:
    """Neither an old backup of the store brings anybody back, nor a rebuild."""
    settings = live.config
    with Redis.from_url(settings.redis_url.get_secret_value()) as client:
        whole = backup_of(live)
        for key in keys_of(live, client):
            client.delete(key)
        for key, dumped in backup.items():
            client.restore(key, 0, dumped)
        assert client.exists(erased)
        store = open_redis(settings)
        takeover = Takeover(KafkaBroker(settings), settings.app_id, INPUTS, lambda _: None)
        taken = await takeover.take(RedisStore(store, settings.app_id, TASK))
        await taken.producer.close()
        await store.aclose()
        assert not client.exists(erased)
        assert backup_of(live).keys() == whole.keys()
        await rebuild(settings, await plan(settings, [TASK]), lambda _: None)
        assert not client.exists(erased)
        assert backup_of(live).keys() == whole.keys()


async def cut_and_compared(live: Live) -> None:
    """The log without what may be spared of it: what is left is audited, and what is not is told."""
    commits = live.commit_logs.records[TASK]
    spare = commits[len(commits) // 2].record.roll.whole_after + 1
    assert spare > 0
    await Trimmer(live.config.model_copy(update={"log_keep_days": 0.0}), lambda: {TASK: spare}).trim()
    told = await audited(live.config)
    # What has been done to outputs and store is still told; nothing else.
    assert {kind for kind, _ in kinds(told)} <= {"output", "store"}
    assert told.first is not None
    assert told.first > spare
    assert 0 < told.commits < len(commits)
    assert told.notes[0].startswith(f"the commit log begins at offset {spare} (older commits have been deleted)")


async def published_otherwise(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost, changed, doubled or from nowhere on the topics downstream."""
    records = Published.records
    found: list[Record] = []

    async def tampered(*arguments: Any) -> AsyncIterator[Record]:
        async for record in records(*arguments):
            if record.topic == "delinquency" and not found:
                found.append(record)
                continue
            yield record

    monkeypatch.setattr(Published, "records", tampered)
    (lost,) = (await audited(live.config)).shown
    monkeypatch.undo()
    event = json.loads(found[0].value or b"")
    assert (lost.kind, lost.flaw, lost.topic, lost.partition) == ("output", "missing", "delinquency", TASK)
    assert lost.event_id == event["event_id"]

    producer = AIOKafkaProducer(bootstrap_servers=live.config.broker)
    await producer.start()
    for value in (event, event | {"event_id": "invented"}):
        sent = json.dumps(value, separators=(",", ":")).encode()
        await producer.send_and_wait("delinquency", sent, found[0].key, TASK)
    await producer.stop()
    doubled, invented = (await audited(live.config)).shown
    assert (doubled.flaw, doubled.event_id, doubled.commit) == ("doubled", event["event_id"], lost.commit)
    assert (invented.flaw, invented.event_id, invented.commit) == ("unexpected", "invented", None)
    assert doubled.offset is not None
    assert invented.offset == doubled.offset + 1


async def stored_otherwise(live: Live) -> None:
    """Another state, a broken one, one too many, and a moved wake-up in the store."""
    prefix = f"{{{live.app_id}:{TASK}}}"
    with Redis.from_url(live.config.redis_url.get_secret_value()) as client:
        one, two = sorted(client.scan_iter(match=f"{prefix}:b:*"))[:2]
        names = [key.decode().rpartition(":b:")[2] for key in (one, two)]
        client.set(one, seal(names[0], b"\x90"))
        client.setrange(two, 9, b"\xff\xff\xff")
        client.set(f"{prefix}:b:nobody", seal("nobody", b"\x90"))
        client.zadd(f"{prefix}:wakes", {names[0]: 1})
    told = await audited(live.config, Range(from_offset=1 << 40))
    assert told.first is None
    assert sorted((difference.flaw, difference.borrower_id) for difference in told.shown) == [
        ("damaged", names[1]),
        ("differs", names[0]),
        ("differs", names[0]),
        ("unexpected", "nobody"),
    ]
    assert {difference.kind for difference in told.shown} == {"store"}


def other_policy(live: Live) -> None:
    """As a program: one that was started with another policy, and the exit code, and nobody named."""
    shipped = Path(__file__).parents[2] / "streams" / "policy" / "standard.yaml"
    changed = live._folder / "changed.yaml"
    changed.write_text(shipped.read_text().replace("id: standard", "id: changed", 1))
    program = (sys.executable, "-c", "from streams.cli import main; main()", "audit", "--task", str(TASK), "--json")
    environment = {**os.environ, **live.settings()}
    done = subprocess.run(
        [*program, "--policy", str(changed)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    (task,) = json.loads(done.stdout)["tasks"]
    assert task["differences"] > len(task["shown"]) == 20
    assert all("borrower_id" not in difference for difference in task["shown"])
