"""Recordings as JSON Lines, in the shape `kcat -C -J` writes.

One object a line: topic, partition, offset, ts (epoch milliseconds), key, payload and, where there are any, headers as
a flat list (name, value, name, value). Key, payload and header values are the bytes as a string, or null.

Bytes that are no UTF-8 stand as base64 under `key_base64` and `payload_base64`, headers with such a value as a flat
list under `headers_base64`, every value as base64. kcat itself writes such bytes as they are, so a line that is no
UTF-8 is read byte by byte. `tstype`, `broker` and other fields are tolerated and ignored.
"""

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast

import msgspec
import orjson
import pyarrow as pa
from msgspec import UNSET, Meta, Struct, UnsetType

from streams.engine.order import LogRecord
from streams.replay.manifest import LAST_MS, RecordingError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")


class _Line(Struct):
    topic: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    partition: Annotated[int, Meta(ge=0, lt=2**31)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    ts: Annotated[int, Meta(ge=-1, lt=LAST_MS)]
    key: str | None = None
    payload: str | UnsetType | None = UNSET
    headers: list[str | None] | None = None
    key_base64: str | None = None
    payload_base64: str | None = None
    headers_base64: list[str | None] | None = None


_DECODER = msgspec.json.Decoder(_Line)


def is_json_lines(path: Path) -> bool:
    return path.name.endswith(SUFFIXES)


def open_for_reading(path: Path) -> BinaryIO:
    if path.name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.name.endswith(".zst"):
        return cast(BinaryIO, pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def open_for_writing(path: Path, name: str) -> Any:
    """A binary file at `path`, compressed as the suffix of `name` says."""
    if name.endswith(".gz"):
        # No file name and no time inside: the same records give the same bytes.
        return gzip.GzipFile(filename="", mode="wb", fileobj=path.open("wb"), mtime=0)
    if name.endswith(".zst"):
        return pa.output_stream(str(path), compression="zstd")
    return path.open("wb")


def read_lines(path: Path) -> Iterator[tuple[int, LogRecord]]:
    """The records of a file with their line numbers, in the order of the lines; empty lines are skipped.

    Raises:
        RecordingError: a line that is no record, as FILE:LINE, or a file that cannot be decompressed.
    """
    line_no = 0
    try:
        with open_for_reading(path) as file:
            for line_no, line in enumerate(_split(file), 1):
                if line and not line.isspace():
                    yield line_no, _record(line)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RecordingError(
            f"{path}:{line_no}: {error}: a line is one object with topic, partition, offset, ts, key and payload"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        told = getattr(error, "strerror", None) or error
        raise RecordingError(f"{path}: {told}: not readable as {path.suffix} after line {line_no}") from None


def _split(file: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while block := file.read(1 << 20):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        yield from lines
    yield rest


def _record(line: bytes) -> LogRecord:
    try:
        read = _DECODER.decode(line)
    except UnicodeDecodeError:
        # As kcat writes bytes that are no UTF-8: each stands for itself.
        read = msgspec.convert(json.loads(line.decode("utf-8", "surrogateescape")), _Line)
    if read.payload is UNSET and read.payload_base64 is None:
        raise ValueError("Object missing required field `payload`")
    value = _from_base64(read.payload_base64)
    if value is None and read.payload is not UNSET:
        value = _raw(read.payload)
    key = _from_base64(read.key_base64)
    if key is None:
        key = _raw(read.key)
    return LogRecord(read.topic, read.partition, read.offset, read.ts, key, value, _headers(read))


def _raw(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")


def _from_base64(text: str | None) -> bytes | None:
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64: {error}") from None


def _headers(read: _Line) -> Sequence[tuple[str, bytes]]:
    flat, to_bytes = (read.headers, _raw) if read.headers_base64 is None else (read.headers_base64, _from_base64)
    if flat is None:
        return ()
    if len(flat) % 2:
        raise ValueError("`headers` is a flat list of names and values: it holds an odd number of entries")
    return tuple((name or "", cast(bytes, to_bytes(value))) for name, value in zip(flat[::2], flat[1::2], strict=True))


def line_of(record: LogRecord) -> bytes:
    """The line of a record, with its line feed."""
    fields: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "tstype": "create",
        "ts": record.timestamp,
    }
    if record.headers:
        fields |= _headers_fields(record.headers)
    for name, content in (("key", record.key), ("payload", record.value)):
        text = _text(content)
        if text is None and content is not None:
            fields[f"{name}_base64"] = _to_base64(content)
        else:
            fields[name] = text
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _text(content: bytes | None) -> str | None:
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _headers_fields(headers: Sequence[tuple[str, bytes]]) -> dict[str, object]:
    # A header's value may be null in Kafka, whatever the client's types say.
    pairs = [(name, cast("bytes | None", value)) for name, value in headers]
    if all(value is None or _text(value) is not None for _, value in pairs):
        return {"headers": [part for name, value in pairs for part in (name, _text(value))]}
    return {"headers_base64": [part for name, value in pairs for part in (name, _to_base64(value))]}


def _to_base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()
