"""What is counted, what is told of the tasks that are ours, and when a worker is ready."""

from collections.abc import Callable

import aiohttp
import pytest
from prometheus_client import generate_latest

from schemas.topics import INPUTS, OUTPUTS
from streams.config import ConfigError, load_settings
from streams.engine.chunk import DeadLetter, Folded, Output, PolicyInForce, TaskState
from streams.engine.decode import REASONS
from streams.engine.order import LogRecord
from streams.metrics import OUTCOMES, Metrics
from streams.policy.model import LEVELS, STATUSES
from streams.web import serving
from streams.worker.observer import Observer

POLICY = PolicyInForce("standard", "sha256:1", "")
BUCKETS = ("C", "M1", "M2")


class Clocks:
    """Wall clock and monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.wall_s = 1_000_000.0
        self.monotonic_s = 50.0

    def advance(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def metrics(clocks: Clocks) -> Metrics:
    return Metrics(POLICY, BUCKETS, lambda: clocks.wall_s, lambda: clocks.monotonic_s)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def series(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Values of all series of one sample name, by their label values."""
    samples = (sample for family in metrics.registry.collect() for sample in family.samples)
    return {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == name}


def record(topic: str) -> LogRecord:
    return LogRecord(topic, 0, 0, 0, b"borrower-77", b"")


def take_over(metrics: Metrics, **tasks: TaskState) -> None:
    """Take over tasks, named t0, t1, ..."""
    numbers = {int(name[1:]): state for name, state in tasks.items()}
    metrics.assigned(sorted(numbers))
    for number, state in numbers.items():
        metrics.taken_over(number, 0.5, state)


def test_it_is_an_observer(metrics: Metrics) -> None:
    observer: Observer = metrics
    told = {name for name in vars(Observer) if not name.startswith("_")}
    assert all(callable(getattr(observer, name)) for name in told)


def test_a_chunk_is_counted_by_topic_outcome_type_level_status_and_reason(metrics: Metrics) -> None:
    take_over(metrics, t3=TaskState())
    folded = Folded(
        TaskState(),
        outputs=[
            Output("early-warnings", b"k", b"", "warning_raised", "amber"),
            Output("early-warnings", b"k", b"", "warning_raised", "amber"),
            Output("early-warnings", b"k", b"", "warning_cleared", "none"),
            Output("limit-adjustments", b"k", b"", "limit_frozen", "frozen"),
            Output("delinquency", b"k", b"", "bucket_changed", "M1"),
        ],
        dead_letters=[DeadLetter(record("logins"), "wrong_key", "", "decode")],
        counts={("logins", "accepted"): 7, ("logins", "dead_letter"): 1, ("control", "ignored"): 2},
    )
    metrics.chunk_done(3, 10, folded)
    metrics.chunk_done(3, 0, Folded(TaskState()))

    assert value(metrics, "duewatch_records_total", topic="logins", outcome="accepted") == 7
    assert value(metrics, "duewatch_records_total", topic="control", outcome="ignored") == 2
    assert value(metrics, "duewatch_outputs_total", topic="early-warnings", type="warning_raised") == 2
    assert value(metrics, "duewatch_outputs_total", topic="delinquency", type="bucket_changed") == 1
    assert value(metrics, "duewatch_warnings_total", type="warning_raised", level="amber") == 2
    assert value(metrics, "duewatch_warnings_total", type="warning_cleared", level="none") == 1
    assert value(metrics, "duewatch_limit_changes_total", type="limit_frozen", status="frozen") == 1
    assert value(metrics, "duewatch_dead_letters_total", topic="logins", reason="wrong_key") == 1
    assert value(metrics, "duewatch_commits_total") == 2
    assert value(metrics, "duewatch_chunk_records_count") == 2
    assert value(metrics, "duewatch_chunk_records_sum") == 10
    assert value(metrics, "duewatch_chunk_records_bucket", le="10.0") == 2


def test_a_shadow_policys_warning_is_an_output_but_no_warning(metrics: Metrics) -> None:
    shadow = Output("shadow-decisions", b"k", b"", "warning_raised", "red")
    metrics.chunk_done(0, 1, Folded(TaskState(), outputs=[shadow]))
    assert value(metrics, "duewatch_outputs_total", topic="shadow-decisions", type="warning_raised") == 1
    assert value(metrics, "duewatch_warnings_total", type="warning_raised", level="red") == 0


