"""The records of the commit log and how they look on the wire.

The commit log is the truth about a task: copying its records in order gives the state, so each one holds the changed
states themselves, never how they came about. Each is sealed once, for log and store (`streams.store.seal`). A record
is packed (msgpack) and compressed (zstd level 1, for all that is not a state), and cut into parts where it is larger
than a message may be.

Every part stands on its own: magic, version, sequence number, part i of n, the digest of the record before and its
own, and a CRC-32 of all of it. The digest (SHA-256) covers the digest before, the sequence number and the content, so
that a record lost, swapped or taken from another log is found by reading on. A reader that starts inside a record
(the log was cut before it) skips the rest of it.
"""

import hashlib
import struct
from typing import Literal, NamedTuple
from zlib import crc32

import cramjam
import msgspec
from msgspec import Struct, field

from streams.store.contract import Change
from streams.store.seal import BrokenSeal, check, unseal

PART_LIMIT_BYTES = 900_000
"""Largest value of one Kafka record; the broker's default limit is 1,048,588 with headers."""
ORIGIN = bytes(32)
"""The digest before the first record of a log."""

_MAGIC = b"DWCL"
_VERSION = 3
# magic, version, sequence number, part, parts, length of the whole content, digest before, digest
_HEAD = struct.Struct("<4sBQHHI32s32s")
_CHECK = struct.Struct("<I")

Kind = Literal["claim", "chunk"]
Position = tuple[int, int]
"""(next offset to read, order time in epoch ms the topic had reached before it)."""


Carried = tuple[bytes, int | None]
"""(packed state as it is kept, sealed; next wake-up in epoch ms or None)"""


class Roll(Struct, frozen=True, array_like=True):
    """How far the rolling snapshot of a task is.

    Every borrower's state stands in the log behind the offset `whole_after` (-1: nothing may be missing). The round
    under way began at the offset `after`; still to be carried on are the borrowers behind `borrowers_after`, a place of
    the store's, and the entries of the index of failures behind `failures_after` (None: it is through with them).
    `borrowers` counts those who have a state.
    """

    after: int = -1
    whole_after: int = -1
    borrowers: int = 0
    failures_after: str | None = ""
    borrowers_after: str | None = ""


class CommitLogError(Exception):
    """A commit log that cannot be read: one line with task and offset."""


