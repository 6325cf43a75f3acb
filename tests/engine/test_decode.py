import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from schemas import inbound
from schemas.topics import INPUTS, MAX_BODY_BYTES, MAX_CONTROL_BODY_BYTES, input_types
from streams.engine.decode import REASONS, BadInput, content_digest, decode
from tests.schemas.examples import BAD, GOOD, KEY, TIMESTAMP_MS, Example

GOOD_IN = [example for example in GOOD if example.topic in INPUTS]
DECODE_REASONS = {reason for reason, stage in REASONS.items() if stage == "decode"}
PAYMENT = next(example for example in GOOD_IN if example.name == "repayments/repayment_received.json").body


def of(example: Example) -> inbound.Inbound | BadInput:
    return decode(example.topic, example.key, example.value, TIMESTAMP_MS)


def compact(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def payment(**changes: object) -> inbound.Inbound | BadInput:
    return decode("repayments", KEY, compact({**PAYMENT, **changes}), TIMESTAMP_MS)


def accepted(topic: str, value: bytes) -> inbound.Inbound:
    event = decode(topic, KEY, value, TIMESTAMP_MS)
    assert not isinstance(event, BadInput), event
    return event


def reason_of(decoded: inbound.Inbound | BadInput) -> str | None:
    return decoded.reason if isinstance(decoded, BadInput) else None


# --- examples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", GOOD_IN, ids=lambda example: example.name)
def test_a_good_example_is_its_event_and_survives_a_round_trip(example: Example) -> None:
    event = accepted(example.topic, example.value)
    assert event.__struct_config__.tag == example.label
    assert accepted(example.topic, msgspec.json.encode(event)) == event


@pytest.mark.parametrize("example", BAD, ids=lambda example: example.name)
def test_a_bad_example_gives_its_reason_in_one_line(example: Example) -> None:
    bad = of(example)
    assert isinstance(bad, BadInput), bad
    assert bad.reason == example.label
    assert bad.message.isprintable()
    assert 0 < len(bad.message) <= 120


def test_every_inbound_type_has_a_good_example() -> None:
    for topic in INPUTS:
        types = {kind.__struct_config__.tag for kind in input_types(topic)}
        assert {example.label for example in GOOD_IN if example.topic == topic} == types


def test_every_reason_has_a_bad_example_on_every_topic_where_it_can_occur() -> None:
    generated = {"too_large"}
    has_schedule = {"repayments", "reviews"}
    for topic in INPUTS:
        # No field of a login or of control's own events has an enumeration alone: invalid_value stands for those too.
        expected = DECODE_REASONS - generated
        if topic not in has_schedule:
            expected -= {"invalid_schedule"}
        if topic == "control":
            expected -= {"wrong_key"}
        assert {example.label for example in BAD if example.topic == topic} == expected


# --- every rule at its edge ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", INPUTS)
@pytest.mark.parametrize("value", [None, b""])
def test_no_value(topic: str, value: bytes | None) -> None:
    assert reason_of(decode(topic, KEY, value, TIMESTAMP_MS)) == "empty_value"


@pytest.mark.parametrize("topic", INPUTS)
def test_size_is_limited_in_bytes(topic: str) -> None:
    limit = MAX_CONTROL_BODY_BYTES if topic == "control" else MAX_BODY_BYTES
    example = next(example for example in GOOD_IN if example.topic == topic)
    fitting = example.value + b" " * (limit - len(example.value))
    accepted(topic, fitting)
    assert reason_of(decode(topic, KEY, fitting + b" ", TIMESTAMP_MS)) == "too_large"


def test_a_large_policy_fits_control() -> None:
    body = next(example for example in GOOD_IN if example.label == "policy_activated").body
    accepted("control", compact({**body, "body": "#" * 800_000}))


@pytest.mark.parametrize(("ahead_ms", "reason"), [(86_400_000, None), (86_400_001, "future_dated"), (-(10**12), None)])
def test_an_event_may_be_at_most_a_day_ahead_of_its_record_and_any_time_behind(
    ahead_ms: int, reason: str | None
) -> None:
    assert reason_of(payment(at_ms=TIMESTAMP_MS + ahead_ms)) == reason


def test_a_tick_is_bound_to_the_records_time_too() -> None:
    tick = {"type": "tick", "event_id": "tick-1", "at_ms": TIMESTAMP_MS + 86_400_001}
    assert reason_of(decode("control", None, compact(tick), TIMESTAMP_MS)) == "future_dated"


@pytest.mark.parametrize("key", [None, b"", b"anything", b"\xff"])
def test_control_takes_any_key(key: bytes | None) -> None:
    tick = {"type": "tick", "event_id": f"tick-{TIMESTAMP_MS}", "at_ms": TIMESTAMP_MS}
    assert reason_of(decode("control", key, compact(tick), TIMESTAMP_MS)) is None


def test_the_key_is_the_borrower_in_utf8() -> None:
    body = compact({**PAYMENT, "borrower_id": "张-1"})
    assert reason_of(decode("repayments", "张-1".encode(), body, TIMESTAMP_MS)) is None
    assert reason_of(decode("repayments", "张-1".encode("gb18030"), body, TIMESTAMP_MS)) == "wrong_key"
    assert reason_of(decode("repayments", None, body, TIMESTAMP_MS)) == "wrong_key"


@pytest.mark.parametrize(("depth", "reason"), [(16, None), (17, "too_deep"), (20_000, "too_deep")])
def test_nesting_is_limited_in_unknown_fields_too(depth: int, reason: str | None) -> None:
    body = compact(PAYMENT)[:-1]
    arrays = body + b',"note":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
    assert reason_of(decode("repayments", KEY, arrays, TIMESTAMP_MS)) == reason
    objects = body + b',"note":' + b'{"n":' * (depth - 2) + b"{}" + b"}" * (depth - 2) + b"}"
    assert len(objects) > MAX_BODY_BYTES or reason_of(decode("repayments", KEY, objects, TIMESTAMP_MS)) == reason


def test_brackets_inside_text_and_beside_each_other_are_not_depth() -> None:
    assert reason_of(payment(note='[[[[[[[[[[[[[[[[[[[[{{"\\{{')) is None
    assert reason_of(payment(note=[[] for _ in range(100)])) is None


def test_depth_of_a_hostile_body_is_found_in_linear_time() -> None:
    # A scanner that starts anew at each escaped quote would need minutes for each of these.
    hostile = b'{"a":"' + b'\\"' * 20_000 + b"[" * 20
    assert reason_of(decode("repayments", KEY, hostile, TIMESTAMP_MS)) == "malformed_json"


def test_numbers_in_unknown_fields_are_ignored_whatever_their_size() -> None:
    body = compact(PAYMENT)[:-1]
    assert reason_of(decode("repayments", KEY, body + b',"n":1e999,"m":' + b"9" * 5_000 + b"}", TIMESTAMP_MS)) is None


def test_distinct_instalments() -> None:
    loan = next(example for example in GOOD_IN if example.name == "repayments/loan_disbursed.json").body
    row = loan["schedule"][0]
    rows = [{**row, "no": no} for no in range(600)]
    accepted("repayments", compact({**loan, "schedule": rows[:400]}))
    doubled = compact({**loan, "schedule": [*rows[:300], row]})
    assert reason_of(decode("repayments", KEY, doubled, TIMESTAMP_MS)) == "invalid_schedule"


# --- optional fields ----------------------------------------------------------------------------------------------


def nullable_fields() -> list[tuple[str, str, str]]:
    return [
        (topic, str(kind.__struct_config__.tag), field.encode_name)
        for topic in INPUTS
        for kind in input_types(topic)
        for field in msgspec.structs.fields(kind)
        if not field.required
    ]


@pytest.mark.parametrize(("topic", "kind", "field"), nullable_fields())
def test_null_is_absent(topic: str, kind: str, field: str) -> None:
    body = next(example.body for example in GOOD_IN if example.topic == topic and example.label == kind)
    body.pop(field, None)
    absent = accepted(topic, compact(body))
    null = accepted(topic, compact({**body, field: None}))
    assert getattr(null, field) is UNSET
    assert null == absent
    assert content_digest(null) == content_digest(absent)


def test_null_is_absent_inside_a_scope() -> None:
    macro = next(example for example in GOOD_IN if example.name == "control/macro_set-nulls_for_absent.json")
    event = accepted("control", macro.value)
    assert isinstance(event, inbound.MacroSet)
    assert event.scope == inbound.MacroScope(segment="student")
    assert inbound.given(event.value) is None


def test_only_unset_stands_for_absent() -> None:
    """The count of colons rests on it: a field that the wire did not carry must be seen to be absent."""
    for topic in INPUTS:
        for kind in input_types(topic):
            for field in msgspec.structs.fields(kind):
                assert field.required or field.default is UNSET, (kind, field.name)


# --- duplicate keys -----------------------------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from('ab:",{}[]\\\né\u0000'), max_size=6)
TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(TEXTS, inner), max_size=4).map(tuple),
    max_leaves=8,
)


