"""The published schemas: fresh, valid, and of one mind with the examples."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from asyncapi3.models.asyncapi import AsyncAPI3
from jsonschema import Draft7Validator, FormatChecker
from pydantic import ValidationError

from schemas import export
from schemas.topics import DLQ_HEADERS, INPUTS, OUTPUTS, TOPICS
from tests.schemas.examples import BAD, GOOD, Example

SCHEMAS = {name: json.loads(text) for name, text in export.documents().items() if name.endswith(".json")}
# What one message alone breaks against its schema; the other reasons concern bytes, keys, time or several fields.
IN_A_SCHEMA = {"missing_field", "wrong_type", "out_of_range", "invalid_value"}
BETWEEN_FIELDS = "repayments/out_of_range-pause_ends_before_it_starts.json"


def validator(topic: str, message_type: str) -> Draft7Validator:
    direction = TOPICS[topic].direction
    return Draft7Validator(SCHEMAS[f"json/{direction}/{message_type}.json"], format_checker=FormatChecker())


def document() -> Any:
    return yaml.safe_load((export.FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))


def test_what_is_published_is_fresh() -> None:
    assert export.stale() == []


def test_check_names_what_is_missing_changed_or_left_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export.write(tmp_path)
    assert export.stale(tmp_path) == []
    (tmp_path / "json/in/login.json").unlink()
    (tmp_path / "json/out/offer.json").write_text("{}")
    (tmp_path / "asyncapi.yaml").write_text("asyncapi: 2.6.0\n")
    assert export.stale(tmp_path) == ["asyncapi.yaml", "json/in/login.json", "json/out/offer.json"]
    export.write(tmp_path)
    assert export.stale(tmp_path) == []


def test_the_command_says_what_is_stale(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["--check"]) == 0
    monkeypatch.setattr(export, "stale", lambda: ["json/in/login.json"])
    assert export.main(["--check"]) == 1
    assert capsys.readouterr().err == "schemas/json/in/login.json: stale; run python -m schemas.export\n"


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_a_schema_and_has_all_it_refers_to(name: str) -> None:
    schema = SCHEMAS[name]
    Draft7Validator.check_schema(schema)
    text = json.dumps(schema)
    for definition in schema.get("definitions", {}):
        assert f'"#/definitions/{definition}"' in text
    for reference in text.split('"$ref": "')[1:]:
        assert reference.partition('"')[0].removeprefix("#/definitions/") in schema["definitions"]


@pytest.mark.parametrize("example", GOOD, ids=lambda example: example.name)
def test_a_good_example_satisfies_its_schema(example: Example) -> None:
    validator(example.topic, example.label).validate(example.body)


@pytest.mark.parametrize(
    "example",
    [e for e in BAD if e.label in IN_A_SCHEMA and e.name.endswith(".json") and e.name != BETWEEN_FIELDS],
    ids=lambda example: example.name,
)
def test_a_bad_example_breaks_every_schema_of_its_topic(example: Example) -> None:
    for kind in TOPICS[example.topic].types:
        assert not validator(example.topic, str(kind.__struct_config__.tag)).is_valid(example.body)


def test_the_document_is_asyncapi_3() -> None:
    AsyncAPI3.model_validate(document())


@pytest.mark.parametrize("damage", ["action", "key", "reference"])
def test_a_damaged_document_is_refused(damage: str) -> None:
    damaged = document()
    if damage == "action":
        damaged["operations"]["receive-logins"]["action"] = "eat"
    elif damage == "key":
        damaged["channels"]["logins.dlq"] = damaged["channels"].pop("logins-dlq")
    else:
        damaged["channels"]["logins"]["messages"]["login"] = {"$reference": "#/components/messages/in-login"}
    with pytest.raises(ValidationError):
        AsyncAPI3.model_validate(damaged)


def resolved(whole: Any, reference: str) -> Any:
    for step in reference.removeprefix("#/").split("/"):
        whole = whole[step]
    return whole


def test_every_channel_is_a_topic_with_its_messages_and_settings() -> None:
    whole = document()
    assert {channel["address"] for channel in whole["channels"].values()} == set(TOPICS)
    for channel in whole["channels"].values():
        topic = TOPICS[channel["address"]]
        names = {str(kind.__struct_config__.tag) for kind in topic.types}
        for name, reference in channel["messages"].items():
            message = resolved(whole, reference["$ref"])
            assert message["name"] == name
            if names:
                path = export.FOLDER / message["payload"]["schema"]["$ref"]
                assert json.loads(path.read_text(encoding="utf-8"))["properties"]["type"] == {"enum": [name]}
        assert not names or set(channel["messages"]) == names
        kafka = channel["bindings"]["kafka"]
        assert kafka["topicConfiguration"]["max.message.bytes"] == int(topic.configs["max.message.bytes"])
        assert kafka["topicConfiguration"]["retention.ms"] == -1


def test_every_topic_has_its_operations() -> None:
    whole = document()
    done = {
        (operation["action"], resolved(whole, operation["channel"]["$ref"])["address"])
        for operation in whole["operations"].values()
    }
    assert {address for action, address in done if action == "receive"} == {*INPUTS, "portfolio-input", "commits"}
    assert {address for action, address in done if action == "send"} == set(TOPICS) - set(INPUTS)
    assert set(OUTPUTS) <= {address for action, address in done if action == "send"}


def test_a_dead_letters_headers_are_published() -> None:
    assert set(document()["components"]["messages"]["dead_letter"]["headers"]["required"]) == set(DLQ_HEADERS)
