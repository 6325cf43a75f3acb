"""From the bytes of a record to an event, or to the reason why there is none.

Bad input is a value here, never an exception: whatever a producer sends, the stream goes on. Messages name the field
and the rule it breaks, never what the field held: they go to logs and headers, where no borrower's data belongs.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, NoReturn, TypeVar, Union

import msgspec
from msgspec import UNSET, Struct, ValidationError, inspect
from msgspec.structs import fields, replace

from schemas.inbound import BorrowerEvent, Inbound, LoanDisbursed, LoanRescheduled, PauseSet, PlanAccepted
from schemas.topics import INPUTS, TOPICS, input_types

Stage = Literal["decode", "fold"]
REASONS: Final[Mapping[str, Stage]] = MappingProxyType(
    {
        "empty_value": "decode",
        "too_large": "decode",
        "malformed_json": "decode",
        "not_finite": "decode",
        "duplicate_key": "decode",
        "too_deep": "decode",
        "unknown_type": "decode",
        "missing_field": "decode",
        "wrong_type": "decode",
        "out_of_range": "decode",
        "invalid_value": "decode",
        "invalid_schedule": "decode",
        "future_dated": "decode",
        "wrong_key": "decode",
        "wrong_partition": "fold",
        "currency_mismatch": "fold",
        "conflicting_duplicate": "fold",
        "unknown_instalment": "fold",
        "unknown_loan": "fold",
        "parking_full": "fold",
        "quarantined": "fold",
    }
)
"""Why a record can become a dead letter (a closed list), and the stage that finds it."""

MAX_DEPTH: Final = 16
MAX_AHEAD_MS: Final = 24 * 3_600_000


class BadInput(NamedTuple):
    """A record that is no event: a reason of `REASONS`, and one line that names field and rule."""

    reason: str
    message: str


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
    """64 bits over the known fields of a decoded event: whatever else a body may differ in (order of keys, white space,
    unknown fields, ``null`` for absent) does not count."""
    return int.from_bytes(blake2b(_PACK(event), digest_size=8).digest(), "big")


def content_digest_but_id(event: Inbound) -> int:
    """The same without the `event_id`: equal for one fact sent twice under two ids."""
    return content_digest(replace(event, event_id=""))


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
# own (no inbound field has a default but UNSET) and other pairs may have been
# overwritten or skipped. If the outer two are equal there is neither a duplicate nor an unknown field. If not, the same
# argument holds for the tree of an untyped parse, where only an overwritten pair leaves no key:
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
    if _too_deep(value):
        return _DEEP
    try:
        tree = _PARSE(value)
    except Exception:
        # Bad UTF-8 in an unknown field, or a number there that is valid JSON but more than the parser takes.
        tree = None
    if tree is not None and _keys(tree) == colons:
        return None
    parsed = _parse_pairwise(value)
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


# --- why not ------------------------------------------------------------------------------------------------------

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def _too_deep(value: bytes) -> bool:
    """Whether arrays and objects are nested more than `MAX_DEPTH` deep."""
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", value)):
        if bracket in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        else:
            depth -= 1
    return False


class _Refused(Exception):
    """Leaves the standard library's parser from inside one of its hooks."""

    def __init__(self, bad: BadInput) -> None:
        self.bad = bad


def _refuse_constant(_name: str) -> NoReturn:
    raise _Refused(_NOT_FINITE)


def _number(_digits: str) -> int:
    return 0


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        times = Counter(name for name, _ in pairs)
        name = next(name for name in members if times[name] > 1)
        raise _Refused(BadInput("duplicate_key", f"{_listed(name)}: given more than once"))
    return members


def _parse_pairwise(value: bytes) -> object:
    """The body with every number as 0, or a `BadInput`: not JSON, NaN or infinite, a duplicate key."""
    try:
        return json.loads(
            value.decode(),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_number,
            parse_float=_number,
        )
    except _Refused as refused:
        return refused.bad
    except UnicodeDecodeError:
        return BadInput("malformed_json", "body: must be UTF-8")
    except Exception:
        return _MALFORMED


def _diagnose(source: "_Source", value: bytes, error: Exception | None) -> BadInput:
    if _too_deep(value):
        return _DEEP
    body = _parse_pairwise(value)
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
        return _MALFORMED
    return _explain(str(error))


# The typed decoder's wording, the reason it means, and our wording; what it quotes from a body is not taken over.
_WORDINGS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"Object missing required field `(\w+)`"), "missing_field", r"\1: is missing"),
    (re.compile(r"Expected `\w+` of length ([<>]=) (\d+)"), "out_of_range", r": its length must be \1 \2"),
    (re.compile(r"Expected `(?:int|float)` ([<>]=?) (-?[\d.]+)"), "out_of_range", r": must be \1 \2"),
    (
        re.compile(r"Number out of range|Integer value out of range"),
        "out_of_range",
        ": is beyond what a number can hold",
    ),
    (re.compile(r"Expected `str` matching regex"), "invalid_value", ": has not the form of such a code"),
    (re.compile(r"Invalid enum value"), "invalid_value", ": is not one of the values allowed"),
    (re.compile(r"Invalid RFC3339 encoded date"), "invalid_value", ": must be a date YYYY-MM-DD"),
    (re.compile(r"Expected `([\w |]+)`"), "wrong_type", r": must be \1"),
)
_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")


def _explain(error: str) -> BadInput:
    """The typed decoder's finding in our terms."""
    place = _PLACE.search(error)
    path = "" if place is None else place[1]
    for wording, reason, rule in _WORDINGS:
        found = wording.match(error)
        if found is not None:
            separator = "." if path and reason == "missing_field" else ""
            return BadInput(reason, (path or "body" * (reason != "missing_field")) + separator + found.expand(rule))
    return BadInput("wrong_type", f"{path or 'body'}: has not the type of this field")


_EMPTY = BadInput("empty_value", "body: is empty")
_MALFORMED = BadInput("malformed_json", "body: must be one JSON object")
_NOT_FINITE = BadInput("not_finite", "body: holds NaN or an infinite number")
_DEEP = BadInput("too_deep", f"body: nested more than {MAX_DEPTH} deep")
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


_RULES: dict[type[Inbound], Callable[[Any], BadInput | None]] = {
    LoanDisbursed: _distinct_instalments,
    LoanRescheduled: _distinct_instalments,
    PlanAccepted: _distinct_instalments,
    PauseSet: _ordered_pause,
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
_LISTED: Final = frozenset(field.encode_name for kind in _SHAPES for field in fields(kind)) | {"type"}
_SOURCES: Final = {topic: _source(topic) for topic in INPUTS}


def _listed(name: str) -> str:
    """A field's name; a name that a producer made up is not repeated, for it may be somebody's data."""
    return name if name in _LISTED else "a field we do not know"
