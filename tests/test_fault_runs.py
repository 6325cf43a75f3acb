"""The fault runs themselves: what they tell in the end, what they need not run again, and that their checks find what
is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.topics import DLQS, INPUTS, OUTPUTS
from streams.store.seal import seal, seal_all
from streams.worker.commitlog import CommitRecord, Committed, encode
from tests.faults.checks import check_claims_move_nothing, check_each_counted, check_log_is_held
from tests.faults.footprints import Footprint, Footprints
from tests.faults.tally import Ledger, Outcome, Ran, Tally
from tests.integration.live import Held
from tests.integration.live import Outcome as Found


def ran(row: str, seed: int, outcome: Outcome, kills: int, told: str = "") -> Ran:
    return Ran(row, seed, outcome, kills, 2.0, told)


def test_a_long_run_goes_on_where_it_was_cut_off_and_sums_up_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "runs.jsonl"
    first = Ledger(file)
    first.note(ran("walk", 1, "held", 13))
    first.note(ran("walk", 2, "violated", 12, "an event twice"))
    first.note(ran("disk", 1, "skipped", 0, "no root"))

    again = Ledger(file)
    assert again.held == {("walk", 1)}
    tally = Tally(2, again, None, shows=False)
    tally.count(ran("walk", 2, "held", 13))
    tally.count(ran("storm[5]", 1, "violated", 3, "a member owns parts of tasks"))
    tally.end()

    lines = capsys.readouterr().out.splitlines()
    assert "| `walk` | 2 | 26 | 0 | 4 |" in lines
    assert "| `disk` | 0 | 0 | 0 | 2 |" in lines
    assert lines[-3:-1] == [
        "violation: storm[5], seed 1: a member owns parts of tasks",
        "  once more: make faults SEED=1 ROW=storm[5]",
    ]
    told = "3 rows, 4 runs over seeds 1, 2, 29 kills, 1 violations, skipped: disk"
    assert lines[-1].startswith(f"faults: {told}, ")
    assert lines[-1].endswith(" s (3 runs before in the ledger)")
    assert Ledger(file).held == {("walk", 1), ("walk", 2)}


def committed(kind: Any, seq: int, position: int, **fields: Any) -> Committed:
    record = CommitRecord(kind, seq, "log", positions=dict.fromkeys(INPUTS, (position, 7)), **fields)
    return Committed(record, seq, seq, encode(record).digest)


LOG = [
    committed("claim", 1, 0),
    committed("chunk", 2, 2, changed=seal_all({"a": b"1", "b": b"1"}), wakes={"a": 5}, task=seal("", b"t1")),
    committed("claim", 3, 2),
    committed(
        "chunk",
        4,
        3,
        changed=seal_all({"a": b"2"}),
        wakes={"a": None, "b": 9},
        task=seal("", b"t2"),
        refused=dict.fromkeys(INPUTS, (3, 1)),
    ),
]
LETTER = (b"a", b"{", [("__dlq.errors.reason", b"malformed_json")])
RECORDS = {topic: [[1, 2, 3]] for topic in INPUTS}


def found(states: dict[str, bytes], wakes: dict[str, int], letters: int = 1) -> Found:
    return Found(
        {topic: [] for topic in OUTPUTS}, {topic: [LETTER] * letters for topic in DLQS}, [Held(states, wakes, b"t2")]
    )


HELD = {"a": b"2", "b": b"1"}


def test_what_is_as_the_log_says_is_held_to_be_so() -> None:
    check_claims_move_nothing([LOG])
    check_log_is_held([LOG], found(HELD, {"b": 9}))
    check_each_counted([LOG], RECORDS, found(HELD, {}))


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (
            lambda: check_claims_move_nothing([[*LOG, committed("claim", 5, 4)]]),
            "the claim at commit 5 moves positions",
        ),
        (lambda: check_log_is_held([LOG], found({"a": b"1", "b": b"1"}, {"b": 9})), "another state of a"),
        (lambda: check_log_is_held([LOG], found({"a": b"2"}, {"b": 9})), "another state of b"),
        (lambda: check_log_is_held([LOG], found(HELD | {"c": b"1"}, {"b": 9})), "another state of c"),
        (lambda: check_log_is_held([LOG], found(HELD, {"a": 5, "b": 9})), "other wake-ups"),
        (lambda: check_each_counted([LOG], RECORDS | {"logins": [[1, 2]]}, found(HELD, {})), "3 records of logins"),
        (lambda: check_each_counted([LOG], RECORDS, found(HELD, {}, letters=2)), "2 dead letters of"),
    ],
)
def test_what_is_not_is_found(check: Callable[[], None], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check()


def lives(old: tuple[int, int], young_mib: int, files: int = 40) -> Footprints:
    """One process of an hour, whose memory in MiB goes from one figure to another, and one of its last half hour."""
    prints = Footprints()
    for at_s in range(0, 3_600, 10):
        mib = old[0] + (old[1] - old[0]) * at_s // 3_600
        prints.note(1, Footprint(at_s, mib << 20, 40 if at_s < 1_800 else files))
        if at_s >= 1_800:
            prints.note(2, Footprint(at_s, young_mib << 20, 40))
    return prints


def test_memory_is_compared_with_that_of_who_started_late() -> None:
    lives((100, 200), 190).check_flat(900)
    with pytest.raises(AssertionError, match="memory is 176 MiB, 120 of one 1800 s younger"):
        lives((100, 200), 120).check_flat(900)
    with pytest.raises(AssertionError, match="files grew from 40 to 50"):
        lives((100, 100), 100, files=50).check_flat(900)
    with pytest.raises(AssertionError, match="no worker that started 2000 s later"):
        lives((100, 100), 100).check_flat(2_000)
    with pytest.raises(AssertionError, match="no worker lived for 7200 s"):
        lives((100, 100), 100).check_flat(7_200)
