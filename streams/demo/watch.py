"""What comes out: the worker's metrics, and the topics it writes."""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from schemas.outbound import LimitAdjustments, WarningEvent, Warnings
from schemas.topics import DLQS
from streams.config import Settings, kafka_options
from streams.demo.broker import PARTITIONS

WARNINGS_TOPIC = "early-warnings"
LIMITS_TOPIC = "limit-adjustments"
_REASON_HEADER = "__dlq.errors.reason"
_LAST = 40
_POLL_MS = 200
_TIMEOUT = aiohttp.ClientTimeout(total=5.0)

Decision = Warnings | LimitAdjustments


@dataclass(frozen=True, slots=True)
class Gauges:
    """What the worker's metrics say. `loans` are (count, balance in minor units) by DPD bucket, `levels` borrowers by
    warning level in force, `statuses` by limit status; `read` counts records folded or refused."""

    read: int = 0
    loans: dict[str, tuple[int, int]] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)


async def is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether the worker has taken all its tasks over."""
    try:
        async with session.get(f"{url}/readyz", timeout=_TIMEOUT) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def read_gauges(session: aiohttp.ClientSession, url: str) -> Gauges | None:
    """The metrics now; None where the worker does not answer in time."""
    try:
        async with session.get(f"{url}/metrics", timeout=_TIMEOUT) as answer:
            text = await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return None
    read = 0
    balances: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    levels: dict[str, int] = {}
    statuses: dict[str, int] = {}
    for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
        match sample.name:
            case "duewatch_chunk_records_sum":
                read = int(sample.value)
            case "duewatch_loans":
                counts[sample.labels["bucket"]] += int(sample.value)
            case "duewatch_balance_minor":
                balances[sample.labels["bucket"]] += int(sample.value)
            case "duewatch_borrowers_by_level":
                levels[sample.labels["level"]] = int(sample.value)
            case "duewatch_borrowers_by_limit_status":
                statuses[sample.labels["status"]] = int(sample.value)
    loans = {bucket: (count, balances[bucket]) for bucket, count in counts.items()}
    return Gauges(read, loans, levels, statuses)


class Outputs:
    """Reads decisions and dead letters as a service downstream would: committed ones only, each once.

    `warnings` counts those raised or escalated, by level, and those lowered or cleared, by type; `limits` counts limit
    changes by type, `refused` dead letters by reason; `last` are the newest decisions, the newest last.
    """

    def __init__(self, settings: Settings) -> None:
        self.warnings: Counter[str] = Counter()
        self.limits: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.last: deque[Decision] = deque(maxlen=_LAST)
        self._polled = asyncio.Event()
        self._decoder: msgspec.json.Decoder[Decision] = msgspec.json.Decoder(Decision)
        self._places = [
            TopicPartition(topic, partition)
            for topic in (WARNINGS_TOPIC, LIMITS_TOPIC, *DLQS)
            for partition in range(PARTITIONS)
        ]
        self._consumer = AIOKafkaConsumer(
            **kafka_options(settings),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            # The embedded broker writes transaction markers without one.
            check_crcs=False,
        )

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            await self._consumer.start()
            self._consumer.assign(self._places)
            while True:
                brought = await self._consumer.getmany(timeout_ms=_POLL_MS)
                for place, records in brought.items():
                    for record in records:
                        self._take(place.topic, record)
                self._polled.set()
        finally:
            await self._consumer.stop()

    async def catch_up(self) -> None:
        """Wait until all that is in the topics now has been read; `run` must be running."""
        ends = await self._consumer.end_offsets(self._places)
        for place, end in ends.items():
            while await self._consumer.position(place) < end:
                self._polled.clear()
                await self._polled.wait()

    def _take(self, topic: str, record: Any) -> None:
        if topic in DLQS:
            self.refused[dict(record.headers)[_REASON_HEADER].decode()] += 1
            return
        decision = self._decoder.decode(record.value)
        self.last.append(decision)
        kind = str(decision.__struct_config__.tag)
        if not isinstance(decision, WarningEvent):
            self.limits[kind] += 1
        elif kind in ("warning_raised", "warning_escalated"):
            self.warnings[decision.level] += 1
        else:
            self.warnings[kind] += 1
