"""A real Prometheus from the path, with promtool, over targets of ours."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.parts import BrokenPart, MissingPart, free_ports, wait_until
from tests.parts.child import Child

_HTTP_S = 10.0


@dataclass(frozen=True)
class PrometheusBinaries:
    """Where the programs are."""

    prometheus: str
    promtool: str

    def check(self, *arguments: str) -> None:
        """Run promtool, as in `check("check", "rules", "rules.yaml")`.

        Raises:
            BrokenPart: promtool found a fault; the text is what it said.
        """
        done = subprocess.run(
            [self.promtool, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode != 0:
            raise BrokenPart(done.stdout.strip())


def find_prometheus() -> PrometheusBinaries:
    """Both programs.

    Raises:
        MissingPart: One of them is not on the path.
    """
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if prometheus is None or promtool is None:
        raise MissingPart("no Prometheus: install prometheus with promtool (apt-get install prometheus)")
    return PrometheusBinaries(prometheus, promtool)


class Prometheus:
    """A server that scrapes `targets` ("host:port") every second."""

    def __init__(self, binaries: PrometheusBinaries, targets: Sequence[str], rule_files: Sequence[Path] = ()) -> None:
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        self._targets = list(targets)
        self._child = Child("prometheus")
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path.resolve()) for path in rule_files],
            "scrape_configs": [{"job_name": "duewatch", "static_configs": [{"targets": self._targets}]}],
        }
        path = self._child.folder / "prometheus.yaml"
        path.write_text(yaml.safe_dump(config))
        self._command = [
            binaries.prometheus,
            f"--config.file={path}",
            f"--storage.tsdb.path={self._child.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        ]

    def start(self) -> None:
        """Start it and wait until it has scraped every target once."""
        self._child.start(self._command, self._ready)
        wait_until(lambda: len(self.query("up == 1")) == len(self._targets), f"{self._targets} scraped", timeout_s=30.0)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query: series with `metric` and `value` [seconds, text].

        Raises:
            BrokenPart: Prometheus refuses the expression.
        """
        status, body = self._get(f"/api/v1/query?{urlencode({'query': expression})}")
        answer = json.loads(body)
        if status != 200:
            raise BrokenPart(f"{expression}: {answer.get('error')}")
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def close(self) -> None:
        """End it and remove what it stored."""
        self._child.close()

    def _ready(self) -> bool:
        try:
            return self._get("/-/ready")[0] == 200
        except OSError:
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_HTTP_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
