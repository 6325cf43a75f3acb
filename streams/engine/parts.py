"""The packed form of a borrower's state, kept part by part, so that a commit packs again only what has changed.

An event touches one or two windows; loans and the other windows are most of a state. The bytes are those that
`state.pack` gives of the whole: in msgpack an array is its head and then its members, one after the other.
"""

from msgspec.msgpack import Encoder

from streams.engine.behaviour import Windows
from streams.engine.signals import SIGNAL_BITS
from streams.engine.state import Borrower, Facts
from streams.engine.windows import ACTIVITY, BORROWING, EVERYTHING, INCOME, LOANS, LOGINS, SPENDING

_CHANGED_BY = {
    "loans": LOANS,
    "logins": LOGINS,
    "borrowing": BORROWING,
    "spending": SPENDING,
    "income": INCOME,
    "activity": ACTIVITY,
    "signals": SIGNAL_BITS,
}
"""What has to be dirty for a part to have changed. What is not here is packed every time."""

_encode = Encoder().encode


def _head(members: int) -> bytes:
    return bytes([0x90 | members]) if members < 16 else b"\xdc" + members.to_bytes(2, "big")


_BORROWER = Borrower.__struct_fields__
_BORROWER_HEAD = _head(len(_BORROWER))
_FACTS = [(name, _CHANGED_BY.get(name, EVERYTHING)) for name in Facts.__struct_fields__]
_WINDOWS = [(name, _CHANGED_BY.get(name, EVERYTHING)) for name in Windows.__struct_fields__]
_FACTS_HEAD = _head(len(_FACTS))
_WINDOWS_HEAD = _head(len(_WINDOWS))


class PackedParts:
    """The packed parts of one borrower while its state is open.

    Whoever changes a part adds its bit to `changed` (see `Case.dirty`).
    """

    __slots__ = ("changed", "facts", "windows")

    def __init__(self) -> None:
        self.changed = EVERYTHING | SIGNAL_BITS
        self.facts: list[bytes] = [b""] * len(_FACTS)
        self.windows: list[bytes] = [b""] * len(_WINDOWS)

    def pack(self, borrower: Borrower) -> bytes:
        """What `state.pack(borrower)` would give."""
        changed = self.changed
        windows, facts = borrower.facts.windows, borrower.facts
        for at, (name, bits) in enumerate(_WINDOWS):
            if bits == EVERYTHING or changed & bits:
                self.windows[at] = _encode(getattr(windows, name))
        for at, (name, bits) in enumerate(_FACTS):
            if name == "windows":
                self.facts[at] = _WINDOWS_HEAD + b"".join(self.windows)
            elif bits == EVERYTHING or changed & bits:
                self.facts[at] = _encode(getattr(facts, name))
        self.changed = 0
        packed = [_BORROWER_HEAD]
        for name in _BORROWER:
            if name == "facts":
                packed.append(_FACTS_HEAD)
                packed += self.facts
            else:
                packed.append(_encode(getattr(borrower, name)))
        return b"".join(packed)
