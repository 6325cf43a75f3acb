"""Outbound events as bytes, with ids derived from their cause.

The id of an event is a digest of what caused it and of its place among what that cause led to: the same input gives the
same id, on any worker and in any replay, and two events never share one.
"""

from hashlib import blake2b
from typing import Any

from schemas import outbound
from schemas.outbound import Cause, PolicyRef
from streams.engine.chunk import Output


def derived_id(cause: Cause, borrower_id: str, kind: str, as_of_ms: int, ordinal: int) -> str:
    """32 hexadecimal digits; `ordinal` tells apart equal kinds of one cause, borrower and moment."""
    seed = f"{cause.topic}|{cause.partition}|{cause.offset}|{cause.event_id}|{borrower_id}|{kind}|{as_of_ms}|{ordinal}"
    return blake2b(seed.encode(), digest_size=16).hexdigest()


class Emitter:
    """Collects the events that one cause leads to, in order.

    `as_of_ms` is the moment the events speak of: the clock at an event, the due moment at a wake-up.
    """

    __slots__ = ("_ordinal", "as_of_ms", "borrower_id", "cause", "outputs", "policy")

    def __init__(self, outputs: list[Output], policy: PolicyRef, borrower_id: str, cause: Cause, as_of_ms: int) -> None:
        self.outputs = outputs
        self.policy = policy
        self.borrower_id = borrower_id
        self.cause = cause
        self.as_of_ms = as_of_ms
        self._ordinal = 0

    def emit(self, topic: str, event: type[outbound.BorrowerEvent], detail: str, **fields: Any) -> str:
        """Encode one event and return its id. `detail` is what it leads to, for metrics."""
        message = self.draft(event, **fields)
        kind = str(event.__struct_config__.tag)
        self.outputs.append(Output(topic, self.borrower_id.encode(), outbound.encode(message), kind, detail))
        return message.event_id

    def draft(self, event: type[outbound.BorrowerEvent], **fields: Any) -> outbound.BorrowerEvent:
        """An event as it would be sent now, not sent."""
        return event(
            event_id=self.next_id(event),
            at_ms=self.as_of_ms,
            policy=self.policy,
            cause=self.cause,
            borrower_id=self.borrower_id,
            **fields,
        )

    def emit_listing(self, topic: str, listing: outbound.Listing) -> None:
        """Send an entry of the blacklist, whose key is its subject token: it names no borrower and no cause."""
        kind = str(listing.__struct_config__.tag)
        self.outputs.append(
            Output(topic, listing.subject_token.encode(), outbound.encode(listing), kind, "", self.borrower_id)
        )

    def next_id(self, event: type[outbound.Outbound]) -> str:
        """The id of the next event of the cause."""
        ordinal, self._ordinal = self._ordinal, self._ordinal + 1
        return self._derived(str(event.__struct_config__.tag), ordinal)

    def _derived(self, kind: str, ordinal: int) -> str:
        return derived_id(self.cause, self.borrower_id, kind, self.as_of_ms, ordinal)
