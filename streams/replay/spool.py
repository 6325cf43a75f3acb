"""Records that come in any order, put into offset order without holding them all."""

import shutil
import tempfile
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

from streams.engine.order import LogRecord
from streams.replay import parquet
from streams.replay.manifest import RecordingError

SORT_BYTES = 64 << 20
"""Bodies and overhead of unsorted records that are held at once."""
_RECORD_BYTES = 400

Part = tuple[str, int]
"""(topic, partition)"""
Run = Path | list[LogRecord]
"""Records of one partition in offset order: a Parquet file, or held in memory."""


class Spool:
    """Unsorted records, put in order in pieces that fit memory; pieces beyond the first go to a temporary folder."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.records = 0
        self.first_ms: int | None = None
        self.last_ms: int | None = None
        self._held: list[tuple[str, int, int, int, LogRecord]] = []
        self._held_bytes = 0
        self._runs: dict[Part, list[Run]] = {}
        self._pieces = 0

    def add(self, path: Path, line_no: int, record: LogRecord) -> None:
        self._held.append((record.topic, record.partition, record.offset, line_no, record))
        self._held_bytes += _RECORD_BYTES + len(record.value or b"")
        self.records += 1
        self.first_ms = record.timestamp if self.first_ms is None else min(self.first_ms, record.timestamp)
        self.last_ms = record.timestamp if self.last_ms is None else max(self.last_ms, record.timestamp)
        if self._held_bytes >= SORT_BYTES:
            self._put_away(path)

    def _sorted_parts(self, path: Path) -> Iterator[tuple[Part, list[LogRecord]]]:
        self._held.sort(key=lambda held: held[:4])
        for before, after in pairwise(self._held):
            if before[:3] == after[:3]:
                raise twice(f"{path}:{after[3]}", after[4])
        for part, group in groupby(self._held, key=lambda held: held[:2]):
            yield part, [held[4] for held in group]
        self._held = []
        self._held_bytes = 0

    def _put_away(self, path: Path) -> None:
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="duewatch-recording-"))
        piece = self.folder / f"{self._pieces:06d}"
        piece.mkdir()
        self._pieces += 1
        for (topic, partition), records in self._sorted_parts(path):
            files = parquet.PartitionFiles(piece, topic, partition)
            for record in records:
                files.append(record.offset, record.timestamp, record.key, record.value, record.headers)
            files.close()
            runs = self._runs.setdefault((topic, partition), [])
            runs += [piece / entry.name for entry in files.entries]

    def finish(self, path: Path) -> dict[Part, list[Run]]:
        if self.folder is not None:
            self._put_away(path)
            return self._runs
        return {part: [records] for part, records in self._sorted_parts(path)}

    def discard(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def twice(where: str, record: LogRecord) -> RecordingError:
    return RecordingError(
        f"{where}: {record.topic}/{record.partition} offset {record.offset} is there twice: remove one of the two lines"
    )
