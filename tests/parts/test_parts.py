"""The real parts do what the other tests take for granted."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from prometheus_client import CollectorRegistry, Counter, start_http_server

from tests.parts import BrokenPart, wait_until
from tests.parts.kafka import Kafka
from tests.parts.prometheus import Prometheus, PrometheusBinaries
from tests.parts.redis import OwnRedis, Redis


async def values(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """The first committed values of a topic of one partition."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    async with consumer, asyncio.timeout(60):
        return [(await consumer.getone()).value for _ in range(count)]


@pytest.mark.kafka
async def test_kafka_shows_a_committed_transaction_and_hides_an_aborted_one(kafka: Kafka, unique: str) -> None:
    kafka.create_topics([unique], partitions=1)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=unique)
    async with producer:
        async with producer.transaction():
            await producer.send_and_wait(unique, b"first")
        await producer.begin_transaction()
        await producer.send_and_wait(unique, b"undone")
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(unique, b"last")

    assert await values(kafka.bootstrap, unique, 2) == [b"first", b"last"]


@pytest.mark.kafka
def test_kafka_has_no_topic_that_nobody_created(kafka: Kafka, unique: str) -> None:
    kafka.create_topics([unique])

    topics = kafka.topics()

    assert unique in topics
    assert f"{unique}-misspelt" not in topics


@pytest.mark.kafka
async def test_kafka_killed_and_started_again_has_its_records(make_kafka: Callable[[], Kafka], unique: str) -> None:
    kafka = make_kafka()
    kafka.create_topics([unique], partitions=1)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer:
        await producer.send_and_wait(unique, b"kept")

    kafka.kill()
    assert not kafka.answers()
    kafka.start()

    assert await values(kafka.bootstrap, unique, 1) == [b"kept"]


@pytest.mark.redis
def test_redis_keeps_what_is_set_and_refuses_to_evict(redis_server: Redis, unique: str) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(unique, b"1")

        assert client.get(unique) == b"1"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@pytest.mark.redis
def test_own_redis_answers_on_its_socket_and_forgets_when_told(make_redis: Callable[..., OwnRedis]) -> None:
    server = make_redis()
    with redis.Redis.from_url(server.unix_url) as client:
        client.set("a", b"1")
        server.flush()

        assert client.get("a") is None


@pytest.mark.redis
@pytest.mark.parametrize(("appendonly", "after_kill"), [(True, b"1"), (False, None)])
def test_killed_redis_has_its_data_only_when_appendonly(
    make_redis: Callable[..., OwnRedis], appendonly: bool, after_kill: bytes | None
) -> None:
    server = make_redis(appendonly=appendonly)
    with redis.Redis.from_url(server.url) as client:
        client.set("a", b"1")

    server.kill()
    assert not server.answers()
    server.start()

    with redis.Redis.from_url(server.url) as client:
        assert client.get("a") == after_kill


@pytest.mark.redis
def test_server_goes_with_the_run_that_is_killed(make_redis: Callable[..., OwnRedis]) -> None:
    make_redis()  # skips here where there is no Redis
    script = """
import sys
from tests.parts.redis import open_own_redis
print(open_own_redis().unix_url, flush=True)
sys.stdin.read()
"""
    run = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    socket_path = Path(run.stdout.readline().removeprefix("unix://").split("?")[0])
    assert socket_path.exists()

    run.send_signal(signal.SIGKILL)
    run.communicate()

    wait_until(lambda: not socket_path.parent.exists(), "the server's folder gone", timeout_s=30.0)


@pytest.mark.prometheus
def test_prometheus_answers_with_what_it_scraped(make_prometheus: Callable[..., Prometheus]) -> None:
    registry = CollectorRegistry()
    Counter("events", "Events.", registry=registry).inc(7)
    http, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        prometheus = make_prometheus(f"127.0.0.1:{http.server_port}")

        (series,) = prometheus.query("events_total")
        assert series["value"][1] == "7"
        with pytest.raises(BrokenPart, match="parse error"):
            prometheus.query("events_total{")
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.mark.prometheus
def test_promtool_tells_a_bad_rule_from_a_good_one(prometheus_bin: PrometheusBinaries, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rule = "groups: [{{name: g, rules: [{{record: 'a:b', expr: '{}'}}]}}]"

    rules.write_text(rule.format("sum(up)"))
    prometheus_bin.check("check", "rules", str(rules))

    rules.write_text(rule.format("sum(up"))
    with pytest.raises(BrokenPart, match="could not parse expression"):
        prometheus_bin.check("check", "rules", str(rules))
