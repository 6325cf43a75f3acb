"""The compose file and what it mounts."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from streams.config import PREFIX, Settings, load_settings
from streams.store.redis_store import check_settings, open_redis
from tests.conftest import REQUIRED
from tests.parts import free_ports, wait_until
from tests.parts.child import Child
from tests.parts.redis import GivenRedis

_REPO = Path(__file__).parents[2]
_COMPOSE = yaml.safe_load((_REPO / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = _COMPOSE["services"]
ONE_SHOT = ("topics", "simulator")


def missing(text: str) -> NoReturn:
    """End the test: skipped, or failed where all parts are required."""
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def compose_command() -> list[str]:
    if shutil.which("docker"):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if plugin.returncode == 0:
            return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    missing("no docker compose: install docker-compose (apt-get install docker-compose)")


@pytest.mark.compose
def test_compose_reads_the_file() -> None:
    command = [*compose_command(), "--file", str(_REPO / "docker-compose.yml"), "config", "--services"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"kafka", "redis", "topics", "worker", "simulator", "prometheus", "grafana"}


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_no_privileges(name: str) -> None:
    service = SERVICES[name]
    user = str(service["user"]).split(":")[0]
    assert user not in ("root", "0")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "network_mode", "devices"} & service.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_service_that_stays_is_watched_and_one_that_ends_is_not_begun_again(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"] == "no"
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_published_beyond_this_machine(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_image_is_ours_or_of_a_fixed_version(name: str) -> None:
    service = SERVICES[name]
    if "build" not in service:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", service["image"])
    else:
        assert (_REPO / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_there_is_no_secret(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        assert not re.search("PASSWORD|SECRET|TOKEN|CREDENTIAL", variable.removesuffix("INITIAL_ADMIN_CREATION"))
        assert not re.search(r"://[^/]*@", str(value))


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there_and_files_of_ours_are_read_only(name: str) -> None:
    for mount in SERVICES[name].get("volumes", ()):
        source, _, mode = mount.split(":") if mount.count(":") == 2 else (*mount.split(":"), "")
        if source.startswith("."):
            assert (_REPO / source).exists()
            assert mode == "ro"
        else:
            assert source in _COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_order_of_the_start(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        ends = "service_completed_successfully"
        assert how == {"condition": ends if needed in ONE_SHOT else "service_healthy"}


@pytest.mark.parametrize("name", ["topics", "worker", "simulator"])
def test_settings_are_those_there_are(name: str) -> None:
    given = {
        variable.removeprefix(PREFIX).lower(): re.sub(r"\$\{\w+:-(.*)\}", r"\1", str(value))
        for variable, value in SERVICES[name]["environment"].items()
    }
    assert given.keys() <= Settings.model_fields.keys()
    settings = load_settings(**given)
    assert settings.broker in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


def test_commands_are_those_there_are() -> None:
    from typer.main import get_command

    from streams.cli import app

    for name in ("topics", "worker", "simulator"):
        words = SERVICES[name]["command"]
        command: Any = get_command(app)
        for depth, word in enumerate(words):
            commands = getattr(command, "commands", None)
            if commands is None:
                # Parsed to the end: an option that does not exist is an error.
                command.make_context(command.name, [str(rest) for rest in words[depth:]])
                break
            command = commands[word]


def test_prometheus_scrapes_where_the_worker_listens() -> None:
    config = yaml.safe_load((_REPO / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (target,) = job["dns_sd_configs"]
    assert job["job_name"] == "duewatch"
    assert target["names"] == ["worker"]
    assert [str(target["port"])] == SERVICES["worker"]["expose"]
    assert target["port"] == Settings.model_fields["http_port"].default
    assert SERVICES["worker"]["environment"][f"{PREFIX}HTTP_HOST"] == "0.0.0.0"


@pytest.mark.redis
async def test_redis_runs_with_our_configuration_and_suits_the_worker(
    tmp_path: Path,
) -> None:
    binary = shutil.which("redis-server")
    if binary is None:
        missing("no Redis: install redis-server (apt-get install redis-server)")
    (port,) = free_ports(1)
    server = GivenRedis(f"redis://127.0.0.1:{port}/0")
    child = Child("redis")
    config = str(_REPO / "deploy" / "redis" / "redis.conf")
    try:
        child.start(
            [binary, config, "--dir", str(tmp_path), "--port", str(port), "--bind", "127.0.0.1"], server.answers
        )
        wait_until(server.answers, "redis answers")
        client = open_redis(load_settings(redis_url=server.url))
        await check_settings(client)
        assert (await client.config_get("appendonly"))["appendonly"] == "yes"
        await client.aclose()
    finally:
        child.close()


def test_kafka_has_room_for_one_replica_and_makes_no_topic_by_itself() -> None:
    environment = SERVICES["kafka"]["environment"]
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    replicas = [value for name, value in environment.items() if name.endswith(("REPLICATION_FACTOR", "MIN_ISR"))]
    assert len(replicas) == 6
    assert set(replicas) == {1}
    named = {entry.split("://")[0] for entry in environment["KAFKA_LISTENERS"].split(",")}
    mapped = {entry.split(":")[0] for entry in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")}
    assert named == mapped
