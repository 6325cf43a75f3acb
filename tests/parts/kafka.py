"""A real Kafka node: one that is given, else one in Docker, else one from Maven's jars."""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from abc import ABC, abstractmethod
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from string import Template

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.parts import BrokenPart, MissingPart, free_ports, wait_until
from tests.parts.child import Child, Guard

VERSION = "4.1.0"
GIVEN = "DUEWATCH_TEST_KAFKA"

_DEPLOY = Path(__file__).parents[2] / "deploy" / "kafka"
_IMAGE = f"apache/kafka:{VERSION}"
_HEAP = "-Xmx512m"
# On few cores the parallel collectors and, in a tool that lives for a second, the optimising compiler cost more than
# they bring.
_JVM = [_HEAP, "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
_JVM_TOOL = [*_JVM, "-XX:TieredStopAtLevel=1"]
_ADMIN_S = 30.0


class Kafka(ABC):
    """A single node. `bootstrap` stays the same over `stop`, `kill` and `restart`, and so does what it stores."""

    bootstrap: str

    @property
    def pid(self) -> int | None:
        """The process id, None where it does not run or is no process of ours."""
        return None

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Shut it down in good order."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""

    @abstractmethod
    def close(self) -> None:
        """End it and remove what it stored."""

    def restart(self) -> None:
        """Shut it down in good order and start it over the same data."""
        self.stop()
        self.start()

    def create_topics(self, names: Iterable[str], partitions: int = 4, config: Mapping[str, str] | None = None) -> None:
        """Create topics and wait until they are there. Without `config`, records of any age are kept."""
        settings = {"retention.ms": "-1"} if config is None else dict(config)
        topics = [NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings) for name in names]
        # The client must live until the answers are here: its futures fail when it goes.
        admin = self._admin()
        created: Mapping[str, Future[None]] = admin.create_topics(topics, operation_timeout=_ADMIN_S)
        for outcome in created.values():
            outcome.result(_ADMIN_S)

    def topics(self) -> set[str]:
        """The names of all topics, Kafka's own included."""
        return set(self._admin().list_topics(timeout=_ADMIN_S).topics)

    def answers(self) -> bool:
        """Whether a client gets its metadata."""
        host, port = self.bootstrap.split(",")[0].rsplit(":", 1)
        try:
            # Cheaper than a client of Kafka's, which waits longer after each refusal.
            socket.create_connection((host, int(port)), timeout=2.0).close()
        except OSError:
            return False
        try:
            return len(self._admin().list_topics(timeout=2.0).brokers) > 0
        except KafkaException:
            return False

    def _admin(self) -> AdminClient:
        # Without a logger librdkafka tells stderr about each refused connection of a node that is starting.
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})


