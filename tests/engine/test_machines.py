"""The state machines' tables, and the document drawn from them."""

from datetime import date
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from schemas.inbound import ReviewDecided
from streams.engine import loan_facts
from streams.engine.machines import LIMIT, PLAN, REVIEW, WARNING, Machine, delinquency, machines
from streams.policy.loader import load
from streams.replay.diagrams import document
from tests.stories.test_stories import Play

STANDARD = load("standard")
DOCUMENT = Path(__file__).parents[2] / "docs" / "state-machines.md"


def test_the_document_is_fresh() -> None:
    told = "stale; run duewatch schemas machines --out docs/state-machines.md"
    assert DOCUMENT.read_text(encoding="utf-8") == document(STANDARD), told


@pytest.mark.parametrize("machine", machines(STANDARD), ids=lambda machine: machine.name)
def test_every_state_can_be_reached_and_every_move_is_told_once(machine: Machine) -> None:
    reached = {machine.start}
    for _ in machine.moves:
        reached |= {move.target for move in machine.moves if move.source in reached}
    assert reached == set(machine.states)
    told = [move[:3] for move in machine.moves]
    assert len(set(told)) == len(told)


def test_what_no_rule_does_is_not_allowed() -> None:
    assert not WARNING.allows("watch", "warning_raised", "amber")
    assert not WARNING.allows("red", "warning_cleared", "watch")
    assert not LIMIT.allows("zeroed", "limit_decreased", "decreased")
    assert not LIMIT.allows("zeroed", "limit_decreased", "zeroed")
    assert not LIMIT.allows("frozen", "draws_restricted", "draws_restricted")
    assert not delinquency(STANDARD).allows("C", "bucket_changed", "C")


def test_every_decision_of_a_reviewer_has_its_place_in_the_table() -> None:
    settles = {move.when.split(":")[0] for move in REVIEW.moves if move.event == "review_decided"}
    known = set(get_args(get_type_hints(ReviewDecided)["decision"]))
    assert settles < known
    assert all(word in REVIEW.about for word in known - settles)


@pytest.mark.parametrize("move", PLAN.moves, ids=lambda move: f"{move.source}-{move.target}")
def test_a_plan_moves_as_its_table_says(move: tuple[str, str, str, str]) -> None:
    source, event, target, _ = move
    words = {
        "plan_accepted": "accepts plan X until 2026-12-31: 2 due 2026-03-31 principal 100.00",
        "plan_declined": "declines plan X",
        "plan_broken": "breaks plan X",
        "plan_completed": "completes plan X",
    }
    before = {
        "offered": [], "accepted": ["plan_accepted"], "broken": ["plan_accepted", "plan_broken"],
    }[source]  # fmt: skip
    play = Play(STANDARD.facts)
    play.tell(date(2026, 1, 1), "paid out in CNY: 1 due 2026-01-31 principal 100.00")
    for day, told in enumerate([*before, event], 1):
        assert loan_facts.plan_state(play.loans["A"], "X") == (source if day > len(before) and before else
                                                                 None if day == 1 else "accepted")  # fmt: skip
        play.tell(date(2026, 2, day), words[told])
    assert loan_facts.plan_state(play.loans["A"], "X") == target
