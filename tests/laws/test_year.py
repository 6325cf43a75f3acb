"""A small year held to the claims of `tests/laws/year`, and the proof that what breaks them is noticed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.engine import fold, limits
from streams.engine.standing import Limit
from streams.policy.loader import load
from streams.replay.explain import StandingShown
from tests.laws.year.check import Found, check
from tests.laws.year.flaps import Watch, rests_on_score, score_for
from tests.laws.year.run import Year, run
from tests.laws.year.told import DAY_MS, Event

LINK = limits.link
YEAR = Year(seed=4, borrowers=40, days=365, partitions=2)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    return run(YEAR, 1, None, tmp_path_factory.mktemp("year"))


def test_a_small_year_keeps_the_law(checked: tuple[Path, Found]) -> None:
    recording, found = checked
    assert found.offenders == []
    assert (found.borrowers, found.dead_letters) == (YEAR.borrowers, 0)
    # All that the claims are about has happened.
    assert min(found.chains, found.taken_again, found.excused, found.due, found.zeroed) > 0
    assert found.excused <= found.touched
    assert found.restored == found.due
    assert found.events > 365 * 24 * YEAR.partitions
    assert recording.is_dir()


def test_what_is_done_is_not_done_again(checked: tuple[Path, Found], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.laws.year.run._check_alone", None)
    assert run(YEAR, 1, None, checked[0].parents[1]) == checked


def _with_a_hole(limit: Limit, rung: int, to_minor: int) -> dict[str, Any]:
    """A link of the chain after one that nobody has seen."""
    return LINK(limit, rung, to_minor) | {"limit_seq": limit.seq + 2}


def _nothing(*_: Any) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("claim", "module", "name", "instead"),
    [
        ("way back", limits, "_restore", _nothing),
        ("mark", fold, "heed_incidents", _nothing),
        ("hole", limits, "link", _with_a_hole),
    ],
    ids=["nothing is restored", "no incident is heeded", "a link is lost"],
)
def test_a_rule_taken_out_is_noticed(
    claim: str,
    module: Any,
    name: str,
    instead: Callable[..., Any],
    checked: tuple[Path, Found],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, name, instead)
    found = check(checked[0], 0, lambda _: None)
    assert {offender.claim for offender in found.offenders} == {claim}


def restored(**fields: Any) -> Event:
    return {
        "type": "limit_restored", "event_id": "r1", "at_ms": 0, "from_status": "frozen", "to_status": "decreased",
        "from_minor": 700, "to_minor": 700,
    } | fields  # fmt: skip


def frozen(at_ms: int, evidence: list[str], **fields: Any) -> Event:
    reason = {"code": "limit_frozen", "value": 31, "threshold": 31, "points": 0, "evidence": evidence}
    return {
        "type": "limit_frozen", "event_id": "f1", "at_ms": at_ms, "from_status": "decreased", "to_status": "frozen",
        "from_minor": 700, "to_minor": 700, "reasons": [reason],
    } | fields  # fmt: skip


def watched(given_back: Event, taken: Event) -> Watch:
    """Something is given back, the event e2 is delivered, something is taken."""
    watch = Watch(load("standard"))
    watch.take("B1", given_back)
    watch.deliver("B1", "e2")
    watch.take("B1", taken)
    return watch


def test_a_step_taken_again_is_a_flap_but_for_a_new_cause() -> None:
    assert len(watched(restored(), frozen(29 * DAY_MS, ["e1"])).retaken) == 1
    assert watched(restored(), frozen(29 * DAY_MS, ["e1", "e2"])).retaken == []
    assert watched(restored(), frozen(30 * DAY_MS, ["e1"])).taken_again == 0


def test_a_step_taken_again_knows_what_was_undone_before() -> None:
    watch = Watch(load("standard"))
    wrong = frozen(0, ["e1"])
    watch.take("B1", wrong)
    assert not watch.watches("B1")
    watch.take("B1", restored(compensates=wrong["event_id"]))
    assert watch.watches("B1")
    watch.take("B1", frozen(DAY_MS, ["e1"], event_id="f2"))
    assert [retaken.undone for retaken in watch.retaken] == [wrong]


def test_only_a_step_that_rests_on_the_score_has_a_score_and_what_others_say_freezes_nobody() -> None:
    by_dpd = frozen(DAY_MS, ["e1"])
    by_score = by_dpd | {"reasons": [by_dpd["reasons"][0] | {"code": "income_fell"}]}
    assert not rests_on_score(by_dpd)
    assert rests_on_score(by_score)
    standing = StandingShown("critical", 295, 365, "E", "decreased", 700, 4, "CNY")
    assert score_for(by_score, standing) == 365
    assert score_for(by_score | {"to_status": "decreased"}, standing) == 295


def test_a_step_is_taken_again_by_what_is_harsher_or_by_less_of_an_amount_that_was_raised() -> None:
    milder = restored(to_status="frozen", to_minor=1_000)
    assert watched(milder, frozen(DAY_MS, ["e1"], to_minor=1_000)).taken_again == 0
    assert watched(milder, frozen(DAY_MS, ["e1"], to_minor=900)).taken_again == 1
    assert watched(restored(to_status="frozen"), frozen(DAY_MS, ["e1"], to_minor=500)).taken_again == 0
