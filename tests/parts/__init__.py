"""The real parts that tests and benchmarks run on: a Kafka node, a Redis and a Prometheus of their own."""

import secrets
import socket
from collections.abc import Callable
from time import monotonic, sleep

# Below the range from which the system gives ports to outgoing connections, so that a port found free stays free while
# its server is down and comes back.
_PORTS = range(20_000, 32_000)


class MissingPart(Exception):
    """A real part cannot be had on this machine: one line that says what to install or to set."""


class BrokenPart(Exception):
    """A real part is here but did not do what it must; the text ends with the last lines of its log."""


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports of 127.0.0.1 on which nobody listens."""
    found: set[int] = set()
    while len(found) < count:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    return sorted(found)


def wait_until(ready: Callable[[], bool], what: str, timeout_s: float = 90.0) -> None:
    """Ask until the answer is yes.

    Raises:
        BrokenPart: It was still no after `timeout_s`.
    """
    until = monotonic() + timeout_s
    while not ready():
        if monotonic() > until:
            raise BrokenPart(f"{what}: not so within {timeout_s:g} s")
        sleep(0.05)
