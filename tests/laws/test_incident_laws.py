"""Laws of incidents: whoever was only hit by an outage ends as if it had not been, whenever anyone tells of it."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest

from streams.engine import delinquency
from streams.engine.calendar import Calendar
from streams.engine.chunk import SWEEP_LIMIT
from streams.engine.features import FEATURE_INDEX, evaluate
from streams.engine.fold import Engine
from streams.engine.incidents import borrower_of
from streams.engine.order import Ordered
from streams.engine.state import Borrower, unpack
from streams.policy.loader import load
from streams.replay.cycle import LocalTask, chunks
from streams.replay.recording import Recording
from streams.replay.simulate.writing import GROUND_TRUTH, simulate
from tests.laws.test_decision_laws import (
    CUT,
    Run,
    but_cause,
    day_of,
    hold_to_chain,
    hold_to_levels,
    hold_to_shape,
    in_order,
    profile,
    tick,
)
from tests.oracle.histories import DAY_MS, HOUR_MS

Event = dict[str, Any]
START_MS = 1_767_240_000_000
"""Noon of 2026-01-01 in Shanghai."""
INSTALMENTS = 6
OF_LOAN = {"borrower_id": "B1", "loan_id": "L1"}
COSTS = {"interest_minor": 900, "fee_minor": 0}
CALENDAR = Calendar("Asia/Shanghai")
BORROWERS_OWN = ("insufficient_funds", "debit_refused", "card_closed")


def loan_of() -> Event:
    rows = [
        {"no": no, "due_on": f"{day_of(START_MS + 30 * no * DAY_MS)}", "principal_minor": 100_000} | COSTS
        for no in range(1, INSTALMENTS + 1)
    ]
    terms = {"product": "cash", "currency": "CNY", "principal_minor": 100_000 * INSTALMENTS, "schedule": rows}
    return {
        "type": "loan_disbursed",
        "event_id": "loan",
        "at_ms": START_MS,
        "borrower_id": "B1",
        "loan_id": "L1",
    } | terms


def opened(number: int, from_ms: int, until_ms: int | None, told_ms: int, grace_days: int, scope: Event) -> Event:
    fields = {
        "incident_id": f"i{number}",
        "scope": scope,
        "from_ms": from_ms,
        "grace_days": grace_days,
        "cause": "outage",
    }
    until = {} if until_ms is None else {"until_ms": until_ms}
    return {"type": "incident_opened", "event_id": f"open-{number}", "at_ms": told_ms} | fields | until


def hit_by_outages(seed: int) -> tuple[list[tuple[int, Event]], list[tuple[int, Event]], int]:
    """(what is told, what would have been told without outages, the end). Who is hit pays within the grace."""
    rng = Random(seed)
    told: list[tuple[int, Event]] = [profile(START_MS, 500_000, 1), (START_MS, loan_of())]
    calm = list(told)
    grace_days = rng.randint(0, 4)
    for no in range(1, INSTALMENTS + 1):
        due_ms = START_MS + 30 * no * DAY_MS
        debit = {"amount_minor": 100_900, "method": "auto_debit", "channel": "bank_a"} | OF_LOAN
        paid = {"type": "repayment_received", "event_id": f"p{no}", "payment_id": f"p{no}"} | debit
        calm.append((due_ms, paid | {"at_ms": due_ms}))
        if rng.random() < 0.4:
            told.append(calm[-1])
            continue
        from_ms, lasts_days = due_ms - rng.randrange(1, 9) * HOUR_MS, rng.choice((1, 3, 9, 35))
        until_ms = from_ms + lasts_days * DAY_MS
        told_ms = from_ms + rng.choice((9, 30, 200, 1_400)) * HOUR_MS
        scope = rng.choice(({"channel": "bank_a"}, {"all": True}, {"product": "cash", "channel": "bank_a"}))
        failed = {"type": "repayment_failed", "event_id": f"f{no}", "at_ms": due_ms, "attempt_id": f"a{no}"} | debit
        failed["code"] = rng.choice(("timeout", "bank_outage", "never_heard_of"))
        told.append((due_ms + rng.choice((0, 0, 3)) * DAY_MS, failed))
        paid_ms = due_ms + rng.randrange(0, (lasts_days + grace_days) * 24) * HOUR_MS
        while day_of(paid_ms) > day_of(until_ms) + timedelta(days=grace_days):
            paid_ms -= HOUR_MS
        told.append((paid_ms, paid | {"at_ms": paid_ms}))
        if told_ms > until_ms:
            told.append((told_ms, opened(no, from_ms, until_ms, told_ms, grace_days, scope)))
        else:
            told.append((told_ms, opened(no, from_ms, None, told_ms, grace_days, scope)))
            closed = {"type": "incident_closed", "event_id": f"close-{no}", "at_ms": until_ms, "incident_id": f"i{no}"}
            told.append((until_ms + HOUR_MS, closed | {"until_ms": until_ms}))
    return told, calm, START_MS + (30 * INSTALMENTS + 100) * DAY_MS


def daily(end_ms: int) -> list[tuple[int, Event]]:
    return [tick(at_ms) for at_ms in range(START_MS - HOUR_MS, end_ms, DAY_MS)]


def features_of(borrower: Borrower, at_ms: int) -> dict[str, int | None]:
    """What the ledger says of a borrower to the score."""
    facts = borrower.facts
    values = evaluate(facts.windows, facts.loans.values(), at_ms, CALENDAR, 0, 0)
    names = ("on_time_ratio_bp", "mean_lateness_days", "overdue_episodes_365d", "failed_debits_30d")
    return {name: values[FEATURE_INDEX[name]] for name in names}


@pytest.mark.parametrize("seed", range(60))
def test_an_outage_leaves_no_mark_on_who_pays_within_the_grace(seed: int) -> None:
    told, calm, end_ms = hit_by_outages(seed)
    run = Run(in_order([*told, *daily(end_ms)]))
    events = [event for _, event in run.outputs]
    hold_to_shape(events)
    hold_to_chain(events)
    hold_to_levels(events)
    assert run.dead == []
    hit, unhit = run.borrower(), Run(in_order([*calm, *daily(end_ms)])).borrower()
    assert hit.standing.level == 0
    assert hit.standing.warnings == []
    limit = hit.standing.limit
    assert limit is not None
    assert (limit.rung, limit.minor, limit.decisions) == (0, 500_000, [])
    assert features_of(hit, end_ms) == features_of(unhit, end_ms)
    cuts = {event["event_id"] for event in events if event["type"] in CUT or event["type"] == "limit_zeroed"}
    assert cuts <= {event["compensates"] for event in events if "compensates" in event}
    assert all("incident_id" in event for event in events if "compensates" in event)


@pytest.mark.parametrize("seed", range(12))
def test_contractual_days_are_what_they_would_be_without_incidents(seed: int) -> None:
    """Grace lowers managed and material days alone."""
    told, _, end_ms = hit_by_outages(seed)
    bare = [one for one in told if not one[1]["type"].startswith("incident")]
    task, plain = (Run(in_order([*these, *daily(end_ms)])).borrower() for these in (told, bare))
    for loan, other in zip(task.facts.loans.values(), plain.facts.loans.values(), strict=True):
        assert (loan.rows, loan.outstanding, loan.journal) == (other.rows, other.outstanding, other.journal)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_told_twice_and_how_chunks_are_cut_does_not_show(seed: int) -> None:
    told, _, end_ms = hit_by_outages(seed)
    records = in_order([*told, *daily(end_ms)])
    once = but_cause(event for _, event in Run(records).outputs)
    assert but_cause(event for _, event in Run(records, chunk=10**6).outputs) == once
    assert but_cause(event for _, event in Run(records, chunk=7).outputs) == once
    again = [(at_ms + HOUR_MS, event) for at_ms, event in told if event["type"] != "loan_disbursed"]
    assert but_cause(event for _, event in Run(in_order([*told, *again, *daily(end_ms)])).outputs) == once


# --- many borrowers -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[11, 12])
def population(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Ordered]]:
    out = tmp_path_factory.mktemp("outages") / "recording"
    simulate(seed=request.param, borrowers=40, events=9_000, out=out, partitions=1)
    with Recording.open(out) as recording:
        return out, [record for chunk in chunks(recording, 0) for record in chunk]


def excused(records: Sequence[Ordered]) -> dict[tuple[str, str], set[int]]:
    """Per borrower and loan the days that outages excuse, reckoned from what was told: failures and incidents alone."""
    told = [json.loads(record.value or b"{}") for _, topic, _, record in records if topic in ("control", "repayments")]
    incidents: dict[str, Event] = {}
    for event in told:
        if event["type"] in ("incident_opened", "incident_closed"):
            incidents[event["incident_id"]] = incidents.get(event["incident_id"], {}) | event
    days: dict[tuple[str, str], set[int]] = {}
    for event in told:
        if event["type"] == "repayment_failed" and event["code"] not in BORROWERS_OWN:
            for incident in incidents.values():
                until_ms = incident.get("until_ms", 10**15)
                if (
                    incident["scope"]["channel"] == event["channel"]
                    and incident["from_ms"] <= event["at_ms"] <= until_ms
                ):
                    last = CALENDAR.day(min(until_ms, records[-1][0])) + incident["grace_days"]
                    of_loan = days.setdefault((event["borrower_id"], event["loan_id"]), set())
                    of_loan |= set(range(CALENDAR.day(event["at_ms"]), last + 1))
    return days


def test_no_decision_in_force_rests_on_days_that_an_outage_excuses(population: tuple[Path, list[Ordered]]) -> None:
    out, records = population
    task, excuses, facts = LocalTask(Engine(load("standard"), partitions=1)), excused(records), load("standard").facts
    for at in range(0, len(records), 2_000):
        for _ in task.fold(records[at : at + 2_000]):
            pass
    truth = pq.read_table(next(out.parent.glob(f"**/*{GROUND_TRUTH}"))).to_pylist()
    hit = [one["borrower_id"] for one in truth if one["outage_touched"]]
    assert set(hit) & {name for name, _ in excuses}
    for name in hit:
        borrower = unpack(task.state(name) or b"")
        limit = borrower.standing.limit
        for decision in [*borrower.standing.warnings, *([] if limit is None else limit.decisions)]:
            managed = 0
            end_ms = CALENDAR.start_ms(decision.day + 1)
            for loan_id, loan in borrower.facts.loans.items():
                then = delinquency.before_payments_of_the_day(loan, decision.day, decision.at_ms, end_ms)
                overdue = delinquency.position_as_of(then, decision.day, facts).contractual
                days = set(range(decision.day - overdue + 1, decision.day + 1))
                managed = max(managed, len(days - excuses.get((name, loan_id), set())))
            assert any(not ground.rests_on_ledger or managed >= ground.managed_from for ground in decision.grounds), (
                name
            )


def test_an_incident_over_many_borrowers_is_the_same_in_any_number_of_passes(
    population: tuple[Path, list[Ordered]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, records = population
    whole = folded(records)
    assert whole[1]
    monkeypatch.setattr("streams.engine.fold.SWEEP_LIMIT", 1)
    monkeypatch.setattr("streams.replay.cycle.SWEEP_LIMIT", 1)
    assert SWEEP_LIMIT > 1
    assert folded(records) == whole


def folded(records: Sequence[Ordered]) -> tuple[list[bytes], list[str], dict[str, bytes | None]]:
    task, outputs, failures = LocalTask(Engine(load("standard"), partitions=1)), [], []
    for at in range(0, len(records), 3_000):
        for one in task.fold(records[at : at + 3_000]):
            outputs += [output.value for output in one.outputs]
            failures += one.failures
    names = {borrower_of(entry) for entry in failures}
    return outputs, sorted(failures), {name: task.state(name) for name in sorted(names)}
