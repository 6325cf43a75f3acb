"""The packed form of a borrower's state, kept part by part, so that a commit packs again only what has changed.

An event touches one or two windows; loans and the other windows are most of a state. The bytes are those that
`state.pack` gives of the whole: in msgpack an array is its head and then its members, one after the other.
"""

from typing import Any

from msgspec import Raw
from msgspec.msgpack import Encoder

from streams.engine.behaviour import Windows
from streams.engine.signals import SIGNAL_BITS
from streams.engine.state import Borrower, Facts, pack_shortly
from streams.engine.windows import BORROWING, EVERYTHING, INCOME, LOANS, LOGINS, SPENDING

_CHANGED_BY = {
    "loans": LOANS,
    "logins": LOGINS,
    "borrowing": BORROWING,
    "spending": SPENDING,
    "income": INCOME,
    "signals": SIGNAL_BITS,
}
"""What has to be dirty for a part to have changed. What is not here is packed every time: it is small, or changes with
every event."""

_encode = Encoder().encode

_BORROWER = Borrower.__struct_fields__
_FACTS = [(name, _CHANGED_BY.get(name, EVERYTHING)) for name in Facts.__struct_fields__]
_WINDOWS = [(name, _CHANGED_BY.get(name, EVERYTHING)) for name in Windows.__struct_fields__]
_AT_WINDOWS = Facts.__struct_fields__.index("windows")


class PackedParts:
    """The packed parts of one borrower while its state is open.

    Whoever changes a part adds its bit to `changed` (see `Case.dirty`).
    """

    __slots__ = ("_facts", "_windows", "changed")

    def __init__(self) -> None:
        self.changed = EVERYTHING | SIGNAL_BITS
        self._facts: list[Any] = [None] * len(_FACTS)
        self._windows: list[Any] = [None] * len(_WINDOWS)

    def pack(self, borrower: Borrower) -> bytes:
        """What `state.pack(borrower)` would give."""
        _renew(self._windows, _WINDOWS, borrower.facts.windows, self.changed)
        _renew(self._facts, _FACTS, borrower.facts, self.changed)
        self._facts[_AT_WINDOWS] = self._windows
        self.changed = 0
        return _encode([self._facts if name == "facts" else getattr(borrower, name) for name in _BORROWER])


def _renew(kept: list[Any], fields: list[tuple[str, int]], whole: Any, changed: int) -> None:
    """Pack again what may have changed of the parts that are kept packed; of the others take what is there now."""
    for at, (name, bits) in enumerate(fields):
        if bits == EVERYTHING:
            kept[at] = getattr(whole, name)
        elif changed & bits:
            part = getattr(whole, name)
            kept[at] = Raw(pack_shortly(part, part) if name == "loans" else _encode(part))
