"""Ticks: one moment is one event on every partition, and moments only rise."""

import msgspec

from schemas.inbound import Tick
from streams.config import load_settings
from streams.worker.clock import Clock, tick_message


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
