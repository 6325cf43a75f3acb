"""The wire types as published schemas: JSON Schema (draft 7) for each message, and one AsyncAPI 3.0 document.

Run ``python -m schemas.export`` to write them, with ``--check`` to be told what is stale (exit code 1).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml
from msgspec import Struct
from msgspec.json import schema_components

from schemas.topics import DEFAULT_PARTITIONS, DLQ_HEADERS, TOPICS, Direction, Topic

CONTRACT_VERSION: Final = "1.0.0"
FOLDER: Final = Path(__file__).parent
_DRAFT = "http://json-schema.org/draft-07/schema#"
_REFERENCE = "#/definitions/{name}"
_KAFKA_BINDING = "0.5.0"


def _plain(schema: Any) -> Any:
    """Without what draft 7 has not (OpenAPI's discriminator) and the line breaks of docstrings."""
    if isinstance(schema, dict):
        plain = {key: _plain(value) for key, value in schema.items() if key != "discriminator"}
        if isinstance(plain.get("description"), str):
            plain["description"] = " ".join(plain["description"].split())
        return plain
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema


def json_schema(kind: type[Struct]) -> dict[str, Any]:
    """The JSON Schema of one message type; unknown fields are allowed, as they are on the wire."""
    _, components = schema_components([kind], ref_template=_REFERENCE)
    definitions = _plain(components)
    schema = {"$schema": _DRAFT, **definitions.pop(kind.__name__)}
    if definitions:
        schema["definitions"] = definitions
    return schema


def _tag(kind: type[Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _schema_path(topic: Topic, kind: type[Struct]) -> str:
    return f"json/{topic.direction}/{_tag(kind)}.json"


def _message_name(topic: Topic, kind: type[Struct]) -> str:
    return f"{topic.direction}-{_tag(kind)}"


def _message(topic: Topic, kind: type[Struct]) -> dict[str, Any]:
    return {
        "name": _tag(kind),
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-07",
            "schema": {"$ref": f"./{_schema_path(topic, kind)}"},
        },
        "bindings": {"kafka": {"key": {"type": "string", "description": topic.key}, "bindingVersion": _KAFKA_BINDING}},
    }


_DEAD_LETTER: dict[str, Any] = {
    "name": "dead_letter",
    "summary": "A record that could not be taken: its key, value and headers as they came, and why.",
    "contentType": "application/octet-stream",
    "headers": {
        "type": "object",
        "required": list(DLQ_HEADERS),
        "properties": {name: {"type": "string"} for name in DLQ_HEADERS},
    },
    "payload": {},
}
_COMMIT: dict[str, Any] = {
    "name": "commit_record",
    "summary": "Internal: one chunk of a task, with positions, changed state and wake-ups.",
    "contentType": "application/octet-stream",
    "payload": {},
}


def _channel_name(topic: Topic) -> str:
    """A name as AsyncAPI allows it; the address is the topic's own."""
    return topic.name.replace(".", "-")


def _opaque(topic: Topic) -> str:
    return "dead_letter" if topic.direction == "dlq" else "commit_record"


def _channel(topic: Topic) -> dict[str, Any]:
    names = {_tag(kind): _message_name(topic, kind) for kind in topic.types} or {_opaque(topic): _opaque(topic)}
    configs: dict[str, Any] = {
        name: int(value) if value.lstrip("-").isdigit() else value for name, value in topic.configs.items()
    }
    return {
        "address": topic.name,
        "description": f"Key: {topic.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{target}"} for name, target in names.items()},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": DEFAULT_PARTITIONS,
                "topicConfiguration": {**configs, "cleanup.policy": [configs["cleanup.policy"]]},
                "bindingVersion": _KAFKA_BINDING,
            }
        },
    }


_ACTIONS: dict[Direction, tuple[str, ...]] = {
    "in": ("receive",),
    "out": ("send",),
    "internal": ("send", "receive"),
    "dlq": ("send",),
}


def _operations() -> dict[str, Any]:
    return {
        f"{action}-{_channel_name(topic)}": {
            "action": action,
            "channel": {"$ref": f"#/channels/{_channel_name(topic)}"},
        }
        for topic in TOPICS.values()
        for action in _ACTIONS[topic.direction]
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of all topics, seen from the service: it receives inputs and sends outputs."""
    messages = {_message_name(topic, kind): _message(topic, kind) for topic in TOPICS.values() for kind in topic.types}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Duewatch",
            "version": CONTRACT_VERSION,
            "description": "Post-loan credit watch: repayments, logins and transactions in; warnings and limits out.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_channel_name(topic): _channel(topic) for topic in TOPICS.values()},
        "operations": _operations(),
        "components": {"messages": {**messages, "dead_letter": _DEAD_LETTER, "commit_record": _COMMIT}},
    }


class _Dumper(yaml.SafeDumper):
    """Writes every value out: aliases would tie channels to one another."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def documents() -> dict[str, str]:
    """The text of every published file, by its path below `schemas`."""
    texts = {
        _schema_path(topic, kind): json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"
        for topic in TOPICS.values()
        for kind in topic.types
    }
    texts["asyncapi.yaml"] = yaml.dump(asyncapi(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return texts


def stale(folder: Path = FOLDER) -> list[str]:
    """The published files below `folder` that are missing, differ from the wire types or belong to none of them."""
    texts = documents()
    there = {path.relative_to(folder).as_posix() for path in (folder / "json").rglob("*.json")}
    differing = {
        name
        for name, text in texts.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    }
    return sorted(differing | (there - set(texts)))


def write(folder: Path = FOLDER) -> None:
    """Bring the published files below `folder` up to date."""
    texts = documents()
    for name in stale(folder):
        path = folder / name
        if name in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[name], encoding="utf-8")
        else:
            path.unlink()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m schemas.export", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; list what is stale and exit with 1")
    if not parser.parse_args(arguments).check:
        write()
        return 0
    names = stale()
    for name in names:
        print(f"schemas/{name}: stale; run python -m schemas.export", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
