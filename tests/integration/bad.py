"""Records that no event can be read from, among records that are good."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from schemas.topics import CONTROL, MAX_BODY_BYTES, MAX_CONTROL_BODY_BYTES
from streams.engine.order import LogRecord
from tests.integration.live import PARTITIONS

_HEADER = "reason"
_DAY_MS = 86_400_000


class _Bad(NamedTuple):
    """`body` makes the value out of a good body of the topic; a `key` or `partition` that differs is made so too."""

    topic: str
    reason: str
    body: Callable[[dict[str, Any]], bytes | None]
    wrong_key: bool = False
    wrong_partition: bool = False


def _text(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def _with(**fields: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda body: _text(body | fields)


def _more(more: str) -> Callable[[dict[str, Any]], bytes]:
    """One more pair, as text."""
    return lambda body: _text(body)[:-1] + f", {more}}}".encode()


_BAD = (
    _Bad("repayments", "too_large", _with(note="x" * MAX_BODY_BYTES)),
    _Bad("repayments", "malformed_json", lambda body: _text(body)[:-9]),
    _Bad("transactions", "malformed_json", lambda body: b"\xff\xfe" + _text(body)),
    _Bad("transactions", "too_deep", _more('"more": ' + "[" * 5_000 + "]" * 5_000)),
    _Bad("logins", "duplicate_key", _more('"at_ms": 1')),
    _Bad("repayments", "not_finite", _more('"more": NaN')),
    _Bad("transactions", "not_finite", _more('"more": [1, -Infinity]')),
    _Bad("repayments", "wrong_type", _with(event_id=7)),
    _Bad("logins", "missing_field", lambda body: _text({name: body[name] for name in body if name != "event_id"})),
    _Bad("signals", "unknown_type", _with(type="signal_nobody_knows")),
    _Bad("repayments", "future_dated", lambda body: _text(body | {"at_ms": body["at_ms"] + _DAY_MS + 3_600_000})),
    _Bad("transactions", "wrong_key", _text, wrong_key=True),
    _Bad("repayments", "empty_value", lambda _: b""),
    _Bad("logins", "empty_value", lambda _: None),
    _Bad("logins", "wrong_partition", _text, wrong_partition=True),
    _Bad(CONTROL, "too_large", _with(note="x" * MAX_CONTROL_BODY_BYTES)),
    _Bad(CONTROL, "malformed_json", lambda _: b"tick"),
    _Bad(CONTROL, "future_dated", lambda body: _text(body | {"at_ms": body["at_ms"] + 2 * _DAY_MS})),
)
"""What is sent, each time made of the record before it in its topic: taken for an event it would change something."""


def spoiled(records: Sequence[LogRecord], rounds: int = 3, partitions: int = PARTITIONS) -> list[LogRecord]:
    """`records`, in their order, with every kind of bad record put in `rounds` times; offsets are counted anew.

    A bad record has headers, the others have none.
    """
    due = [(len(records) * n // (rounds * len(_BAD)), _BAD[n % len(_BAD)]) for n in range(1, rounds * len(_BAD))]
    offsets: dict[tuple[str, int], int] = {}
    mixed: list[LogRecord] = []

    def add(record: LogRecord) -> None:
        offset = offsets.get(record[:2], 0)
        offsets[record[:2]] = offset + 1
        mixed.append(record._replace(offset=offset))

    for index, record in enumerate(records):
        add(record)
        for bad in [bad for at, bad in due if at <= index and bad.topic == record.topic][:1]:
            due.remove(next(entry for entry in due if entry[1] is bad))
            add(_made_bad(bad, record, len(mixed), partitions))
    assert not due, "a topic with too few records"
    return mixed


def _made_bad(bad: _Bad, record: LogRecord, number: int, partitions: int) -> LogRecord:
    body = json.loads(record.value or b"") | {"event_id": f"bad-{number}"}
    key = b"somebody-else" if bad.wrong_key else record.key
    partition = (record.partition + 1) % partitions if bad.wrong_partition else record.partition
    headers = [(_HEADER, bad.reason.encode()), ("trace", b"\x00\xff"), ("trace", b"%d" % number)]
    return record._replace(key=key, value=bad.body(body), partition=partition, headers=headers)


def bad_of(records: Sequence[LogRecord]) -> list[tuple[LogRecord, str]]:
    """The bad records with their reasons."""
    return [(record, dict(record.headers)[_HEADER].decode()) for record in records if record.headers]
