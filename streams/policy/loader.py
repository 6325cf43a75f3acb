"""Reads a policy file, or refuses it with the line that is wrong."""

import hashlib
import json
from pathlib import Path as File
from typing import Any

import msgspec

from streams.policy.checks import findings
from streams.policy.document import Flaw, Path, Reading, Unreadable, parse
from streams.policy.model import Policy

SHIPPED = {"standard": File(__file__).with_name("standard.yaml")}
MAX_BYTES = 900 * 1024
_POLICY_TYPE = msgspec.inspect.type_info(Policy)


class PolicyError(ValueError):
    """A policy that cannot be used. The message is one line: FILE:LINE: field.path: what is wrong; what to do.

    `all_errors` has every flaw found, in the order of the file; the message is the first.
    """

    def __init__(self, all_errors: tuple[str, ...]) -> None:
        super().__init__(all_errors[0])
        self.all_errors = all_errors


def load(name_or_path: str) -> Policy:
    """The policy shipped under a name ("standard"), or the one in a file.

    Raises:
        PolicyError: the file cannot be read, or is not a policy.
    """
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
        raise PolicyError((f"{name_or_path}:{line}: not UTF-8; save the file in that encoding",)) from None
    return loads(text, str(name_or_path))


def loads(text: str, source: str) -> Policy:
    """The policy in a YAML text (or its canonical form, see `body`); `source` names it in errors.

    Raises:
        PolicyError: it is not a policy.
    """
    if len(text) > MAX_BYTES:
        raise PolicyError((f"{source}:1: longer than {MAX_BYTES} characters; no policy is",))
    reading = Reading()
    try:
        plain = reading.value(parse(text), _POLICY_TYPE, ())
    except Unreadable as error:
        raise PolicyError((f"{source}:{error.line}: {error}",)) from None
    if not reading.flaws:
        policy = msgspec.convert(plain, Policy)
        reading.flaws.extend(Flaw(_line(reading, path), path, what) for path, what in findings(policy))
        if not reading.flaws:
            return policy
    ordered = sorted(reading.flaws, key=lambda flaw: flaw.line)
    raise PolicyError(tuple(f"{source}:{flaw.line}: {_dotted(flaw.path)}{flaw.what}" for flaw in ordered))


def _line(reading: Reading, path: Path) -> int:
    """The line of a path, or of the nearest part above it that is written in the file."""
    while path not in reading.lines:
        path = path[:-1]
    return reading.lines[path]


def _dotted(path: Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return f"{text.lstrip('.')}: " if text else ""


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