class CommitRecord(Struct, frozen=True, array_like=True):
    """One commit of a task.

    `seq` rises by one per record of a task. `incarnation` names the log: coined by its first claim and copied into
    every later record. `positions` maps each input topic to where reading goes on. All that follows is as in
    `streams.store.contract.Change`, states sealed too; `task` None leaves it as it was. A claim repeats the positions
    of the record before it, so that the newest record always tells them; likewise `refused`, what was refused lately
    (see `streams.worker.refusals`), and `roll`, how far the rolling snapshot is. `carried` are states and next wake-ups
    of borrowers that have not changed, `carried_failures` old entries of the index of failures: what the snapshot
    carries on (see `streams.worker.roll`).
    """

    kind: Kind
    seq: int
    incarnation: str
    positions: dict[str, Position] = field(default_factory=dict)
    changed: dict[str, bytes] = field(default_factory=dict)
    wakes: dict[str, int | None] = field(default_factory=dict)
    task: bytes | None = None
    refused: dict[str, tuple[int, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    failures_from: str | None = None
    carried: dict[str, Carried] = field(default_factory=dict)
    carried_failures: list[str] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)
    roll: Roll = Roll()

    @property
    def states(self) -> dict[str, bytes]:
        """Every state in it, changed or not, as the store keeps it."""
        return {name: state for name, (state, _) in self.carried.items()} | self.changed

    @property
    def moments(self) -> dict[str, int | None]:
        """The next wake-up of everybody in it whose wake-up may have to be set."""
        return {name: moment for name, (_, moment) in self.carried.items()} | self.wakes

    @property
    def packed_states(self) -> dict[str, bytes]:
        """Every state in it, opened."""
        return {name: unseal(name, state) for name, state in self.states.items()}

    @property
    def packed_task(self) -> bytes | None:
        """The packed state of the task, None where it is as it was."""
        return None if self.task is None else unseal("", self.task)


class Encoded(Struct, frozen=True):
    """A record ready to be sent: its parts in order, and the digest that the next record names."""

    values: list[bytes]
    digest: bytes


class Committed(Struct, frozen=True):
    """A record as it stands in the log, its parts at the offsets `first` to `last`."""

    record: CommitRecord
    first: int
    last: int
    digest: bytes

    @property
    def change(self) -> Change:
        """What a store copies of it."""
        record = self.record
        failures = record.carried_failures + record.failures
        return Change(
            self.last,
            self.first,
            record.states,
            record.moments,
            record.task,
            failures,
            record.failures_from,
            record.erased,
        )


class _Body(Struct, array_like=True):
    """The content of a record: all of it but its sequence number, which stands in the head of each part."""

    kind: Kind
    incarnation: str
    positions: dict[str, Position]
    changed: dict[str, bytes]
    wakes: dict[str, int | None]
    task: bytes | None
    refused: dict[str, tuple[int, int]] = field(default_factory=dict)
    failures: list[str] = []
    failures_from: str | None = None
    carried: dict[str, Carried] = field(default_factory=dict)
    carried_failures: list[str] = []
    erased: list[str] = field(default_factory=list)
    roll: Roll = Roll()


class _Head(NamedTuple):
    seq: int
    part: int
    parts: int
    length: int
    previous: bytes
    digest: bytes


_body_encoder = msgspec.msgpack.Encoder()
_body_decoder = msgspec.msgpack.Decoder(_Body)


def encode(record: CommitRecord, previous: bytes = ORIGIN, limit: int = PART_LIMIT_BYTES) -> Encoded:
    """Values for the commit log, to be sent in order and in one transaction.

    Args:
        record: what to commit.
        previous: digest of the record before.
        limit: bytes one value may have.

    Raises:
        CommitLogError: the record needs more parts than can be counted.
    """
    body = _Body(*(getattr(record, name) for name in _Body.__struct_fields__))
    content = bytes(cramjam.zstd.compress(_body_encoder.encode(body), level=1))
    digest = _digest(previous, record.seq, content)
    room = limit - _HEAD.size - _CHECK.size
    parts = -(-len(content) // room)
    if parts > 0xFFFF:
        raise CommitLogError(f"commit {record.seq} has {len(content)} bytes: lower chunk_records")
    values = []
    for part in range(parts):
        head = _HEAD.pack(_MAGIC, _VERSION, record.seq, part, parts, len(content), previous, digest)
        value = head + content[part * room : (part + 1) * room]
        values.append(value + _CHECK.pack(crc32(value)))
    return Encoded(values, digest)


class Reader:
    """Puts the parts of one task's commit log together again, in offset order.

    Args:
        partition: the task, for messages.
        after: the last record already known, behind which reading goes on; None: the first record found is taken as
            it is.
    """

    def __init__(self, partition: int, after: Committed | None = None) -> None:
        self._partition = partition
        self._last = after
        self._head: _Head | None = None
        self._first = 0
        self._parts: list[bytes] = []

    @property
    def last(self) -> Committed | None:
        """The newest complete record."""
        return self._last

    def feed(self, offset: int, value: bytes | None) -> Committed | None:
        """Take the next value of the log; returns the record it completes.

        Raises:
            CommitLogError: damaged, of a newer version, out of sequence, or not the successor of the record before.
        """
        head, content = self._open(offset, value)
        if head.part > 0 and self._head is None and self._last is None:
            return None
        if head.part != len(self._parts):
            raise self._error(offset, f"part {head.part + 1} where part {len(self._parts) + 1} of a record is due")
        if self._head is None:
            self._follows(offset, head)
            self._head, self._first = head, offset
        elif self._head != head._replace(part=0):
            raise self._error(offset, f"part {head.part + 1} belongs to another record than the parts before it")
        self._parts.append(content)
        if len(self._parts) < head.parts:
            return None
        whole = b"".join(self._parts)
        self._head, self._parts = None, []
        if len(whole) != head.length or _digest(head.previous, head.seq, whole) != head.digest:
            raise self._error(offset, "the content does not match its digest")
        record = self._read(offset, head.seq, whole)
        self._last = Committed(record, self._first, offset, head.digest)
        return self._last

    def _open(self, offset: int, value: bytes | None) -> tuple[_Head, bytes]:
        if value is None or len(value) < _HEAD.size + _CHECK.size or not value.startswith(_MAGIC):
            raise self._error(offset, "not a commit record: does another program write to this topic?")
        if value[len(_MAGIC)] > _VERSION:
            raise self._error(
                offset, f"written in version {value[len(_MAGIC)]}, this program reads up to {_VERSION}: upgrade it"
            )
        body = value[: -_CHECK.size]
        if _CHECK.unpack(value[-_CHECK.size :])[0] != crc32(body):
            raise self._error(offset, "damaged: the checksum does not match")
        _, _, *fields = _HEAD.unpack_from(body)
        return _Head(*fields), body[_HEAD.size :]

    def _follows(self, offset: int, head: _Head) -> None:
        last = self._last
        if last is None:
            return
        if head.seq != last.record.seq + 1:
            raise self._error(offset, f"commit {head.seq} follows commit {last.record.seq} (at offset {last.last})")
        if head.previous != last.digest:
            raise self._error(offset, f"commit {head.seq} was not written after the one at offset {last.last}")

    def _read(self, offset: int, seq: int, content: bytes) -> CommitRecord:
        try:
            body = _body_decoder.decode(bytes(cramjam.zstd.decompress(content)))
        except (cramjam.DecompressionError, msgspec.MsgspecError) as error:
            raise self._error(offset, f"the content cannot be read ({type(error).__name__})") from error
        record = CommitRecord(seq=seq, **{name: getattr(body, name) for name in _Body.__struct_fields__})
        try:
            for name, state in record.states.items():
                check(name, state)
            if record.task is not None:
                check("", record.task)
        except BrokenSeal:
            raise self._error(offset, "a state in it does not match its checksum") from None
        return record

    def _error(self, offset: int, what: str) -> CommitLogError:
        return CommitLogError(f"commit log of task {self._partition}, offset {offset}: {what}")


def _digest(previous: bytes, seq: int, content: bytes) -> bytes:
    digest = hashlib.sha256(previous)
    digest.update(seq.to_bytes(8, "little"))
    digest.update(content)
    return digest.digest()
