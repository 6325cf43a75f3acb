"""The small fold: what every contestant but the whole service computes. Peers run it in an environment of their own.

Per borrower three windows, one a topic. A window holds the amounts of the events that are not older than its length
when the newest arrives, and their sum. An event with a large amount puts out a warning that tells the sum. Windows of
different topics do not meet: what is put out does not depend on the order in which topics are read.

A state is one string of bytes: of each window the number of its entries, its sum, and the entries, which are a moment
(epoch ms) and an amount. SmallFold.java does the same to the same bytes.
"""

from struct import Struct
from typing import Final

_DAY_MS: Final = 86_400_000
WINDOW_MS: Final = {"transactions": _DAY_MS, "logins": 7 * _DAY_MS, "repayments": 7 * _DAY_MS}
"""How long each topic's window is; the busiest first, whose place in a state is found at once."""
PLACES: Final = {topic: place for place, topic in enumerate(WINDOW_MS)}
THRESHOLD_MINOR: Final = 1_500_000
"""Amounts above it are warned of: about one transaction in a hundred of a simulated population."""

_head = Struct(">iq")
_entry = Struct(">qq")
_HEAD: Final = _head.size
_ENTRY: Final = _entry.size
_unpack_head, _pack_head = _head.unpack_from, _head.pack
_unpack_entry, _pack_entry = _entry.unpack_from, _entry.pack
EMPTY: Final = bytes(_HEAD * len(WINDOW_MS))
EMPTY_WINDOW: Final = bytes(_HEAD)


def moved(state: bytes, place: int, at_ms: int, amount: int, length_ms: int) -> tuple[bytes, int]:
    """The state after an event, and the sum of the event's window.

    Args:
        place: which window of the state.
        length_ms: entries that are older than this before `at_ms` leave the window.
    """
    start = 0
    for _ in range(place):
        start += _HEAD + _ENTRY * _unpack_head(state, start)[0]
    count, total = _unpack_head(state, start)
    first = start + _HEAD
    end = first + count * _ENTRY
    oldest_ms = at_ms - length_ms
    while first < end:
        entry_ms, entry_amount = _unpack_entry(state, first)
        if entry_ms >= oldest_ms:
            break
        total -= entry_amount
        first += _ENTRY
    total += amount
    head = _pack_head((end - first) // _ENTRY + 1, total)
    return state[:start] + head + state[first:end] + _pack_entry(at_ms, amount) + state[end:], total


def warning(borrower_id: str, event_id: str, amount: int, total: int) -> bytes:
    """What is put out. Simulated ids have no character that JSON would escape."""
    return b'{"borrower_id":"%b","event_id":"%b","amount_minor":%d,"window_minor":%d}' % (
        borrower_id.encode(),
        event_id.encode(),
        amount,
        total,
    )
