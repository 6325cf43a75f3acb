"""What the small fold must put out, folded plainly over the recording."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from benchmarks.committed import committed_of
from benchmarks.contestants import rule
from benchmarks.contestants.events import decode
from benchmarks.recordings import PARTITIONS
from streams.replay.cycle import chunks
from streams.replay.recording import Recording

_CHUNK = 4_000


class Reference(Struct, frozen=True):
    """`events` are those of topics with a window; `state_bytes` is the size on average of a state that is written."""

    events: int
    warnings: int
    sha256: str
    state_bytes: int


def reference_of(recording: Path) -> Reference:
    """Fold a recording in the order of the worker, without Kafka or Redis."""
    warnings: list[bytes] = []
    events = written = written_bytes = 0
    with Recording.open(recording) as opened:
        for partition in opened.partitions():
            states: dict[str, bytes] = {}
            for chunk in chunks(opened, partition, _CHUNK):
                changed = set()
                for _, topic, _, record in chunk:
                    if topic not in rule.PLACES:
                        continue
                    event = decode(record.value or b"")
                    borrower_id, amount = event.borrower_id, event.amount
                    states[borrower_id], total = rule.moved(
                        states.get(borrower_id, rule.EMPTY),
                        rule.PLACES[topic],
                        event.at_ms,
                        amount,
                        rule.WINDOW_MS[topic],
                    )
                    events += 1
                    changed.add(borrower_id)
                    if amount > rule.THRESHOLD_MINOR:
                        warnings.append(rule.warning(borrower_id, event.event_id, amount, total))
                written += len(changed)
                written_bytes += sum(len(states[borrower_id]) for borrower_id in changed)
    return Reference(events, len(warnings), digest_of(warnings), written_bytes // max(written, 1))


def digest_of(warnings: Iterable[bytes]) -> str:
    """SHA-256 over warnings whatever their order."""
    return hashlib.sha256(b"\n".join(sorted(warnings))).hexdigest()


def read_warnings(bootstrap: str, topic: str) -> list[bytes]:
    """The committed values of a topic of warnings."""
    return [message.value() for message in committed_of(bootstrap, topic, PARTITIONS)]
