"""The simulator: the same seed gives the same bytes, every event is good, and its ground truth is true."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import date
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from schemas import inbound
from schemas.partitioning import partition_of
from schemas.topics import INPUTS
from streams.engine.calendar import DAY_MS, HOUR_MS, Calendar, day_of
from streams.engine.decode import BadInput, decode
from streams.engine.delinquency import position
from streams.engine.ledger import Loan, Refused, apply, disburse
from streams.engine.order import LogRecord
from streams.policy.loader import load
from streams.replay.recording import Recording, RecordingError, beside
from streams.replay.simulate import lending
from streams.replay.simulate.world import ZONE, World
from streams.replay.simulate.writing import GROUND_TRUTH, simulate

START_DAY = day_of(date(2026, 1, 1))
DAYS = 120


@pytest.fixture(scope="module")
def world() -> World:
    return World(11, 220, 3, START_DAY)


@pytest.fixture(scope="module")
def records(world: World) -> list[LogRecord]:
    return [record for hour in islice(world.hours(), 24 * DAYS) for record in hour]


Event = tuple[LogRecord, inbound.Inbound]


def decoded(records: list[LogRecord]) -> Iterator[Event]:
    for record in records:
        event = decode(record.topic, record.key, record.value, record.timestamp)
        assert not isinstance(event, BadInput), (event, record.value)
        yield record, event


@pytest.fixture(scope="module")
def events(records: list[LogRecord]) -> list[Event]:
    return list(decoded(records))


def test_every_event_is_good_and_on_its_partition(events: list[Event]) -> None:
    for record, event in events:
        if isinstance(event, inbound.BorrowerEvent):
            assert record.key == event.borrower_id.encode()
            assert record.partition == partition_of(record.key, 3)
        assert event.at_ms <= record.timestamp


def test_the_population_does_what_is_to_be_watched(events: list[Event]) -> None:
    seen = Counter(type(event).__name__ for _, event in events)
    for kind in (
        "LoanDisbursed", "RepaymentReceived", "RepaymentFailed", "RepaymentReversed", "ChargeAdded", "AmountWaived",
        "LoanClosed", "Login", "Transaction", "ProfileSet", "ProfileChanged", "LoanApplied", "HardshipReported",
        "BureauReported", "IncomeReported", "BusinessReported", "LinkReported", "FraudReported", "Tick",
    ):  # fmt: skip
        assert seen[kind] > 0, kind
    failures = Counter(event.code for _, event in events if isinstance(event, inbound.RepaymentFailed))
    assert failures["insufficient_funds"] > 0
    assert sum(failures[code] for code in ("channel_outage", "bank_outage", "timeout", "congestion", "maintenance")) > 0
    values = [
        event
        for _, event in events
        if isinstance(event, inbound.RepaymentReceived) and isinstance(event.value_on, date)
    ]
    assert values


def test_every_failure_code_is_attributed_by_the_standard_policy(events: list[Event]) -> None:
    attribution = load("standard").facts.attribution
    known = {*attribution.platform, *attribution.borrower}
    assert {event.code for _, event in events if isinstance(event, inbound.RepaymentFailed)} <= known


def test_an_outage_fails_everyone_on_its_channel(events: list[Event]) -> None:
    platform = set(load("standard").facts.attribution.platform)
    failed: dict[tuple[str, int], list[int]] = {}
    for _, event in events:
        if isinstance(event, inbound.RepaymentFailed) and event.code in platform:
            failed.setdefault((event.channel, event.at_ms // DAY_MS), []).append(event.at_ms)
    assert max(len(moments) for moments in failed.values()) >= 3
    for _, event in events:
        if isinstance(event, inbound.RepaymentReceived) and event.method == "auto_debit":
            moments = failed.get((event.channel, event.at_ms // DAY_MS), [event.at_ms])
            assert not min(moments) < event.at_ms < max(moments)


def test_some_events_are_late_and_some_come_twice(events: list[Event]) -> None:
    bodies = Counter(record.value for record, _ in events if record.topic != "control")
    first = {event.event_id: (record, event) for record, event in reversed(events)}
    late = [record for record, event in first.values() if record.timestamp - event.at_ms > HOUR_MS]
    assert 0.001 < sum(count - 1 for count in bodies.values()) / len(bodies) < 0.01
    assert 0.001 < len(late) / len(first) < 0.01


def test_ticks_come_hourly_to_every_partition(events: list[Event]) -> None:
    ticks = [(record, event) for record, event in events if isinstance(event, inbound.Tick)]
    assert len(ticks) == 3 * 24 * DAYS
    for record, tick in ticks:
        assert (record.key, record.timestamp, tick.event_id) == (None, tick.at_ms, f"tick-{tick.at_ms}")
        assert tick.at_ms % HOUR_MS == 0
    stamps = [record.timestamp for record, _ in events]
    assert stamps == sorted(stamps)


def test_a_ring_shares_phones_and_never_pays(world: World, events: list[Event]) -> None:
    members = {person.id: person.ring for person in world.people if person.ring is not None}
    devices: dict[str, set[str]] = {}
    for _, event in events:
        if isinstance(event, inbound.Login) and event.borrower_id in members:
            devices.setdefault(event.device_id, set()).add(event.borrower_id)
    assert max(len(borrowers) for borrowers in devices.values()) >= 2
    paid = {event.borrower_id for _, event in events if isinstance(event, inbound.RepaymentReceived)}
    assert not paid & set(members)


def test_the_ledger_finds_what_is_truly_unpaid(world: World, events: list[Event]) -> None:
    """The simulator's own books and the ledger agree on the age and the amount of every open loan's arrears."""
    facts, calendar = load("standard").facts, Calendar(ZONE)
    to_come = [LogRecord(*item[2:4], 0, item[0], *item[4:]) for item in world._queue]
    everything = [found for found in (*events, *decoded(to_come)) if found[0].topic in ("repayments", "reviews")]
    loans: dict[str, Loan] = {}
    for _, event in sorted(everything, key=lambda found: (found[1].at_ms, found[1].event_id)):
        if isinstance(event, inbound.LoanDisbursed):
            loans.setdefault(event.loan_id, disburse(event, facts, calendar))
        elif isinstance(event, inbound.LoanEvent | inbound.PlanAccepted):
            assert not isinstance(apply(loans[event.loan_id], event, calendar, facts), Refused)
    day = world.day + 10
    overdue = 0
    for borrower in world.people:
        for held in borrower.loans:
            if held.bounces:
                continue
            found = position(loans[held.id], day, facts)
            row = held.oldest()
            assert found.contractual == (0 if row is None else max(0, day - row.due_day)), held
            assert sum(found.outstanding) == held.unpaid_minor(), held
            overdue += found.contractual > 0
    assert overdue > 10


def test_reached_days_are_those_of_the_oldest_unpaid_row(world: World) -> None:
    for borrower in world.people:
        for held in borrower.loans:
            lending.note(borrower, held, world.day)
            row = held.oldest()
            if row is not None:
                for days in (30, 60, 90):
                    assert world.day - row.due_day < days or borrower.reached[days] <= row.due_day + days
    assert any(90 in borrower.reached for borrower in world.people)


@pytest.mark.parametrize("name", ["recording", "recording.jsonl.gz"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    def made(folder: str, seed: int) -> dict[str, bytes]:
        path = tmp_path / folder / name
        path.parent.mkdir()
        assert simulate(seed, 50, 3_000, path, partitions=2) >= 3_000
        return {file.name: file.read_bytes() for file in path.parent.rglob("*.*") if file.is_file()}

    first = made("first", 5)
    assert first == made("again", 5)
    assert first != made("other", 6)


def test_a_simulation_stops_where_it_was_told(tmp_path: Path) -> None:
    written = simulate(1, 20, 2_000, tmp_path / "by-events", partitions=4)
    assert 2_000 <= written < 2_100
    simulate(1, 20, 10**6, tmp_path / "by-days", partitions=4, start=date(2028, 2, 28), days=3)
    with Recording.open(tmp_path / "by-days") as recording:
        assert recording.partition_count() == 4
        assert recording.topics() == sorted(INPUTS)
        assert recording.manifest.last_ms == Calendar(ZONE).start_ms(day_of(date(2028, 3, 2)))
        assert recording.manifest.source["simulator_seed"] == 1
    with pytest.raises(RecordingError, match="already there"):
        simulate(1, 20, 2_000, tmp_path / "by-days")
    with pytest.raises(ValueError, match="at least 1"):
        simulate(1, 0, 2_000, tmp_path / "none")


def test_the_ground_truth_is_beside_the_recording_and_not_in_it(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    simulate(2, 300, 15_000, path, partitions=2)
    rows = pq.read_table(beside(path, GROUND_TRUTH)).to_pylist()
    assert len(rows) == 300
    assert {row["segment"] for row in rows} == {"worker", "student", "freelancer", "small_business"}
    drifted = [row for row in rows if row["drift"] is not None]
    assert drifted
    assert all(row["drift_on"] >= row["joined_on"] for row in drifted)
    assert {row["ring"] for row in rows} == {None, "ring-0000", "ring-0001"}
    names = {name for line in path.read_bytes().splitlines() for name in json.loads(json.loads(line)["payload"])}
    assert not names & {"drift", "ring", "outage_touched", "drift_on"}