def written(tree: object) -> str:
    """JSON of a tree whose objects are tuples of pairs, so that a key may stand twice."""
    if isinstance(tree, tuple):
        return "{" + ", ".join(f"{json.dumps(key)} : {written(inner)}" for key, inner in tree) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(map(written, tree)) + "]"
    return json.dumps(tree)


def has_duplicate(tree: object) -> bool:
    if isinstance(tree, tuple):
        keys = [key for key, _ in tree]
        return len(set(keys)) < len(keys) or any(has_duplicate(inner) for _, inner in tree)
    return isinstance(tree, list) and any(map(has_duplicate, tree))


@settings(max_examples=400, deadline=None)
@given(
    example=st.sampled_from([example for example in GOOD_IN if b"null" not in example.value]),
    extra=st.lists(st.tuples(TEXTS | st.sampled_from(["at_ms", "note", "type"]), TREES), max_size=3),
    data=st.data(),
)
def test_a_duplicate_key_is_found_exactly(
    example: Example, extra: list[tuple[str, object]], data: st.DataObject
) -> None:
    # A key the event has already is a duplicate with its own value too, as a producer's bug would write it.
    body = json.loads(example.value, object_pairs_hook=tuple)
    pairs = data.draw(st.permutations(body + tuple((key, dict(body).get(key, value)) for key, value in extra)))
    tree = tuple(pairs)
    reason = reason_of(decode(example.topic, KEY, written(tree).encode(), TIMESTAMP_MS))
    assert reason == ("duplicate_key" if has_duplicate(tree) else None)