class GivenKafka(Kafka):
    """A node somebody else runs: it can be used, not stopped."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def start(self) -> None:
        try:
            wait_until(self.answers, f"{GIVEN}={self.bootstrap} answers", timeout_s=20.0)
        except BrokenPart as silent:
            raise MissingPart(str(silent)) from None

    def stop(self) -> None:
        raise BrokenPart(f"the Kafka of {GIVEN} is not ours to stop: take make_kafka")

    def kill(self) -> None:
        self.stop()

    def close(self) -> None:
        """It stays."""


class JarsKafka(Kafka):
    """A node in a JVM of its own, from the jars in `jars`.

    `settings` win over the usual ones. Nodes of one cluster have the same `cluster_id`; `ports` (for clients, for
    controllers) are given where others must know them before it starts.
    """

    def __init__(
        self,
        java: str,
        jars: Path,
        settings: Mapping[str, str] | None = None,
        *,
        ports: tuple[int, int] | None = None,
        cluster_id: str | None = None,
        heap: str = _HEAP,
    ) -> None:
        client_port, controller_port = free_ports(2) if ports is None else ports
        self.bootstrap = f"127.0.0.1:{client_port}"
        self._child = Child("kafka")
        self._java = java
        self._classes = ["-cp", f"{jars}/*"]
        self._jvm = [heap, *_JVM[1:]]
        self._properties = self._child.folder / "node.properties"
        usual = _properties("127.0.0.1", client_port, controller_port, str(self._child.folder / "data"))
        changed = "".join(f"{name}={value}\n" for name, value in (settings or {}).items())
        self._properties.write_text(usual + changed)
        self._format(new_cluster_id() if cluster_id is None else cluster_id)

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def _format(self, cluster_id: str) -> None:
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config", str(self._properties)]
        _output([self._java, *_JVM_TOOL, *self._classes, *tool], "format the storage of Kafka")

    def start(self) -> None:
        node = ["kafka.Kafka", str(self._properties)]
        self._child.start([self._java, *self._jvm, *self._classes, *node], self.answers)

    def stop(self) -> None:
        self._child.stop()

    def kill(self) -> None:
        self._child.kill()

    def close(self) -> None:
        self._child.close()


class DockerKafka(Kafka):
    """A node in a container; the container outlives `stop` and `kill`, and goes with `close` or with us."""

    def __init__(self, docker: str) -> None:
        client_port, controller_port = free_ports(2)
        self.bootstrap = f"127.0.0.1:{client_port}"
        self._docker = docker
        self._container = f"duewatch-kafka-{uuid.uuid4().hex[:12]}"
        properties = _properties("0.0.0.0", client_port, controller_port, "/var/lib/kafka/data")
        settings = [f"--env={name}={value}" for name, value in _image_settings(properties).items()]
        publish = f"--publish=127.0.0.1:{client_port}:{client_port}"
        self._do("create", f"--name={self._container}", publish, *settings, _IMAGE)
        self._guard = Guard('"$1" rm -f -v "$2"', docker, self._container)

    def start(self) -> None:
        self._do("start", self._container)
        try:
            wait_until(self.answers, "kafka ready")
        except BrokenPart as slow:
            raise BrokenPart(f"{slow}\n{self._do('logs', '--tail=15', self._container)}") from None

    def stop(self) -> None:
        self._do("stop", "--time=30", self._container)

    def kill(self) -> None:
        self._do("kill", self._container)

    def close(self) -> None:
        self._guard.dismiss()
        self._do("rm", "-f", "-v", self._container)

    def _do(self, *arguments: str) -> str:
        return _output([self._docker, *arguments], f"docker {arguments[0]}")


def open_kafka() -> Kafka:
    """A running node for whoever can share it.

    Raises:
        MissingPart: There is none to be had here.
    """
    given = os.environ.get(GIVEN)
    return open_own_kafka() if not given else _started(GivenKafka(given))


def open_own_kafka() -> Kafka:
    """A running node that the caller may stop, kill and start.

    Raises:
        MissingPart: There is none to be had here.
    """
    docker = shutil.which("docker")
    if docker is not None and _succeeds([docker, "info"]) and _has_image(docker):
        return _started(DockerKafka(docker))
    return _started(JarsKafka(*find_jars()))


def find_jars() -> tuple[str, Path]:
    """The Java program and the folder with Kafka's jars.

    Raises:
        MissingPart: One of them is not to be had here.
    """
    java = shutil.which("java")
    if java is None:
        raise MissingPart(f"no Kafka: install Java 17 (openjdk-17-jre-headless), start Docker, or set {GIVEN}")
    return java, jars_of("kafka", _DEPLOY / "pom.xml", f", start Docker, or set {GIVEN}")


def new_cluster_id() -> str:
    """An id that no other cluster has."""
    return urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _started(kafka: Kafka) -> Kafka:
    try:
        kafka.start()
    except BaseException:
        kafka.close()
        raise
    return kafka


def _has_image(docker: str) -> bool:
    return _succeeds([docker, "image", "inspect", _IMAGE]) or _succeeds([docker, "pull", _IMAGE], timeout_s=300.0)


def jars_of(name: str, pom: Path, otherwise: str = "") -> Path:
    """The folder with the jars that a pom lists, brought by Maven the first time.

    Args:
        otherwise: what else than installing Maven can be done, for the message.

    Raises:
        MissingPart: Maven is not here, or does not bring them.
    """
    folder = Path.home() / ".cache" / "duewatch" / f"{name}-{VERSION}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingPart(f"no jars of {name}: install Maven (apt-get install maven){otherwise}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Filled under another name first: a run that is cut off, or another at the same time, must not leave half of it.
    with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
        jars = Path(unfinished) / "jars"
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
        try:
            _output([maven, "-B", "-q", "-f", str(pom), *goal], f"bring the jars of {name} with Maven")
        except BrokenPart as failure:
            raise MissingPart(str(failure)) from None
        if not folder.is_dir():
            jars.rename(folder)
    return folder


def _properties(listen_host: str, client_port: int, controller_port: int, log_dir: str) -> str:
    template = Template((_DEPLOY / "node.properties.in").read_text())
    return template.safe_substitute(
        node_id=1,
        voters=f"1@127.0.0.1:{controller_port}",
        listen_host=listen_host,
        client_port=client_port,
        controller_port=controller_port,
        log_dir=log_dir,
    )


def _image_settings(properties: str) -> dict[str, str]:
    """The same properties as the variables that the image turns back into them."""
    settings = {"KAFKA_HEAP_OPTS": _HEAP}
    for line in properties.splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            settings["KAFKA_" + name.upper().replace(".", "_")] = value
    return settings


def _succeeds(command: list[str], timeout_s: float = 10.0) -> bool:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _output(command: list[str], what: str) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise BrokenPart(f"cannot {what}: {' '.join(done.stdout.split())[-600:]}")
    return done.stdout
