"""The examples beside the schemas, as records."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import schemas

ROOT = Path(schemas.__file__).parent / "examples"
_RECORDS = json.loads((ROOT / "bad" / "records.json").read_text())
KEY: bytes = _RECORDS["every record"]["key"].encode()
TIMESTAMP_MS: int = _RECORDS["every record"]["timestamp_ms"]


@dataclass(frozen=True)
class Example:
    """One example: `name` is ``<topic>/<file>``, `label` the type of a good one and the reason of a bad one."""

    name: str
    topic: str
    label: str
    value: bytes
    key: bytes | None

    @property
    def body(self) -> Any:
        return json.loads(self.value)


def _examples(folder: str) -> list[Example]:
    found = []
    for path in sorted((ROOT / folder).glob("*/*")):
        name = f"{path.parent.name}/{path.name}"
        key = _RECORDS.get(name, _RECORDS["every record"])["key"]
        label = path.stem.partition("-")[0]
        found.append(Example(name, path.parent.name, label, path.read_bytes(), None if key is None else key.encode()))
    return found


GOOD = _examples("good")
BAD = _examples("bad")
