"""Each thing that would stop a worker is found, in a line that says how to mend it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from schemas.inbound import Tick
from schemas.topics import CONTROL
from streams.config import Settings, load_settings
from streams.store.redis_store import open_redis
from streams.worker.doctor import examine
from streams.worker.findings import Finding, failed
from streams.worker.topics import create_topics, open_admin
from tests.parts.kafka import Kafka
from tests.parts.redis import OwnRedis

NOWHERE = {"broker": "127.0.0.1:1", "redis_url": "redis://:s3cret@127.0.0.1:1/0"}


def of(findings: list[Finding], subject: str) -> list[Finding]:
    return [finding for finding in findings if finding.subject == subject]


async def send_tick(settings: Settings, at_ms: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.broker)
    await producer.start()
    value = msgspec.json.encode(Tick(event_id=f"tick-{at_ms}", at_ms=at_ms))
    await producer.send_and_wait(CONTROL, value, partition=0, timestamp_ms=at_ms)
    # What comes after the last tick does not hide it.
    await producer.send_and_wait(CONTROL, b"not an event", partition=0)
    await producer.send_and_wait(CONTROL, b'{"type":"\xff"}', partition=0)
    await producer.stop()


async def test_nothing_there_is_a_line_each_and_no_secret(tmp_path: Path) -> None:
    findings = await examine(load_settings(policy=str(tmp_path / "none.yaml"), **NOWHERE))
    assert [(finding.subject, finding.verdict) for finding in findings] == [
        ("policy", "error"),
        ("keys", "ok"),
        ("broker", "error"),
        ("redis", "error"),
    ]
    policy, _, broker, redis = findings
    assert "none.yaml" in policy.what
    assert "127.0.0.1:1" in broker.what
    assert "DUEWATCH_REDIS_URL" in redis.mend
    for finding in findings:
        assert "\n" not in finding.line
        assert "s3cret" not in finding.line


async def test_a_missing_file_of_tls_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    settings = load_settings(
        broker=NOWHERE["broker"],
        redis_url="rediss://:s3cret@127.0.0.1:1/0",
        redis_ca_file=missing,
        kafka_security="ssl",
        kafka_ca_file=missing,
    )
    findings = await examine(settings)
    for subject in ("broker", "redis"):
        (finding,) = of(findings, subject)
        assert finding.verdict == "error"
        assert finding.what.endswith(f"_CA_FILE): {missing}: No such file or directory")


async def test_a_shipped_policy_is_named_with_its_digest() -> None:
    (finding,) = of(await examine(load_settings(**NOWHERE)), "policy")
    assert finding.verdict == "ok"
    assert finding.what.startswith("standard sha256:")


@pytest.mark.redis
async def test_what_is_wrong_with_redis(make_redis: Callable[..., OwnRedis]) -> None:
    durable = load_settings(broker=NOWHERE["broker"], redis_url=make_redis(appendonly=True).url)
    (finding,) = of(await examine(durable), "redis")
    assert finding.verdict == "ok"
    assert "noeviction" in finding.what

    careless = load_settings(broker=NOWHERE["broker"], redis_url=make_redis().url)
    async with open_redis(careless) as redis:
        fine, forgets = of(await examine(careless), "redis")
        assert (fine.verdict, forgets.verdict) == ("ok", "warning")
        assert "appendonly yes" in forgets.mend
        await redis.config_set("maxmemory-policy", "volatile-lru")
        evicts, _ = of(await examine(careless), "redis")
    assert evicts.verdict == "error"
    assert "volatile-lru" in evicts.what
    assert "noeviction" in evicts.what

    elsewhere = load_settings(broker=NOWHERE["broker"], redis_url=careless.redis_url.get_secret_value()[:-1] + "99")
    (finding,) = of(await examine(elsewhere), "redis")
    assert finding.what.endswith(": Redis: ResponseError: DB index is out of range")


async def test_what_redis_says_is_told_without_credentials() -> None:
    """Of a server that knows no AUTH: it repeats what it was sent."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'app' 's3cret' \r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        settings = load_settings(broker=NOWHERE["broker"], redis_url=f"redis://app:s3cret@127.0.0.1:{port}/0")
        (finding,) = of(await examine(settings), "redis")
    assert finding.what.endswith(": Redis: ResponseError: unknown command 'HELLO'")


@pytest.mark.kafka
async def test_broker_topics_and_clock(make_kafka: Callable[[], Kafka]) -> None:
    settings = load_settings(broker=make_kafka().bootstrap, redis_url=NOWHERE["redis_url"], tick_every_s=10)
    findings = await examine(settings)
    assert [finding.verdict for finding in of(findings, "broker")] == ["ok"]
    assert [finding.verdict for finding in of(findings, "topics")] == ["error"]
    assert [finding.verdict for finding in of(findings, "clock")] == ["ok"]

    async with open_admin(settings) as admin:
        await create_topics(admin, partitions=1)

    async def clock(told: Settings = settings) -> Finding:
        findings = await examine(told)
        assert not failed(of(findings, "topics"))
        (finding,) = of(findings, "clock")
        return finding

    assert (await clock()).what.startswith("no tick yet")
    here_ms = round(time.time() * 1000)
    await send_tick(settings, here_ms - 3_600_000)
    stopped = await clock()
    assert stopped.verdict == "warning"
    assert stopped.what.endswith("s old, one is due every 10 s")
    assert (await clock(settings.model_copy(update={"clock": "external"}))).verdict == "ok"
    await send_tick(settings, here_ms)
    assert (await clock()).verdict == "ok"
    await send_tick(settings, here_ms + 3_600_000)
    ahead = await clock()
    assert ahead.verdict == "error"
    assert "ahead of this host" in ahead.what

    longer = settings.model_copy(update={"transaction_timeout_ms": 900_001})
    told = of(await examine(longer), "broker")
    assert [finding.verdict for finding in told] == ["ok", "error"]
    assert told[1].mend == "set transaction_timeout_ms to at most 900000"
