"""JSON Schema of a policy file, for editors: completion, descriptions and mistakes while one writes.

Drawn from the typed model, so that it knows every field, range and choice that the loader does. What holds between
fields (bands that meet, levels in order) only the loader and lint can tell.
"""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from streams.engine.features import FEATURES
from streams.policy.diff import label
from streams.policy.tables import PolicyFile

FILE = Path(__file__).with_name("policy.schema.json")
_REFERENCE = "#/definitions/{name}"
_REFERRED = re.compile(r'"#/definitions/(\w+)"')
_UNITS = (
    ("_bp", "in basis points: 10000 is 100 %"),
    ("_minor", "in minor units of the currency: 80000 is 800.00"),
    ("_days", "in civil days"),
    ("_days_from", "in civil days"),
    ("_h", "in hours"),
    ("_ms", "in milliseconds"),
    ("dpd_from", "in days past due, this one included"),
    ("dpd_below", "in days past due, this one not included"),
    ("_from_day", "in days past due, this one included"),
)


def document() -> dict[str, Any]:
    """The schema, draft 7."""
    _, components = msgspec.json.schema_components([PolicyFile], ref_template=_REFERENCE)
    types = _types(PolicyFile)
    for name, schema in components.items():
        kind = types.get(name)
        if kind is not None:
            _describe(schema, kind, types)
    factor = components["Factor"]["properties"]["feature"]
    factor.update({"enum": [feature.name for feature in FEATURES]})
    root = components.pop(PolicyFile.__name__)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Duewatch policy",
        **root,
        "definitions": dict(sorted(components.items())),
    }


def text() -> str:
    return json.dumps(document(), ensure_ascii=False, indent=1) + "\n"


def _types(kind: type[Struct]) -> dict[str, type[Struct]]:
    """Every struct that a struct is made of, by name."""
    found: dict[str, type[Struct]] = {}

    def visit(info: msgspec.inspect.Type) -> None:
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls.__name__ not in found:
                found[info.cls.__name__] = info.cls
                for field in info.fields:
                    visit(field.type)
        elif isinstance(info, msgspec.inspect.Metadata):
            visit(info.type)
        elif isinstance(info, msgspec.inspect.VarTupleType):
            visit(info.item_type)
        elif isinstance(info, msgspec.inspect.DictType):
            visit(info.value_type)
        elif isinstance(info, msgspec.inspect.UnionType):
            for member in info.types:
                visit(member)

    visit(msgspec.inspect.type_info(kind))
    return found


def _doc(kind: type[Struct] | None) -> str:
    return "" if kind is None else " ".join((kind.__doc__ or "").split())


def _describe(schema: dict[str, Any], kind: type[Struct], types: dict[str, type[Struct]]) -> None:
    """Add what the model says of the type and of each field."""
    told = _doc(kind)
    if told:
        schema["description"] = told
    for name, part in schema["properties"].items():
        # Beside a reference draft 7 reads nothing.
        if "$ref" in part:
            part["allOf"] = [{"$ref": part.pop("$ref")}]
        part["description"] = description(name, told) + _of_target(part, types)


def _of_target(part: dict[str, Any], types: dict[str, type[Struct]]) -> str:
    """What is said of the type that a field refers to."""
    referred = _REFERRED.search(json.dumps(part))
    told = "" if referred is None else _doc(types.get(referred[1]))
    return f". {told}" if told else ""


def description(name: str, told: str) -> str:
    """What a field means: its name in words, its unit, and what its type's description says of it."""
    units = [unit for suffix, unit in _UNITS if name.endswith(suffix)]
    words = label(name) + (f", {units[-1]}" if units else "")
    sentences = [sentence for sentence in re.split(r"(?<=[.;]) ", told) if f"`{name}`" in sentence]
    return ". ".join([words[:1].upper() + words[1:], *sentences])
