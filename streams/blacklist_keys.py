"""The consortium's keys, read from a file that is kept as secrets are: never in a policy, a log or a recording.

    {"keys": [{"id": "2026-q1", "from": "2026-01-01T00:00:00+08:00", "secret_hex": "..."}, ...]}

A key is in use from its instant until that of the next one; the first also before. Keys that are past stay in the file
for as long as anything is to be replayed from their time.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

from streams.config import ConfigError
from streams.engine.blacklist import NO_KEY, Key, KeyRing

SECRET_BYTES_MIN = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Entry(Struct, rename={"starts": "from"}, forbid_unknown_fields=True):
    id: str
    starts: datetime
    secret_hex: str


class _File(Struct, forbid_unknown_fields=True):
    keys: list[_Entry]


def load_keys(path: Path) -> KeyRing:
    """The keys in a file.

    Raises:
        ConfigError: it cannot be read, or a key cannot be used. The message never holds a secret.
    """
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the file of blacklist keys") from None
    except msgspec.DecodeError as error:
        # What msgspec says names types and places, never values.
        raise ConfigError(f"{path}: {error}; see docs/blacklist.md for its form") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8; see docs/blacklist.md for its form") from None
    if not file.keys:
        raise ConfigError(f"{path}: holds no key; leave the setting out where there is none")
    ring = KeyRing([_key(path, number, entry) for number, entry in enumerate(file.keys)])
    for names, what in (([key.id for key in file.keys], "id"), ([key.starts for key in file.keys], "from")):
        if len(set(names)) < len(names):
            raise ConfigError(f"{path}: two keys have the same {what}; each needs its own")
    return ring


def _key(path: Path, number: int, entry: _Entry) -> Key:
    where = f"{path}: keys[{number}]"
    if not entry.id or entry.id == NO_KEY:
        raise ConfigError(f"{where}.id: give the name under which the consortium knows the key, and not {NO_KEY!r}")
    if entry.starts.tzinfo is None:
        raise ConfigError(f"{where}.from: says no zone; add Z (UTC) or an offset like +08:00")
    try:
        secret = bytes.fromhex(entry.secret_hex)
    except ValueError:
        raise ConfigError(f"{where}.secret_hex: is not hexadecimal") from None
    if len(secret) < SECRET_BYTES_MIN:
        raise ConfigError(f"{where}.secret_hex: {len(secret)} bytes are too few; use {SECRET_BYTES_MIN} or more")
    return Key((entry.starts - _EPOCH) // timedelta(milliseconds=1), entry.id, secret)