def test_known_series_are_there_with_zero_before_anything_happens(metrics: Metrics) -> None:
    records = series(metrics, "duewatch_records_total")
    assert set(records) == {(topic, outcome) for topic in INPUTS for outcome in OUTCOMES}
    dead = series(metrics, "duewatch_dead_letters_total")
    assert set(dead) == {(topic, reason) for topic in INPUTS for reason in REASONS}
    assert {topic for topic, _ in series(metrics, "duewatch_outputs_total")} == set(OUTPUTS)
    assert {level for _, level in series(metrics, "duewatch_warnings_total")} == set(LEVELS)
    assert {status for _, status in series(metrics, "duewatch_limit_changes_total")} == set(STATUSES)
    assert set(series(metrics, "duewatch_retries_total")) == {("store",), ("transaction",), ("stale",)}
    stages = series(metrics, "duewatch_chunk_stage_seconds_count")
    assert set(stages) == {(stage,) for stage in ("merge", "load", "fold", "commit", "apply")}
    assert not any((*records.values(), *dead.values(), *stages.values()))


def test_loans_and_borrowers_are_summed_over_the_tasks_that_are_ours(metrics: Metrics) -> None:
    one = TaskState(loans={"CNY": {"C": [3, 900], "M1": [1, 50]}}, levels={"none": 3, "red": 1}, statuses={"normal": 4})
    other = TaskState(loans={"CNY": {"C": [2, 100]}, "EUR": {"M2": [1, 70]}}, levels={"red": 2}, statuses={"frozen": 2})
    take_over(metrics, t0=one, t4=other)

    assert series(metrics, "duewatch_loans") == {
        ("C", "CNY"): 5,
        ("M1", "CNY"): 1,
        ("M2", "CNY"): 0,
        ("C", "EUR"): 0,
        ("M1", "EUR"): 0,
        ("M2", "EUR"): 1,
    }
    assert value(metrics, "duewatch_balance_minor", bucket="C", currency="CNY") == 1_000
    assert value(metrics, "duewatch_borrowers_by_level", level="red") == 3
    assert value(metrics, "duewatch_borrowers_by_level", level="watch") == 0
    assert value(metrics, "duewatch_borrowers_by_limit_status", status="frozen") == 2
    assert series(metrics, "duewatch_task_owned") == {("0",): 1, ("4",): 1}

    metrics.chunk_done(0, 1, Folded(TaskState(loans={"CNY": {"C": [4, 950]}})))
    assert value(metrics, "duewatch_loans", bucket="C", currency="CNY") == 6

    metrics.released(4)
    assert value(metrics, "duewatch_loans", bucket="C", currency="CNY") == 4
    assert value(metrics, "duewatch_loans", bucket="M2", currency="EUR") is None
    assert series(metrics, "duewatch_task_owned") == {("0",): 1}


def test_ages_are_those_of_the_moment_they_are_asked_for(metrics: Metrics, clocks: Clocks) -> None:
    take_over(metrics, t0=TaskState(), t1=TaskState(clock_ms=999_990_000))
    # Before the first tick a task has no watermark; that of a task taken over is its last tick.
    assert series(metrics, "duewatch_watermark_age_seconds") == {("1",): 10}
    clocks.advance(5)
    metrics.chunk_done(0, 1, Folded(TaskState(clock_ms=1_000_004_000)))
    metrics.watermark(0, 1_000_004_000, 1_000_003_000)
    clocks.advance(20)
    assert series(metrics, "duewatch_watermark_age_seconds") == {("0",): 21, ("1",): 35}
    assert series(metrics, "duewatch_order_age_seconds") == {("0",): 22}
    assert series(metrics, "duewatch_last_commit_timestamp_seconds") == {("0",): 1_000_005, ("1",): 1_000_000}


def test_what_is_told_of_a_task_that_is_gone_does_not_bring_it_back(metrics: Metrics) -> None:
    take_over(metrics, t0=TaskState())
    metrics.lag("logins", 0, 4)
    assert series(metrics, "duewatch_lag_records") == {("logins", "0"): 4}
    metrics.released(0)
    metrics.lag("logins", 0, 4)
    metrics.watermark(0, 1, 1)
    metrics.chunk_done(0, 1, Folded(TaskState()))
    assert series(metrics, "duewatch_lag_records") == {}
    assert series(metrics, "duewatch_task_owned") == {}
    assert series(metrics, "duewatch_order_age_seconds") == {}


def test_policy_is_the_initial_one_until_another_is_activated(metrics: Metrics) -> None:
    assert series(metrics, "duewatch_policy_info") == {("standard", "sha256:1"): 1}
    take_over(metrics, t0=TaskState(), t1=TaskState(live=PolicyInForce("strict", "sha256:2", "id: strict")))
    assert series(metrics, "duewatch_policy_info") == {("standard", "sha256:1"): 1, ("strict", "sha256:2"): 1}
    metrics.released(0)
    assert series(metrics, "duewatch_policy_info") == {("strict", "sha256:2"): 1}