@pytest.mark.parametrize("example", GOOD_IN, ids=lambda example: example.name)
def test_every_key_of_every_type_is_found_when_given_twice(example: Example) -> None:
    inside = compact(example.body)[1:-1].decode()
    for key, value in example.body.items():
        doubled = f"{{{inside},{json.dumps(key)}:{json.dumps(value)}}}"
        assert reason_of(decode(example.topic, KEY, doubled.encode(), TIMESTAMP_MS)) == "duplicate_key"


# --- digest -------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(example=st.sampled_from(GOOD_IN), data=st.data())
def test_the_digest_is_independent_of_key_order_white_space_and_unknown_fields(
    example: Example, data: st.DataObject
) -> None:
    def shuffled(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: shuffled(tree[key]) for key in data.draw(st.permutations(list(tree)))}
        return [shuffled(inner) for inner in tree] if isinstance(tree, list) else tree

    other = json.dumps({**shuffled(example.body), "note_7": {"a": [1]}}, indent=data.draw(st.integers(0, 3)))
    assert content_digest(accepted(example.topic, other.encode())) == content_digest(
        accepted(example.topic, example.value)
    )


@pytest.mark.parametrize("example", GOOD_IN, ids=lambda example: example.name)
def test_the_digest_covers_every_field(example: Example) -> None:
    event = accepted(example.topic, example.value)
    for field in msgspec.structs.fields(event):
        changed = msgspec.structs.replace(event, **{field.name: "something else"})
        assert content_digest(changed) != content_digest(event)


