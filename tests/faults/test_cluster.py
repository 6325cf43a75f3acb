"""Rows on three nodes of Kafka: whoever leads, coordinates or controls goes away, then all of them."""

import os
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import MakeStage
from tests.faults.roles import ROLES, holder
from tests.faults.stage import Stage
from tests.faults.test_broker import MINUTE_S, configure
from tests.faults.test_store import said, under_way
from tests.parts.kafka import JarsKafka

pytestmark = [pytest.mark.long, pytest.mark.timeout(1_000)]


def _killed(stage: Stage, cluster: Cluster, nodes: list[JarsKafka]) -> None:
    for node in nodes:
        node.kill()
        stage.kills += 1
    if len(nodes) < len(cluster.nodes):
        get_on(stage)
    cluster.start()


def _bounced(stage: Stage, cluster: Cluster, nodes: list[JarsKafka]) -> None:
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(lambda node: node.stop(), nodes))
    cluster.start()


def _suspended(stage: Stage, cluster: Cluster, nodes: list[JarsKafka]) -> None:
    """Connections stay open, and nobody answers: clients may wait all the while."""
    signalled(nodes, signal.SIGSTOP)
    try:
        stage.hold(MINUTE_S, f"{len(nodes)} suspended")
    finally:
        signalled(nodes, signal.SIGCONT)


def signalled(nodes: list[JarsKafka], number: signal.Signals) -> None:
    for node in nodes:
        assert node.pid is not None
        os.kill(node.pid, number)


def get_on(stage: Stage) -> None:
    stage.wait_until_folded(min(stage.commit_logs.folded + 120, stage.total))


class Way(NamedTuple):
    """How nodes go away, and at what pace the workers go on meanwhile, so that they are not done before."""

    go: Callable[[Stage, Cluster, list[JarsKafka]], None]
    pace_s: float


WAYS: Mapping[str, Way] = {
    "killed": Way(_killed, 1.0),
    "bounced": Way(_bounced, 1.0),
    "suspended": Way(_suspended, 8.0),
}


@pytest.mark.parametrize("way", WAYS)
def test_three_nodes_lose_each_role(make_stage: MakeStage, three_nodes: Cluster, way: str) -> None:
    """Leader, coordinators and controller, then all nodes at once; who holds a second role is not lost twice."""
    stage = under_way(make_stage, three_nodes, 0.1)
    stage.pace(WAYS[way].pace_s)
    lost: set[str] = set()
    while left := [role for role in ROLES if role not in lost]:
        held = {role: holder(role, three_nodes.bootstrap, stage.app_id) for role in ROLES}
        node = held[left[0]]
        roles = [role for role in ROLES if held[role] == node]
        stage.tell(f"{way}: {', '.join(roles)}")
        lost.update(roles)
        WAYS[way].go(stage, three_nodes, [three_nodes.nodes[node - 1]])
        get_on(stage)
    assert stage.commit_logs.folded < stage.total
    stage.tell(f"{way}: all nodes")
    WAYS[way].go(stage, three_nodes, three_nodes.nodes)
    stage.finish(timeout_s=200)


def test_three_nodes_too_few_in_sync(make_stage: MakeStage, three_nodes: Cluster) -> None:
    """Fewer copies than demanded: everything waits, and goes on when the third is back."""
    stage = under_way(make_stage, three_nodes, 0.15)
    for topic in ("commits", "early-warnings"):
        configure(three_nodes, topic, "min.insync.replicas", "3")
    three_nodes.nodes[2].kill()
    stage.kills += 1
    stage.wait_for(said(stage, "is taken over again"), "the worker notices", 60)
    stage.read_commits()
    folded = stage.commit_logs.folded
    stage.hold(3.0, "too few in sync")
    stage.read_commits()
    assert stage.commit_logs.folded == folded
    three_nodes.start()
    stage.finish(timeout_s=150)
