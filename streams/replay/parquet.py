"""Recordings as Parquet: one zstd file for each topic, partition and range of offsets."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from streams.engine.order import LogRecord
from streams.replay.manifest import FileEntry, RecordingError, sha256_of

BATCH_RECORDS = 4_096
"""Records in one row group: what a reader holds of one file at a time."""
FILE_RECORDS = 1_000_000
"""Records after which the next range of a partition starts a new file."""
_BATCH_BYTES = 4 << 20

_HEADERS = pa.list_(pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.binary())]))
SCHEMA = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", _HEADERS),
    ]
)


class PartitionFiles:
    """Writes one partition of one topic, records in offset order, as a row of files in `folder`."""

    def __init__(self, folder: Path, topic: str, partition: int) -> None:
        self._folder = folder
        self._topic = topic
        self._partition = partition
        self._writer: Any = None
        self._path = folder
        self._range: list[int] = []
        self._offsets: list[int] = []
        self._timestamps: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._headers: list[Sequence[tuple[str, bytes]]] = []
        self._waiting_bytes = 0
        self.next_offset = 0
        self.entries: list[FileEntry] = []

    def append(
        self,
        offset: int,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        """Add one record.

        Raises:
            RecordingError: its offset is not after the one before.
        """
        if offset < self.next_offset:
            raise RecordingError(
                f"{self._topic}/{self._partition}: offset {offset} comes after {self.next_offset - 1}: "
                "offsets of a partition must rise"
            )
        self.next_offset = offset + 1
        self._offsets.append(offset)
        self._timestamps.append(timestamp_ms)
        self._keys.append(key)
        self._values.append(value)
        self._headers.append(headers)
        self._waiting_bytes += 0 if value is None else len(value)
        if len(self._offsets) >= BATCH_RECORDS or self._waiting_bytes >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        count = len(self._offsets)
        if count == 0:
            return
        if self._writer is None:
            self._open(self._offsets[0])
        headers = [[{"key": name, "value": value} for name, value in pairs] if pairs else [] for pairs in self._headers]
        columns = [
            pa.repeat(pa.scalar(self._topic), count),
            pa.repeat(pa.scalar(self._partition, pa.int32()), count),
            pa.array(self._offsets, pa.int64()),
            pa.array(self._timestamps, pa.int64()),
            pa.array(self._keys, pa.binary()),
            pa.array(self._values, pa.binary()),
            pa.array(headers, _HEADERS),
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
        records, first_offset, _, first_ms, last_ms = self._range
        self._range = [
            records + count,
            first_offset,
            self._offsets[-1],
            min(first_ms, *self._timestamps),
            max(last_ms, *self._timestamps),
        ]
        for column in (self._offsets, self._timestamps, self._keys, self._values, self._headers):
            column.clear()
        self._waiting_bytes = 0
        if self._range[0] >= FILE_RECORDS:
            self._close_file()

    def _open(self, first_offset: int) -> None:
        self._path = self._folder / f"{self._topic}-{self._partition:05d}-{first_offset:020d}.parquet"
        # Offsets and timestamps rise in small steps; keys and bodies do not repeat enough for a dictionary.
        self._writer = pq.ParquetWriter(
            self._path, SCHEMA, compression="zstd", use_dictionary=["topic", "partition", "key"], write_statistics=False
        )
        self._range = [0, first_offset, first_offset, self._timestamps[0], self._timestamps[0]]

    def _close_file(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        records, first_offset, last_offset, first_ms, last_ms = self._range
        self.entries.append(
            FileEntry(
                name=self._path.name,
                topic=self._topic,
                partition=self._partition,
                records=records,
                first_offset=first_offset,
                last_offset=last_offset,
                first_ms=first_ms,
                last_ms=last_ms,
                size_bytes=self._path.stat().st_size,
                sha256=sha256_of(self._path),
            )
        )

    def close(self) -> None:
        """Write what waits and close the last file; `entries` are complete afterwards."""
        self._flush()
        self._close_file()

    def discard(self) -> None:
        """Close without writing what waits and remove every file."""
        if self._writer is not None:
            # On a full disk closing fails too.
            with suppress(OSError, pa.ArrowException):
                self._writer.close()
            self._writer = None
            self._path.unlink(missing_ok=True)
        for entry in self.entries:
            (self._folder / entry.name).unlink(missing_ok=True)


def read_batches(path: Path, topic: str, partition: int) -> Iterator[list[LogRecord]]:
    """The records of one file, in batches of at most `BATCH_RECORDS`.

    Raises:
        RecordingError: not a Parquet file, a damaged one, or other columns than a recording's.
    """
    try:
        file = pq.ParquetFile(path, memory_map=True)
        if not set(SCHEMA.names) <= set(file.schema_arrow.names):
            missing = sorted(set(SCHEMA.names) - set(file.schema_arrow.names))
            raise RecordingError(f"{path}: no column {missing[0]}: not a file of a recording")
        for batch in file.iter_batches(BATCH_RECORDS, columns=SCHEMA.names[2:], use_threads=False):
            yield _records(batch, topic, partition)
    except (OSError, pa.ArrowException) as error:
        # A page that cannot be decompressed is an OSError to Arrow.
        first_line = str(error).partition("\n")[0]
        raise RecordingError(f"{path}: damaged ({first_line}): copy it again from where it was made") from None


def _records(batch: Any, topic: str, partition: int) -> list[LogRecord]:
    offsets, timestamps, keys, values, headers = (batch.column(name) for name in SCHEMA.names[2:])
    pairs: Sequence[Sequence[tuple[str, bytes]]] = [()] * batch.num_rows
    if len(headers.flatten()):
        pairs = [tuple((pair["key"], pair["value"]) for pair in row) if row else () for row in headers.to_pylist()]
    rows = zip(_integers(offsets), _integers(timestamps), _bytes(keys), _bytes(values), pairs, strict=True)
    return [
        LogRecord(topic, partition, offset, timestamp_ms, key, value, found)
        for offset, timestamp_ms, key, value, found in rows
    ]


def _integers(column: Any) -> list[int]:
    integers: list[int] = (
        memoryview(column.buffers()[1]).cast("q")[column.offset : column.offset + len(column)].tolist()
    )
    return integers


def _bytes(column: Any) -> list[bytes | None]:
    # Cut from the column's buffer: several times the speed of `to_pylist`, which makes a scalar of every value.
    if column.null_count:
        whole: list[bytes | None] = column.to_pylist()
        return whole
    _, starts, body = column.buffers()
    bounds = memoryview(starts).cast("i")[column.offset : column.offset + len(column) + 1].tolist()
    if body is None:
        return [b""] * len(column)
    base = bounds[0]
    data = bytes(memoryview(body)[base : bounds[-1]])
    return [data[start - base : end - base] for start, end in pairwise(bounds)]
