"""Events that are folded while the wake-ups of a tick are not all fired yet: of each borrower the same comes out as if
they had waited."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.topics import CONTROL
from streams.engine.calendar import DAY_MS, HOUR_MS
from streams.engine.chunk import Sweep
from streams.engine.fold import _Pass
from streams.engine.order import LogRecord, Ordered
from streams.policy.loader import load
from streams.policy.model import Breaker, Policy
from streams.replay.cycle import chunks
from streams.replay.recording import Recording
from streams.replay.simulate.writing import simulate
from tests.engine.test_quarantine import ordered
from tests.laws.test_fold_laws import Folding
from tests.replay.tape import TOPIC_OF, Tape

BORROWERS, EVENTS = 40, 9_000
OFFSETS = 1_000_000


def with_breaker(per_hour: int) -> Policy:
    standard = load("standard")
    return msgspec.structs.replace(standard, limits=msgspec.structs.replace(standard.limits, breaker=Breaker(per_hour)))


WIDE = with_breaker(1_000_000)


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> list[Ordered]:
    """Some months of a small population: ticks, what is about loans, and a little of what people do."""
    out: Path = tmp_path_factory.mktemp("sweeps") / "recording"
    simulate(seed=5, borrowers=BORROWERS, events=EVENTS, out=out, partitions=1)
    random = Random(5)
    with Recording.open(out) as recording:
        every = [record for chunk in chunks(recording, 0) for record in chunk]
    return [one for one in every if one[1] not in ("logins", "transactions") or random.random() < 0.08]


def with_late_ticks(records: Sequence[Ordered], random: Random, share: float) -> list[Ordered]:
    """The records with a part of the ticks alone, so that each wakes many. Payments and loans are missing, so that much
    is decided, and payments wait in vain; there are incidents, erasures, and records that cannot be read."""
    told: list[Ordered] = []
    keys = sorted({record.key for _, topic, _, record in records if topic != CONTROL and record.key is not None})
    for at, one in enumerate(records):
        order_ms, _, _, record = one
        value = record.value or b""
        if b'"tick"' in value and random.random() > share:
            continue
        if b'"repayment_received"' in value and random.random() < 0.4:
            continue
        if b'"loan_disbursed"' in value and random.random() < 0.1:
            continue
        told.append(one)
        if random.random() < 0.02:
            bad = LogRecord("logins", 0, OFFSETS + at, order_ms, random.choice(keys), b"{")
            told.append((order_ms, "logins", OFFSETS + at, bad))
        if random.random() < 0.002:
            fields = {"scope": {"all": True}, "from_ms": order_ms - 3 * DAY_MS, "grace_days": 2, "cause": "outage"}
            told.append(event(order_ms, at, "incident_opened", None, incident_id=f"i{at}", **fields))
        if random.random() < 0.002:
            told.append(event(order_ms, at, "borrower_erased", random.choice(keys), reviewer="u1"))
    return told


def event(order_ms: int, at: int, kind: str, key: bytes | None, **fields: Any) -> Ordered:
    body = {"type": kind, "event_id": f"{kind}-{at}", "at_ms": order_ms} | fields
    if key is not None:
        body["borrower_id"] = key.decode()
    topic = TOPIC_OF[kind]
    return order_ms, topic, OFFSETS + at, LogRecord(topic, 0, OFFSETS + at, order_ms, key, json.dumps(body).encode())


def of_each(folding: Folding) -> tuple[dict[str, list[Any]], dict[tuple[bytes | None, str], list[Any]]]:
    """Outputs and dead letters by borrower, in order."""
    outputs, letters = defaultdict(list), defaultdict(list)
    for output in folding.outputs:
        outputs[output.about or output.key.decode()].append(output)
    for letter in folding.letters:
        letters[letter.record.key, letter.record.topic].append(letter)
    return outputs, letters


def hold_the_same(one: Folding, other: Folding) -> None:
    assert of_each(one) == of_each(other)
    assert one.states == other.states
    assert one.wakes == other.wakes
    assert one.task == other.task
    assert one.failures.behind("", OFFSETS) == other.failures.behind("", OFFSETS)


def set_limit(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr("streams.engine.fold.SWEEP_LIMIT", limit)
    monkeypatch.setattr("tests.laws.test_fold_laws.SWEEP_LIMIT", limit)


def in_turn(*turns: bool) -> Callable[[Sweep], bool]:
    every = cycle(turns)
    return lambda _: next(every)


def both(
    records: Sequence[Ordered],
    monkeypatch: pytest.MonkeyPatch,
    gives: Callable[[Sweep], bool],
    limit: int = 2,
    policy: Policy = WIDE,
    chunk: int = 7,
    kept: int = 1_000,
) -> tuple[Folding, Folding]:
    """The records folded in long passes, each sweep before what comes after it, and beside sweeps of short passes."""
    set_limit(monkeypatch, 2_000)
    strict = Folding(2_000, 1_000, policy=policy).run(records)
    set_limit(monkeypatch, limit)
    return strict, Folding(chunk, kept, gives, policy).run(records)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    seed=st.integers(0, 10_000),
    share=st.sampled_from((0.02, 0.1, 0.5)),
    limit=st.integers(1, 6),
    chunk=st.sampled_from((1, 7, 60)),
    kept=st.sampled_from((0, 3, 1_000)),
    turns=st.lists(st.booleans(), min_size=1, max_size=12),
)
def test_what_is_folded_beside_a_sweep_does_not_show_in_any_borrower(
    months: list[Ordered],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    share: float,
    limit: int,
    chunk: int,
    kept: int,
    turns: list[bool],
) -> None:
    records = with_late_ticks(months, Random(seed), share)
    # What cannot go beside a sweep goes on with it: turns that are all for the records end it too.
    strict, beside = both(records, monkeypatch, in_turn(*turns), limit, chunk=chunk, kept=kept)
    hold_the_same(beside, strict)


def test_the_months_give_the_law_something_to_hold(months: list[Ordered], monkeypatch: pytest.MonkeyPatch) -> None:
    records = with_late_ticks(months, Random(1), 0.05)
    strict, beside = both(records, monkeypatch, in_turn(True, False))
    hold_the_same(beside, strict)
    assert beside.beside > 30
    assert beside.outputs != strict.outputs
    kinds = {output.kind for output in strict.outputs}
    assert {"warning_raised", "limit_frozen", "reminder_due", "bucket_changed", "due_date_shifted"} <= kinds
    assert {"malformed_json", "unknown_loan"} <= {letter.reason for letter in strict.letters}
    assert strict.task.erasures


def test_a_borrowers_own_wake_ups_have_to_come_before_its_event(
    months: list[Ordered], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Pass, "_fire_ahead", lambda *_: None)
    strict, beside = both(with_late_ticks(months, Random(1), 0.05), monkeypatch, in_turn(True, False))
    assert of_each(beside) != of_each(strict)


# --- a few borrowers ----------------------------------------------------------------------------------------------

BORROWERS_OF_TAPE = [f"b{number}" for number in range(7)]
BEFORE = 33
"""Records of `nobody_pays` before the late tick."""


def login(tape: Tape, at: str, borrower: str) -> None:
    tape.event(at, "login", borrower, outcome="ok", device_id="d", channel="app")


def nobody_pays() -> Tape:
    """After months without a tick one comes that all of them have much to hear of."""
    tape = Tape()
    for borrower in BORROWERS_OF_TAPE:
        tape.profile("2026-01-01 09:00", borrower)
        tape.loan("2026-01-01 10:00", borrower)
    tape.days("2026-01-02", "2026-01-20")
    tape.tick("2026-05-03 01:00")
    return tape


def late_tick() -> Tape:
    """Nobody pays, and each logs in right behind the late tick."""
    tape = nobody_pays()
    for borrower in reversed(BORROWERS_OF_TAPE):
        login(tape, "2026-05-03 01:00:01", borrower)
    return tape


def test_a_pass_beside_a_sweep_is_bounded_where_borrowers_wake_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    strict, beside = both(ordered(late_tick()), monkeypatch, in_turn(True), limit=5, chunk=BEFORE)
    hold_the_same(beside, strict)
    # More than five wake-ups each: not all seven logins go in one pass, but at least one in each.
    assert beside.beside == len(BORROWERS_OF_TAPE)


def test_what_controls_waits_for_the_end_of_a_sweep_and_so_does_what_is_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tape = late_tick()
    tape.tick("2026-05-03 02:00")
    login(tape, "2026-05-03 02:00:01", "b0")
    records = ordered(tape)
    strict, beside = both(records, monkeypatch, in_turn(True), limit=5, chunk=BEFORE)
    hold_the_same(beside, strict)
    assert beside.task.clock_ms == records[-1][0] - 1_000
    assert beside.beside == len(BORROWERS_OF_TAPE)


def test_nothing_goes_beside_the_sweep_of_an_incident(monkeypatch: pytest.MonkeyPatch) -> None:
    tape = Tape()
    for borrower in BORROWERS_OF_TAPE:
        tape.profile("2026-01-01 09:00", borrower)
        tape.loan("2026-01-01 10:00", borrower)
    tape.days("2026-01-02", "2026-02-01")
    for number, borrower in enumerate(BORROWERS_OF_TAPE):
        tried = {"loan_id": "L1", "attempt_id": f"a{number}", "channel": "app", "code": "channel_down"}
        tape.event(
            f"2026-02-01 02:{number:02d}", "repayment_failed", borrower, amount_minor=100, method="manual", **tried
        )
    scope = {"scope": {"all": True}, "from_ms": tape.records[-1].timestamp - 10**7, "grace_days": 2, "cause": "outage"}
    tape.control("2026-02-01 03:00", "incident_opened", incident_id="i1", **scope)
    login(tape, "2026-02-01 03:01", "b0")
    swept = list[bool]()

    def gives(sweep: Sweep) -> bool:
        swept.append(not sweep.of_wakes)
        return swept[-1]

    strict, beside = both(ordered(tape), monkeypatch, gives)
    hold_the_same(beside, strict)
    assert beside.outputs == strict.outputs
    assert beside.beside == 0
    assert any(swept)


def test_a_rule_that_fails_at_a_wake_up_fails_ahead_of_the_sweep_too(monkeypatch: pytest.MonkeyPatch) -> None:
    wake = _Pass._wake

    def failing(self: _Pass, case: Any, wake_ms: int, cause: Any) -> None:
        if case.borrower_id == "b3" and wake_ms > 1_772_000_000_000:
            raise ZeroDivisionError
        wake(self, case, wake_ms, cause)

    monkeypatch.setattr(_Pass, "_wake", failing)
    strict, beside = both(ordered(late_tick()), monkeypatch, in_turn(True))
    hold_the_same(beside, strict)
    assert [letter.reason for letter in beside.letters] == ["quarantined"]
    assert [output.key for output in beside.outputs if output.detail == "quarantine"] == [b"b3"]


@pytest.mark.parametrize("turns", [(True,), (True, False), (False, True)])
def test_an_hour_does_not_begin_anew_for_the_breaker_where_events_go_ahead_of_a_sweep(
    monkeypatch: pytest.MonkeyPatch, turns: Sequence[bool]
) -> None:
    """All seven are zeroed at one midnight, of which a tick tells two days later; between what then comes in of them
    others are found to be frauds, and zeroed in the tick's hour."""
    tape = nobody_pays()
    for number, borrower in enumerate(BORROWERS_OF_TAPE, 1):
        tape.profile(f"2026-05-03 01:{number:02d}:01", borrower, limit_minor=400_000)
        tape.profile(f"2026-05-03 01:{number:02d}:02", f"x{number}")
        tape.event(f"2026-05-03 01:{number:02d}:03", "fraud_reported", f"x{number}", kind="identity", confirmed=True)
    strict, beside = both(ordered(tape), monkeypatch, in_turn(*turns), limit=1, policy=with_breaker(2), chunk=BEFORE)
    assert beside.beside > 0
    assert list(zeroed_by_hour(strict).values()) == [2, 2]
    assert zeroed_by_hour(beside) == zeroed_by_hour(strict)
    assert beside.task.granted == strict.task.granted


def zeroed_by_hour(folding: Folding) -> dict[int, int]:
    told: dict[int, int] = defaultdict(int)
    for output in folding.outputs:
        if output.kind == "limit_zeroed":
            told[json.loads(output.value)["at_ms"] // HOUR_MS] += 1
    return told
