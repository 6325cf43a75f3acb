"""Laws of what people decide, over random histories of one borrower with appeals, holds and decisions in between."""

from functools import cache
from random import Random

import pytest

from streams.policy.model import STATUSES
from tests.laws.test_decision_laws import Event, Recorded, Run, but_cause, day_of, history, in_order
from tests.oracle.histories import DAY_MS, HOUR_MS

LIMITS = ("draws_restricted", "limit_decreased", "limit_frozen", "limit_zeroed", "limit_restored", "limit_rebased")
WARNINGS = ("warning_raised", "warning_escalated", "warning_lowered", "warning_cleared")
LISTINGS = ("blacklisted", "delisted")


@cache
def told(seed: int) -> tuple[Recorded, ...]:
    """A history, and what people say of the decisions that it leads to."""
    rng = Random(seed)
    records = history(seed, days=160)
    decided = [event for _, event in Run(in_order(records), chunk=5_000).outputs if "borrower_id" in event]
    people: list[Recorded] = []
    for number in range(14):
        about = rng.choice(decided)
        at_ms = about["at_ms"] + rng.randrange(HOUR_MS, 20 * DAY_MS)
        kind, fields = _said(rng, about, at_ms)
        common = {"type": kind, "event_id": f"people-{number}", "at_ms": at_ms, "borrower_id": "B1"}
        people.append((at_ms, common | fields))
    return (*records, *people)


def _said(rng: Random, about: Event, at_ms: int) -> tuple[str, Event]:
    reviewer = {"reviewer": rng.choice(("R1", "R2"))}
    expires = rng.choice(({}, {"expires_at_ms": at_ms + rng.randrange(1, 60) * DAY_MS}))
    decision = rng.choice(("approve", "uphold", "overturn", "overturn", "set_limit", "clear", "exempt"))
    minor = {"limit_minor": rng.choice((0, 100_000, 400_000, 900_000))} if decision == "set_limit" else {}
    return rng.choice(
        (
            ("appeal_filed", {"about_event_id": about["event_id"], "text_code": "wrong"}),
            (
                "review_decided",
                {"decision": decision, "about_event_id": about["event_id"]} | reviewer | expires | minor,
            ),
            ("review_decided", {"decision": decision} | reviewer | expires | minor),
            ("hold_set", {"kind": "legal"} | reviewer),
            ("hold_lifted", {"kind": "legal"} | reviewer),
            (rng.choice(("hold_set", "hold_lifted")), {"kind": "manual"} | reviewer),
            ("fraud_reported", {"kind": "identity", "confirmed": rng.random() < 0.3}),
            ("violation_reported", {"kind": "cash_out", "confirmed": rng.random() < 0.5}),
            ("blacklist_reported", {"source": "elsewhere", "listed": True}),
            ("hardship_reported", {"kind": "illness"}),
        )
    )


def outputs(records: tuple[Recorded, ...], chunk: int) -> list[Event]:
    run = Run(in_order(records), chunk)
    assert "quarantined" not in run.dead
    return [event for _, event in run.outputs]


@pytest.mark.parametrize("seed", range(10))
def test_the_chain_has_no_hole_and_everything_undone_was_done(seed: int) -> None:
    last: Event | None = None
    known: set[str] = set()
    undone: set[str] = set()
    for event in outputs(told(seed), 5_000):
        known.add(event["event_id"])
        about = event.get("compensates")
        assert about is None or (about in known and about not in undone), event
        undone.add(about or "")
        if event["type"] not in LIMITS:
            continue
        assert event["limit_seq"] == (1 if last is None else last["limit_seq"] + 1)
        if last is not None:
            assert (event["from_minor"], event["from_status"]) == (last["to_minor"], last["to_status"]), event
        assert event["to_minor"] >= 0
        assert (event["to_status"] == "zeroed") <= (event["to_minor"] == 0)
        assert STATUSES.index(event["to_status"]) >= 0
        last = event


@pytest.mark.parametrize("seed", range(6))
def test_what_is_decided_does_not_depend_on_where_a_chunk_ends(seed: int) -> None:
    assert outputs(told(seed), 3) == outputs(told(seed), 5_000)


@pytest.mark.parametrize("seed", range(6))
def test_what_people_say_twice_counts_once(seed: int) -> None:
    again = [(at_ms + 1, event) for at_ms, event in told(seed) if event["event_id"].startswith("people-")]
    assert but_cause(outputs((*told(seed), *again), 5_000)) == but_cause(outputs(told(seed), 5_000))


@pytest.mark.parametrize("seed", range(10))
def test_a_legal_hold_is_silent(seed: int) -> None:
    held = False
    holds = sorted(
        ((at_ms, event) for at_ms, event in told(seed) if event["type"].startswith("hold_")), key=lambda told: told[0]
    )
    events = outputs(told(seed), 5_000)
    for (from_ms, hold), (until_ms, _) in zip(holds, [*holds[1:], (10**15, {})], strict=True):
        if hold["kind"] == "legal":
            held = hold["type"] == "hold_set"
        if not held:
            continue
        # The clock stands at the last tick when the hold comes.
        spoken = [event for event in events if from_ms < event["at_ms"] and event["at_ms"] < until_ms - DAY_MS]
        assert not [event for event in spoken if event["type"] in (*WARNINGS, *LIMITS, *LISTINGS)], day_of(from_ms)
