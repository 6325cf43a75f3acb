"""Holds what is decided to the tables of the state machines."""

from collections.abc import Iterable
from typing import Any

from streams.engine.machines import LIMIT, WARNING, delinquency
from streams.policy.loader import load

BUCKETS = delinquency(load("standard"))


def check_moves(events: Iterable[dict[str, Any]]) -> None:
    """Every warning, limit adjustment and bucket change is a move that its machine allows."""
    for event in events:
        if "previous_level" in event:
            assert WARNING.allows(event["previous_level"], event["type"], event["level"]), event
        elif "limit_seq" in event:
            assert LIMIT.allows(event["from_status"], event["type"], event["to_status"]), event
        elif event["type"] == "bucket_changed":
            assert BUCKETS.allows(event["from"], event["type"], event["to"]), event
