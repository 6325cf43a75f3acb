"""Subject tokens, rotation and removal; what an entry of the blacklist says and what it never says."""

import hashlib
import hmac
import json
from typing import Any

from schemas.topics import CONTROL
from streams.engine.blacklist import NO_KEY, Key, KeyRing, Signer
from streams.engine.chunk import Output
from streams.engine.fold import Engine
from streams.policy.loader import load
from streams.replay.cycle import LocalTask
from tests.replay.tape import Tape, ms

SECRETS = {"k1": b"1" * 32, "k2": b"2" * 32}
RING = KeyRing([Key(ms("2026-05-10"), "k2", SECRETS["k2"]), Key(ms("2026-01-01"), "k1", SECRETS["k1"])])


def token(key_id: str, identity: str) -> str:
    return hmac.new(SECRETS[key_id], identity.encode(), hashlib.sha256).hexdigest()


def nobody_pays(until: str, identity: str = "ID-7", borrower: str = "b1", tape: Tape | None = None) -> Tape:
    """Zeroed at 90 days past due, on 2026-05-01."""
    tape = tape or Tape()
    tape.tick("2025-12-31 01:00")
    fields = {"segment": "worker", "limit_minor": 500_000, "currency": "CNY", "onboarded_on": "2025-01-01"}
    tape.event("2026-01-01", "profile_set", borrower, **fields, identity_token=identity)
    tape.loan("2026-01-01", borrower)
    tape.days("2026-01-02", until)
    return tape


def outputs(tape: Tape, signer: Signer | None = None) -> list[Output]:
    task = LocalTask(Engine(load("standard"), signer=signer))
    records = sorted(tape.records, key=lambda record: (record.timestamp, record.topic == CONTROL, record.topic))
    chunk = [(record.timestamp, record.topic, record.offset, record) for record in records]
    return [output for folded in task.fold(chunk) for output in folded.outputs]


def listings(tape: Tape, signer: Signer | None = None) -> list[dict[str, Any]]:
    return [json.loads(output.value) for output in outputs(tape, signer) if output.topic == "blacklist"]


def test_an_entry_carries_the_token_and_nothing_of_the_borrower() -> None:
    # A name that no digest can contain by chance.
    tape = nobody_pays("2026-05-02", borrower="who-owes")
    (output,) = [output for output in outputs(tape, RING) if output.topic == "blacklist"]
    event = json.loads(output.value)
    assert set(event) == {"type", "event_id", "at_ms", "policy", "subject_token", "key_id", "reason", "expires_on"}
    assert (event["subject_token"], event["key_id"]) == (token("k1", "ID-7"), "k1")
    assert output.key == event["subject_token"].encode()
    assert event["expires_on"] == "2031-04-30"
    assert b"who-owes" not in output.value
    assert b"ID-7" not in output.value


def test_on_rotation_an_open_listing_is_issued_again_and_each_entry_goes_under_its_own_key() -> None:
    tape = nobody_pays("2026-05-12")
    tape.pays("2026-05-12 12:00", 105_000, value_on="2026-01-31")
    told = listings(tape, RING)
    assert [(event["type"], event["key_id"]) for event in told] == [
        ("blacklisted", "k1"),
        ("blacklisted", "k2"),
        ("delisted", "k1"),
        ("delisted", "k2"),
    ]
    first, second, *gone = told
    assert second["at_ms"] == ms("2026-05-10")
    assert second["expires_on"] == first["expires_on"]
    assert [event["compensates"] for event in gone] == [first["event_id"], second["event_id"]]
    assert [event["subject_token"] for event in gone] == [token("k1", "ID-7"), token("k2", "ID-7")]


def test_without_keys_a_token_is_a_placeholder_that_says_nothing_of_the_identity() -> None:
    (one,) = listings(nobody_pays("2026-05-02"))
    (other,) = listings(nobody_pays("2026-05-02", identity="ID-8"))
    assert one["key_id"] == NO_KEY
    assert one["subject_token"] == other["subject_token"]


def test_with_and_without_keys_all_else_is_the_same() -> None:
    tape = nobody_pays("2026-05-12")
    tape.pays("2026-05-12 12:00", 105_000, value_on="2026-01-31")
    one_key = KeyRing([Key(0, "k1", SECRETS["k1"])])
    signed, unsigned = outputs(tape, one_key), outputs(tape)
    assert [(output.topic, output.kind) for output in signed] == [(output.topic, output.kind) for output in unsigned]
    apart = [(one, other) for one, other in zip(signed, unsigned, strict=True) if one != other]
    assert {one.topic for one, _ in apart} == {"blacklist"}


def test_a_key_is_never_shown() -> None:
    assert "1111" not in repr(Key(0, "k1", SECRETS["k1"])) + repr(RING) + repr(RING._keys)
