"""What a worker counts, and what is true of its tasks now; served by `streams.web`.

Every label comes from a closed list of ours (topics, types, levels, reasons, partitions) or from the policy (buckets,
id, digest); currencies are those of the loans. None tells anything of a borrower. Series whose labels are known
beforehand are there from the start with 0: a rate over a series that appears with its first event misses that event.
"""

import platform
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final, Literal, get_args

from msgspec.inspect import StructType, type_info
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.outbound import LimitAdjustments, Warnings
from schemas.topics import INPUTS, OUTPUTS, TOPICS
from streams.engine import fold
from streams.engine.chunk import Folded, PolicyInForce, TaskState
from streams.engine.decode import REASONS
from streams.engine.directions import CODES
from streams.policy.model import LEVELS, STATUSES
from streams.worker.observer import Stage

OUTCOMES: Final = ("accepted", "duplicate", "dead_letter", "parked", "ignored")
RETRIES: Final = ("store", "transaction", "stale")
WARNINGS_TOPIC: Final = "early-warnings"
LIMITS_TOPIC: Final = "limit-adjustments"
REVIEWS_TOPIC: Final = "review-requests"
_STAGE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZE_BUCKETS = (1, 10, 50, 100, 250, 500, 1_000, 2_000, 4_000, 8_000, 20_000)
_TAKE_OVER_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0)


def _tag(kind: type) -> str:
    info = type_info(kind)
    assert isinstance(info, StructType)
    return str(info.tag)


@dataclass(slots=True)
class _Task:
    """What was last told of a task that is ours. `since_s` (monotonic): when it last got on, or last had no lag."""

    state: TaskState
    since_s: float
    committed_at_s: float
    order_ms: int | None = None
    lag: dict[str, int] = field(default_factory=dict)


