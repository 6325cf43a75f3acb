"""Ticks: one moment is one event on every partition, and moments only rise."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from schemas.inbound import Tick
from streams.config import load_settings
from streams.worker.clock import Clock, tick_message
from streams.worker.producer import Message, Transactions


def test_a_tick_on_the_wire() -> None:
    message = tick_message(1_700_000_010_000, 3)
    assert (message.topic, message.partition, message.key, message.timestamp_ms) == (
        "control",
        3,
        None,
        1_700_000_010_000,
    )
    assert message.value is not None
    assert msgspec.json.decode(message.value) == {
        "type": "tick",
        "event_id": "tick-1700000010000",
        "at_ms": 1_700_000_010_000,
    }
    assert msgspec.json.decode(message.value, type=Tick).at_ms == message.timestamp_ms


def test_moments_are_whole_multiples_and_never_fall() -> None:
    wall = [1_000_004_999]
    clock = Clock(load_settings(tick_every_s=5), wall_ms=lambda: wall[0])
    assert clock.due_ms() == 1_000_000_000
    clock._last_ms = 1_000_000_000
    assert clock.due_ms() is None
    wall[0] = 1_000_005_000
    assert clock.due_ms() == 1_000_005_000
    clock._last_ms = 1_000_005_000
    wall[0] = 999_000_000
    assert clock.due_ms() is None


class _Written:
    """Takes transactions, and ends the clock after the second."""

    def __init__(self) -> None:
        self.transactions: list[Sequence[Message]] = []

    async def partitions(self, topic: str) -> int:
        return 3

    async def commit(self, messages: Sequence[Message]) -> None:
        self.transactions.append(messages)
        if len(self.transactions) == 2:
            raise asyncio.CancelledError

    async def close(self) -> None: ...


async def test_a_tick_is_one_transaction_over_all_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    written = _Written()

    async def begin(*_: object) -> _Written:
        return written

    monkeypatch.setattr(Transactions, "begin", begin)
    wall = iter(range(1_000_000_000, 2_000_000_000, 1))
    with pytest.raises(asyncio.CancelledError):
        await Clock(load_settings(tick_every_s=0.001), wall_ms=lambda: next(wall)).run()
    for messages in written.transactions:
        assert [(message.topic, message.partition) for message in messages] == [("control", n) for n in range(3)]
        assert len({(message.timestamp_ms, message.value) for message in messages}) == 1
    assert len({messages[0].value for messages in written.transactions}) == 2
