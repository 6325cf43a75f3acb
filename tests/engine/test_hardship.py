"""While a reported hardship lasts, what it makes a borrower spend is not scored."""

from datetime import date, timedelta

import pytest

from schemas.topics import CONTROL
from streams.engine.fold import Engine
from streams.engine.state import unpack
from streams.policy.loader import load
from streams.replay.cycle import LocalTask
from tests.replay.tape import Tape

FIRST = date(2026, 1, 1)


def score(spree_on: int, spree_minor: int, **hardship: object) -> int:
    """The score after quiet days and one of `spree_minor`, where hardship was reported on day 50."""
    tape = Tape()
    tape.tick("2025-12-31 01:00")
    tape.profile("2026-01-01")
    for number in range(spree_on + 1):
        day = FIRST + timedelta(days=number)
        tape.tick(f"{day} 01:00")
        if number == 50 and hardship:
            tape.event(f"{day} 12:00", "hardship_reported", **hardship)
        spent = spree_minor if number == spree_on else 10_000
        tape.event(
            f"{day} 13:00", "transaction", transaction_id=f"t{number}", direction="out", amount_minor=spent,
            currency="CNY", category="purchase",
        )  # fmt: skip
    task = LocalTask(Engine(load("standard")))
    records = sorted(tape.records, key=lambda record: (record.timestamp, record.topic == CONTROL))
    for _ in task.fold([(record.timestamp, record.topic, record.offset, record) for record in records]):
        pass
    state = task.state("b1")
    assert state is not None
    return unpack(state).standing.score


@pytest.mark.parametrize(
    ("spree_on", "hardship", "suspended"),
    [
        (60, {}, False),
        (60, {"kind": "illness"}, True),
        (60, {"kind": "illness", "until_ms": 1_772_000_000_000}, False),
        (145, {"kind": "illness"}, False),
    ],
)
def test_a_spree_costs_points_but_in_hardship(spree_on: int, hardship: dict[str, object], suspended: bool) -> None:
    """1_772_000_000_000 is 2026-02-25, before the spree of day 60; 90 days after day 50 is before day 145."""
    quiet = score(spree_on, 1)
    assert (score(spree_on, 1_000_000, **hardship) == quiet) == suspended
