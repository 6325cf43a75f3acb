"""Every topic: what flows on it, by which key, and the settings it is created with.

All input topics, their dead-letter topics and the commit log have the same number of partitions, so that partition p of
each belongs to one task. Timestamps are the producer's (CreateTime): they order a task's records.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

from msgspec import Struct

from schemas import inbound, outbound

Direction = Literal["in", "out", "internal", "dlq"]

DEFAULT_PARTITIONS: Final = 12
DLQ_SUFFIX: Final = ".dlq"
COMMITS: Final = "commits"
CONTROL: Final = "control"
PORTFOLIO_INPUT: Final = "portfolio-input"

MAX_BODY_BYTES: Final = 64 * 1024
MAX_CONTROL_BODY_BYTES: Final = 900 * 1024
_MIB = 1024 * 1024
_INPUT_MESSAGE_BYTES = _MIB
_DLQ_MESSAGE_BYTES = 2 * _MIB
_COMMIT_MESSAGE_BYTES = 8 * _MIB

_KEPT = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    # Nothing is dropped by age: a broker deletes a record older than the retention as soon as it comes, and events may
    # be late, backdated or replayed. Where the law demands an end, the operator sets one.
    "retention.ms": "-1",
}


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `types` is empty where values are not our JSON messages; `max_body_bytes` holds for inputs."""

    name: str
    direction: Direction
    key: str
    types: tuple[type[Struct], ...]
    configs: MappingProxyType[str, str]
    max_body_bytes: int = MAX_BODY_BYTES


def _topic(
    name: str,
    direction: Direction,
    key: str,
    types: object,
    max_message_bytes: int = _MIB,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Topic:
    members = get_args(types) or ((types,) if isinstance(types, type) else ())
    configs = MappingProxyType({**_KEPT, "max.message.bytes": str(max_message_bytes)})
    return Topic(name, direction, key, members, configs, max_body_bytes)


_BORROWER = "borrower_id"
_INPUTS = (
    _topic("repayments", "in", _BORROWER, inbound.Repayments, _INPUT_MESSAGE_BYTES),
    _topic("logins", "in", _BORROWER, inbound.Login, _INPUT_MESSAGE_BYTES),
    _topic("transactions", "in", _BORROWER, inbound.Transaction, _INPUT_MESSAGE_BYTES),
    _topic("signals", "in", _BORROWER, inbound.Signals, _INPUT_MESSAGE_BYTES),
    _topic("reviews", "in", _BORROWER, inbound.Reviews, _INPUT_MESSAGE_BYTES),
    _topic(CONTROL, "in", "none: every partition has each event", inbound.Control, _MIB, MAX_CONTROL_BODY_BYTES),
)
_OUTPUTS = (
    _topic("early-warnings", "out", _BORROWER, outbound.Warnings),
    _topic("limit-adjustments", "out", _BORROWER, outbound.LimitAdjustments),
    _topic("delinquency", "out", _BORROWER, outbound.Delinquency),
    _topic("reminders", "out", _BORROWER, outbound.ReminderDue),
    _topic("bureau-reports", "out", _BORROWER, outbound.BureauStatusDue),
    _topic("offers", "out", _BORROWER, outbound.PlanOffered),
    _topic("review-requests", "out", _BORROWER, outbound.ReviewRequested),
    _topic("blacklist", "out", "subject_token", outbound.Listings),
    _topic("incidents", "out", "incident_id", outbound.Incidents),
    _topic("portfolio", "out", "pool_id", outbound.Portfolio),
    _topic("shadow-decisions", "out", _BORROWER, outbound.Warnings | outbound.LimitAdjustments),
)
_INTERNAL = (
    _topic(PORTFOLIO_INPUT, "internal", "pool or channel", outbound.PortfolioInput),
    # Binary. The worker itself deletes what a completed snapshot round has made superfluous.
    _topic(COMMITS, "internal", "none", None, _COMMIT_MESSAGE_BYTES),
)
# Room for the whole of the largest record that its input takes, and the headers that tell why it is here.
_DLQS = tuple(_topic(topic.name + DLQ_SUFFIX, "dlq", topic.key, None, _DLQ_MESSAGE_BYTES) for topic in _INPUTS)

TOPICS: Final[MappingProxyType[str, Topic]] = MappingProxyType(
    {topic.name: topic for topic in (*_INPUTS, *_OUTPUTS, *_INTERNAL, *_DLQS)}
)
INPUTS: Final[tuple[str, ...]] = tuple(topic.name for topic in _INPUTS)
OUTPUTS: Final[tuple[str, ...]] = tuple(topic.name for topic in _OUTPUTS)
DLQS: Final[tuple[str, ...]] = tuple(topic.name for topic in _DLQS)

DLQ_HEADERS: Final[tuple[str, ...]] = tuple(
    f"__dlq.{name}"
    for name in (
        "errors.topic",
        "errors.partition",
        "errors.offset",
        "errors.reason",
        "errors.message",
        "errors.stage",
        "errors.fingerprint",
        "errors.replay.count",
    )
)
"""The headers of a dead letter, after those the record came with; all values are UTF-8 text."""


def input_types(topic: str) -> tuple[type[inbound.Inbound], ...]:
    """The event types of an input topic; none for any other topic.

    Raises:
        KeyError: there is no such topic.
    """
    return tuple(kind for kind in TOPICS[topic].types if issubclass(kind, inbound.Inbound))
