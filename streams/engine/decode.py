"""From the bytes of a record to an event, or to the reason why there is none.

Bad input is a value here, never an exception: whatever a producer sends, the stream goes on.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, Union
from zlib import crc32

import msgspec
from msgspec import UNSET, Struct, ValidationError, inspect
from msgspec.structs import replace

from schemas.inbound import (
    BorrowerEvent,
    Inbound,
    IncidentOpened,
    LoanDisbursed,
    LoanRescheduled,
    PauseSet,
    PlanAccepted,
)
from schemas.topics import INPUTS, TOPICS, input_types
from streams.engine.calendar import DAY_MS
from streams.engine.diagnose import DEEP, MALFORMED, REASONS, BadInput, explain, parse_pairwise, too_deep

__all__ = ["MAX_AHEAD_MS", "REASONS", "BadInput", "content_digest", "decode"]

MAX_AHEAD_MS: Final = DAY_MS


def decode(topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int) -> Inbound | BadInput:
    """The event in a record of an input topic. Optional fields given as ``null`` come back as absent (`UNSET`).

    Args:
        timestamp_ms: the record's timestamp, epoch milliseconds.

    Raises:
        KeyError: `topic` is not an input topic; nothing else, whatever the record holds.
    """
    source = _SOURCES[topic]
    if not value:
        return _EMPTY
    if len(value) > source.max_bytes:
        return source.too_large
    try:
        event = _DECODE(value)
    except Exception as error:
        return _diagnose(source, value, error)
    flat_pairs = source.flat_pairs.get(type(event))
    if flat_pairs is None:
        return _diagnose(source, value, None)
    colons = value.count(b":")
    if colons != flat_pairs:
        checked = _checked(event, value, colons)
        if isinstance(checked, BadInput):
            return checked
        event = checked
    if event.at_ms > timestamp_ms + MAX_AHEAD_MS:
        return _FUTURE
    if source.keyed and key != event.borrower_id.encode():
        return _WRONG_KEY
    return event  # type: ignore[no-any-return]


def content_digest(event: Inbound) -> int:
    """32 bits over the known fields of a decoded event: whatever else a body may differ in (order of keys, white space,
    unknown fields, ``null`` for absent) does not count. It tells apart two contents of one id, no more."""
    return crc32(_PACK(event))


# One decoder for all topics: over a single type, msgspec would take a body without `type`.
_DECODE = msgspec.json.Decoder(Union[tuple(kind for topic in INPUTS for kind in input_types(topic))]).decode  # noqa: UP007
_PACK = msgspec.msgpack.Encoder(order="deterministic").encode
_PARSE = msgspec.json.Decoder().decode


# --- duplicate keys and unknown fields ----------------------------------------------------------------------------
#
# The typed decoder lets the last of several equal keys win and skips unknown fields unread. Both are found by counting.
# In a well-formed body every key-value pair has one colon outside of strings, so
#
#     colons in the body  >=  pairs in the body  >=  fields present in the decoded event,
#
# the first because colons may also stand inside strings, the second because each present field came from a pair of its
# own (no inbound field has a default but UNSET, and a type is never left out) and other pairs may have been overwritten
# or skipped. If the outer two are equal there is neither a duplicate nor an unknown field. If not, the same argument
# holds for the tree of an untyped parse, where only an overwritten pair leaves no key:
#
#     colons in the body  >=  pairs in the body  >=  keys in the tree,
#
# and if these are equal there is no duplicate. Only if they are not (a duplicate, or a colon in some text) are the
# pairs looked at one by one.


_S = TypeVar("_S", bound=Struct)


class _Shape(NamedTuple):
    """What to count in a type: the pairs always there, its optional fields, its fields with pairs inside."""

    required: int
    optional: tuple[str, ...]
    nested: tuple[str, ...]


def _checked(event: Inbound, value: bytes, colons: int) -> Inbound | BadInput:
    if _pairs(event) != colons:
        bad = _check_unlisted(value, colons)
        if bad is not None:
            return bad
    rule = _RULES.get(type(event))
    return (None if rule is None else rule(event)) or _without_nulls(event)


def _pairs(part: Struct) -> int:
    shape = _SHAPES[type(part)]
    count = shape.required
    for name in shape.optional:
        if getattr(part, name) is not UNSET:
            count += 1
    for name in shape.nested:
        inside = getattr(part, name)
        if isinstance(inside, Struct):
            count += _pairs(inside)
        elif isinstance(inside, list):
            for row in inside:
                count += len(row) if isinstance(row, dict) else _pairs(row)
    return count


def _check_unlisted(value: bytes, colons: int) -> BadInput | None:
    """What is wrong with the parts of a body that the typed decoder did not look at."""
    if too_deep(value):
        return DEEP
    try:
        tree = _PARSE(value)
    except Exception:
        # Bad UTF-8 in an unknown field, or a number there that is valid JSON but more than the parser takes.
        tree = None
    if tree is not None and _keys(tree) == colons:
        return None
    parsed = parse_pairwise(value)
    return parsed if isinstance(parsed, BadInput) else None


def _keys(tree: object) -> int:
    count = 0
    if isinstance(tree, dict):
        count = len(tree)
        for inside in tree.values():
            if isinstance(inside, (dict, list)):
                count += _keys(inside)
    elif isinstance(tree, list):
        for inside in tree:
            if isinstance(inside, (dict, list)):
                count += _keys(inside)
    return count


def _without_nulls(part: _S) -> _S:
    shape = _SHAPES[type(part)]
    changes: dict[str, object] = {}
    for name in shape.optional:
        if getattr(part, name) is None:
            changes[name] = UNSET
    for name in shape.nested:
        inside = getattr(part, name)
        if isinstance(inside, Struct):
            given = _without_nulls(inside)
            if given is not inside:
                changes[name] = given
    return replace(part, **changes) if changes else part


def _diagnose(source: "_Source", value: bytes, error: Exception | None) -> BadInput:
    if too_deep(value):
        return DEEP
    body = parse_pairwise(value)
    if isinstance(body, BadInput):
        return body
    if not isinstance(body, dict):
        return BadInput("wrong_type", "body: must be an object")
    if "type" not in body:
        return BadInput("missing_field", "type: is missing")
    if not isinstance(body["type"], str):
        return BadInput("wrong_type", "type: must be a string")
    if body["type"] not in source.types:
        return BadInput("unknown_type", f"type: is not one of the types of topic {source.topic}")
    if not isinstance(error, ValidationError):
        return MALFORMED
    return explain(str(error))


_EMPTY = BadInput("empty_value", "body: is empty")
_FUTURE = BadInput("future_dated", "at_ms: more than 24 h after the record's timestamp")
_WRONG_KEY = BadInput("wrong_key", "key: must be the borrower_id in UTF-8")


# --- rules between fields -----------------------------------------------------------------------------------------


def _distinct_instalments(event: LoanDisbursed | LoanRescheduled | PlanAccepted) -> BadInput | None:
    if len({row.no for row in event.schedule}) != len(event.schedule):
        return BadInput("invalid_schedule", "schedule: two instalments have the same no")
    return None


def _ordered_pause(event: PauseSet) -> BadInput | None:
    if event.from_on > event.until_on:
        return BadInput("out_of_range", "until_on: must not be before from_on")
    return None


def _scoped_incident(event: IncidentOpened) -> BadInput | None:
    scope = event.scope
    if scope.all is not True and not any(
        isinstance(name, str) for name in (scope.channel, scope.platform, scope.product)
    ):
        return BadInput("invalid_value", "scope: names nothing; give channel, platform or product, or all: true")
    if isinstance(event.until_ms, int) and event.until_ms < event.from_ms:
        return BadInput("out_of_range", "until_ms: must not be before from_ms")
    return None


_RULES: dict[type[Inbound], Callable[[Any], BadInput | None]] = {
    LoanDisbursed: _distinct_instalments,
    LoanRescheduled: _distinct_instalments,
    PlanAccepted: _distinct_instalments,
    PauseSet: _ordered_pause,
    IncidentOpened: _scoped_incident,
}


# --- tables made from the types -----------------------------------------------------------------------------------


class _Source(NamedTuple):
    """How one input topic is read. `flat_pairs`: how many pairs a plain body of each of its types has; -1 for a type
    that always needs a closer look."""

    topic: str
    flat_pairs: dict[type[Inbound], int]
    types: frozenset[str]
    keyed: bool
    max_bytes: int
    too_large: BadInput


def _source(topic: str) -> _Source:
    types = input_types(topic)
    limit = TOPICS[topic].max_body_bytes
    return _Source(
        topic,
        {kind: -1 if _SHAPES[kind].nested or kind in _RULES else _SHAPES[kind].required for kind in types},
        frozenset(str(kind.__struct_config__.tag) for kind in types),
        issubclass(types[0], BorrowerEvent),
        limit,
        BadInput("too_large", f"body: more than {limit} bytes"),
    )


def _structs_in(described: inspect.Type) -> list[type[Struct]]:
    """The struct types inside a field's type."""
    if isinstance(described, inspect.StructType):
        return [described.cls]
    if isinstance(described, inspect.ListType):
        return _structs_in(described.item_type)
    if isinstance(described, inspect.UnionType):
        return [kind for member in described.types for kind in _structs_in(member)]
    return []


def _add_shape(shapes: dict[type[Struct], _Shape], kind: type[Struct]) -> None:
    required = 0 if kind.__struct_config__.tag is None else 1
    optional: list[str] = []
    nested: list[str] = []
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    for field in described.fields:
        if field.required:
            required += 1
        else:
            optional.append(field.name)
        parts = _structs_in(field.type)
        if parts or isinstance(field.type, (inspect.ListType, inspect.DictType)):
            nested.append(field.name)
        for part in parts:
            _add_shape(shapes, part)
    shapes[kind] = _Shape(required, tuple(optional), tuple(nested))


def _shapes() -> dict[type[Struct], _Shape]:
    shapes: dict[type[Struct], _Shape] = {}
    for topic in INPUTS:
        for kind in input_types(topic):
            _add_shape(shapes, kind)
    return shapes


_SHAPES: Final = _shapes()
_SOURCES: Final = {topic: _source(topic) for topic in INPUTS}
