"""The editor schema is that of the model, and says what the loader says."""

from typing import Any

import jsonschema
import pytest
import yaml

from streams.engine.features import FEATURES
from streams.policy import schema
from tests.policy.test_loader import STANDARD

VALIDATOR = jsonschema.Draft7Validator(schema.document())


def test_the_published_schema_is_fresh() -> None:
    told = "stale; run duewatch policy schema --out streams/policy/policy.schema.json"
    assert schema.FILE.read_text(encoding="utf-8") == schema.text(), told


def test_the_shipped_policy_names_it_and_fits_it() -> None:
    assert STANDARD.splitlines()[0] == f"# yaml-language-server: $schema={schema.FILE.name}"
    jsonschema.Draft7Validator.check_schema(schema.document())
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(STANDARD))] == []


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("  base: 650", "  bias: 650", "score"),
        ("base: 650", "base: many", "score.base"),
        ("base: 650", "base: 10001", "score.base"),
        ("feature: worst_managed_dpd", "feature: worst_dpd", "score.factors.0.feature"),
        ("level: watch", "level: yellow", "warnings.0.level"),
        ("{kind: instalments, months: 12}", "{kind: instalments, months: 0}", "offers.options.0.months"),
        ("      - {day: 125}", "      - {day: soon}", "tests.0.rows.9.day"),
    ],
)
def test_an_editor_is_told_what_the_loader_would_refuse(old: str, new: str, where: str) -> None:
    assert old in STANDARD
    errors = list(VALIDATOR.iter_errors(yaml.safe_load(STANDARD.replace(old, new, 1))))
    assert where in {".".join(map(str, error.absolute_path)) for error in errors}


def fields() -> list[Any]:
    document = schema.document()
    structs = [document, *document["definitions"].values()]
    return [(name, part) for struct in structs for name, part in struct.get("properties", {}).items()]


def test_every_field_is_described() -> None:
    assert len(fields()) > 80
    assert [name for name, part in fields() if len(part.get("description", "")) < 2] == []
    dwell = next(part for name, part in fields() if name == "dwell_days")
    assert dwell["description"].startswith("Dwell, in civil days. Left for a lower level only after")
    feature = next(part for name, part in fields() if name == "feature")
    assert feature["enum"] == [known.name for known in FEATURES]
