"""Creating the topics, and checking that existing ones keep what the service relies on.

Workers never create topics. Nothing here changes one that exists: settings may be the operator's choice, and more
partitions would send a borrower's later events to another task.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code
from msgspec import Struct

from schemas.topics import COMMITS, DEFAULT_PARTITIONS, TOPICS, Topic
from streams.config import Settings, kafka_options
from streams.worker.findings import Finding, Verdict

_REPLICATION = 3
_IN_SYNC = "min.insync.replicas"
_LIMIT = "max.message.bytes"
_FOREVER = ("retention.ms", "retention.bytes")
_CHECKED = ("cleanup.policy", "message.timestamp.type", _LIMIT, _IN_SYNC, *_FOREVER)
_CREATE = "run `duewatch topics create`"
_LOOK = "is it up, do broker, kafka_security and user fit it, and may the user do this?"
_REQUEST_MS = 10_000
_LOOKS = 50
_LOOK_AGAIN_S = 0.1


class BrokerError(Exception):
    """The broker does not answer or refuses: one line with what to look at; no secret in it."""


def no_answer(settings: Settings, error: KafkaError, what: str = "") -> BrokerError:
    """What a command tells of a broker's error; `what` came of it."""
    return BrokerError(f"{settings.broker}: {type(error).__name__}: {what and f'{what}: '}{_LOOK}")


class Found(Struct, frozen=True):
    """A topic as the broker has it: per partition the number of replicas, and whether it has a leader."""

    replicas: tuple[int, ...]
    leaders: tuple[bool, ...]
    configs: Mapping[str, str]


