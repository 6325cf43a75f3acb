"""The consortium's blacklist: who is listed, under which token, and when an entry is taken back.

    list       zeroed, and a condition that blacklists holds; the breaker grants it, or a person is asked
    rotate     the consortium's key is another one: issued again under it
    delist     the zeroing is over, or what the listing rests on never was: every entry published, under its own key

The subject token is HMAC-SHA-256 of the borrower's identity token under the consortium's rotating key. An entry names
neither borrower nor cause nor evidence.
"""

import hashlib
import hmac
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from schemas import outbound
from streams.engine.calendar import iso_day
from streams.engine.encode import Emitter
from streams.engine.standing import Entry, Listing
from streams.policy.model import Blacklist

TOPIC = "blacklist"
NO_KEY = "none"
"""The id of the key that is none: such tokens are placeholders, which mean nothing to anyone."""


class Signer(Protocol):
    """Makes subject tokens. The engine holds no key itself."""

    def key_at(self, as_of_ms: int) -> str:
        """The id of the key in use at an instant."""
        ...

    def token(self, key_id: str, identity_token: str, event_id: str) -> str:
        """The subject token under a key; `event_id` is that of the entry it is for."""
        ...


class Unsigned:
    """Where there are no keys: a placeholder per entry, from which nobody can tell who is meant."""

    def key_at(self, as_of_ms: int) -> str:
        return NO_KEY

    def token(self, key_id: str, identity_token: str, event_id: str) -> str:
        return hashlib.sha256(f"placeholder|{event_id}".encode()).hexdigest()


class Key(NamedTuple):
    """One key of the consortium, in use from an instant on."""

    from_ms: int
    key_id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Key({self.key_id!r}, from {self.from_ms})"


class KeyRing:
    """The consortium's keys. The first one is in use before its instant too."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = sorted(keys)
        self._secrets = {key.key_id: key.secret for key in keys}

    def key_at(self, as_of_ms: int) -> str:
        at = bisect_right(self._keys, as_of_ms, key=_from_ms)
        return self._keys[max(0, at - 1)].key_id

    def token(self, key_id: str, identity_token: str, event_id: str) -> str:
        return hmac.new(self._secrets[key_id], identity_token.encode(), hashlib.sha256).hexdigest()


def _from_ms(key: Key) -> int:
    return key.from_ms


def publish(listing: Listing, signer: Signer, identity_token: str, emitter: Emitter) -> None:
    """Publish an entry under the key in use."""
    event_id = emitter.next_id(outbound.Blacklisted)
    key_id = signer.key_at(emitter.as_of_ms)
    entry = Entry(event_id, signer.token(key_id, identity_token, event_id), key_id)
    emitter.emit_listing(TOPIC, outbound.Blacklisted(event_id=event_id, **_fields(listing, entry, emitter)))
    listing.entries.append(entry)


def withdraw(listing: Listing, emitter: Emitter) -> None:
    """Take back every entry published, each under the key it was published with."""
    for entry in listing.entries:
        event_id = emitter.next_id(outbound.Delisted)
        fields = _fields(listing, entry, emitter)
        emitter.emit_listing(TOPIC, outbound.Delisted(event_id=event_id, compensates=entry.event_id, **fields))


def proposed(rules: Blacklist, day: int, emitter: Emitter) -> outbound.Blacklisted:
    """A listing as it would be, for a person to decide on: without a token."""
    listing = Listing([], rules.reason, day + rules.expires_days, day, emitter.as_of_ms, [])
    fields = _fields(listing, Entry("", "", ""), emitter)
    return outbound.Blacklisted(event_id=emitter.next_id(outbound.Blacklisted), **fields)


def _fields(listing: Listing, entry: Entry, emitter: Emitter) -> dict[str, Any]:
    return {
        "at_ms": emitter.as_of_ms,
        "policy": emitter.policy,
        "subject_token": entry.token,
        "key_id": entry.key_id,
        "reason": listing.reason,
        "expires_on": iso_day(listing.expires_day),
    }
