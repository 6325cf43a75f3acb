"""What is wrong with a body: the reasons there are, and the exact look at a body that is not plainly good.

Messages name the field and the rule it breaks, never what the field held: they go to logs and headers, where no
borrower's data belongs.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, NoReturn

from msgspec import Struct
from msgspec.structs import fields

from schemas import inbound

MAX_DEPTH: Final = 16

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
        "unknown_incident": "fold",
        "factors_full": "fold",
        "invalid_policy": "fold",
        "quarantined": "fold",
        "legal_hold": "fold",
    }
)
"""Why a record can become a dead letter (a closed list), and the stage that finds it."""


class BadInput(NamedTuple):
    """A record that is no event: a reason of `REASONS`, and one line that names field and rule."""

    reason: str
    message: str


MALFORMED = BadInput("malformed_json", "body: must be one JSON object")
_NOT_FINITE = BadInput("not_finite", "body: holds NaN or an infinite number")
DEEP = BadInput("too_deep", f"body: nested more than {MAX_DEPTH} deep")

_LISTED: Final = frozenset(
    field.encode_name
    for kind in vars(inbound).values()
    if isinstance(kind, type) and issubclass(kind, Struct)
    for field in fields(kind)
) | {"type"}

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def too_deep(value: bytes) -> bool:
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


def parse_pairwise(value: bytes) -> object:
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
        return MALFORMED


# The typed decoder's wording, the reason it means, and our wording; what it quotes from a body is not taken over.
_WORDINGS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"Object missing required field `(\w+)`"), "missing_field", r".\1: is missing"),
    (re.compile(r"Expected `\w+` of length ([<>]=) (\d+)"), "out_of_range", r": its length must be \1 \2"),
    (re.compile(r"Expected `(?:int|float)` ([<>]=?) (-?[\d.]+)"), "out_of_range", r": must be \1 \2"),
    (re.compile(r"(?:Number|Integer value) out of range"), "out_of_range", ": is beyond what a number can hold"),
    (re.compile(r"Expected `str` matching regex"), "invalid_value", ": has not the form of such a code"),
    (re.compile(r"Invalid enum value"), "invalid_value", ": is not one of the values allowed"),
    (re.compile(r"Invalid RFC3339 encoded date"), "invalid_value", ": must be a date YYYY-MM-DD"),
    (re.compile(r"Expected `([\w |]+)`"), "wrong_type", r": must be \1"),
)
_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")


def explain(error: str) -> BadInput:
    """The typed decoder's finding in our terms."""
    place = _PLACE.search(error)
    path = "" if place is None else place[1]
    for wording, reason, rule in _WORDINGS:
        found = wording.match(error)
        if found is not None:
            message = path + found.expand(rule)
            return BadInput(reason, message.removeprefix("."))
    return BadInput("wrong_type", f"{path}: has not the type of this field")


def _listed(name: str) -> str:
    """A field's name; a name that a producer made up is not repeated, for it may be somebody's data."""
    return name if name in _LISTED else "a field we do not know"