def test_work_is_counted(metrics: Metrics) -> None:
    metrics.expect(12)
    take_over(metrics, t0=TaskState(), t7=TaskState())
    metrics.stage_done("fold", 0.03)
    metrics.retried(0, "store")
    assert value(metrics, "duewatch_partitions") == 12
    assert value(metrics, "duewatch_tasks_assigned") == 2
    assert value(metrics, "duewatch_take_over_seconds_count") == 2
    assert value(metrics, "duewatch_chunk_stage_seconds_bucket", stage="fold", le="0.025") == 0
    assert value(metrics, "duewatch_chunk_stage_seconds_bucket", stage="fold", le="0.05") == 1
    assert value(metrics, "duewatch_retries_total", reason="store") == 1
    assert [(engine, told) for (*_, engine), told in series(metrics, "duewatch_build_info").items()] == [("plain", 1)]


def test_nothing_of_a_borrower_gets_out(metrics: Metrics) -> None:
    take_over(metrics, t0=TaskState())
    output = Output("early-warnings", b"borrower-77", b'{"borrower_id":"borrower-77"}', "warning_raised", "red")
    letter = DeadLetter(record("logins"), "wrong_key", "key: must be borrower-77", "decode")
    metrics.chunk_done(0, 1, Folded(TaskState(), [output], [letter], changed={"borrower-77": b""}))
    assert b"borrower-77" not in generate_latest(metrics.registry)


# --- readiness ----------------------------------------------------------------------------------------------------


def test_not_ready_before_the_group_has_answered(metrics: Metrics) -> None:
    assert metrics.tasks.unready(60) == ["no tasks assigned yet"]


def test_ready_without_tasks_where_there_are_more_workers_than_tasks(metrics: Metrics) -> None:
    metrics.assigned([])
    assert metrics.tasks.unready(60) == []


def test_not_ready_while_a_task_is_not_taken_over(metrics: Metrics) -> None:
    metrics.assigned([1, 2])
    metrics.taken_over(2, 0.1, TaskState())
    assert metrics.tasks.unready(60) == ["task 1: not taken over yet"]
    metrics.taken_over(1, 0.1, TaskState())
    assert metrics.tasks.unready(60) == []
    metrics.released(2)
    assert metrics.tasks.unready(60) == ["task 2: not taken over yet"]


def _idle(metrics: Metrics, clocks: Clocks) -> None:
    clocks.advance(1_000)


def _behind_for_long(metrics: Metrics, clocks: Clocks) -> None:
    metrics.lag("logins", 0, 5)
    clocks.advance(61)
    metrics.lag("transactions", 0, 2)


def _behind_and_committing(metrics: Metrics, clocks: Clocks) -> None:
    metrics.lag("logins", 0, 5)
    clocks.advance(50)
    metrics.chunk_done(0, 1, Folded(TaskState()))
    clocks.advance(50)


def _idle_for_long_and_behind_just_now(metrics: Metrics, clocks: Clocks) -> None:
    metrics.lag("logins", 0, 0)
    clocks.advance(1_000)
    metrics.lag("logins", 0, 5)
    clocks.advance(10)


def _caught_up(metrics: Metrics, clocks: Clocks) -> None:
    metrics.lag("logins", 0, 5)
    clocks.advance(61)
    metrics.lag("logins", 0, 0)


@pytest.mark.parametrize(
    ("story", "lines"),
    [
        (_idle, []),
        (_behind_for_long, ["task 0: 7 records behind, no commit for 61 s"]),
        (_behind_and_committing, []),
        (_idle_for_long_and_behind_just_now, []),
        (_caught_up, []),
    ],
)
def test_ready_unless_behind_without_commits(
    metrics: Metrics, clocks: Clocks, story: Callable[[Metrics, Clocks], None], lines: list[str]
) -> None:
    take_over(metrics, t0=TaskState())
    story(metrics, clocks)
    assert metrics.tasks.unready(60) == lines


# --- over HTTP ----------------------------------------------------------------------------------------------------


async def test_paths(metrics: Metrics) -> None:
    async with serving(metrics, load_settings(http_port=0)) as url, aiohttp.ClientSession() as client:

        async def get(path: str) -> tuple[int, str]:
            async with client.get(url + path) as response:
                return response.status, await response.text()

        assert await get("/healthz") == (200, "ok\n")
        assert await get("/readyz") == (503, "no tasks assigned yet\n")
        metrics.assigned([])
        assert await get("/readyz") == (200, "ready\n")
        metrics.retried(0, "stale")
        status, text = await get("/metrics")
        assert status == 200
        assert 'duewatch_retries_total{reason="stale"} 1.0' in text
        assert "_created" not in text
        assert (await get("/"))[0] == 404


async def test_address_taken_is_one_line_that_says_which_setting(metrics: Metrics, clocks: Clocks) -> None:
    async with serving(metrics, load_settings(http_port=0)) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=rf"DUEWATCH_HTTP_PORT.*127\.0\.0\.1:{port} .*choose another") as caught:
            async with serving(metrics, load_settings(http_port=port)):
                pass
        assert "\n" not in str(caught.value)
