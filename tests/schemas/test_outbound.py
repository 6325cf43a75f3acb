import json
from typing import Union

import msgspec
import pytest

from schemas import outbound
from schemas.topics import INPUTS, TOPICS
from tests.schemas.examples import GOOD, Example

GOOD_OUT = [example for example in GOOD if example.topic not in INPUTS]
# The fields that the contract gives each type beyond those of every outbound event; "?" marks an optional one.
WARNING = "level previous_level score tier subtotals recovery? incident_id? macro? reasons"
LIMIT = "limit_seq from_minor to_minor from_status to_status currency recovery? draws? incident_id? macro? reasons"
CONTRACT = {
    **dict.fromkeys(("warning_raised", "warning_escalated", "warning_lowered", "warning_cleared"), WARNING),
    **dict.fromkeys(
        ("draws_restricted", "limit_decreased", "limit_frozen", "limit_zeroed", "limit_restored", "limit_rebased"),
        LIMIT,
    ),
    "bucket_changed": "loan_id product pool_id from to dpd outstanding overdue reasons?",
    "due_date_shifted": "loan_id instalment_no from_on to_on incident_id reasons?",
    "waiver_proposed": "loan_id instalment_no component amount_minor incident_id reasons?",
    "claim_due": "loan_id party amount_minor reasons?",
    "classification_changed": "loan_id product pool_id contractual_bucket ifrs9_stage five_tier ffiec default_flag dpd"
    " reasons?",
    "reminder_due": "kind loan_id? instalment_no? due_on? days_to_due? amount_minor? channels topic_code? consequences"
    " due_30d_minor? income_30d_minor? reasons?",
    "bureau_status_due": "loan_id status dpd corrects? reasons?",
    "plan_offered": "loan_id? options reasons?",
    "review_requested": "proposed why reasons?",
}
FOR_ALL = "event_id at_ms policy compensates?"
LISTING = f"{FOR_ALL} subject_token key_id reason expires_on"
INCIDENT = f"{FOR_ALL} cause incident_id scope failures attempts baseline"
POOL = f"{FOR_ALL} cause pool_id on figures"
FIELDS = {
    **{name: f"{FOR_ALL} borrower_id cause {own}" for name, own in CONTRACT.items()},
    **dict.fromkeys(("blacklisted", "delisted"), LISTING),
    **dict.fromkeys(("incident_suspected", "incident_opened", "incident_closed"), INCIDENT),
    **dict.fromkeys(("pool_reported", "trigger_breached", "portfolio_warning"), POOL),
}
OUT_TYPES = {
    str(kind.__struct_config__.tag): kind
    for topic in TOPICS.values()
    if topic.direction == "out"
    for kind in topic.types
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_type_has_exactly_the_fields_of_the_contract(name: str) -> None:
    fields = msgspec.structs.fields(OUT_TYPES[name])
    written = {field.encode_name + ("" if field.required else "?") for field in fields}
    assert written == set(FIELDS[name].split())


def test_every_outbound_type_is_in_the_contract() -> None:
    assert set(OUT_TYPES) == set(FIELDS)


@pytest.mark.parametrize("example", GOOD_OUT, ids=lambda example: example.name)
def test_an_example_comes_back_the_same_byte_for_byte(example: Example) -> None:
    event = msgspec.json.decode(example.value, type=Union[TOPICS[example.topic].types])  # noqa: UP007
    encoded = outbound.encode(event)
    assert json.loads(encoded) == example.body
    again = msgspec.json.decode(encoded, type=type(event))
    assert outbound.encode(again) == encoded


def test_every_outbound_type_has_an_example_on_its_topics() -> None:
    for topic in TOPICS.values():
        if topic.direction != "in":
            types = {str(kind.__struct_config__.tag) for kind in topic.types}
            shown = {example.label for example in GOOD_OUT if example.topic == topic.name}
            assert shown <= types
            assert shown == types or topic.name == "shadow-decisions"


def test_keys_stand_in_declared_order_and_absent_ones_are_not_written() -> None:
    advanced = outbound.Advanced(
        event_id="in-1",
        at_ms=5,
        cause=outbound.Cause(topic="control", partition=3, offset=8, event_id="tick-5"),
        partition=3,
    )
    assert outbound.encode(advanced) == (
        b'{"type":"advanced","event_id":"in-1","at_ms":5,'
        b'"cause":{"topic":"control","partition":3,"offset":8,"event_id":"tick-5"},"partition":3}'
    )
    assert outbound.encode(outbound.Recovery(action="pay_overdue", amount_minor=0)) == (
        b'{"action":"pay_overdue","amount_minor":0}'
    )
