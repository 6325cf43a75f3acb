"""The law of what never was: when all arrears turn out to have been none, nothing that rested on them stays, whatever
had become of it by then."""

import json
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from streams.replay.explain import explain
from tests.stories.telling import tape_of
from tests.stories.test_stories import Story

FIRST_DUE = date(2026, 1, 31)
INSTALMENTS = 6
LIMITS = ("draws_restricted", "limit_decreased", "limit_frozen", "limit_zeroed", "limit_restored")
Row = tuple[date, str, str]


def troubled(random: Random, loan: str) -> list[Row]:
    """Instalments of 1,000.00 a month: paid late, in part, or not at all."""
    due = [FIRST_DUE + timedelta(days=30 * number) for number in range(INSTALMENTS)]
    schedule = ", ".join(f"{number} due {on} principal 1000.00" for number, on in enumerate(due, 1))
    rows = [(date(2026, 1, 1), f"{loan}paid out in CNY: {schedule}", "")]
    for number, on in enumerate(due, 1):
        if random.random() < 0.6:
            paid_on = on + timedelta(days=random.choice([0, 6, 20, 35, 70, 100]))
            amount = random.choice(["1000.00", "1000.00", "300.00"])
            rows.append((paid_on, f"{loan}pays {loan[:1]}{number} {amount}", ""))
    return rows


def told(random: Random) -> list[Row]:
    """A borrower's days; on the last of them comes what was paid in full before anything was late."""
    last_on = FIRST_DUE + timedelta(days=random.randrange(5, 240))
    loans = ["", "B: "][: random.choice([1, 1, 2])]
    rows: list[Row] = [(date(2026, 1, 1), "limit 5000.00 for a worker", "")]
    for loan in loans:
        rows += troubled(random, loan)
    held_on = FIRST_DUE + timedelta(days=random.randrange(200))
    if random.random() < 0.5:
        kind = random.choice(["manual", "legal"])
        rows += [
            (held_on, f"{kind} hold set", ""),
            (held_on + timedelta(days=random.randrange(1, 40)), f"{kind} hold lifted", ""),
        ]
    rows = [row for row in rows if row[0] < last_on]
    rows += [(last_on, f"{loan}pays {loan[:1]}late 6000.00 valued {FIRST_DUE}", "") for loan in loans]
    # A hold that is still in force is lifted then.
    if [how for _, how, _ in rows if "hold set" in how] and not [how for _, how, _ in rows if "hold lifted" in how]:
        kind = next(how.split()[0] for _, how, _ in rows if "hold set" in how)
        rows.append((last_on, f"{kind} hold lifted", ""))
    return sorted(rows, key=lambda row: row[0])


def decided(rows: list[Row], tmp_path: Path) -> list[dict[str, Any]]:
    tape = tape_of(Story("random", "", rows), "standard", tmp_path / "so-far.jsonl")
    found = explain(tape.write(tmp_path / "told.jsonl"), "b1", policy="standard")
    return [json.loads(bytes(decision)) for decision in found.decisions]


@pytest.mark.parametrize("seed", range(40))
def test_what_never_was_leaves_nothing(seed: int, tmp_path: Path) -> None:
    rows = told(Random(seed))
    events = decided(rows, tmp_path)
    chain = [event for event in events if event["type"] in LIMITS]
    levels = [event for event in events if "previous_level" in event]
    listed = [event["type"] for event in events if event["type"] in ("blacklisted", "delisted")]

    assert not chain or (chain[-1]["to_status"], chain[-1]["to_minor"]) == ("normal", 500_000)
    assert not levels or levels[-1]["level"] == "none"
    assert listed[-1:] != ["blacklisted"]
