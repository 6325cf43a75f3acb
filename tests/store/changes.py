"""Changes as commits give them, of states in the clear."""

from collections.abc import Mapping
from typing import Any

from streams.store.contract import Change
from streams.store.seal import seal


def change(
    to_applied: int,
    read_from: int,
    changed: Mapping[str, bytes] | None = None,
    wakes: Mapping[str, int | None] | None = None,
    task: bytes | None = None,
    **others: Any,
) -> Change:
    """A change whose states are sealed here."""
    states = {name: seal(name, state) for name, state in (changed or {}).items()}
    return Change(to_applied, read_from, states, wakes or {}, None if task is None else seal("", task), **others)
