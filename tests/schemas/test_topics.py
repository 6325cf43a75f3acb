"""What the contract says of topics, and what would lose messages silently."""

import pytest
from msgspec import Struct

from schemas import inbound, outbound
from schemas.topics import (
    COMMITS,
    DLQ_HEADERS,
    DLQ_SUFFIX,
    INPUTS,
    MAX_CONTROL_BODY_BYTES,
    OUTPUTS,
    TOPICS,
    input_types,
)


def leaves(base: type[Struct]) -> set[type[Struct]]:
    below = base.__subclasses__()
    return {leaf for kind in below for leaf in leaves(kind)} if below else {base}


def test_the_inputs_are_the_six_of_the_contract() -> None:
    assert set(INPUTS) == {"repayments", "logins", "transactions", "signals", "reviews", "control"}


def test_every_inbound_type_comes_on_exactly_one_topic() -> None:
    types = [kind for topic in INPUTS for kind in input_types(topic)]
    assert len(types) == len(set(types))
    assert set(types) == leaves(inbound.Inbound)


def test_every_outbound_type_goes_out() -> None:
    out = {kind for name in (*OUTPUTS, "portfolio-input") for kind in TOPICS[name].types}
    assert out == leaves(outbound.Outbound) | leaves(outbound.Internal)


def test_shadow_decisions_are_any_of_the_first_two() -> None:
    live = TOPICS["early-warnings"].types + TOPICS["limit-adjustments"].types
    assert TOPICS["shadow-decisions"].types == live


def test_no_output_has_an_inbound_type() -> None:
    assert not [name for name in OUTPUTS if input_types(name)]
    with pytest.raises(KeyError):
        input_types("repayment")


@pytest.mark.parametrize("name", TOPICS)
def test_timestamps_are_the_producers_and_nothing_ends_by_age(name: str) -> None:
    assert TOPICS[name].name == name
    assert TOPICS[name].configs["message.timestamp.type"] == "CreateTime"
    assert TOPICS[name].configs["retention.ms"] == "-1"
    assert TOPICS[name].configs["cleanup.policy"] == "delete"


def message_bytes(name: str) -> int:
    return int(TOPICS[name].configs["max.message.bytes"])


@pytest.mark.parametrize("name", INPUTS)
def test_a_dead_letter_topic_takes_the_largest_record_of_its_input_and_its_headers(name: str) -> None:
    assert TOPICS[name + DLQ_SUFFIX].direction == "dlq"
    assert message_bytes(name + DLQ_SUFFIX) >= message_bytes(name) + 64 * 1024


def test_a_policy_in_full_fits_control_and_the_commit_log() -> None:
    assert message_bytes("control") >= 2**20 > MAX_CONTROL_BODY_BYTES
    assert message_bytes(COMMITS) >= 2 * message_bytes("control")


def test_dead_letter_headers() -> None:
    assert DLQ_HEADERS[0] == "__dlq.errors.topic"
    assert DLQ_HEADERS[-1] == "__dlq.errors.replay.count"
    assert len(set(DLQ_HEADERS)) == 8