@asynccontextmanager
async def open_admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client; what goes wrong while it is used is a `BrokerError` too.

    Raises:
        BrokerError: the broker does not answer, or refuses.
    """
    admin = AIOKafkaAdminClient(
        **kafka_options(settings), client_id=f"{settings.app_id}-admin", request_timeout_ms=_REQUEST_MS
    )
    try:
        await admin.start()
        yield admin
    except KafkaError as error:
        raise no_answer(settings, error) from error
    finally:
        await admin.close()


async def create_topics(
    admin: AIOKafkaAdminClient, partitions: int = DEFAULT_PARTITIONS, replication: int | None = None
) -> list[Finding]:
    """Create every topic that is not there, and wait (a moment) until the broker shows them.

    Args:
        admin: see `open_admin`.
        partitions: of each topic; there can be as many tasks.
        replication: copies of each; None: three, or as many as there are brokers.
    """
    copies = min(_REPLICATION, await count_brokers(admin)) if replication is None else replication
    wanted = [NewTopic(topic.name, partitions, copies, None, _configs(topic, copies)) for topic in TOPICS.values()]
    answer = await admin.create_topics(wanted, timeout_ms=_REQUEST_MS)
    created = {error[0] for error in answer.topic_errors if error[1] == 0}
    for _ in range(_LOOKS):
        if created <= (await _find(admin)).keys():
            break
        await asyncio.sleep(_LOOK_AGAIN_S)
    return sorted((_created(*error) for error in answer.topic_errors), key=lambda found: found.subject)


def _configs(topic: Topic, copies: int) -> dict[str, str]:
    # Of three copies two must have a record before it counts: one broker may die without loss or standstill.
    return {**topic.configs, _IN_SYNC: "2" if copies >= _REPLICATION else "1"}


def _created(name: str, code: int, message: str | None = None) -> Finding:
    subject = f"topic {name}"
    error = for_code(code)
    if code == 0:
        return Finding(subject, "ok", "created")
    if error is TopicAlreadyExistsError:
        return Finding(subject, "ok", "exists; left as it is")
    return Finding(subject, "error", f"not created: {message or error.__name__}", "mend that and create it again")


async def count_brokers(admin: AIOKafkaAdminClient) -> int:
    """How many brokers the cluster has now."""
    cluster = await admin.describe_cluster()
    return len(cluster["brokers"])


async def check_topics(admin: AIOKafkaAdminClient, partitions: int | None = None) -> list[Finding]:
    """What is wrong with the topics; one ok where nothing is.

    Args:
        admin: see `open_admin`.
        partitions: how many each task topic must have; None: as many as most of them have.
    """
    found = await _find(admin)
    return judge(found, await count_brokers(admin), partitions)


async def _find(admin: AIOKafkaAdminClient) -> dict[str, Found]:
    # All topics: asking for one that is missing would create it on some brokers.
    described = {topic["topic"]: topic for topic in await admin.describe_topics() if topic["topic"] in TOPICS}
    if not described:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(_CHECKED)) for name in described]
    configs: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(resources):
        for code, _, _, name, entries in answer.resources:
            if for_code(code) is UnknownTopicOrPartitionError:
                continue  # Deleted since it was described.
            if code != 0:
                raise for_code(code)(name)
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return {
        name: Found(
            tuple(len(partition["replicas"]) for partition in topic["partitions"]),
            tuple(partition["leader"] >= 0 for partition in topic["partitions"]),
            configs[name],
        )
        for name, topic in described.items()
        if name in configs
    }


def judge(found: Mapping[str, Found], brokers: int, partitions: int | None = None) -> list[Finding]:
    """What is wrong with topics as found on so many brokers; see `check_topics`."""
    missing = [name for name in TOPICS if name not in found]
    wrong = [Finding("topics", "error", f"missing: {', '.join(missing)}", _CREATE)] if missing else []
    wrong += [
        Finding(f"topic {name}", verdict, what, mend)
        for name, topic in TOPICS.items()
        if name in found
        for verdict, what, mend in _flaws(topic, found[name], brokers)
    ]
    wrong += _uneven(found, partitions)
    if wrong:
        return wrong
    of_task = len(found[COMMITS].replicas)
    return [Finding("topics", "ok", f"{len(found)} topics, {of_task} partitions")]


_Flaw = tuple[Verdict, str, str]


def _flaws(topic: Topic, found: Found, brokers: int) -> Iterator[_Flaw]:
    if not all(found.leaders):
        yield "error", f"{found.leaders.count(False)} partitions have no leader", "bring their brokers back"
    yield from _settings_flaws(topic, found.configs)
    copies = min(found.replicas)
    if copies < min(_REPLICATION, brokers):
        yield "warning", f"{copies} copies on {brokers} brokers: a lost disk may lose records", "raise its replication"
    elif copies >= _REPLICATION and int(found.configs[_IN_SYNC]) < 2:
        yield (
            "warning",
            f"{_IN_SYNC} is {found.configs[_IN_SYNC]}: a record may count with one copy",
            _set(topic, _IN_SYNC, "2"),
        )


def _settings_flaws(topic: Topic, configs: Mapping[str, str]) -> Iterator[_Flaw]:
    truth = topic.name == COMMITS
    for name in ("cleanup.policy", "message.timestamp.type"):
        # Outputs are the consumers': compacted or stamped otherwise they are still right.
        if topic.direction != "out" and configs[name] != topic.configs[name]:
            yield "error", f"{name} is {configs[name]}", _set(topic, name, topic.configs[name])
    for name in _FOREVER:
        if configs[name] == "-1" or topic.direction == "out":
            continue
        if truth:
            why = "state could not be rebuilt from what is left"
        else:
            why = "older records vanish, late and replayed ones at once"
        yield "error" if truth else "warning", f"{name} is {configs[name]}: {why}", _set(topic, name, "-1")
    if int(configs[_LIMIT]) < int(topic.configs[_LIMIT]):
        # A producer is told that its event is too large; a worker could not go on.
        verdict: Verdict = "warning" if topic.direction == "in" else "error"
        yield verdict, f"{_LIMIT} is {configs[_LIMIT]}, too small", _set(topic, _LIMIT, topic.configs[_LIMIT])


def _set(topic: Topic, name: str, value: str) -> str:
    return f"kafka-configs.sh --alter --topic {topic.name} --add-config {name}={value}"


def _uneven(found: Mapping[str, Found], partitions: int | None) -> list[Finding]:
    counts = {
        topic.name: len(found[topic.name].replicas)
        for topic in TOPICS.values()
        if topic.name in found and (topic.direction in ("in", "dlq") or topic.name == COMMITS)
    }
    if not counts:
        return []
    usual = Counter(counts.values()).most_common(1)[0][0] if partitions is None else partitions
    return [
        Finding(
            f"topic {name}",
            "error",
            f"{count} partitions, not {usual}: partition p of every input belongs to one task",
            f"delete and create it with {usual}, or copy it by key into one that has {usual}",
        )
        for name, count in counts.items()
        if count != usual
    ]
