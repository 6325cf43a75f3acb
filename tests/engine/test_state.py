"""Packed states of other releases: older ones are migrated when read, newer ones refused."""

import re
import typing
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from streams.engine.calendar import DAY_MS
from streams.engine.chunk import TASK_SCHEMA, TaskState
from streams.engine.loan import Loan
from streams.engine.parts import PackedParts
from streams.engine.standing import Bar, Oversight, Standing
from streams.engine.state import (
    OLDEST_SCHEMA,
    SCHEMA,
    Borrower,
    Facts,
    ShadowStanding,
    SideBySide,
    StateError,
    pack,
    pack_task,
    unpack,
    unpack_task,
)
from streams.engine.windows import LOANS

LAYOUTS = {
    (Borrower, 3): "79e24696ea99593f",
    (Borrower, 4): "79e24696ea99593f",
    (Borrower, 5): "d0ac78f90da26907",
    (Borrower, 6): "c9ed54910caf6331",
    (TaskState, 1): "44c8b013c95ef256",
    (TaskState, 2): "9511a70a4bbcc1e7",
}
"""By root and version. Where this test fails the layout has changed: raise the version and note the new digest. (From 3
to 4 it was the rows of loans that came to be written shorter.)"""

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


@pytest.mark.parametrize("schema", [OLDEST_SCHEMA, 3])
def test_rows_of_an_older_release_are_read_whole(schema: int) -> None:
    loan = loan_of_three()
    rows = list(loan.rows)
    now = pack(Borrower(facts=Facts(loans={"l1": loan})))
    # What is in memory stays whole.
    assert loan.rows == rows
    old = members(now)
    at = Loan.__struct_fields__.index("rows")
    assert len(old[1][1]["l1"][at]) < len(rows)
    old[0], old[1][1]["l1"][at] = schema, rows

    read = unpack(msgspec.msgpack.encode(old))
    assert read.facts.loans["l1"].rows == unpack(now).facts.loans["l1"].rows == rows
    assert pack(read) == now


def test_what_an_older_release_had_barred_stays_barred() -> None:
    spared = Standing(
        oversight=Oversight(limit_until_ms=3, rung_bars=[Bar(2, 9, exempts=True)], level_bars=[Bar(3, 8)])
    )
    held = Standing(oversight=Oversight(unlisted_until_ms=4))
    now = Borrower(standing=spared, shadows=SideBySide(None, [ShadowStanding(1, held, None)]))
    old = members(pack(now))
    old[0] = 4
    of_live, of_shadow = old[2][13], old[4][1][0][1][13]
    assert [bar[:2] for bar in of_live[2]] == [[2, 9]]
    of_live[2:4], of_shadow[2:4] = [2, 9, 3, 8], [0, 0, 0, 0]

    assert pack(unpack(msgspec.msgpack.encode(old))) == pack(now)


def test_parts_packed_one_by_one_give_the_same() -> None:
    borrower = Borrower(facts=Facts(loans={"l1": loan_of_three()}))
    parts = PackedParts()
    assert parts.pack(borrower) == pack(borrower)
    borrower.facts.loans["l1"].rows[2] = 20_500
    parts.changed |= LOANS
    assert parts.pack(borrower) == pack(borrower)


def loan_of_three() -> Loan:
    """The first instalment paid in part, the others as they were set."""
    schedule = [1, 20_487, 10, 20, 70, 2, 20_517, 0, 20, 80, 3, 20_547, 0, 10, 90]
    rows = [0, 20_487, -1, 0, 0, 5, 70, 1, 20_517, -1, 0, 0, 20, 80, 2, 20_547, -1, 0, 0, 10, 90]
    return Loan("l1", "cash_loan", "CNY", 240, 20_458, 20_458 * DAY_MS, "e1", 7, [123, 1234], [schedule], rows=rows)


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


def test_the_tasks_state_of_an_older_release_is_read() -> None:
    now = TaskState(clock_ms=5, control_seen=["i-1"], activations=3)
    old = members(pack_task(now))
    # What the older one did not know yet stood at the end.
    old[0] = 1
    del old[-1]

    assert unpack_task(msgspec.msgpack.encode(old)) == now


def test_the_tasks_state_of_a_newer_release_is_refused() -> None:
    newer = members(pack_task(TaskState(clock_ms=5)))
    newer[0] = TASK_SCHEMA + 1
    with pytest.raises(StateError, match=r"the task's state has schema .*; run the newer version"):
        unpack_task(msgspec.msgpack.encode(newer))
