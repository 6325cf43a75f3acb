"""The main job, end to end: what goes through real workers comes out as a replay of the same records says."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from schemas.topics import INPUTS, OUTPUTS
from streams.replay.uci import import_uci
from tests.integration.live import PARTITIONS, Live, Outcome, check_commits_tile, check_same, replayed
from tests.parts.kafka import Kafka
from tests.parts.redis import OwnRedis

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

_UCI = Path(__file__).parents[2] / "data" / "uci-default" / "odd.csv.gz"
_CUSTOMERS = 300


@pytest.fixture
def make_live(
    kafka: Kafka, make_redis: Callable[[], OwnRedis], unique: str, tmp_path: Path
) -> Iterator[Callable[[], Live]]:
    """Fresh topics and a fresh store; the workers of a test end with it."""
    with ExitStack() as opened:

        def make() -> Live:
            live = Live(kafka, make_redis(), unique, tmp_path)
            opened.callback(live.close)
            return live

        yield make


@pytest.fixture(scope="module")
def uci(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A recording of real histories, and what it must come to."""
    folder = tmp_path_factory.mktemp("uci")
    import_uci(_UCI, folder / "recording", _CUSTOMERS, PARTITIONS)
    return folder / "recording", replayed(folder / "recording", folder / "out")


@pytest.mark.parametrize("workers", [1, 3])
def test_real_histories_come_out_as_replayed(
    make_live: Callable[[], Live], uci: tuple[Path, Outcome], workers: int
) -> None:
    recording, wanted = uci
    live = make_live()
    live.produce_all(recording)
    # None folds before the group is complete: else the first one might have done it all.
    live.hold_store()
    started = [live.worker(redis_timeout_s=60) for _ in range(workers)]
    shares = shared_evenly(live, workers)
    live.let_store_go()
    live.wait_until_done()
    check_same(live.outcome(), wanted)
    check_commits_tile(live)
    assert live.members() == shares
    assert all(worker.exit_code is None for worker in started)
    assert not any(worker.said("task is taken over again") for worker in started)
    ids = [json.loads(value)["event_id"] for topic in OUTPUTS for value in wanted.outputs[topic]]
    assert len(set(ids)) == len(ids) > 1_000


def shared_evenly(live: Live, workers: int) -> list[dict[str, set[int]]]:
    """What each member has been given, once all are in: as many as the others, the same partitions of every input."""

    def even() -> bool:
        members = live.members()
        return len(members) == workers and all(members) and sum(map(partitions_of, members)) == PARTITIONS

    live.wait_for(even, f"{workers} members with all partitions")
    members = live.members()
    for member in members:
        assert set(member) == set(INPUTS)
        assert all(numbers == member[INPUTS[0]] for numbers in member.values())
    assert sorted(number for member in members for number in member[INPUTS[0]]) == list(range(PARTITIONS))
    assert {partitions_of(member) for member in members} == {PARTITIONS // workers}
    return members


def partitions_of(member: dict[str, set[int]]) -> int:
    return len(member.get(INPUTS[0], ()))
