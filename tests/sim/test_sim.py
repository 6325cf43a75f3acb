"""A few hundred simulated runs, and the proof that they would notice: see `python -m tests.sim --help`."""

import pytest

from tests.sim.mutants import MUTANTS, mutated
from tests.sim.run import run

SEEDS = 200
MOST = 300


@pytest.mark.timeout(170)
def test_whatever_goes_wrong_each_record_counts_once_and_in_order() -> None:
    totals = run(0).counts
    for seed in range(1, SEEDS):
        found = run(seed)
        assert not found.wrong, f"seed {seed}: {found.wrong[0]} (python -m tests.sim --seed {seed})"
        totals += found.counts
    # Much has gone wrong.
    assert totals["claims"] > 2 * SEEDS
    assert totals["killed"] > SEEDS / 2
    assert totals["stopped"] > SEEDS / 3
    assert totals["beside"] > SEEDS / 2


def test_the_same_seed_is_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for _ in range(2):
        run(23, trace=True, harsh=True)
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "owns 0" in told[0]


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_protection_taken_out_is_noticed(name: str) -> None:
    with mutated(name):
        assert any(run(seed, harsh=True).wrong for seed in range(MOST)), f"nobody notices that {name} is gone"
