"""Recent event ids of a borrower or a task, packed: what tells a duplicate.

An entry is 16 bytes: 8 of the id's digest, 4 of the content's, 4 of the hour it arrived in, big-endian. Entries stand
in the order of arrival, so that the old ones are a prefix. A week of one borrower is far too short for two ids to
share 64 bits, and an id used again for other content is found but for one case in four thousand million.
"""

from hashlib import blake2b
from struct import Struct
from typing import Final

from streams.engine.calendar import HOUR_MS

SEEN_MAX: Final = 4_096
"""Ids kept at most: beyond that the oldest is forgotten."""
_SIZE: Final = 16

_entry = Struct(">8sII")


def seen_key(event_id: str) -> bytes:
    """What an event id is known by among those seen."""
    return blake2b(event_id.encode(), digest_size=8).digest()


def find_seen(seen: bytes, key: bytes, order_ms: int, keep_days: int) -> int | None:
    """The 32-bit content digest noted for an event id, None if the id did not arrive in the `keep_days` before."""
    at = seen.rfind(key)
    while at >= 0:
        if at % _SIZE == 0:
            _, digest, hour = _entry.unpack_from(seen, at)
            return None if hour < order_ms // HOUR_MS - keep_days * 24 else int(digest)
        at = seen.rfind(key, 0, at + 7)
    return None


def note_seen(seen: bytes, key: bytes, digest: int, order_ms: int, keep_days: int) -> bytes:
    """`seen` with one more id, without those that arrived more than `keep_days` before `order_ms`."""
    hour = order_ms // HOUR_MS
    oldest = hour - keep_days * 24
    start = max(0, len(seen) - (SEEN_MAX - 1) * _SIZE)
    while start < len(seen) and int.from_bytes(seen[start + 12 : start + 16], "big") < oldest:
        start += _SIZE
    return (seen[start:] if start > 0 else seen) + _entry.pack(key, digest, hour)


def forget_seen(seen: bytes, key: bytes) -> bytes:
    """`seen` without an event id: what became a dead letter is taken when it is sent again."""
    at = seen.rfind(key)
    while at >= 0:
        if at % _SIZE == 0:
            return seen[:at] + seen[at + _SIZE :]
        at = seen.rfind(key, 0, at + 7)
    return seen
