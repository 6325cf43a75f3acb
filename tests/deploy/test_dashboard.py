"""The dashboard and the alerts against the metrics there are, and against the operator's page."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.engine.chunk import PolicyInForce
from streams.metrics import Metrics

_REPO = Path(__file__).parents[2]
_GRAFANA = _REPO / "deploy" / "grafana"
_DASHBOARD = json.loads((_GRAFANA / "dashboards" / "duewatch.json").read_text())
_PANELS: list[dict[str, Any]] = _DASHBOARD["panels"]
_SHOWING = [panel for panel in _PANELS if panel["type"] != "row"]
_GROUPS = yaml.safe_load((_REPO / "deploy" / "prometheus" / "rules.yml").read_text())["groups"]
_ALERTS: list[dict[str, Any]] = [rule for group in _GROUPS for rule in group["rules"]]
_OPERATE = (_REPO / "docs" / "operate.md").read_text()


def families() -> dict[str, str]:
    """(type) of every metric of ours by its name, as Prometheus' text names it."""
    collected = Metrics(PolicyInForce("p", "sha256:0", ""), ["C"]).registry.collect()
    ours = [family for family in collected if family.name.startswith("duewatch_")]
    return {family.name + ("_total" if family.type == "counter" else ""): family.type for family in ours}


def named(expression: str) -> Iterator[str]:
    """The metrics of ours in an expression; parts of a histogram by its name."""
    for name in re.findall(r"duewatch_\w+", expression):
        whole = re.sub(r"_(bucket|sum|count)$", "", name)
        yield whole if families().get(whole) == "histogram" else name


def test_every_metric_in_a_query_exists() -> None:
    queries = [target["expr"] for panel in _SHOWING for target in panel["targets"]]
    queries += [alert["expr"] for alert in _ALERTS]
    assert {name for query in queries for name in named(query)} <= families().keys()


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for panel in _SHOWING for target in panel["targets"] for name in named(target["expr"])}
    assert shown == families().keys()


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    assert len({panel["id"] for panel in _PANELS}) == len(_PANELS)
    for one, other in combinations((panel["gridPos"] for panel in _PANELS), 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in _PANELS)


@pytest.mark.parametrize("panel", _SHOWING, ids=lambda panel: panel["title"])
def test_panel_says_what_it_shows_and_where_from(panel: dict[str, Any]) -> None:
    assert panel["description"]
    for target in panel["targets"]:
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_provisioning_finds_the_dashboard_and_the_data() -> None:
    compose = yaml.safe_load((_REPO / "docker-compose.yml").read_text())
    mounts = dict(mount.split(":")[:2] for mount in compose["services"]["grafana"]["volumes"])
    (provider,) = yaml.safe_load((_GRAFANA / "provisioning" / "dashboards" / "duewatch.yml").read_text())["providers"]
    assert provider["options"]["path"] == mounts["./deploy/grafana/dashboards"]
    (source,) = yaml.safe_load((_GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    scraped = yaml.safe_load((_REPO / "deploy" / "prometheus" / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == scraped["scrape_interval"]


def test_operators_page_lists_the_metrics_there_are() -> None:
    listed = re.findall(r"^\| `(duewatch_\w+)` \| (\w+) \|", _OPERATE, re.MULTILINE)
    assert len(listed) == len(dict(listed))
    assert dict(listed) == families()


def test_every_alert_says_what_to_do() -> None:
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", _OPERATE, re.MULTILINE)}
    assert headings == {alert["alert"].lower() for alert in _ALERTS}
    for alert in _ALERTS:
        assert alert["annotations"]["runbook"] == f"docs/operate.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in ("critical", "warning")


def test_every_alert_is_shown_to_fire_and_not_to_fire() -> None:
    tests = yaml.safe_load((_REPO / "deploy" / "prometheus" / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {alert["alert"] for alert in _ALERTS}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names
