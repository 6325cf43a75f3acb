"""The file of keys: what is read, what is refused and how, and that no secret is ever told."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.blacklist_keys import load_keys
from streams.config import ConfigError
from tests.replay.tape import ms

SECRET = "5e" * 32
GOOD = {"id": "2026-q1", "from": "2026-01-01T00:00:00+08:00", "secret_hex": SECRET}


def written(tmp_path: Path, content: Any) -> Path:
    file = tmp_path / "keys.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_a_key_is_in_use_from_its_instant_and_the_first_before_it(tmp_path: Path) -> None:
    later = GOOD | {"id": "2026-q2", "from": "2026-04-01T00:00:00+08:00", "secret_hex": "6f" * 32}
    ring = load_keys(written(tmp_path, {"keys": [later, GOOD]}))
    days = ("2025-01-01", "2026-03-31 23:59", "2026-04-01", "2027-01-01")
    assert [ring.key_at(ms(day)) for day in days] == ["2026-q1", "2026-q1", "2026-q2", "2026-q2"]
    assert ring.token("2026-q1", "ID", "e1") != ring.token("2026-q2", "ID", "e1")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{", "see docs/blacklist.md for its form"),
        ({"keys": []}, "holds no key"),
        ({"keys": [GOOD | {"secret": "x"}]}, "unknown field `secret`"),
        ({"keys": [GOOD | {"id": "none"}]}, "keys[0].id: give the name"),
        ({"keys": [GOOD | {"from": "2026-01-01T00:00:00"}]}, "keys[0].from: says no zone"),
        ({"keys": [GOOD | {"from": "soon"}]}, "keys[0].from"),
        ({"keys": [GOOD | {"secret_hex": "5e" * 31}]}, "keys[0].secret_hex: 31 bytes are too few; use 32"),
        ({"keys": [GOOD | {"secret_hex": SECRET[:-1] + "g"}]}, "keys[0].secret_hex: is not hexadecimal"),
        ({"keys": [GOOD, GOOD | {"from": "2026-02-01T00:00:00Z"}]}, "two keys have the same id"),
        ({"keys": [GOOD, GOOD | {"id": "other"}]}, "two keys have the same from"),
    ],
)
def test_what_cannot_be_used_is_told_without_the_secret(content: Any, error: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_keys(written(tmp_path, content))
    assert error in str(caught.value)
    assert "5e5e" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(b'{"keys":[{"id":"\xff","from":"2026-01-01T00:00:00Z","secret_hex":"' + SECRET.encode() + b'"}]}')
    with pytest.raises(ConfigError, match=r"keys.json: is not UTF-8; see docs/blacklist.md for its form$"):
        load_keys(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_keys(tmp_path / "missing.json")