class TaskGauges(Collector):
    """What is true now of the tasks that are ours; computed when it is asked for, so that nothing outlives its task.

    Args:
        policy: in force until a recorded activation replaces it.
        buckets: the names of its buckets.
        wall_s: the wall clock in epoch seconds.
        monotonic_s: a clock that never goes back.
    """

    def __init__(
        self,
        policy: PolicyInForce,
        buckets: Sequence[str],
        wall_s: Callable[[], float],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._policy = policy
        self._buckets = tuple(buckets)
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._assigned: frozenset[int] | None = None
        self._tasks: dict[int, _Task] = {}

    # --- what is told ------------------------------------------------------------------------------------------------

    def assigned(self, partitions: Iterable[int]) -> None:
        self._assigned = frozenset(partitions)

    def taken_over(self, partition: int, state: TaskState) -> None:
        self._tasks[partition] = _Task(state, self._monotonic_s(), self._wall_s())

    def released(self, partition: int) -> None:
        self._tasks.pop(partition, None)

    def committed(self, partition: int, state: TaskState) -> None:
        task = self._tasks.get(partition)
        if task is not None:
            task.state = state
            task.since_s = self._monotonic_s()
            task.committed_at_s = self._wall_s()

    def watermark(self, partition: int, order_ms: int) -> None:
        task = self._tasks.get(partition)
        if task is not None:
            task.order_ms = order_ms

    def lag(self, topic: str, partition: int, records: int) -> None:
        task = self._tasks.get(partition)
        if task is not None:
            if not any(task.lag.values()):
                task.since_s = self._monotonic_s()
            task.lag[topic] = records

    # --- what is asked -----------------------------------------------------------------------------------------------

    def unready(self, stalled_s: float) -> list[str]:
        """Why the worker is not ready, a line each; empty where it is.

        Args:
            stalled_s: for how long a task may be behind without a commit.
        """
        if self._assigned is None:
            return ["no tasks assigned yet"]
        now_s = self._monotonic_s()
        lines = [f"task {partition}: not taken over yet" for partition in sorted(self._assigned - self._tasks.keys())]
        for partition, task in sorted(self._tasks.items()):
            behind = sum(task.lag.values())
            if behind and now_s - task.since_s > stalled_s:
                lines.append(f"task {partition}: {behind} records behind, no commit for {now_s - task.since_s:.0f} s")
        return lines

    def collect(self) -> Iterator[Metric]:
        yield from self._of_tasks()
        yield from self._of_portfolio()
        yield self._of_policy()

    def _of_tasks(self) -> Iterator[Metric]:
        assigned = GaugeMetricFamily("duewatch_tasks_assigned", "Tasks that the group has given to this worker.")
        assigned.add_metric((), len(self._assigned or ()))
        owned = GaugeMetricFamily("duewatch_task_owned", "1 for each task taken over.", labels=("partition",))
        lag = GaugeMetricFamily(
            "duewatch_lag_records",
            "Offsets between the last commit and the last stable offset.",
            labels=("topic", "partition"),
        )
        watermark = GaugeMetricFamily(
            "duewatch_watermark_age_seconds", "Wall clock minus the task's last tick.", labels=("partition",)
        )
        order = GaugeMetricFamily(
            "duewatch_order_age_seconds", "Wall clock minus the task's order time.", labels=("partition",)
        )
        committed = GaugeMetricFamily(
            "duewatch_last_commit_timestamp_seconds",
            "When the task last committed, the claim of its take-over included.",
            labels=("partition",),
        )
        now_s = self._wall_s()
        for partition, task in sorted(self._tasks.items()):
            label = str(partition)
            owned.add_metric((label,), 1)
            committed.add_metric((label,), task.committed_at_s)
            for topic, records in task.lag.items():
                lag.add_metric((topic, label), records)
            if task.state.clock_ms is not None:
                watermark.add_metric((label,), now_s - task.state.clock_ms / 1000)
            if task.order_ms is not None:
                order.add_metric((label,), now_s - task.order_ms / 1000)
        return iter((assigned, owned, lag, watermark, order, committed))

    def _of_portfolio(self) -> Iterator[Metric]:
        loans = GaugeMetricFamily("duewatch_loans", "Open loans.", labels=("bucket", "currency"))
        balance = GaugeMetricFamily(
            "duewatch_balance_minor",
            "Outstanding balance of open loans in minor units.",
            labels=("bucket", "currency"),
        )
        for (bucket, currency), (count, minor) in sorted(self._loans().items()):
            loans.add_metric((bucket, currency), count)
            balance.add_metric((bucket, currency), minor)
        states = [task.state for task in self._tasks.values()]
        levels = GaugeMetricFamily(
            "duewatch_borrowers_by_level", "Borrowers judged, by warning level in force.", labels=("level",)
        )
        for level in LEVELS:
            levels.add_metric((level,), sum(state.levels.get(level, 0) for state in states))
        statuses = GaugeMetricFamily(
            "duewatch_borrowers_by_limit_status", "Borrowers with a limit, by its status.", labels=("status",)
        )
        for status in STATUSES:
            statuses.add_metric((status,), sum(state.statuses.get(status, 0) for state in states))
        return iter((loans, balance, levels, statuses, *self._of_reviews(states)))

    def _of_reviews(self, states: Sequence[TaskState]) -> Iterator[Metric]:
        opened = GaugeMetricFamily("duewatch_reviews_open", "Reviews nobody has decided yet.", labels=("why",))
        for why in sorted({*CODES, *(why for state in states for why in state.reviews)}):
            opened.add_metric((why,), sum(state.reviews.get(why, 0) for state in states))
        lying = GaugeMetricFamily("duewatch_reviews_lying", "Open reviews that have escalated.")
        lying.add_metric((), sum(state.lying for state in states))
        overturned = GaugeMetricFamily(
            "duewatch_decisions_overturned", "Decisions that reviewers have overturned, by rule.", labels=("rule",)
        )
        for rule in sorted({rule for state in states for rule in state.overturned}):
            overturned.add_metric((rule,), sum(state.overturned.get(rule, 0) for state in states))
        return iter((opened, lying, overturned))

    def _loans(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(count, balance) by bucket and currency; every bucket of the policy for every currency there is."""
        books = [book for task in self._tasks.values() for book in task.state.loans.items()]
        found = {(bucket, currency): (0, 0) for currency, _ in books for bucket in self._buckets}
        for currency, by_bucket in books:
            for bucket, (count, minor) in by_bucket.items():
                before = found.get((bucket, currency), (0, 0))
                found[bucket, currency] = (before[0] + count, before[1] + minor)
        return found

    def _of_policy(self) -> Metric:
        info = GaugeMetricFamily(
            "duewatch_policy_info", "1 for each policy in force in a task of ours.", labels=("policy_id", "digest")
        )
        in_force = [task.state.live or self._policy for task in self._tasks.values()] or [self._policy]
        for policy_id, digest in sorted({(policy.policy_id, policy.digest) for policy in in_force}):
            info.add_metric((policy_id, digest), 1)
        return info


class Metrics:
    """The worker's observer that counts (`streams.worker.observer.Observer`). See `TaskGauges` for the arguments."""

    def __init__(
        self,
        policy: PolicyInForce,
        buckets: Sequence[str],
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = registry = CollectorRegistry()
        self.tasks = TaskGauges(policy, buckets, wall_s, monotonic_s)
        registry.register(self.tasks)
        ProcessCollector(registry=registry)
        self._partitions = Gauge("duewatch_partitions", "Partitions of every input topic.", registry=registry)
        build = Gauge("duewatch_build_info", "1; what runs here.", ("version", "python", "engine"), registry=registry)
        engine = "plain" if str(fold.__file__).endswith(".py") else "compiled"
        build.labels(version("duewatch"), platform.python_version(), engine).set(1)
        self._count_events(registry)
        self._count_work(registry)

    def _count_events(self, registry: CollectorRegistry) -> None:
        self._records = Counter("duewatch_records", "Records folded.", ("topic", "outcome"), registry=registry)
        self._outputs = Counter("duewatch_outputs", "Events written.", ("topic", "type"), registry=registry)
        self._warnings = Counter(
            "duewatch_warnings", "Warning events, by the level they lead to.", ("type", "level"), registry=registry
        )
        self._limit_changes = Counter(
            "duewatch_limit_changes", "Limit events, by the status they lead to.", ("type", "status"), registry=registry
        )
        self._reviews = Counter(
            "duewatch_reviews_requested", "Reviews asked for, by what is asked.", ("why",), registry=registry
        )
        for why in CODES:
            self._reviews.labels(why)
        self._dead_letters = Counter("duewatch_dead_letters", "Refused.", ("topic", "reason"), registry=registry)
        self._quarantines = Counter("duewatch_quarantines", "Borrowers put in quarantine.", registry=registry)
        known: tuple[tuple[Counter, Iterable[tuple[str, str]]], ...] = (
            (self._records, ((topic, outcome) for topic in INPUTS for outcome in OUTCOMES)),
            (self._outputs, ((topic, _tag(kind)) for topic in OUTPUTS for kind in TOPICS[topic].types)),
            (self._warnings, ((_tag(kind), level) for kind in get_args(Warnings) for level in LEVELS)),
            (self._limit_changes, ((_tag(kind), status) for kind in get_args(LimitAdjustments) for status in STATUSES)),
            (self._dead_letters, ((topic, reason) for topic in INPUTS for reason in REASONS)),
        )
        for counter, labels in known:
            for pair in labels:
                counter.labels(*pair)

    def _count_work(self, registry: CollectorRegistry) -> None:
        self._commits = Counter("duewatch_commits", "Chunks committed and applied.", registry=registry)
        self._retries = Counter("duewatch_retries", "Cycles tried again.", ("reason",), registry=registry)
        for reason in RETRIES:
            self._retries.labels(reason)
        stages = Histogram(
            "duewatch_chunk_stage_seconds",
            "One stage of a chunk's cycle.",
            ("stage",),
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self._stages = {stage: stages.labels(stage) for stage in get_args(Stage)}
        self._sizes = Histogram(
            "duewatch_chunk_records", "Records in a chunk.", buckets=_SIZE_BUCKETS, registry=registry
        )
        self._take_overs = Histogram(
            "duewatch_take_over_seconds",
            "From the assignment of a task to its first fetch.",
            buckets=_TAKE_OVER_BUCKETS_S,
            registry=registry,
        )

    def expect(self, partitions: int) -> None:
        """Every input has so many partitions: so many tasks are to be owned, here or elsewhere."""
        self._partitions.set(partitions)

    # --- the observer ------------------------------------------------------------------------------------------------

    def assigned(self, partitions: Sequence[int]) -> None:
        self.tasks.assigned(partitions)

    def stage_done(self, stage: Stage, seconds: float) -> None:
        self._stages[stage].observe(seconds)

    def chunk_done(self, partition: int, records: int, folded: Folded) -> None:
        self.tasks.committed(partition, folded.task)
        self._commits.inc()
        self._sizes.observe(records)
        for (topic, outcome), count in folded.counts.items():
            self._records.labels(topic, outcome).inc(count)
        written = Tally((output.topic, output.kind, output.detail) for output in folded.outputs)
        for (topic, kind, detail), count in written.items():
            self._outputs.labels(topic, kind).inc(count)
            if topic == WARNINGS_TOPIC:
                self._warnings.labels(kind, detail).inc(count)
            elif topic == LIMITS_TOPIC:
                self._limit_changes.labels(kind, detail).inc(count)
            elif topic == REVIEWS_TOPIC:
                self._reviews.labels(detail).inc(count)
        refused = Tally((letter.record.topic, letter.reason) for letter in folded.dead_letters)
        for (topic, reason), count in refused.items():
            self._dead_letters.labels(topic, reason).inc(count)
        self._quarantines.inc(len(folded.quarantined))

    def watermark(self, partition: int, clock_ms: int | None, order_ms: int) -> None:
        self.tasks.watermark(partition, order_ms)

    def lag(self, topic: str, partition: int, records: int) -> None:
        self.tasks.lag(topic, partition, records)

    def taken_over(self, partition: int, seconds: float, task: TaskState) -> None:
        self.tasks.taken_over(partition, task)
        self._take_overs.observe(seconds)

    def released(self, partition: int) -> None:
        self.tasks.released(partition)

    def retried(self, partition: int, reason: Literal["store", "transaction", "stale"]) -> None:
        self._retries.labels(reason).inc()
