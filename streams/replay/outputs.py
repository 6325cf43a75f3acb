"""What a replay writes: a folder with one file of JSON Lines per topic, and a summary.

Each task writes parts of its own, so that tasks can run in any order or at the same time; the parts are joined
partition by partition. The folder appears at its place whole or not at all.
"""

import base64
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import orjson
from msgspec import Struct

from schemas.topics import DLQ_SUFFIX, OUTPUTS
from streams.engine.chunk import DeadLetter, Output
from streams.replay.manifest import RecordingError
from streams.worker.deadletter import dead_letter_message

BORROWER_OUTPUTS = tuple(sorted(set(OUTPUTS) - {"incidents", "portfolio"}))
"""The topics a borrower task writes to: each has a file, also when it is empty."""
SUMMARY = "summary.json"
_LINES = ".jsonl"


class PolicyUsed(Struct, frozen=True):
    id: str
    digest: str


class Summary(Struct, frozen=True):
    """A replay in numbers.

    `events` counts input records, `outputs` the events written, `dead_letters` the records refused, by reason in
    `dead_letters_by_reason`. `output_sha256` is over the contents of all `*.jsonl` in the order of their names: equal
    exactly when all outputs are. `policy` is the one a replay starts with.
    """

    events: int
    outputs: int
    dead_letters: int
    events_per_s: float
    output_sha256: str
    by_topic: dict[str, int]
    dead_letters_by_reason: dict[str, int]
    policy: PolicyUsed


class PartWriter:
    """Writes the outputs of one task below `folder`, in the order given."""

    def __init__(self, folder: Path, partition: int) -> None:
        self._folder = folder / _part(partition)
        self._folder.mkdir()
        self._files: dict[str, BinaryIO] = {}
        self.outputs: dict[str, int] = {}
        self.dead_letters: dict[str, int] = {}

    def write(self, outputs: Iterable[Output], dead_letters: Iterable[DeadLetter]) -> None:
        """Append the outputs and dead letters of one fold."""
        lines: dict[str, list[bytes]] = {}
        for output in outputs:
            lines.setdefault(output.topic, []).append(output.value)
        for topic, values in lines.items():
            self.outputs[topic] = self.outputs.get(topic, 0) + len(values)
            self._append(topic, values)
        for letter in dead_letters:
            self.dead_letters[letter.reason] = self.dead_letters.get(letter.reason, 0) + 1
            self._append(letter.record.topic + DLQ_SUFFIX, [dead_letter_line(letter)])

    def _append(self, topic: str, values: list[bytes]) -> None:
        file = self._files.get(topic)
        if file is None:
            file = self._files[topic] = (self._folder / (topic + _LINES)).open("wb")
        file.write(b"\n".join(values) + b"\n")

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def dead_letter_line(letter: DeadLetter) -> bytes:
    """One refused record as a line of JSON: key, value and headers as they stand on the dead-letter topic.

    Bytes that are no UTF-8 stand as base64 under `key_base64`, `value_base64` and `headers_base64`. A header that
    occurs several times has a list of its values.
    """
    message = dead_letter_message(letter)
    line: dict[str, Any] = {}
    for name, content in (("key", message.key), ("value", message.value)):
        suffix, text = _as_text(content)
        line[name + suffix] = text
    for name, content in message.headers:
        suffix, text = _as_text(content)
        headers = line.setdefault("headers" + suffix, {})
        if name not in headers:
            headers[name] = text
        elif isinstance(headers[name], list):
            headers[name].append(text)
        else:
            headers[name] = [headers[name], text]
    return orjson.dumps(line)


def _as_text(content: bytes | None) -> tuple[str, str | None]:
    """(suffix of the field's name, its value)"""
    if content is None:
        return "", None
    try:
        return "", content.decode()
    except UnicodeDecodeError:
        return "_base64", base64.b64encode(content).decode()


def _part(partition: int) -> str:
    return f"part-{partition:05d}"


def join_parts(folder: Path, partitions: Sequence[int]) -> str:
    """Put the parts below `folder` together, partition by partition, and remove them; returns the SHA-256 over all
    files in the order of their names."""
    digest = hashlib.sha256()
    parts = [folder / _part(partition) for partition in sorted(partitions)]
    found = {file.name for part in parts for file in part.iterdir()}
    for name in sorted(found | {topic + _LINES for topic in BORROWER_OUTPUTS}):
        with (folder / name).open("wb") as whole:
            for part in parts:
                _copy(part / name, whole, digest)
    for part in parts:
        shutil.rmtree(part)
    return digest.hexdigest()


def _copy(source: Path, whole: BinaryIO, digest: Any) -> None:
    if not source.exists():
        return
    with source.open("rb") as file:
        while block := file.read(1 << 20):
            whole.write(block)
            digest.update(block)


def write_summary(folder: Path, summary: Summary) -> None:
    (folder / SUMMARY).write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """A folder to write to that takes the place of `out` when the block ends, and is removed when it fails.

    Raises:
        RecordingError: something is at `out` that is not the output of a replay, or nothing can be.
    """
    _refuse_foreign(out)
    with _unfinished(out) as folder:
        yield folder
        _put_in_place(folder, out)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """As `output_folder`, where nothing is at `out` yet: that it can be made shows before anything is computed.

    Raises:
        RecordingError: something is at `out`, or nothing can be.
    """
    if out.exists() or out.is_symlink():
        raise RecordingError(f"{out}: is there already: give the path of a folder to be made")
    with _unfinished(out) as folder:
        yield folder
        os.replace(folder, out)


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """A folder beside `out`, which is removed when the block fails."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    except OSError as error:
        raise RecordingError(f"{out}: cannot be made ({error.strerror}): give --out another place") from None
    try:
        folder.chmod(0o777 & ~_umask())
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _refuse_foreign(out: Path) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise RecordingError(f"{out}: is not a folder: give --out another place")
    names = {file.name for file in out.iterdir()}
    foreign = sorted(name for name in names - {SUMMARY} if not name.endswith(_LINES))
    if names and (foreign or not _is_summary(out / SUMMARY)):
        raise RecordingError(f"{out}: holds other things than a replay's output: give --out another place, or empty it")


def _is_summary(file: Path) -> bool:
    try:
        msgspec.json.decode(file.read_bytes(), type=Summary)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _put_in_place(folder: Path, out: Path) -> None:
    before = folder.with_suffix(".old")
    if out.exists():
        os.replace(out, before)
    os.replace(folder, out)
    shutil.rmtree(before, ignore_errors=True)


def _umask() -> int:
    # There is no way to ask for it but to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
