"""What a recording says about itself: its files, counts, time range and checksums."""

import hashlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

NAME = "manifest.json"
FORMAT = "duewatch-recording/1"
LAST_MS = 221_845_392_000_000
"""Record timestamps end before the year 9000, so that days after them, in any zone, still have a date."""


class RecordingError(Exception):
    """A recording cannot be read or written; the message is one line: where, what, how to mend it."""


class FileEntry(Struct, frozen=True):
    """One file of a recording: a range of offsets of one partition of one topic."""

    name: str
    topic: str
    partition: int
    records: int
    first_offset: int
    last_offset: int
    first_ms: int
    last_ms: int
    size_bytes: int
    sha256: str


class Manifest(Struct, frozen=True):
    """A recording as a whole.

    `partitions` is the number of partitions each topic had where it was recorded; None where that is not known (JSON
    Lines name only the partitions that hold something). `first_ms` and `last_ms` are the least and the greatest record
    timestamp, None of an empty recording. `source` says where the records came from.
    """

    records: int
    first_ms: int | None
    last_ms: int | None
    partitions: dict[str, int] | None
    files: list[FileEntry]
    source: dict[str, str | int] = {}
    format: str = FORMAT


def summed_up(files: list[FileEntry], partitions: dict[str, int] | None, source: dict[str, str | int]) -> Manifest:
    """The manifest over `files`, which are put in the order topic, partition, first offset."""
    ordered = sorted(files, key=lambda entry: (entry.topic, entry.partition, entry.first_offset))
    return Manifest(
        records=sum(entry.records for entry in ordered),
        first_ms=min((entry.first_ms for entry in ordered), default=None),
        last_ms=max((entry.last_ms for entry in ordered), default=None),
        partitions=partitions,
        files=ordered,
        source=source,
    )


def write(folder: Path, manifest: Manifest) -> None:
    """Put the manifest into `folder` at once and whole: a folder without one was not finished."""
    unfinished = folder / f".{NAME}.part"
    try:
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        os.replace(unfinished, folder / NAME)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def read(folder: Path) -> Manifest:
    """The manifest of a recording's folder, checked against the sizes of the files beside it.

    Raises:
        RecordingError: there is none, it cannot be read, or a file is missing, of another size or of no time.
    """
    path = folder / NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise RecordingError(
            f"{folder}: no {NAME}: not a recording, or one that was not finished; record it again"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: {error}; copy the recording again from where it was made") from None
    if manifest.format != FORMAT:
        raise RecordingError(
            f"{path}: format {manifest.format!r} is not {FORMAT!r}: read it with the release that wrote it"
        )
    for entry in manifest.files:
        _check_size(folder, entry)
        if entry.last_ms >= LAST_MS:
            raise RecordingError(
                f"{folder / entry.name}: has a timestamp of {entry.last_ms} ms, beyond the year 8999: record without it"
            )
    return manifest


def _check_size(folder: Path, entry: FileEntry) -> None:
    # A name from a manifest is a name in this folder, never a way out of it.
    if Path(entry.name).name != entry.name:
        raise RecordingError(
            f"{folder / NAME}: file name {entry.name!r} is not a plain name: the manifest was tampered with"
        )
    path = folder / entry.name
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        raise RecordingError(f"{path}: missing, the manifest lists it: copy the whole folder again") from None
    if size_bytes != entry.size_bytes:
        raise RecordingError(
            f"{path}: {size_bytes} bytes, the manifest says {entry.size_bytes}: copy it again from where it was made"
        )


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path, entry: FileEntry) -> None:
    """Compare a file with its checksum.

    Raises:
        RecordingError: it differs, with the checksum expected and the one found, or it cannot be read.
    """
    path = folder / entry.name
    try:
        found = sha256_of(path)
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}: copy it again from where it was made") from None
    if found != entry.sha256:
        raise RecordingError(
            f"{path}: damaged or changed: SHA-256 is {found}, the manifest expects {entry.sha256}: "
            "copy it again from where it was made"
        )
