"""Packed states of other releases: older ones are migrated when read, newer ones refused."""

import re
import typing
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from streams.engine.chunk import TASK_SCHEMA, TaskState
from streams.engine.state import (
    OLDEST_SCHEMA,
    SCHEMA,
    Borrower,
    Facts,
    StateError,
    pack,
    pack_task,
    unpack,
    unpack_task,
)

LAYOUTS = {
    (Borrower, 3): "79e24696ea99593f",
    (TaskState, 1): "44c8b013c95ef256",
}
"""By root and version. Where this test fails the layout has changed: raise the version and note the new digest."""

_MODULE = re.compile(r"\b\w+\.")


def layout(root: type[msgspec.Struct]) -> str:
    """A digest of all that is packed below a root: names, order and types."""
    told: dict[str, list[str]] = {}
    open_types: list[Any] = [root]
    while open_types:
        found = open_types.pop()
        open_types += typing.get_args(found)
        if isinstance(found, type) and issubclass(found, msgspec.Struct) and found.__qualname__ not in told:
            hints = typing.get_type_hints(found)
            # Where a type lives is not in the packed form.
            told[found.__qualname__] = [
                f"{name} {_MODULE.sub('', str(hints[name]))}" for name in found.__struct_fields__
            ]
            open_types += hints.values()
    return sha256(repr(sorted(told.items())).encode()).hexdigest()[:16]


@pytest.mark.parametrize("root", [Borrower, TaskState])
def test_no_layout_changes_under_the_same_version(root: type[msgspec.Struct]) -> None:
    version = SCHEMA if root is Borrower else TASK_SCHEMA
    assert LAYOUTS.get((root, version)) == layout(root), "the packed form has changed: raise its version"


def members(blob: bytes) -> list[Any]:
    found: list[Any] = msgspec.msgpack.decode(blob)
    return found


def test_a_state_of_an_older_release_is_read_as_if_written_by_this_one() -> None:
    now = Borrower(facts=Facts(fraud_event_id="f-1"), wake_ms=7)
    old = members(pack(now))
    # What the older one did not know yet stood at the end.
    old[0] = OLDEST_SCHEMA
    del old[1][-1], old[-1]

    assert pack(unpack(msgspec.msgpack.encode(old))) == pack(now)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (SCHEMA + 1, f"has schema {SCHEMA + 1}, this version reads {OLDEST_SCHEMA} to {SCHEMA}; run the newer version"),
        (OLDEST_SCHEMA - 1, f"this version reads {OLDEST_SCHEMA} to {SCHEMA}; run a version in between first"),
    ],
)
def test_a_state_of_a_release_too_far_away_is_refused(schema: int, told: str) -> None:
    other = members(pack(Borrower()))
    other[0] = schema
    with pytest.raises(StateError, match=told):
        unpack(msgspec.msgpack.encode(other))


def test_a_newer_state_is_told_as_such_even_where_it_cannot_be_decoded() -> None:
    with pytest.raises(StateError, match="run the newer version"):
        unpack(msgspec.msgpack.encode([SCHEMA + 1, "facts as nobody knows them"]))
    with pytest.raises(StateError, match="cannot be read"):
        unpack(msgspec.msgpack.encode([SCHEMA, "facts as nobody knows them"]))


def test_the_tasks_state_of_a_newer_release_is_refused() -> None:
    newer = members(pack_task(TaskState(clock_ms=5)))
    newer[0] = TASK_SCHEMA + 1
    with pytest.raises(StateError, match=r"the task's state has schema .*; run the newer version"):
        unpack_task(msgspec.msgpack.encode(newer))
