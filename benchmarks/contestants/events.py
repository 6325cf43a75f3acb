"""The events of the small fold, decoded to the product's own types; for contestants that have them."""

from collections.abc import Callable
from typing import Any, Union

import msgspec

from benchmarks.contestants.rule import PLACES
from schemas.inbound import BorrowerEvent, LoanDisbursed
from schemas.topics import input_types


def decoders() -> dict[str, Callable[[Any], Any]]:
    """By topic."""
    # Union[...] with a tuple known only at run time has no other spelling.
    return {topic: msgspec.json.Decoder(Union[input_types(topic)]).decode for topic in PLACES}  # noqa: UP007


def amount_of(event: BorrowerEvent) -> int:
    """The amount in minor units; a loan's principal; 1 for an event that has neither."""
    amount: int = event.principal_minor if isinstance(event, LoanDisbursed) else getattr(event, "amount_minor", 1)
    return amount
