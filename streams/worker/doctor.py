"""Whether a worker could do its work here: policy, broker, topics, Redis and clocks, a line each."""

import asyncio
import time

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from redis.asyncio import Redis

from schemas.inbound import Control, Tick
from schemas.topics import CONTROL
from streams.blacklist_keys import load_keys
from streams.config import ConfigError, Settings, kafka_options, redis_location
from streams.policy import loader
from streams.store.contract import Unavailable
from streams.store.redis_store import open_redis, problems, read_settings
from streams.worker.findings import Finding
from streams.worker.topics import BrokerError, check_topics, count_brokers, open_admin

_PATIENCE_S = 20.0
_READ_S = 5.0
_SKEW_MS = 2_000
_TICKS_MISSED = 6
_LAST_RECORDS = 50
_TRANSACTIONS = "transaction.max.timeout.ms"
_SYNCHRONISE = "synchronise the clocks (NTP)"


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which to mend them. Writes nothing anywhere."""
    broker, redis = await asyncio.gather(_broker(settings), _redis(settings))
    return [*_policy(settings), *_keys(settings), *broker, *redis]


def _policy(settings: Settings) -> list[Finding]:
    try:
        policy = loader.load(settings.policy)
    except loader.PolicyError as error:
        return [Finding("policy", "error", str(error), "`duewatch policy lint` lists every flaw")]
    return [Finding("policy", "ok", f"{policy.id} {loader.digest(policy)}")]


def _keys(settings: Settings) -> list[Finding]:
    if settings.blacklist_keys is None:
        return [Finding("keys", "ok", "none: listings carry placeholders (key id none); blacklist_keys names a file")]
    try:
        ring = load_keys(settings.blacklist_keys)
    except ConfigError as error:
        return [Finding("keys", "error", str(error))]
    return [Finding("keys", "ok", f"{settings.blacklist_keys}: key {ring.key_at(round(time.time() * 1000))} in use")]


async def _broker(settings: Settings) -> list[Finding]:
    findings: list[Finding] = []
    try:
        async with asyncio.timeout(_PATIENCE_S), open_admin(settings) as admin:
            brokers = await count_brokers(admin)
            findings.append(Finding("broker", "ok", f"{settings.broker}: {brokers} in the cluster"))
            findings += await _transactions(admin, settings)
            findings += await check_topics(admin)
            findings.append(await _last_tick(settings))
    except (BrokerError, ConfigError) as error:
        findings.append(Finding("broker", "error", str(error)))
    except TimeoutError:
        what = f"{settings.broker}: no answer within {_PATIENCE_S:g} s"
        findings.append(Finding("broker", "error", what, "start it, or name another with broker (DUEWATCH_BROKER)"))
    return findings


async def _transactions(admin: AIOKafkaAdminClient, settings: Settings) -> list[Finding]:
    cluster = await admin.describe_cluster()
    node = ConfigResource(ConfigResourceType.BROKER, cluster["brokers"][0]["node_id"], {_TRANSACTIONS: None})
    (answer,) = await admin.describe_configs([node])
    (_, _, _, _, entries) = answer.resources[0]
    # Empty where the user may not see the broker's settings: then the first transaction tells.
    if not entries or int(entries[0][1]) >= settings.transaction_timeout_ms:
        return []
    allowed = entries[0][1]
    what = f"{_TRANSACTIONS} is {allowed}, transaction_timeout_ms {settings.transaction_timeout_ms}"
    return [Finding("broker", "error", what, f"set transaction_timeout_ms to at most {allowed}")]


async def _last_tick(settings: Settings) -> Finding:
    tick = await _newest_tick(settings)
    if tick is None:
        return Finding("clock", "ok", "no tick yet: nothing that depends on time has fired")
    age_ms = round(time.time() * 1000) - tick.at_ms
    if settings.clock == "external":
        return Finding("clock", "ok", f"external; the last tick is {age_ms / 1000:.0f} s old")
    if age_ms < -_SKEW_MS:
        return Finding("clock", "error", f"the last tick is {-age_ms / 1000:.0f} s ahead of this host", _SYNCHRONISE)
    if age_ms > _TICKS_MISSED * settings.tick_every_s * 1000:
        what = f"the last tick is {age_ms / 1000:.0f} s old, one is due every {settings.tick_every_s:g} s"
        return Finding("clock", "warning", what, "start a worker, or look at the log of the one that owns partition 0")
    return Finding("clock", "ok", f"the last tick is {age_ms / 1000:.0f} s old")


async def _newest_tick(settings: Settings) -> Tick | None:
    partition = TopicPartition(CONTROL, 0)
    consumer = AIOKafkaConsumer(
        **kafka_options(settings),
        client_id=f"{settings.app_id}-doctor",
        isolation_level="read_committed",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        if CONTROL not in await consumer.topics():
            return None
        consumer.assign([partition])
        start = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, max(start, end - _LAST_RECORDS))
        newest: Tick | None = None
        async with asyncio.timeout(_READ_S):
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(partition, timeout_ms=200)).values():
                    for record in records:
                        newest = _tick(record.value) or newest
        return newest
    finally:
        await consumer.stop()


def _tick(value: bytes | None) -> Tick | None:
    try:
        event = msgspec.json.decode(value or b"", type=Control)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return event if isinstance(event, Tick) else None


async def _redis(settings: Settings) -> list[Finding]:
    place = redis_location(settings)
    try:
        client = open_redis(settings)
    except ConfigError as error:
        return [Finding("redis", "error", str(error))]
    async with client as redis:
        try:
            found = await read_settings(redis)
            skew = await _skew(redis)
        except Unavailable as error:
            mend = "start it, or name another with redis_url (DUEWATCH_REDIS_URL)"
            return [Finding("redis", "error", f"{place}: {error}", mend)]
    findings = [Finding("redis", "error", problem) for problem in problems(found)]
    if not findings:
        findings.append(Finding("redis", "ok", f"{place}: {found.version}, {found.maxmemory_policy}"))
    if not found.append_only and found.snapshots is False:
        what = "keeps nothing on disk: after its restart every task is copied again from the commit log"
        findings.append(Finding("redis", "warning", what, "run CONFIG SET appendonly yes (and set it in redis.conf)"))
    return [*findings, *skew]


async def _skew(redis: Redis) -> list[Finding]:
    before = time.time()
    seconds, micros = await redis.time()
    there = seconds + micros / 1_000_000
    after = time.time()
    apart_ms = round(max(before - there, there - after, 0) * 1000)
    if apart_ms <= _SKEW_MS:
        return []
    what = f"this host and Redis are {apart_ms / 1000:.0f} s apart"
    return [Finding("clock", "warning", what, _SYNCHRONISE)]
