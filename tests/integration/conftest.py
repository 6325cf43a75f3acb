"""Fixtures of the tests that run whole workers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.rig import Rig
from tests.parts.kafka import Kafka
from tests.parts.redis import Redis


@pytest.fixture
def make_rig(kafka: Kafka, redis_server: Redis, unique: str, tmp_path: Path) -> Iterator[Callable[[int], Rig]]:
    """Fresh topics with so many partitions; the workers of a test end with it."""
    with ExitStack() as opened:

        def make(partitions: int = 4) -> Rig:
            rig = Rig(kafka, redis_server.url, unique, tmp_path, partitions)
            opened.callback(rig.close)
            return rig

        yield make
