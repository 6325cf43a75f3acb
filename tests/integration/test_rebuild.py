"""`duewatch rebuild` on real parts: never against a worker, and whatever cuts it off, nothing is lost."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from schemas.topics import INPUTS
from streams.config import Settings, load_settings
from streams.store.contract import Change
from streams.store.memory import MemoryStore
from streams.store.seal import unseal
from streams.worker import rebuild as rebuilding
from streams.worker.owners import OwnedError
from streams.worker.rebuild import Rebuilt, plan, rebuild
from streams.worker.takeover import KafkaBroker, Takeover
from streams.worker.tasklogs import TaskError
from streams.worker.trim import Trimmer
from tests.integration.rig import Rig, expected, recording
from tests.parts import wait_until
from tests.worker.echo import BAD

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

PARTITIONS = 2


def stored(settings: Settings) -> dict[str, bytes]:
    """All that the store holds of borrowers."""
    with Redis.from_url(settings.redis_url.get_secret_value()) as client:
        keys = sorted(client.scan_iter(match=f"{{{settings.app_id}:*}}:b:*"))
        return {key.decode(): client.get(key) for key in keys}


def wakes(settings: Settings) -> dict[str, list[tuple[bytes, float]]]:
    """Everybody the store knows of and when they wake up, by key of the task."""
    with Redis.from_url(settings.redis_url.get_secret_value()) as client:
        keys = sorted(client.scan_iter(match=f"{{{settings.app_id}:*}}:wakes"))
        return {key.decode(): client.zrange(key, 0, -1, withscores=True) for key in keys}


def forget(settings: Settings) -> None:
    with Redis.from_url(settings.redis_url.get_secret_value()) as client:
        for key in client.scan_iter(match=f"{{{settings.app_id}:*"):
            client.delete(key)


async def test_a_rebuild_refuses_a_worker_and_survives_being_cut_off(
    make_rig: Callable[[int], Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig(PARTITIONS)
    for name, value in rig.settings().items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    records = recording(11, 1_200, PARTITIONS)
    rig.produce(records[:1_000])
    worker = rig.start(chunk_records=100)
    rig.wait_for_outputs(sum(map(len, expected(records[:1_000], PARTITIONS))))
    for task in range(PARTITIONS):
        with pytest.raises(OwnedError, match=rf"task {task} is owned by a worker on 127\.0\.0\.1: stop the workers"):
            await plan(settings, [task])
    with pytest.raises(TaskError, match="no task 2: they go from 0 to 1"):
        await plan(settings, [2])
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    whole, whole_wakes = stored(settings), wakes(settings)

    # From what is left of a log that has been cut.
    spare = {task: log[-1].record.roll.whole_after + 1 for task, log in enumerate(rig.commits())}
    assert min(spare.values()) > 5
    await Trimmer(settings.model_copy(update={"log_keep_days": 0.0}), lambda: spare).trim()
    # The end marker of a transaction may stand first.
    assert all(log[0].first - spare[task] in (0, 1) for task, log in enumerate(rig.commits()))
    forget(settings)
    done = command("rebuild", "--json")
    assert done.returncode == 0, done.stderr
    assert [one["state"] for one in json.loads(done.stdout)["tasks"]] == ["rebuilt", "rebuilt"]
    assert stored(settings) == whole
    assert wakes(settings) == whole_wakes

    begun = await cut_off(settings, await plan(settings))
    assert [one.state for one in begun.tasks] == ["partly", "left"]
    assert begun.left == [0, 1]
    assert begun.tasks[0].commits == 2

    overtaken = await plan(settings)
    overtake(settings, monkeypatch)
    with pytest.raises(OwnedError, match="task 0: a worker has taken it over meanwhile"):
        await rebuild(settings, overtaken, lambda _: None)
    monkeypatch.undo()
    assert overtaken.left == [0, 1]

    # What was cut off is made whole by the next owner, and nothing is computed from a part.
    rig.produce(records[1_000:])
    rig.start()
    rig.wait_for_outputs(sum(map(len, expected(records, PARTITIONS))))
    counts = Counter(record.key for record in records if record.value != BAD)
    wait_until(lambda: sorted(map(int, unsealed(settings))) == sorted(counts.values()), "all counted once")


def unsealed(settings: Settings) -> list[bytes]:
    return [unseal(key.rpartition(":b:")[2], state) for key, state in stored(settings).items()]


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = (sys.executable, "-c", "from streams.cli import main; main()")
    return subprocess.run([*program, *arguments], env=dict(os.environ), capture_output=True, text=True, check=False)


async def cut_off(settings: Settings, rebuilt: Rebuilt) -> Rebuilt:
    """A rebuild that is cancelled after its second commit."""

    def second(_: int) -> None:
        if rebuilt.tasks[0].commits == 1:
            copying.cancel()

    copying = asyncio.create_task(rebuild(settings, rebuilt, second))
    await asyncio.wait({copying})
    assert copying.cancelled()
    return rebuilt


def overtake(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker take the task over after the first commit of a rebuild."""
    apply = rebuilding._Watched.apply

    async def interrupted(self: Any, fence: int, from_applied: int | None, change: Change) -> None:
        await apply(self, fence, from_applied, change)
        if self._told.commits == 1:
            taken = await Takeover(KafkaBroker(settings), settings.app_id, INPUTS, lambda _: None).take(
                MemoryStore(self.partition)
            )
            await taken.producer.close()
            await self.claim(taken.claim.last, taken.claim.record.incarnation)

    monkeypatch.setattr(rebuilding._Watched, "apply", interrupted)
