"""What of an event the small fold looks at; for contestants that decode with msgspec."""

from typing import Final

import msgspec
from msgspec import Struct


class Event(Struct, gc=False):
    """`amount_minor` is that of a payment or transaction, `principal_minor` that of a loan; others have neither."""

    event_id: str
    borrower_id: str
    at_ms: int
    amount_minor: int | None = None
    principal_minor: int | None = None

    @property
    def amount(self) -> int:
        """In minor units; 1 for an event without one."""
        if self.amount_minor is not None:
            return self.amount_minor
        return 1 if self.principal_minor is None else self.principal_minor


decode: Final = msgspec.json.Decoder(Event).decode
