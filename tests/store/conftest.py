"""A client of the shared Redis."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from streams.config import load_settings
from streams.store.redis_store import open_redis
from tests.parts.redis import Redis as RedisServer


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = open_redis(load_settings(redis_url=redis_server.url))
    yield client
    await client.aclose()
