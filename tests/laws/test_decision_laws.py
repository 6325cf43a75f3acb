"""Laws of what is decided: held to the outputs alone, over simulated populations and random histories of one borrower.

What a decision rests on is reckoned again by the naive ledger in `tests/oracle`.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator

from schemas import outbound
from schemas.partitioning import partition_of
from streams.engine import ledger, score_edges, score_fall
from streams.engine.chunk import Folded
from streams.engine.fold import Engine
from streams.engine.order import LogRecord, Ordered
from streams.engine.score_fall import note
from streams.engine.standing import Standing
from streams.engine.state import Borrower, unpack
from streams.policy.loader import body, digest, load, loads
from streams.policy.model import LEVELS, STATUSES
from streams.replay.cycle import LocalTask, chunks
from streams.replay.recording import Recording
from streams.replay.simulate.writing import simulate
from tests.oracle.histories import DAY_MS, HOUR_MS, random_history
from tests.oracle.naive import NaiveLedger
from tests.oracle.scores import fall
from tests.replay.tape import SHANGHAI, TOPIC_OF

Event = dict[str, Any]
Recorded = tuple[int, Event]
POLICY = load("standard")
RULES = {rule.level: rule for rule in POLICY.warnings}
RAISING = {rule.level: (rule.score_fall_7d_from, rule.score_fall_30d_from) for rule in POLICY.warnings}
LEAVING = {rule.level: (rule.leave_score_fall_7d_below, rule.leave_score_fall_30d_below) for rule in POLICY.warnings}
FACTORS = {factor.reason: factor for factor in POLICY.score.factors}
SCHEMAS = Path(outbound.__file__).parent / "json" / "out"
OUT = (
    outbound.Warnings
    | outbound.LimitAdjustments
    | outbound.Listings
    | outbound.Delinquency
    | outbound.PlanOffered
    | outbound.ReviewRequested
    | outbound.ReminderDue
)
WARNED, CUT = ("warning_raised", "warning_escalated"), ("draws_restricted", "limit_decreased", "limit_frozen")
NOT_IN_NEED = 540
"""At this score and above nobody stays at level amber, from which draws are restricted."""


def day_of(at_ms: int) -> date:
    return datetime.fromtimestamp(at_ms / 1000, SHANGHAI).date()


@cache
def schema(kind: str) -> Draft7Validator:
    return Draft7Validator(json.loads((SCHEMAS / f"{kind}.json").read_text(encoding="utf-8")))


# --- folding ------------------------------------------------------------------------------------------------------


def tick(at_ms: int) -> Recorded:
    return at_ms, {"type": "tick", "event_id": f"tick-{at_ms}", "at_ms": at_ms}


def profile(at_ms: int, limit_minor: int, number: int) -> Recorded:
    fields = {"segment": "worker", "currency": "CNY", "onboarded_on": "2020-01-01", "limit_minor": limit_minor}
    common = {"type": "profile_set", "event_id": f"profile-{number}", "at_ms": at_ms, "borrower_id": "B1"}
    return at_ms, common | fields


def in_order(told: Iterable[Recorded]) -> list[Ordered]:
    """The records of one task in its order."""
    offsets: dict[str, int] = {}
    records: list[Ordered] = []
    for at_ms, event in sorted(told, key=lambda recorded: (recorded[0], TOPIC_OF[recorded[1]["type"]])):
        topic = TOPIC_OF[event["type"]]
        offset = offsets[topic] = offsets.get(topic, -1) + 1
        key = event["borrower_id"].encode() if "borrower_id" in event else None
        record = LogRecord(topic, 0, offset, at_ms, key, json.dumps(event).encode())
        records.append((at_ms, topic, offset, record))
    return records


class Run:
    """Records folded one by one. `outputs` are (number of the record, event), in order of emission."""

    def __init__(self, records: Sequence[Ordered], chunk: int = 1) -> None:
        self.outputs: list[tuple[int, Event]] = []
        self.dead: list[str] = []
        self.task = LocalTask(Engine(POLICY))
        for at in range(0, len(records), chunk):
            for folded in self.task.fold(records[at : at + chunk]):
                self._take(at, folded)

    def _take(self, at: int, folded: Folded) -> None:
        self.outputs += [(at, json.loads(output.value)) for output in folded.outputs]
        self.dead += [letter.reason for letter in folded.dead_letters]

    def borrower(self, name: str = "B1") -> Borrower:
        state = self.task.state(name)
        assert state is not None
        return unpack(state)


def by_borrower(events: Iterable[Event]) -> dict[str, list[Event]]:
    told: dict[str, list[Event]] = {}
    for event in events:
        if "borrower_id" in event:
            told.setdefault(event["borrower_id"], []).append(event)
    return told


def but_cause(events: Iterable[Event]) -> list[Event]:
    """The events without what names their cause; what an event undoes is told by its place."""
    places: dict[str, int] = {}
    seen = []
    for event in events:
        places[event["event_id"]] = len(places)
        kept = {name: value for name, value in event.items() if name not in ("event_id", "cause")}
        if "compensates" in kept:
            kept["compensates"] = places[kept["compensates"]]
        if kept["type"] == "review_requested":
            kept["reasons"] = [reason["code"] for reason in kept["reasons"]]
            proposed = kept["proposed"] or {}
            kept["proposed"] = {name: proposed.get(name) for name in ("type", "at_ms", "to_minor", "expires_on")}
        seen.append(kept)
    return seen


# --- laws of outputs alone ----------------------------------------------------------------------------------------


def hold_to_shape(events: Sequence[Event]) -> None:
    ids = [event["event_id"] for event in events]
    assert len(set(ids)) == len(ids)
    for event in events:
        msgspec.convert(event, OUT)
        assert schema(event["type"]).is_valid(event), event
    for of_one in by_borrower(events).values():
        undone: set[str] = set()
        known: set[str] = set()
        for event in of_one:
            about = event.get("compensates")
            assert about is None or (about in known and about not in undone), event
            undone.add(about or "")
            known.add(event["event_id"])


def hold_to_chain(of_one: Sequence[Event]) -> None:
    last: Event | None = None
    for event in of_one:
        if "limit_seq" not in event:
            continue
        assert event["limit_seq"] == (1 if last is None else last["limit_seq"] + 1)
        if last is None:
            assert event["from_status"] == "normal"
        else:
            assert (event["from_minor"], event["from_status"]) == (last["to_minor"], last["to_status"])
            # Zeroing is lifted by nothing but undoing it.
            assert last["to_status"] != "zeroed" or event["to_status"] == "zeroed" or "compensates" in event
        if event["type"] in CUT or event["type"] == "limit_zeroed":
            steps = STATUSES.index(event["to_status"]) - STATUSES.index(event["from_status"])
            again = event["type"] == "limit_decreased" and event["to_minor"] < event["from_minor"]
            assert steps > 0 or (steps == 0 and again)
            assert event["to_minor"] <= event["from_minor"]
        last = event


def hold_to_levels(of_one: Sequence[Event]) -> None:
    """Levels follow on each other, rest in their cool-down, and are lowered after their dwell time."""
    level, reached_ms = 0, 0
    left_ms: dict[int, int] = {}
    for event in of_one:
        if "previous_level" not in event:
            continue
        before, level = level, LEVELS.index(event["level"])
        assert LEVELS.index(event["previous_level"]) == before != level
        assert (event["type"] in WARNED) == (level > before)
        at_ms = event["at_ms"]
        if level > before:
            rule = RULES[event["level"]]
            assert level not in left_ms or left_ms[level] + rule.cool_down_days * DAY_MS <= at_ms, event
            reached_ms = at_ms
        elif "compensates" not in event:
            rule = RULES[event["previous_level"]]
            assert reached_ms + rule.dwell_days * DAY_MS <= at_ms, event
            assert rule.leave_score_from is None or event["score"] >= rule.leave_score_from, event
            for left in range(level + 1, before + 1):
                left_ms[left] = at_ms


def hold_to_reasons(event: Event, accepted: dict[str, int], at: int) -> None:
    """`accepted`: the events of this borrower that were accepted, and the number of the record that brought each."""
    reasons = event.get("reasons", [])
    assert len(reasons) <= 4
    if event["type"] in (*WARNED, *CUT, "limit_zeroed"):
        assert reasons, event
        assert event["recovery"]["action"]
    if event["type"] == "review_requested":
        # What is asked for a person to look at may rest on a decision of ours.
        return
    for reason in reasons:
        assert all(accepted[proof] <= at for proof in reason["evidence"]), event
        factor = FACTORS.get(reason["code"])
        assert (factor is None) == (reason["points"] == 0), reason
        if factor is not None:
            band = next(b for b in factor.bands if b.upper is None or reason["value"] < b.upper)
            assert reason["points"] == band.points < 0


# --- populations --------------------------------------------------------------------------------------------------


class Population:
    """A simulated one, folded by one task."""

    def __init__(self, out: Path, seed: int) -> None:
        simulate(seed=seed, borrowers=24, events=6_000, out=out, partitions=1)
        with Recording.open(out) as recording:
            self.records = [record for chunk in chunks(recording, 0) for record in chunk]
        self.told: dict[str, dict[str, int]] = {}
        self.place: dict[tuple[str, int], int] = {}
        for at, (_, topic, offset, record) in enumerate(self.records):
            self.place[topic, offset] = at
            event = json.loads(record.value or b"{}")
            if "borrower_id" in event:
                self.told.setdefault(event["borrower_id"], {}).setdefault(event["event_id"], at)
        self.events = [event for _, event in Run(self.records, chunk=5_000).outputs]

    def at(self, event: Event) -> int:
        cause = event["cause"]
        return self.place[cause["topic"], cause["offset"]]


@pytest.fixture(scope="module", params=[3, 8])
def population(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Population:
    return Population(tmp_path_factory.mktemp("one") / "recording", request.param)


def test_a_population_keeps_the_laws(population: Population) -> None:
    assert {"warning_escalated", "draws_restricted"} <= {event["type"] for event in population.events}
    hold_to_shape(population.events)
    for name, of_one in by_borrower(population.events).items():
        hold_to_chain(of_one)
        hold_to_levels(of_one)
        for event in of_one:
            hold_to_reasons(event, population.told[name], population.at(event))
            assert event["type"] not in (*WARNED, *CUT) or all(reason["evidence"] for reason in event["reasons"]), event


def test_the_number_of_partitions_shows_in_causes_alone(population: Population) -> None:
    apart: list[Event] = []
    for partition in range(3):
        own = [
            record
            for record in population.records
            if record[1] == "control" or partition_of(record[3].key or b"", 3) == partition
        ]
        apart += [event for _, event in Run(own, chunk=5_000).outputs]
    told, again = by_borrower(population.events), by_borrower(apart)
    assert {name: but_cause(of_one) for name, of_one in told.items()} == {
        name: but_cause(of_one) for name, of_one in again.items()
    }


# --- histories of one borrower ------------------------------------------------------------------------------------


def daily(first_ms: int, last_ms: int) -> list[Recorded]:
    """A tick at 01:00 of every day."""
    first = datetime.combine(day_of(first_ms), datetime.min.time(), SHANGHAI) + timedelta(hours=1)
    start_ms = int(first.astimezone(UTC).timestamp() * 1000)
    return [tick(at_ms) for at_ms in range(start_ms, last_ms + 2 * DAY_MS, DAY_MS)]


def history(seed: int, days: int = 330) -> list[Recorded]:
    """Loans that go well and badly, with late, backdated and reversed payments, one or two profiles, daily ticks."""
    rng = Random(seed)
    told: list[Recorded] = list(random_history(rng, loans=3, days=days))
    first_ms, last_ms = told[0][0], told[-1][0]
    told.append(profile(first_ms + rng.choice((0, 0, 60 * DAY_MS)), 500_000, 1))
    if rng.random() < 0.4:
        told.append(profile(first_ms + rng.randrange(90, 200) * DAY_MS, rng.choice((300_000, 500_000, 900_000)), 2))
    return told + daily(first_ms - DAY_MS, last_ms)


class Oracle:
    """What may be decided, by the naive ledger: fed with the same records, asked at every output."""

    def __init__(self) -> None:
        self.naive = NaiveLedger()
        self.accepted: dict[str, int] = {}
        self.offered: dict[str, list[date]] = {}
        self.profile_at: int | None = None
        self.scores: list[tuple[int, int]] = []

    def take(self, at: int, record_ms: int, event: Event) -> None:
        if event["type"] == "profile_set":
            self.profile_at = at if self.profile_at is None else self.profile_at
            self.accepted[event["event_id"]] = at
        elif event["type"] != "tick":
            if self.naive.accept(event, record_ms) == "accepted":
                self.accepted.setdefault(event["event_id"], at)
            for parked, verdict in self.naive.unparked:
                if verdict == "accepted":
                    self.accepted.setdefault(parked["event_id"], at)

    def judge(self, at: int, event: Event, score: int) -> None:
        on = day_of(event["at_ms"])
        hold_to_reasons(event, self.accepted, at)
        if event["type"] == "plan_offered":
            self.offered.setdefault(event["loan_id"], []).append(on)
        if "limit_seq" in event:
            assert self.profile_at is not None
        managed = self.naive.borrower_dpd(on)["managed"]
        if event["type"] in WARNED:
            rule = RULES[event["level"]]
            by_score = event["score"] < (rule.score_below or 0) or self.fell(event, RAISING[event["level"]])
            assert by_score or managed >= (rule.managed_dpd_from or 0), event
            assert {"score_fell_7d", "score_fell_30d"}.isdisjoint(
                reason["code"] for reason in event["reasons"]
            ) or self.fell(event, RAISING[event["level"]]), event
            assert all(reason["evidence"] for reason in event["reasons"]), event
        elif event["type"] in ("warning_lowered", "warning_cleared") and "compensates" not in event:
            assert managed < (RULES[event["previous_level"]].leave_managed_dpd_below or 0), event
            assert not self.fell(event, LEAVING[event["previous_level"]]), event
        elif event["type"] in CUT:
            assert managed > 0 or score < NOT_IN_NEED, event
            assert all(reason["evidence"] for reason in event["reasons"]), event
        elif event["type"] == "limit_zeroed":
            self.may_zero(event, on)

    def fell(self, event: Event, drops: tuple[int | None, int | None]) -> bool:
        """Whether the score has fallen by so much, by the list of all scores."""
        day = (day_of(event["at_ms"]) - date(1970, 1, 1)).days
        falls = [fall(self.scores, day, event["score"], span) for span in (7, 30)]
        return any(
            fell is not None and drop is not None and fell >= drop for fell, drop in zip(falls, drops, strict=True)
        )

    def may_zero(self, event: Event, on: date) -> None:
        loans = self.naive.loans(on)
        long_overdue = [
            loan
            for loan in loans
            if min(loan["dpd"]["contractual"], loan["dpd"]["managed"]) >= 90
            and loan["dpd"]["material"] > 0
            and any(offered < on for offered in self.offered.get(loan["loan_id"], []))
        ]
        several = sum(loan["dpd"]["managed"] >= 30 for loan in loans) >= 2
        assert long_overdue or several or self.episodes(on) >= 3, event

    def episodes(self, on: date) -> int:
        """Stretches of arrears in which managed DPD reached 30 within the last 365 days, those of several loans within
        30 days of one another as one."""
        reached: dict[str, bool] = {}
        last_back, count = 500 + 365, 0
        for back in range(500, -1, -1):
            day = on - timedelta(days=back)
            for loan in self.naive.loans(day, on):
                name, dpd = loan["loan_id"], loan["dpd"]
                if dpd["contractual"] == 0:
                    reached[name] = False
                elif dpd["managed"] >= 30 and not reached.get(name, False):
                    reached[name] = True
                    if back < 365:
                        count += last_back - back >= 30
                        last_back = back
        return count


@pytest.mark.parametrize("seed", [*range(36), 104, 120])
def test_decisions_of_a_history_keep_the_laws(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    records = in_order(history(seed))
    oracle, task = Oracle(), LocalTask(Engine(POLICY))

    def noting(standing: Standing, score: int, tier: int, day: int) -> None:
        oracle.scores.append((day, score))
        note(standing, score, tier, day)

    monkeypatch.setattr(score_fall, "note", noting)
    monkeypatch.setattr(score_edges, "note", noting)
    told: list[Event] = []
    for at, (record_ms, _, _, record) in enumerate(records):
        oracle.take(at, record_ms, json.loads(record.value or b""))
        for folded in task.fold(records[at : at + 1]):
            if folded.outputs:
                state = task.state("B1")
                assert state is not None
                for output in folded.outputs:
                    told.append(json.loads(output.value))
                    oracle.judge(at, told[-1], unpack(state).standing.score)
    hold_to_shape(told)
    hold_to_chain(told)
    hold_to_levels(told)


@pytest.mark.parametrize("seed", range(12))
def test_one_late_tick_decides_what_regular_ones_would_have(seed: int) -> None:
    regular = in_order(history(seed))
    late = [
        one
        for one, next_one in zip(regular, [*regular[1:], None], strict=True)
        if next_one is None or one[1] != "control" or next_one[1] != "control"
    ]
    assert len(late) < len(regular)
    told, told_late = (
        but_cause(event for _, event in Run(records).outputs if event["type"] != "reminder_due")
        for records in (regular, late)
    )
    assert told_late == told


@pytest.mark.parametrize("seed", range(24))
def test_who_cures_and_stays_clean_is_restored_unless_zeroed(seed: int) -> None:
    told = history(seed, days=200)
    last_ms = max(at_ms for at_ms, _ in told) + 30 * DAY_MS
    payments = []
    for number, name in enumerate(sorted({event["loan_id"] for _, event in told if "loan_id" in event})):
        paid = {"payment_id": f"all-{name}", "amount_minor": 10**12, "method": "settlement", "channel": "counter"}
        common = {"type": "repayment_received", "event_id": f"all-{number}", "at_ms": last_ms, "borrower_id": "B1"}
        payments.append((last_ms, common | paid | {"loan_id": name}))
    run = Run(in_order([*told, tick(last_ms - HOUR_MS), *payments, tick(last_ms + 800 * DAY_MS)]))
    limit = run.borrower().standing.limit
    assert limit is not None
    if STATUSES[limit.rung] != "zeroed":
        assert (limit.rung, limit.minor) == (0, max(limit.minor, limit.base_minor))


# --- late equals on time ------------------------------------------------------------------------------------------


def repaid(seed: int) -> tuple[list[Event], int]:
    """A loan in 1 to 6 monthly instalments and its payments, some of them late; its first moment."""
    rng = Random(seed)
    first_ms = int(datetime(2026, 1, 1, 12, tzinfo=SHANGHAI).timestamp() * 1000)
    dues = [first_ms + (30 * no) * DAY_MS for no in range(1, rng.randint(1, 6) + 1)]
    rows = [
        {"no": no, "due_on": f"{day_of(due)}", "principal_minor": 100_000, "interest_minor": 1_000, "fee_minor": 0}
        for no, due in enumerate(dues, 1)
    ]
    common = {"borrower_id": "B1", "loan_id": "L1"}
    terms = {"product": "cash", "currency": "CNY", "principal_minor": 100_000 * len(rows), "schedule": rows}
    events: list[Event] = [common | terms | {"type": "loan_disbursed", "event_id": "loan", "at_ms": first_ms}]
    for no, due in enumerate(dues, 1):
        at_ms = due + rng.choice((-3, 0, 0, 0, 5, 18, 40, 95)) * DAY_MS + rng.randrange(0, 11) * HOUR_MS
        paid = {"payment_id": f"p{no}", "amount_minor": 101_000, "method": "manual", "channel": "app"}
        events.append(common | paid | {"type": "repayment_received", "event_id": f"e{no}", "at_ms": at_ms})
    return events, first_ms


@pytest.mark.parametrize("seed", [*range(30), 85, 99])
@pytest.mark.parametrize("told_days_later", [0, 120])
def test_payments_that_arrive_late_end_as_if_on_time(seed: int, told_days_later: int) -> None:
    events, first_ms = repaid(seed)
    rng = Random(seed)
    delayed = [(event["at_ms"] + rng.randrange(0, 7 * DAY_MS), event) for event in events[1:]]
    last_ms = max(at_ms for at_ms, _ in delayed) + told_days_later * DAY_MS
    common = [profile(first_ms, 500_000, 1), (first_ms, events[0]), *daily(first_ms, last_ms)]
    on_time = Run(in_order([*common, *((event["at_ms"], event) for event in events[1:])])).borrower()
    late_run = Run(in_order([*common, *delayed]))
    late = late_run.borrower()
    hold_to_shape([event for _, event in late_run.outputs])
    for borrower in (late, on_time):
        ledger.settle(borrower.facts.loans["L1"], (last_ms + 10 * DAY_MS) // DAY_MS, POLICY.facts)
    assert late.facts.loans == on_time.facts.loans
    assert late.standing.limit is not None
    assert on_time.standing.limit is not None
    # A level that rests on the score is judged from now on, not in the past: it may hold restoration back for longer.
    if told_days_later == 0 or late.standing.level <= on_time.standing.level:
        assert late.standing.limit.rung <= on_time.standing.limit.rung
        assert late.standing.limit.minor >= on_time.standing.limit.minor


# --- policies and what waited -------------------------------------------------------------------------------------


def loan_of(at_ms: int, due_on: str, name: str = "L1") -> Event:
    row = {"no": 1, "due_on": due_on, "principal_minor": 100_000, "interest_minor": 5_000, "fee_minor": 0}
    terms = {"product": "cash", "currency": "CNY", "principal_minor": 100_000, "schedule": [row], "loan_id": name}
    return {"type": "loan_disbursed", "event_id": f"loan-{name}", "at_ms": at_ms, "borrower_id": "B1"} | terms


@pytest.mark.parametrize("steps", [["zeroed"], ["draws_restricted", "zeroed"], ["decreased", "frozen"], ["frozen"]])
@pytest.mark.parametrize("switched_on", [5, 20, 40, 100])
def test_the_chain_goes_on_when_another_ladder_goes_live(steps: list[str], switched_on: int) -> None:
    document = json.loads(body(POLICY)) | {"id": "other"}
    kept = [step for step in document["limits"]["steps"] if step["status"] in steps]
    document["limits"] = document["limits"] | {"steps": kept}
    text = json.dumps(document)
    other = loads(text, "other")
    start_ms = int(datetime(2026, 1, 1, 12, tzinfo=SHANGHAI).timestamp() * 1000)
    due_ms = start_ms + 30 * DAY_MS
    at_ms = due_ms + switched_on * DAY_MS
    switch = {
        "type": "policy_activated", "event_id": "switch", "at_ms": at_ms, "policy_id": "other", "mode": "live",
        "digest": digest(other), "body": text, "author": "ann", "approver": "bob",
    }  # fmt: skip
    paid = {"payment_id": "p", "loan_id": "L1", "amount_minor": 105_000, "method": "manual", "channel": "app"}
    payment = {"type": "repayment_received", "event_id": "p", "at_ms": due_ms + 130 * DAY_MS, "borrower_id": "B1"}
    told: list[Recorded] = [
        profile(start_ms, 500_000, 1), (start_ms, loan_of(start_ms, f"{day_of(due_ms)}")), (at_ms, switch),
        (due_ms + 130 * DAY_MS, payment | paid), *daily(start_ms, due_ms + 400 * DAY_MS),
    ]  # fmt: skip
    run = Run(in_order(told))
    events = [event for _, event in run.outputs]
    assert not run.dead
    assert "other" in {event["policy"]["id"] for event in events}
    hold_to_shape(events)
    hold_to_chain(events)


def test_what_became_a_dead_letter_while_it_waited_is_taken_when_it_is_sent_again() -> None:
    start_ms = int(datetime(2026, 1, 1, 12, tzinfo=SHANGHAI).timestamp() * 1000)
    charge = {
        "type": "charge_added", "event_id": "c", "at_ms": start_ms + HOUR_MS, "borrower_id": "B1", "loan_id": "L1",
        "instalment_no": 2, "component": "fee", "amount_minor": 700,
    }  # fmt: skip
    rows = [{"no": 2, "due_on": "2026-03-31", "principal_minor": 105_000, "interest_minor": 0, "fee_minor": 0}]
    schedule = {
        "type": "loan_rescheduled", "event_id": "s", "at_ms": start_ms, "borrower_id": "B1", "loan_id": "L1",
        "schedule": rows, "distressed": False,
    }  # fmt: skip
    told = [
        tick(start_ms - HOUR_MS), (start_ms + HOUR_MS, charge),
        (start_ms + 2 * HOUR_MS, loan_of(start_ms - HOUR_MS, "2026-01-31")),
        (start_ms + 3 * HOUR_MS, schedule), (start_ms + 4 * HOUR_MS, charge),
    ]  # fmt: skip
    run = Run(in_order([*told, tick(start_ms + 5 * HOUR_MS)]))
    assert run.dead == ["unknown_instalment"]
    loan = run.borrower().facts.loans["L1"]
    assert loan.outstanding[1] == 700
