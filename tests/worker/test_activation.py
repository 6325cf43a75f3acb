"""An activation: what became of it, by the tasks' own commits; on a real broker on every partition, whole."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas.inbound import PolicyActivated
from schemas.topics import COMMITS, CONTROL
from streams.config import Settings, load_settings
from streams.engine.chunk import TaskState
from streams.engine.state import pack_task
from streams.policy.loader import digest, load, loads
from streams.store.seal import seal
from streams.worker import activation
from streams.worker.activation import Activated, Activation, Written, activate, write_activation
from streams.worker.commitlog import ORIGIN, CommitRecord, encode
from streams.worker.dlq import Held, Letter
from streams.worker.tasklogs import TaskError
from tests.parts.kafka import Kafka

PARTITIONS = 3


class Logs:
    """Stands in for a consumer: the commit logs of tasks, which come to the activation once it is written."""

    def __init__(self) -> None:
        self.values: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        self.digests = [ORIGIN] * PARTITIONS
        self.assigned = self.at = 0

    def commit(self, task: int, control: int, seen: Sequence[str]) -> None:
        packed = pack_task(TaskState(control_seen=list(seen)))
        record = CommitRecord(
            "chunk", len(self.values[task]) + 1, "log", {CONTROL: (control, 0)}, task=seal("", packed)
        )
        encoded = encode(record, self.digests[task])
        self.digests[task] = encoded.digest
        self.values[task] += encoded.values

    def assign(self, partitions: list[Any]) -> None:
        (place,) = partitions
        assert place.topic == COMMITS
        self.assigned = place.partition

    def seek(self, _: Any, offset: int) -> None:
        self.at = offset

    async def position(self, _: Any) -> int:
        return self.at

    async def getmany(self, place: Any, timeout_ms: int) -> dict[Any, list[Any]]:
        held = self.values[self.assigned][self.at :]
        records = [SimpleNamespace(offset=self.at + at, value=value) for at, value in enumerate(held)]
        self.at += len(held)
        return {place: records}

    async def beginning_offsets(self, places: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(places, len(self.values[self.assigned]))


WRITTEN = Written("policy-live-1", "standard", "sha256:1", "live", [4, 5, 6])


async def outcome(monkeypatch: pytest.MonkeyPatch, after: Sequence[tuple[int, int, Sequence[str]]]) -> Activated:
    """What `activate` tells where the tasks commit so (task, position in control, events taken) once it is written."""
    logs = Logs()
    for task in range(PARTITIONS):
        logs.commit(task, 9, ["a commit of before, in whose place nothing is to be looked for"])

    async def tasks(_: Settings) -> list[int]:
        return list(range(PARTITIONS))

    @asynccontextmanager
    async def opened(_: Settings) -> AsyncIterator[Logs]:
        yield logs

    async def write(*_: object) -> Written:
        for task, control, seen in after:
            logs.commit(task, control, seen)
        return WRITTEN

    async def letters(*_: object) -> AsyncIterator[Held]:
        for partition, offset in ((1, 3), (1, 5), (2, 5)):
            letter = Letter(CONTROL, partition, 0, offset, "invalid_policy", f"why {offset}", "fold", "f", 0, 0)
            yield Held(letter, None, b"{}", [])

    for name, stand_in in (
        ("choose_tasks", tasks),
        ("open_log_consumer", opened),
        ("write_activation", write),
        ("letters", letters),
    ):
        monkeypatch.setattr(activation, name, stand_in)
    return await activate(load_settings(), Activation(load("standard"), "live", "ann", "bob"), 0)


async def test_it_is_live_where_every_task_has_taken_it(monkeypatch: pytest.MonkeyPatch) -> None:
    name = WRITTEN.event_id
    found = await outcome(monkeypatch, [(0, 4, []), (0, 5, [name]), (1, 6, ["x", name]), (2, 7, [name])])
    assert (found.in_force, found.refused, found.waiting, found.done) == ([0, 1, 2], {}, [], True)
    assert found.lines == [f"standard: written to 3 partitions as {name}", "standard is live in 3 of 3 tasks"]


async def test_what_a_task_refuses_or_has_not_come_to_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await outcome(monkeypatch, [(0, 5, [WRITTEN.event_id]), (1, 6, []), (2, 6, [])])
    assert (found.in_force, found.refused, found.waiting) == ([0], {1: "invalid_policy: why 5"}, [2])
    assert not found.done
    assert found.lines[1:3] == ["standard is live in 1 of 3 tasks", "refused by 1 of 3 tasks: invalid_policy: why 5"]
    assert found.lines[3].startswith("1 of 3 tasks have not come to it")


@pytest.mark.parametrize(("author", "approver"), [("", "bob"), ("ann", "b" * 65), ("ann", "\udcff")])
async def test_people_that_no_event_can_name_are_not_sent(author: str, approver: str) -> None:
    with pytest.raises(TaskError, match="author and approver are ids of 1 to 64 characters"):
        await write_activation(
            load_settings(broker="127.0.0.1:1"), Activation(load("standard"), "live", author, approver)
        )


@pytest.mark.kafka
def test_on_a_real_broker(kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka.create_topics([unique], partitions=PARTITIONS)
    monkeypatch.setattr(activation, "CONTROL", unique)
    settings = load_settings(app_id=unique, broker=kafka.bootstrap)
    standard = load("standard")
    written = [
        asyncio.run(write_activation(settings, Activation(standard, mode, "ann", "bob"))) for mode in ("shadow", "live")
    ]
    assert [len(one.offsets) for one in written] == [PARTITIONS, PARTITIONS]
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": unique,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    for partition in range(PARTITIONS):
        consumer.assign([TopicPartition(unique, partition, 0)])
        events = []
        while (message := consumer.poll(20)) is not None and message.error() is None:
            assert message.key() is None
            value = message.value()
            assert value is not None
            events.append(msgspec.json.decode(value, type=PolicyActivated))
        assert [event.event_id for event in events] == [one.event_id for one in written]
        assert [event.mode for event in events] == ["shadow", "live"]
        assert all(loads(event.body, "body") == standard and event.digest == digest(standard) for event in events)
    consumer.close()
