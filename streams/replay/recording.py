"""Recordings: topics on disk, as they were in Kafka.

A recording is a folder of Parquet files with a `manifest.json`, or one file of JSON Lines (`.jsonl`, `.jsonl.gz`,
`.jsonl.zst`). Both are read in the same way: partition by partition of each topic, in offset order, a batch at a time.
"""

import heapq
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from streams.engine.order import LogRecord, Record
from streams.replay import kcat, manifest, parquet
from streams.replay.manifest import FileEntry, Manifest, RecordingError
from streams.replay.spool import Part, Run, Spool, twice

__all__ = ["FileEntry", "Manifest", "Recording", "RecordingError", "RecordingWriter", "beside"]


class Recording:
    """A recording, opened for reading. Close it, or use it in a `with` block: unsorted lines are spooled to disk.

    Attributes:
        path: the folder or file.
        manifest: counts, time range and files; of JSON Lines with no files and no partition counts.
    """

    def __init__(self, path: Path, held: Manifest, runs: dict[Part, list[Run]], spool: Path | None):
        self.path = path
        self.manifest = held
        self._runs = runs
        self._spool = spool
        self._unverified = {path / entry.name: entry for entry in held.files}

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a folder or a `.jsonl[.gz|.zst]` file. A folder's files are compared with their checksums as each is
        first read, which is nothing beside what is done with them.

        Raises:
            RecordingError: there is nothing there, it is neither of the two, or it cannot be read.
        """
        path = Path(path)
        if path.is_dir():
            held = manifest.read(path)
            runs: dict[Part, list[Run]] = {}
            for entry in held.files:
                runs.setdefault((entry.topic, entry.partition), []).append(path / entry.name)
            _check_ranges(path, held.files)
            return cls(path, held, runs, None)
        if not path.exists():
            raise RecordingError(f"{path}: no such recording: give a folder or a .jsonl[.gz|.zst] file")
        if not kcat.is_json_lines(path):
            raise RecordingError(f"{path}: not a recording: give a folder or a .jsonl[.gz|.zst] file")
        return cls._of_lines(path)

    @classmethod
    def _of_lines(cls, path: Path) -> Self:
        spool = Spool()
        try:
            for line_no, record in kcat.read_lines(path):
                spool.add(path, line_no, record)
            runs = spool.finish(path)
        except BaseException:
            spool.discard()
            raise
        held = Manifest(spool.records, spool.first_ms, spool.last_ms, None, [], {"lines": path.name})
        return cls(path, held, runs, spool.folder)

    def topics(self) -> list[str]:
        """The topics that hold records, or that the manifest names, by name."""
        return sorted({topic for topic, _ in self._runs} | set(self.manifest.partitions or ()))

    def partitions(self, topic: str | None = None) -> list[int]:
        """The partitions that hold records, of one topic or of any, in order."""
        return sorted({partition for held, partition in self._runs if topic is None or held == topic})

    def partition_count(self) -> int | None:
        """The number of partitions the topics were recorded with (the greatest, if they differ); None: not known."""
        counts = self.manifest.partitions
        return max(counts.values()) if counts else None

    def batches(self, topic: str, partition: int) -> Iterator[list[LogRecord]]:
        """The records of one partition in offset order, a few thousand at a time; nothing where there are none.

        Raises:
            RecordingError: a file is damaged, or is not the one that was recorded.
        """
        runs = self._runs.get((topic, partition), [])
        if len(runs) == 1 or self._spool is None:
            for run in runs:
                if isinstance(run, Path):
                    self._verify(run)
                yield from _run_batches(run, topic, partition)
            return
        yield from self._merged(runs, topic, partition)

    def _merged(self, runs: list[Run], topic: str, partition: int) -> Iterator[list[LogRecord]]:
        streams = [_flat(_run_batches(run, topic, partition)) for run in runs]
        batch: list[LogRecord] = []
        last = -1
        for record in heapq.merge(*streams, key=_offset):
            if record.offset == last:
                raise twice(str(self.path), record)
            last = record.offset
            batch.append(record)
            if len(batch) >= parquet.BATCH_RECORDS:
                yield batch
                batch = []
        if batch:
            yield batch

    def records(self, topic: str, partition: int) -> Iterator[LogRecord]:
        """The records of one partition in offset order."""
        return _flat(self.batches(topic, partition))

    def verify(self, advance: Callable[[int], None] = lambda _: None) -> None:
        """Compare every file with the checksum in the manifest (JSON Lines carry none), before anything is read.

        Args:
            advance: called with the bytes of each file.

        Raises:
            RecordingError: the first file that differs.
        """
        for path, entry in list(self._unverified.items()):
            self._verify(path)
            advance(entry.size_bytes)

    def _verify(self, path: Path) -> None:
        """Once for each file, however often it is read."""
        entry = self._unverified.get(path)
        if entry is not None:
            manifest.verify(self.path, entry)
            del self._unverified[path]

    def close(self) -> None:
        """Remove what was spooled."""
        if self._spool is not None:
            shutil.rmtree(self._spool, ignore_errors=True)
        self._runs = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RecordingWriter:
    """Writes a recording: a folder, or one file of JSON Lines if `path` ends in `.jsonl[.gz|.zst]`.

    Nothing is at `path` as a whole before `close`: a folder gets its manifest last, a file its name. Left by an
    exception, the `with` block removes what was written.

    Args:
        partitions: the number of partitions of each topic, or of all topics alike; kept in the manifest.
        source: where the records come from, kept in the manifest (a simulator's seed, a broker's topics).

    Raises:
        RecordingError: something is already at `path`.
    """

    def __init__(
        self,
        path: str | Path,
        partitions: int | Mapping[str, int] | None = None,
        source: Mapping[str, str | int] | None = None,
    ) -> None:
        self.path = Path(path)
        self._partitions = partitions
        self._source = dict(source or {})
        self._lines: Any = None
        self._parts: dict[Part, parquet.PartitionFiles] = {}
        self._next_offsets: dict[Part, int] = {}
        self.records = 0
        self.manifest: Manifest | None = None
        if self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir())):
            raise RecordingError(f"{self.path}: already there: give another place, or remove it first")
        if kcat.is_json_lines(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished = self.path.with_name(f".{self.path.name}.part")
            self._lines = kcat.open_for_writing(self._unfinished, self.path.name)
        else:
            self.path.mkdir(parents=True, exist_ok=True)

    def append(
        self,
        topic: str,
        partition: int,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        offset: int | None = None,
    ) -> int:
        """Add one record at `offset`, or at the next one of its partition; returns the offset.

        Raises:
            RecordingError: the offset is not after the last one of its partition.
        """
        part = (topic, partition)
        if self._lines is not None:
            offset = self._next_offsets.get(part, 0) if offset is None else offset
            self._next_offsets[part] = offset + 1
            self._lines.write(kcat.line_of(LogRecord(topic, partition, offset, timestamp_ms, key, value, headers)))
        else:
            files = self._parts.get(part)
            if files is None:
                files = self._parts[part] = parquet.PartitionFiles(self.path, topic, partition)
            offset = files.next_offset if offset is None else offset
            files.append(offset, timestamp_ms, key, value, headers)
        self.records += 1
        return offset

    def write(self, record: Record) -> None:
        """Add one record as it is."""
        self.append(
            record.topic, record.partition, record.timestamp, record.key, record.value, record.headers, record.offset
        )

    def close(self) -> None:
        """Finish the recording."""
        if self._lines is not None:
            self._lines.close()
            os.replace(self._unfinished, self.path)
            return
        entries: list[FileEntry] = []
        for files in self._parts.values():
            files.close()
            entries += files.entries
        counts = self._counts()
        self.manifest = manifest.summed_up(entries, counts, self._source)
        manifest.write(self.path, self.manifest)

    def _counts(self) -> dict[str, int]:
        given = self._partitions if isinstance(self._partitions, Mapping) else {}
        least = self._partitions if isinstance(self._partitions, int) else 0
        counts = dict(given)
        for topic, partition in self._parts:
            counts[topic] = max(counts.get(topic, least), partition + 1)
        return dict(sorted(counts.items()))

    def discard(self) -> None:
        """Remove what was written."""
        if self._lines is not None:
            # On a full disk closing fails too.
            with suppress(OSError):
                self._lines.close()
            self._unfinished.unlink(missing_ok=True)
            return
        for files in self._parts.values():
            files.discard()
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        except BaseException:
            self.discard()
            raise


def _run_batches(run: Run, topic: str, partition: int) -> Iterator[list[LogRecord]]:
    if isinstance(run, Path):
        yield from parquet.read_batches(run, topic, partition)
        return
    for start in range(0, len(run), parquet.BATCH_RECORDS):
        yield run[start : start + parquet.BATCH_RECORDS]


def _flat(batches: Iterable[list[LogRecord]]) -> Iterator[LogRecord]:
    for batch in batches:
        yield from batch


def _offset(record: LogRecord) -> int:
    return record.offset


def _check_ranges(path: Path, files: Sequence[FileEntry]) -> None:
    for before, after in pairwise(files):
        same = (before.topic, before.partition) == (after.topic, after.partition)
        if same and after.first_offset <= before.last_offset:
            raise RecordingError(
                f"{path / after.name}: starts at offset {after.first_offset}, but {before.name} reaches "
                f"{before.last_offset}: two recordings were mixed in one folder; keep one"
            )


def beside(path: Path, name: str) -> Path:
    """Where a file about a recording belongs: in its folder, or next to its file as ``<recording>.<name>``."""
    if kcat.is_json_lines(path):
        return path.with_name(f"{path.name.partition('.jsonl')[0]}.{name}")
    return path / name
