"""Kafka for the rows: nodes that workers reach through a proxy only, while the checks have a way of their own."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from tests.faults.proxy import Proxy
from tests.parts import free_ports, wait_until
from tests.parts.kafka import JarsKafka, Kafka, find_jars, new_cluster_id

_SMALL_HEAP = "-Xmx256m"
_EVERYWHERE = {
    # So that a row need not wait for what takes its time by default.
    "group.min.session.timeout.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "log.flush.interval.messages": "1000000",
}
_THREE = {
    "default.replication.factor": "3",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "replica.lag.time.max.ms": "3000",
    "controlled.shutdown.enable": "true",
}


def _listeners(client_port: int, controller_port: int, proxied: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Of a node; `proxied` are the port behind each proxy and the proxy's own, by name."""
    behind = "".join(f"{name}://127.0.0.1:{port}," for name, (port, _) in proxied.items())
    before = "".join(f",{name}://127.0.0.1:{port}" for name, (_, port) in proxied.items())
    names = ("CLIENTS", "CONTROLLER", *proxied)
    return {
        "listeners": f"CLIENTS://127.0.0.1:{client_port},{behind}CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"CLIENTS://127.0.0.1:{client_port}{before}",
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in names),
    }


class Cluster(Kafka):
    """One node, or three. `bootstrap` is the checks' way, `proxied` the workers', `aside` that of one to be cut off."""

    def __init__(self, count: int = 1, settings: Mapping[str, str] | None = None) -> None:
        java, jars = find_jars()
        ports = free_ports(4 * count)
        voters = ",".join(f"{n + 1}@127.0.0.1:{ports[4 * n + 3]}" for n in range(count))
        cluster_id = new_cluster_id()
        self.proxies: list[Proxy] = []
        self.asides: list[Proxy] = []
        self.nodes: list[JarsKafka] = []
        for n in range(count):
            client, proxied, aside, controller = ports[4 * n : 4 * n + 4]
            self.proxies.append(Proxy(proxied, frames=True))
            self.asides.append(Proxy(aside, frames=True))
            ways = {"PROXIED": (proxied, self.proxies[n].port), "ASIDE": (aside, self.asides[n].port)}
            own = {"node.id": str(n + 1), "controller.quorum.voters": voters}
            more = _EVERYWHERE | (_THREE if count > 1 else {}) | dict(settings or {})
            node = JarsKafka(
                java,
                jars,
                own | _listeners(client, controller, ways) | more,
                ports=(client, controller),
                cluster_id=cluster_id,
                heap=_SMALL_HEAP if count > 1 else "-Xmx384m",
            )
            self.nodes.append(node)
        self.bootstrap = ",".join(node.bootstrap for node in self.nodes)
        self.proxied, self.aside = (
            ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies) for proxies in (self.proxies, self.asides)
        )

    @property
    def proxy(self) -> Proxy:
        """The proxy of the only node."""
        return self.proxies[0]

    @property
    def pid(self) -> int | None:
        return self.nodes[0].pid

    def start(self) -> None:
        down = [node for node in self.nodes if node.pid is None]
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: node.start(), down))
        wait_until(lambda: len(self._admin().list_topics(timeout=5).brokers) == len(self.nodes), "all nodes in")

    def create_topics(self, names: Iterable[str], partitions: int = 4, config: Mapping[str, str] | None = None) -> None:
        wanted = set(names)
        super().create_topics(wanted, partitions, config)
        # Each node learns of them for itself, and a client asks any.
        running = [node for node in self.nodes if node.pid is not None]
        wait_until(lambda: all(wanted <= node.topics() for node in running), "every node knows the topics")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        for proxy in (*self.proxies, *self.asides):
            proxy.close()

    def mend(self) -> None:
        """Everything up and reachable again, whatever the last row has left."""
        for proxy in (*self.proxies, *self.asides):
            proxy.judge = None
            proxy.mend()
        if any(node.pid is None for node in self.nodes):
            self.start()
