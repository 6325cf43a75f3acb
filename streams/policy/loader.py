"""Reads a policy file, or refuses it with the line that is wrong."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path as File
from typing import Any, NamedTuple

import msgspec

from streams.policy import tables
from streams.policy.checks import findings
from streams.policy.document import Flaw, Path, Reading, Unreadable, parse
from streams.policy.model import Policy
from streams.policy.tables import PolicyFile, Table, policy_of

SHIPPED = {"standard": File(__file__).with_name("standard.yaml")}
MAX_BYTES = 900 * 1024
_FILE_TYPE = msgspec.inspect.type_info(PolicyFile)


class Loaded(NamedTuple):
    """A policy and what stands beside it in its file; `line_of` gives the line of a path into it."""

    policy: Policy
    tests: tuple[Table, ...]
    source: str
    line_of: Callable[[Path], int]

    def place(self, path: Path) -> str:
        """Where a path is, as errors tell it: FILE:LINE: field.path"""
        return f"{self.source}:{self.line_of(path)}: {dotted(path)}"


class PolicyError(ValueError):
    """A policy that cannot be used. The message is one line: FILE:LINE: field.path: what is wrong; what to do.

    `all_errors` has every flaw found, in the order of the file; the message is the first. `flaws` are the same with
    line, path and text apart; none where there is no file to find them in.
    """

    def __init__(self, all_errors: tuple[str, ...], flaws: tuple[Flaw, ...] = ()) -> None:
        super().__init__(all_errors[0])
        self.all_errors = all_errors
        self.flaws = flaws


def load(name_or_path: str) -> Policy:
    """The policy shipped under a name ("standard"), or the one in a file.

    Raises:
        PolicyError: the file cannot be read, or is not a policy.
    """
    return load_file(name_or_path).policy


def load_file(name_or_path: str) -> Loaded:
    """As `load`, with the tests and the lines of the file."""
    if not name_or_path:
        raise PolicyError((f"no policy is named; give the path of a policy file, or: {', '.join(SHIPPED)}",))
    file = SHIPPED.get(name_or_path) or File(name_or_path)
    try:
        raw = file.read_bytes()
    except OSError as error:
        shipped = ", ".join(SHIPPED)
        raise PolicyError(
            (f"{name_or_path}: cannot be read ({error.strerror}); give the path of a policy file, or: {shipped}",)
        ) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _refused(str(name_or_path), [Flaw(line, (), "not UTF-8; save the file in that encoding")]) from None
    return read(text, str(name_or_path))


def loads(text: str, source: str) -> Policy:
    """The policy in a YAML text (or its canonical form, see `body`); `source` names it in errors.

    Raises:
        PolicyError: it is not a policy.
    """
    return read(text, source).policy


def read(text: str, source: str) -> Loaded:
    """As `loads`, with the tests and the lines of the text."""
    if len(text) > MAX_BYTES:
        raise _refused(source, [Flaw(1, (), f"longer than {MAX_BYTES} characters; no policy is")])
    reading = Reading()
    try:
        plain = reading.value(parse(text), _FILE_TYPE, ())
    except Unreadable as error:
        raise _refused(source, [Flaw(error.line, (), str(error))]) from None
    if not reading.flaws:
        file = msgspec.convert(plain, PolicyFile)
        policy = policy_of(file)
        found = (*findings(policy), *tables.findings(file.tests))
        reading.flaws.extend(Flaw(_line(reading, path), path, what) for path, what in found)
        if not reading.flaws:
            return Loaded(policy, file.tests, source, partial(_line, reading))
    raise _refused(source, sorted(reading.flaws, key=lambda flaw: flaw.line))


def _refused(source: str, flaws: list[Flaw]) -> PolicyError:
    return PolicyError(tuple(f"{source}:{flaw.line}: {_named(flaw.path)}{flaw.what}" for flaw in flaws), tuple(flaws))


def _line(reading: Reading, path: Path) -> int:
    """The line of a path, or of the nearest part above it that is written in the file."""
    while path not in reading.lines:
        path = path[:-1]
    return reading.lines[path]


def dotted(path: Path) -> str:
    """A path as people write it: limits.steps[3].when"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _named(path: Path) -> str:
    return f"{dotted(path)}: " if path else ""


def body(policy: Policy) -> str:
    """The canonical text: JSON with every field, defaults too, in a fixed order. It travels in policy_activated."""
    return json.dumps(_plain(policy), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def digest(policy: Policy) -> str:
    """``sha256:<hex>`` of the canonical text: equal for equal policies, however they were written."""
    return "sha256:" + hashlib.sha256(body(policy).encode()).hexdigest()


def _plain(part: Any) -> Any:
    """Plain values with the defaults written out, so that a later change of a default changes no digest."""
    if isinstance(part, msgspec.Struct):
        return {name: _plain(getattr(part, name)) for name in part.__struct_fields__}
    if isinstance(part, tuple):
        return [_plain(item) for item in part]
    if isinstance(part, dict):
        return {key: _plain(value) for key, value in part.items()}
    return part
