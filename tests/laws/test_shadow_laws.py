"""Policies side by side: shadows leave no trace in what is live, and decide what they would decide if they were."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streams.engine import delinquency
from streams.engine.calendar import DAY_MS
from streams.engine.chunk import Output, TaskState
from streams.engine.delinquency import Position
from streams.engine.order import LogRecord, Ordered
from streams.engine.shadows import SHADOW_DECISIONS, SHADOWED
from streams.engine.state import Borrower, unpack
from streams.policy.loader import body, digest, load, loads
from streams.replay.cycle import chunks
from streams.replay.recording import Recording
from streams.replay.simulate.writing import simulate
from tests.laws.test_fold_laws import Folding


def strict() -> dict[str, Any]:
    """A harsher score, and a look at everyone who is warned on every day."""
    document = policy("strict", base=600)
    for level in document["warnings"]:
        level["dwell_days"] = 1
    return document


def policy(name: str, **score: Any) -> dict[str, Any]:
    """The shipped policy under another name, with another score."""
    document: dict[str, Any] = json.loads(body(load("standard"))) | {"id": name}
    document["score"] |= score
    return document


def activation(document: dict[str, Any], mode: str, **others: Any) -> bytes:
    parsed = loads(json.dumps(document), "test")
    event = {
        "type": "policy_activated", "event_id": f"{mode}-{parsed.id}", "at_ms": 0, "policy_id": parsed.id,
        "digest": digest(parsed), "mode": mode, "body": body(parsed), "author": "ann", "approver": "bob",
    }  # fmt: skip
    return json.dumps(event | others).encode()


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Ordered]:
    out: Path = tmp_path_factory.mktemp("shadows") / "recording"
    simulate(seed=1, borrowers=25, events=12_000, out=out, partitions=1)
    with Recording.open(out) as recording:
        return [record for chunk in chunks(recording, 0) for record in chunk]


def at(records: Sequence[Ordered], told: dict[float, list[bytes]]) -> list[Ordered]:
    """The records with events of control put in after these shares of them."""
    result: list[Ordered] = []
    start = 0
    for share in sorted(told):
        end = int(len(records) * share)
        result += records[start:end]
        order_ms = records[max(end - 1, 0)][0] if records else 0
        for number, value in enumerate(told[share]):
            offset = 1_000_000 + int(share * 1000) * 10 + number
            result.append((order_ms, "control", offset, LogRecord("control", 0, offset, order_ms, None, value, ())))
        start = end
    return result + list(records[start:])


def run(records: Sequence[Ordered], chunk: int = 2_000) -> Folding:
    return Folding(chunk, 10_000).run(records)


def live_of(outputs: Sequence[Output]) -> list[Output]:
    return [output for output in outputs if output.topic != SHADOW_DECISIONS]


def bare(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    """Decisions without what names the policy: what is compensated is told by its place among them."""
    events = [json.loads(output.value) for output in outputs]
    place = {event["event_id"]: number for number, event in enumerate(events)}
    for event in events:
        event.pop("policy")
        event.pop("event_id")
        if "compensates" in event:
            event["compensates"] = place.get(event["compensates"])
    return sorted(events, key=lambda event: (event["borrower_id"], event["at_ms"], json.dumps(event, sort_keys=True)))


def positions(borrower: Borrower, clock_ms: int | None) -> list[Position]:
    """Where the loans stand on the day after the last tick; how far they have been brought forward does not count."""
    assert clock_ms is not None
    rules, day = load("standard").facts, clock_ms // DAY_MS + 1
    return [delinquency.position(loan, day, rules) for loan in borrower.facts.loans.values()]


@pytest.fixture(scope="module")
def alone(records: list[Ordered]) -> Folding:
    return run(records)


@pytest.fixture(scope="module")
def beside(records: list[Ordered]) -> list[Ordered]:
    return at(records, {0.0: [activation(policy("twin"), "shadow")], 0.4: [activation(strict(), "shadow")]})


@pytest.fixture(scope="module")
def side_by_side(beside: list[Ordered]) -> Folding:
    return run(beside)


def test_shadows_leave_no_trace_in_what_is_live(alone: Folding, side_by_side: Folding) -> None:
    assert len(alone.outputs) > 100
    assert live_of(side_by_side.outputs) == alone.outputs
    for borrower_id, state in alone.states.items():
        with_shadows = unpack(side_by_side.states[borrower_id])
        without = unpack(state)
        assert with_shadows.facts.windows == without.facts.windows
        assert positions(with_shadows, alone.task.clock_ms) == positions(without, alone.task.clock_ms)
        assert with_shadows.standing == without.standing
        assert with_shadows.shadows is not None
        assert with_shadows.shadows.live_wake_ms == without.standing.decide_ms
        assert with_shadows.wake_ms == min(
            moment
            for moment in (without.wake_ms, *(shadow.wake_ms for shadow in with_shadows.shadows.shadows))
            if moment is not None
        )
    assert (side_by_side.task.loans, side_by_side.task.levels, side_by_side.task.statuses) == (
        alone.task.loans,
        alone.task.levels,
        alone.task.statuses,
    )


def test_a_shadow_with_the_live_rules_decides_the_same(side_by_side: Folding) -> None:
    told = [output for output in side_by_side.outputs if json.loads(output.value)["policy"]["id"] == "twin"]
    live = [output for output in side_by_side.outputs if output.topic in SHADOWED]
    assert {output.topic for output in told} == {SHADOW_DECISIONS}
    assert bare(told) == bare(live)
    ids = [json.loads(output.value)["event_id"] for output in side_by_side.outputs]
    assert len(set(ids)) == len(ids)


def test_a_shadow_goes_on_from_where_the_live_policy_stands(records: list[Ordered], alone: Folding) -> None:
    """Activated in the middle, the twin says what the live policy says from then on, and its chain goes on."""
    middle = at(records, {0.5: [activation(policy("twin"), "shadow")]})
    folding = run(middle)
    told = [output for output in folding.outputs if output.topic == SHADOW_DECISIONS]
    began = next(number for number, record in enumerate(middle) if record[2] >= 1_000_000)
    before = len([output for output in run(middle[:began]).outputs if output.topic in SHADOWED])
    live = [output for output in folding.outputs if output.topic in SHADOWED][before:]
    assert len(told) > 20
    # Of what it undoes, it may have to name the live policy's event: that one stands here, the other does not.
    assert [event | {"compensates": None} for event in bare(told)] == [
        event | {"compensates": None} for event in bare(live)
    ]


def test_another_shadow_decides_otherwise(side_by_side: Folding) -> None:
    told = [json.loads(output.value) for output in side_by_side.outputs if output.topic == SHADOW_DECISIONS]
    raised = {name: sum(e["policy"]["id"] == name and e["type"] == "warning_raised" for e in told) for name in
              ("twin", "strict")}  # fmt: skip
    assert raised["strict"] > 0
    twins = [event for event in told if event["policy"]["id"] == "twin"]
    assert {event["score"] for event in told if "score" in event} != {e["score"] for e in twins if "score" in e}


@pytest.mark.parametrize("chunk", [1, 97, 10**9])
def test_chunk_size_does_not_show_with_shadows(beside: list[Ordered], side_by_side: Folding, chunk: int) -> None:
    other = run(beside, chunk)
    assert other.outputs == side_by_side.outputs
    assert other.states == side_by_side.states
    assert other.task == side_by_side.task


def test_a_retired_shadow_says_no_more_and_live_goes_on_as_if_it_had_never_been(
    records: list[Ordered], alone: Folding
) -> None:
    harsher = strict()
    told = at(records, {0.1: [activation(harsher, "shadow")], 0.5: [activation(harsher, "retired")]})
    folding = run(told)
    assert live_of(folding.outputs) == alone.outputs
    ended = max(json.loads(o.value)["at_ms"] for o in folding.outputs if o.topic == SHADOW_DECISIONS)
    assert ended <= records[int(len(records) * 0.5) - 1][0]
    kept = [unpack(state).shadows for state in folding.states.values()]
    assert kept.count(None) > len(kept) // 2
    assert folding.task.shadows == []


def test_one_that_comes_back_starts_anew(records: list[Ordered]) -> None:
    harsher = strict()
    back = activation(harsher, "shadow", event_id="again")
    told = {0.1: [activation(harsher, "shadow")], 0.5: [activation(harsher, "retired"), back]}
    folding = run(at(records, told))
    (shadow,) = folding.task.shadows
    assert shadow.serial == 2
    serials = {s.serial for state in folding.states.values() if (b := unpack(state).shadows) for s in b.shadows}
    assert 2 in serials
    late = [e for o in folding.outputs if o.topic == SHADOW_DECISIONS and (e := json.loads(o.value))]
    assert late[-1]["at_ms"] > records[int(len(records) * 0.5)][0]


def test_a_shadow_that_goes_live_takes_over_the_live_standing(records: list[Ordered]) -> None:
    harsher = strict()
    told = at(records, {0.1: [activation(harsher, "shadow")], 0.5: [activation(harsher, "live")]})
    folding = run(told)
    assert folding.task.shadows == []
    assert folding.task.live is not None
    assert folding.task.live.was_shadow == 1
    chains: dict[str, dict[str, Any]] = {}
    after = 0
    for output in folding.outputs:
        event = json.loads(output.value)
        if output.topic == "limit-adjustments":
            last = chains.get(event["borrower_id"])
            assert event["limit_seq"] == (1 if last is None else last["limit_seq"] + 1)
            assert last is None or (event["from_minor"], event["from_status"]) == (last["to_minor"], last["to_status"])
            chains[event["borrower_id"]] = event
        after += output.topic in SHADOWED and event["policy"]["id"] == "strict"
    assert after > 0
    switched_ms = records[int(len(records) * 0.5) - 1][0]
    assert not any(
        output.topic == SHADOW_DECISIONS and json.loads(output.value)["at_ms"] > switched_ms
        for output in folding.outputs
    )


# --- what is refused ----------------------------------------------------------------------------------------------


def with_facts(name: str, **dpd: Any) -> dict[str, Any]:
    document = policy(name)
    document["facts"] = document["facts"] | {"dpd": dpd}
    return document


REFUSED = [
    (
        [activation(with_facts("rbi", due_date_counts_as=1), mode)],
        (
            "its facts section differs from that of the live policy standard (facts.dpd): balances and days past due "
            "would have to be folded again; copy the live facts, or replay a recording under this policy"
        ),
    )
    for mode in ("live", "shadow")
] + [
    (
        [activation(policy("p"), "shadow", approver=approver)],
        "author and approver are the same person; have another person approve",
    )
    for approver in ("ann", "Ann", " ann ")
] + [
    (
        [activation(policy("p"), "shadow", approver=" ")],
        "author or approver is blank; name who wrote it and who approved it",
    ),
    (
        [activation(policy("p"), "shadow", digest="sha256:0")],
        "digest or policy_id does not belong to the body; activate what was reviewed",
    ),
    (
        [activation(policy("standard"), "shadow")],
        "is the live policy; as its own shadow it would say everything twice",
    ),
    ([activation(policy("p"), "retired")], "is not active as a shadow; nothing to retire"),
    ([activation(policy("standard"), "retired")], "is the live policy; put another one live in its place"),
    (
        [activation(policy("p"), "shadow", body="{}")],
        "policy p:1: id: missing; add this field",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("told", "why"), REFUSED)
def test_what_cannot_be_put_in_force_is_a_dead_letter(told: list[bytes], why: str) -> None:
    folding = Refusals().run(at([], {0.0: told}))
    assert [(letter.reason, letter.message) for letter in folding.dead_letters] == [("invalid_policy", why)]
    assert folding.task == TaskState()


class Refusals(Folding):
    def __init__(self) -> None:
        super().__init__(100, 10)
        self.dead_letters: list[Any] = []

    def _fold(self, engine: Any, chunk: Sequence[Ordered]) -> Sequence[Ordered]:
        folded = engine.fold(self.task, chunk, {}, [], self._cases)
        self.dead_letters += folded.dead_letters
        self.task = folded.task
        return chunk[folded.taken :]

    def run(self, records: Sequence[Ordered]) -> "Refusals":
        super().run(records)
        return self


def test_one_person_is_enough_where_the_live_policy_says_so() -> None:
    alone = policy("alone") | {"approval": {"two_persons": False}}
    told = [activation(alone, "live"), activation(policy("p"), "shadow", approver="ann")]
    folding = Refusals().run(at([], {0.0: told}))
    assert folding.dead_letters == []
    assert [shadow.policy_id for shadow in folding.task.shadows] == ["p"]


def test_a_new_version_of_a_shadow_takes_its_place() -> None:
    again = activation(policy("p", base=601), "shadow", event_id="second")
    told = [activation(policy("p"), "shadow"), activation(policy("q"), "shadow"), again]
    folding = Refusals().run(at([], {0.0: told}))
    assert [(shadow.policy_id, shadow.serial) for shadow in folding.task.shadows] == [("q", 2), ("p", 3)]


def test_a_policy_with_other_buckets_says_from_which_a_loan_comes(records: list[Ordered]) -> None:
    document = policy("coarse")
    document["buckets"] = [
        {"name": "C", "from_day": 0, "to_day": 0},
        {"name": "late", "from_day": 1, "to_day": 30},
        {"name": "lost", "from_day": 31},
    ]
    folding = run(at(records, {0.6: [activation(document, "live")]}))
    last: dict[str, str] = {}
    moves = [json.loads(output.value) for output in folding.outputs if output.topic == "delinquency"]
    for move in moves:
        if move["type"] == "bucket_changed":
            assert move["from"] == last.get(move["loan_id"], "C")
            last[move["loan_id"]] = move["to"]
    assert {"late", "lost"} & set(last.values())
    counted = sum(pair[0] for by in folding.task.loans.values() for pair in by.values())
    assert counted >= 0
    assert all(pair[0] >= 0 and pair[1] >= 0 for by in folding.task.loans.values() for pair in by.values())