def test_the_digest_is_the_same_in_every_run() -> None:
    event = accepted("repayments", compact(PAYMENT))
    assert content_digest(event) == 4_137_904_210
    assert 0 <= content_digest(event) < 2**32


# --- whatever comes -----------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(topic=st.sampled_from(INPUTS), value=st.binary(max_size=200), key=st.none() | st.binary(max_size=8))
def test_random_bytes_never_raise(topic: str, value: bytes, key: bytes | None) -> None:
    assert reason_of(decode(topic, key, value, TIMESTAMP_MS)) in DECODE_REASONS


TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b'"',
    b"\\",
    b"\\u",
    b"null",
    b"NaN",
    b"-",
    b"1e999",
    b"\xff",
    b"\x00",
    b"0",
]


@settings(max_examples=600, deadline=None)
@given(example=st.sampled_from(GOOD_IN), data=st.data())
def test_a_damaged_good_example_is_an_event_or_has_a_reason_of_the_list(example: Example, data: st.DataObject) -> None:
    value = bytearray(example.value)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(value)))
        end = data.draw(st.integers(start, min(len(value), start + 3)))
        value[start:end] = data.draw(st.sampled_from(TOKENS) | st.binary(max_size=3))
    decoded = decode(example.topic, KEY, bytes(value), TIMESTAMP_MS)
    if isinstance(decoded, BadInput):
        assert decoded.reason in DECODE_REASONS
    else:
        # What is accepted is JSON to any parser, and what it says of the fields we know is in the event.
        assert decode(example.topic, KEY, compact(json.loads(bytes(value))), TIMESTAMP_MS) == decoded


SECRET = "Zhang Wei 110101199003070000"


@settings(max_examples=200, deadline=None)
@given(example=st.sampled_from(GOOD_IN), data=st.data())
def test_a_message_never_tells_what_a_field_held(example: Example, data: st.DataObject) -> None:
    body = example.body
    field = data.draw(st.sampled_from(sorted(body)))
    body[field] = data.draw(st.sampled_from([SECRET, [SECRET], {SECRET: SECRET}, SECRET * 40]))
    text = compact(body)
    if data.draw(st.booleans()):
        text = text[:-1] + f',"{SECRET}":1,"{SECRET}":2}}'.encode()
    bad = decode(example.topic, KEY, text, TIMESTAMP_MS)
    if isinstance(bad, BadInput):
        assert "Zhang" not in bad.message
        assert "1101" not in bad.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amount_minor": 0}, "amount_minor: must be >= 1"),
        ({"amount_minor": "1"}, "amount_minor: must be int"),
        ({"event_id": "e" * 65}, "event_id: its length must be <= 64"),
        ({"method": "cash"}, "method: is not one of the values allowed"),
        ({"value_on": "tomorrow"}, "value_on: must be a date YYYY-MM-DD"),
        ({"currency": "cny"}, "currency: has not the form of such a code"),
        ({"type": "payment"}, "type: is not one of the types of topic repayments"),
        ({"type": "loan_rescheduled", "distressed": True, "schedule": [{"no": 1}]}, "schedule[0].due_on: is missing"),
    ],
)
def test_a_message_names_field_and_rule(changes: dict[str, object], message: str) -> None:
    bad = payment(**changes)
    assert isinstance(bad, BadInput)
    assert bad.message == message
