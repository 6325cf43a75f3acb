"""Fixtures for tests that need real parts; see tests/parts."""

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from tests.parts import MissingPart
from tests.parts.kafka import Kafka, open_kafka, open_own_kafka
from tests.parts.prometheus import Prometheus, PrometheusBinaries, find_prometheus
from tests.parts.redis import OwnRedis, Redis, open_own_redis, open_redis

T = TypeVar("T")

REQUIRED = "DUEWATCH_REQUIRE_REAL"


def _had(find: Callable[[], T]) -> T:
    """The part, or the end of the test: skipped with the reason, failed where all parts are required."""
    try:
        return find()
    except MissingPart as missing:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture
def unique() -> str:
    """A name that no other test and no other run has: for topics, groups, transactional ids and app ids."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One node for all tests: keep topics and groups apart with `unique`, and never stop it."""
    part = _had(open_kafka)
    yield part
    part.close()


@pytest.fixture
def make_kafka() -> Iterator[Callable[[], Kafka]]:
    """Start a node that the test may stop and kill; it ends with the test."""
    with ExitStack() as opened:

        def make() -> Kafka:
            part = _had(open_own_kafka)
            opened.callback(part.close)
            return part

        yield make


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """One server for all tests: keep keys apart with `unique`, and never stop or flush it."""
    part = _had(open_redis)
    yield part
    part.close()


@pytest.fixture
def make_redis() -> Iterator[Callable[..., OwnRedis]]:
    """Start a server that the test may stop, kill and flush; it ends with the test."""
    with ExitStack() as opened:

        def make(*, appendonly: bool = False) -> OwnRedis:
            part = _had(lambda: open_own_redis(appendonly=appendonly))
            opened.callback(part.close)
            return part

        yield make


@pytest.fixture(scope="session")
def prometheus_bin() -> PrometheusBinaries:
    """Prometheus and promtool."""
    return _had(find_prometheus)


@pytest.fixture
def make_prometheus(prometheus_bin: PrometheusBinaries) -> Iterator[Callable[..., Prometheus]]:
    """Start a Prometheus over given targets, and perhaps rules; it ends with the test."""
    with ExitStack() as opened:

        def make(*targets: str, rule_files: Sequence[Path] = ()) -> Prometheus:
            part = Prometheus(prometheus_bin, targets, rule_files)
            opened.callback(part.close)
            part.start()
            return part

        yield make
