"""Topics are created as the table says, and what is wrong with existing ones is told with its cure."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.topics import COMMITS, INPUTS, TOPICS
from streams.config import load_settings
from streams.worker.findings import Finding, failed
from streams.worker.topics import BrokerError, Found, check_topics, create_topics, judge, open_admin
from tests.parts.kafka import Kafka

KEEPS = {"retention.bytes": "-1", "min.insync.replicas": "2"}


def all_right() -> dict[str, Found]:
    """What `judge` has nothing to say about, on three brokers."""
    return {name: Found((3,) * 6, (True,) * 6, {**topic.configs, **KEEPS}) for name, topic in TOPICS.items()}


def changed(name: str, **fields: Any) -> dict[str, Found]:
    found = all_right()
    found[name] = msgspec.structs.replace(found[name], **fields)
    return found


def configured(name: str, setting: str, value: str) -> list[Finding]:
    return judge(changed(name, configs={**all_right()[name].configs, setting: value}), brokers=3)


def test_nothing_to_say_is_one_line() -> None:
    (finding,) = judge(all_right(), brokers=3)
    assert finding.line == f"ok      topics: {len(TOPICS)} topics, 6 partitions"


def test_missing_topics_are_named_together() -> None:
    found = all_right()
    del found["logins"], found[COMMITS]
    (finding,) = judge(found, brokers=3)
    assert finding.line == "error   topics: missing: logins, commits -> run `duewatch topics create`"
    (nothing,) = judge({}, brokers=3)
    assert all(name in nothing.what for name in TOPICS)


@pytest.mark.parametrize("name", [*INPUTS, COMMITS, "signals.dlq"])
def test_a_task_topic_with_other_partitions_is_an_error(name: str) -> None:
    found = changed(name, replicas=(3,) * 7, leaders=(True,) * 7)
    (finding,) = judge(found, brokers=3)
    assert (finding.subject, finding.verdict) == (f"topic {name}", "error")
    assert finding.what.startswith("7 partitions, not 6:")


def test_an_output_may_have_other_partitions() -> None:
    assert not failed(judge(changed("reminders", replicas=(3,) * 7, leaders=(True,) * 7), brokers=3))


def test_all_task_topics_must_have_the_partitions_asked_for() -> None:
    assert not failed(judge(all_right(), brokers=3, partitions=6))
    findings = judge(all_right(), brokers=3, partitions=12)
    assert {finding.subject for finding in findings} == {
        f"topic {name}" for name in (*INPUTS, COMMITS, *(f"{topic}.dlq" for topic in INPUTS))
    }
    assert failed(findings)


@pytest.mark.parametrize(
    ("name", "setting", "value", "verdict"),
    [
        ("repayments", "message.timestamp.type", "LogAppendTime", "error"),
        ("repayments", "cleanup.policy", "compact", "error"),
        (COMMITS, "cleanup.policy", "compact,delete", "error"),
        (COMMITS, "retention.ms", "604800000", "error"),
        (COMMITS, "retention.bytes", "1000000000", "error"),
        ("control", "retention.ms", "604800000", "warning"),
        ("logins.dlq", "retention.ms", "604800000", "warning"),
        ("logins", "retention.bytes", "1000000000", "warning"),
        (COMMITS, "max.message.bytes", "100000", "error"),
        ("logins.dlq", "max.message.bytes", "1048588", "error"),
        ("reminders", "max.message.bytes", "1000", "error"),
        ("logins", "max.message.bytes", "1000", "warning"),
        (COMMITS, "min.insync.replicas", "1", "warning"),
    ],
)
def test_a_setting_that_breaks_a_promise_is_told_with_its_cure(
    name: str, setting: str, value: str, verdict: str
) -> None:
    (finding,) = configured(name, setting, value)
    assert (finding.subject, finding.verdict) == (f"topic {name}", verdict)
    assert f"{setting} is {value}" in finding.what
    right = {**TOPICS[name].configs, **KEEPS}[setting]
    assert finding.mend == f"kafka-configs.sh --alter --topic {name} --add-config {setting}={right}"


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("reminders", "retention.ms", "604800000"),
        ("reminders", "message.timestamp.type", "LogAppendTime"),
        ("reminders", "cleanup.policy", "compact"),
        (COMMITS, "max.message.bytes", "100000000"),
    ],
)
def test_what_is_the_operators_choice_is_not_told(name: str, setting: str, value: str) -> None:
    (finding,) = configured(name, setting, value)
    assert finding.verdict == "ok"


def test_a_partition_without_leader_is_an_error() -> None:
    (finding,) = judge(changed("logins", leaders=(True, False, True, True, True, False)), brokers=3)
    assert (finding.verdict, finding.what) == ("error", "2 partitions have no leader")


def test_too_few_copies_are_a_warning_where_there_could_be_more() -> None:
    found = changed("logins", replicas=(3, 1, 3, 3, 3, 3))
    (finding,) = judge(found, brokers=3)
    assert finding.verdict == "warning"
    assert finding.what.startswith("1 copies on 3 brokers")
    single = {
        name: msgspec.structs.replace(one, replicas=(1,) * 6, configs={**one.configs, "min.insync.replicas": "1"})
        for name, one in all_right().items()
    }
    assert not failed(judge(single, brokers=1))
    assert [finding.verdict for finding in judge(single, brokers=1)] == ["ok"]


@pytest.mark.kafka
async def test_topics_on_a_real_broker(make_kafka: Callable[[], Kafka]) -> None:
    kafka = make_kafka()
    settings = load_settings(broker=kafka.bootstrap)
    async with open_admin(settings) as admin:
        assert failed(await check_topics(admin))
        refused = await create_topics(admin, partitions=3, replication=2)
        assert {finding.verdict for finding in refused} == {"error"}
        assert "replication" in refused[0].what.lower()

        created = await create_topics(admin, partitions=3)
        assert [finding.subject for finding in created] == sorted(f"topic {name}" for name in TOPICS)
        assert {(finding.verdict, finding.what) for finding in created} == {("ok", "created")}
        (fine,) = await check_topics(admin, partitions=3)
        assert fine.line == f"ok      topics: {len(TOPICS)} topics, 3 partitions"
        assert failed(await check_topics(admin, partitions=4))
        again = await create_topics(admin, partitions=5)
        assert {finding.what for finding in again} == {"exists; left as it is"}
        assert not failed(await check_topics(admin, partitions=3))

        shorter = {"retention.ms": "1000", "max.message.bytes": "9000000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, COMMITS, shorter)])
        await admin.create_partitions({"logins": NewPartitions(4), "reminders": NewPartitions(4)})
        await admin.delete_topics(["signals.dlq"])
        subjects: list[str] = []
        for _ in range(100):  # A broker shows a change a moment after it was accepted.
            subjects = [finding.subject for finding in await check_topics(admin)]
            if len(subjects) == 3:
                break
            await asyncio.sleep(0.1)
        assert subjects == ["topics", f"topic {COMMITS}", "topic logins"]


async def test_no_broker_is_one_line() -> None:
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1: KafkaConnectionError: is it up"):
        async with open_admin(load_settings(broker="127.0.0.1:1")):
            pass
