"""A real Prometheus scrapes a real worker: every panel of the dashboard shows something, every alert can be judged."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka.admin import AdminClient

from schemas.topics import TOPICS
from streams.config import PREFIX, load_settings
from streams.replay.produce import produce
from streams.replay.recording import Recording
from streams.replay.simulate.writing import simulate
from streams.worker.findings import Finding, failed
from streams.worker.topics import create_topics, open_admin
from tests.parts import free_ports, wait_until
from tests.parts.kafka import Kafka
from tests.parts.prometheus import Prometheus, PrometheusBinaries
from tests.parts.redis import Redis

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.prometheus]

_REPO = Path(__file__).parents[2]
_DEPLOY = _REPO / "deploy"
_RULES = _DEPLOY / "prometheus" / "rules.yml"
_PARTITIONS = 2
# Enough days that loans have fallen due and stayed unpaid, and a limit was cut for it.
_EVENTS = 12_000
_FEW_EVENTS = 3_000
_BORROWERS = 15
_SEED = 7


def panel_queries() -> list[tuple[str, str]]:
    """(panel, query) of all panels."""
    dashboard = json.loads((_DEPLOY / "grafana" / "dashboards" / "duewatch.json").read_text())
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", ())]


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


class Worker:
    """`duewatch worker` with its metrics on a port of its own."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        (self.port,) = free_ports(1)
        self._log = log
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from streams.cli import main; main()", "worker"],
                cwd=_REPO,
                env={**os.environ, **env, "DUEWATCH_HTTP_PORT": str(self.port)},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()[-3000:]
        return get(self.port, "/readyz")[0] == 200

    def metrics(self) -> str:
        status, text = get(self.port, "/metrics")
        assert status == 200
        return text

    def folded(self) -> float:
        return sum(map(float, re.findall(r"^duewatch_records_total\{.*\} (\S+)$", self.metrics(), re.MULTILINE)))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def make_topics(kafka: Kafka) -> None:
    """Every topic anew, as an operator makes them."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    there = sorted(kafka.topics() & TOPICS.keys())
    if there:
        for gone in admin.delete_topics(there, operation_timeout=30).values():
            gone.result()
        wait_until(lambda: not kafka.topics() & TOPICS.keys(), "old topics gone")

    async def create() -> list[Finding]:
        async with open_admin(load_settings(broker=kafka.bootstrap)) as opened:
            return await create_topics(opened, _PARTITIONS)

    assert not failed(asyncio.run(create()))


@pytest.fixture
def start_worker(kafka: Kafka, redis_server: Redis, unique: str, tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    make_topics(kafka)
    settings = {"broker": kafka.bootstrap, "redis_url": redis_server.url, "app_id": unique, "clock": "external"}
    env = {f"{PREFIX}{name.upper()}": value for name, value in {**settings, "session_timeout_s": "6"}.items()}
    with ExitStack() as opened:

        def start() -> Worker:
            worker = Worker(env, tmp_path / "worker.log")
            opened.callback(worker.close)
            wait_until(worker.is_ready, "the worker ready")
            return worker

        yield start


def number(result: list[dict[str, Any]]) -> float:
    (series,) = result
    return float(series["value"][1])


def feed(kafka: Kafka, folder: Path, events: int) -> int:
    """Send a simulation; returns its number of records."""
    simulate(_SEED, _BORROWERS, events, folder / "recording", _PARTITIONS)
    with Recording.open(folder / "recording") as recording:
        asyncio.run(produce(recording, load_settings(broker=kafka.bootstrap)))
        return recording.manifest.records


def test_every_panel_has_data_and_every_alert_is_judged(
    start_worker: Callable[[], Worker], make_prometheus: Callable[..., Prometheus], kafka: Kafka, tmp_path: Path
) -> None:
    worker = start_worker()
    # With the rules: Prometheus does not start where it cannot read them.
    prometheus = make_prometheus(f"127.0.0.1:{worker.port}", rule_files=[_RULES])
    records = feed(kafka, tmp_path, _EVENTS)
    folded = "sum(duewatch_records_total)"
    wait_until(lambda: number(prometheus.query(folded)) >= records, "the recording folded and scraped")
    wait_until(lambda: number(prometheus.query("sum(duewatch_lag_records)")) == 0, "no lag told")

    silent = []
    for panel, query in panel_queries():
        expression = query.replace("$__rate_interval", "5m")
        values = [float(series["value"][1]) for series in prometheus.query(expression)]
        if not values or all(value != value for value in values):
            silent.append(f"{panel}: {expression}")
    assert not silent, "\n".join(silent)

    for group in yaml.safe_load(_RULES.read_text())["groups"]:
        for rule in group["rules"]:
            prometheus.query(rule["expr"])
    # What was simulated is there in the figures, not only in the number of series.
    assert number(prometheus.query("sum(duewatch_loans)")) > 0
    assert number(prometheus.query("sum(duewatch_balance_minor)")) > 0
    assert number(prometheus.query('sum(duewatch_outputs_total{topic="delinquency"})')) > 0
    assert number(prometheus.query("sum(duewatch_warnings_total)")) > 0
    assert number(prometheus.query("sum(duewatch_limit_changes_total)")) > 0
    assert number(prometheus.query("sum(duewatch_borrowers_by_level)")) == _BORROWERS
    assert number(prometheus.query("count(duewatch_task_owned)")) == _PARTITIONS


def test_restarted_worker_tells_what_it_told_before(
    start_worker: Callable[[], Worker], kafka: Kafka, tmp_path: Path
) -> None:
    worker = start_worker()
    records = feed(kafka, tmp_path, _FEW_EVENTS)
    wait_until(lambda: worker.folded() >= records, "the recording folded")
    before = portfolio(worker)
    assert any(line.startswith("duewatch_loans{") and not line.endswith(" 0.0") for line in before)
    no_borrower_is_named(worker)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(40) == 0

    # No tick and no event comes: what it tells is what it took over.
    assert portfolio(start_worker()) == before


def portfolio(worker: Worker) -> list[str]:
    gauges = ("duewatch_loans{", "duewatch_balance_minor{", "duewatch_borrowers_by", "duewatch_policy_info")
    return [line for line in worker.metrics().splitlines() if line.startswith(gauges)]


def no_borrower_is_named(worker: Worker) -> None:
    labels = set(re.findall(r'[{,](\w+)="', worker.metrics()))
    assert labels == {
        *("topic", "partition", "outcome", "type", "level", "status", "reason", "stage", "le", "bucket", "currency"),
        *("policy_id", "digest", "version", "python", "engine", "why"),
    }


def test_rules_and_configuration_are_sound_and_the_alerts_fire_when_they_should(
    prometheus_bin: PrometheusBinaries,
) -> None:
    folder = _DEPLOY / "prometheus"
    prometheus_bin.check("check", "config", str(folder / "prometheus.yml"))
    prometheus_bin.check("check", "rules", str(_RULES))
    prometheus_bin.check("test", "rules", str(folder / "rules_test.yml"))
