"""Options and fixtures of the rows, and which of them run with which seeds."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REQUIRED
from tests.faults.cluster import Cluster
from tests.faults.mutants import MUTANTS
from tests.faults.stage import Script, Spares, Stage, make_script
from tests.faults.tally import TALLY, Ledger, Outcome, Ran, Tally
from tests.parts import MissingPart
from tests.parts.redis import open_own_redis

_FIRST_SEED = 1
_FAILED = pytest.StashKey[str]()
_SKIPPED = pytest.StashKey[str]()
_MUTANT = pytest.StashKey[str]()
_SEED = pytest.StashKey[int]()
_KILLS = pytest.StashKey[int]()
MakeStage = Callable[..., Stage]
"""Makes the stage of a row: on a cluster, with `appendonly` for its Redis; the rest goes to `make_script`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--seed", type=int, default=_FIRST_SEED, help="of the recording and of where faults strike")
    group.addoption("--row", default="", help="only these rows: names of tests without test_, with commas between")
    group.addoption("--mutants", default="", help="run what catches them: see tests/faults/mutants.py")
    group.addoption("--ledger", type=Path, help="keeps what ran: what held is not run again, and all is summed up")
    group.addoption("--short", action="store_true", help="only the rows that a change has to pass")


def pytest_configure(config: pytest.Config) -> None:
    # It tells each retry, and retries are what the rows are about.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    config.addinivalue_line("markers", "long: a row that takes longer than a change can wait for")
    config.addinivalue_line("markers", "seeds(n): in the long run once with each of so many seeds")


def row_of(item: pytest.Item) -> str:
    """The name of a row: that of its test, without `test_`."""
    return item.name.removeprefix("test_").split("-seed-")[0].split("-without-")[0]


def seed_of(item: pytest.Item) -> int:
    """Of the recording and of where faults strike."""
    return item.stash.get(_SEED, int(item.config.getoption("--seed")))


# Last, so that what -k leaves out is not counted.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = [name for name in config.getoption("--row").split(",") if name]
    mutants = [name for name in config.getoption("--mutants").split(",") if name]
    short = config.getoption("--short")
    ledger = Ledger(config.getoption("--ledger"))
    everything = list(items)
    items.clear()
    for item in everything:
        if asked or mutants:
            wanted = row_of(item) in asked or row_of(item).split("[")[0] in asked
        else:
            wanted = not (short and item.get_closest_marker("long"))
        if wanted:
            items += [item] if short or asked else seeded(item)
    for name in mutants:
        items += [mutated(item, name) for item in everything if row_of(item) in MUTANTS[name].rows]
    if asked and not items:
        raise pytest.UsageError(f"there is no row {config.getoption('--row')}")
    items[:] = [item for item in items if (row_of(item), seed_of(item)) not in ledger.held]
    config.hook.pytest_deselected(items=[item for item in everything if item not in items])
    shows = bool(items) and not config.option.collectonly
    config.stash[TALLY] = Tally(len(items), ledger, config.pluginmanager.getplugin("capturemanager"), shows=shows)


def seeded(item: pytest.Item) -> list[pytest.Item]:
    """A row, and the same with each further seed that it asks for."""
    mark = item.get_closest_marker("seeds")
    rows = [item]
    for seed in range(seed_of(item) + 1, seed_of(item) + (mark.args[0] if mark else 1)):
        rows.append(copy_of(item, f"-seed-{seed}"))
        rows[-1].stash[_SEED] = seed
    return rows


def copy_of(item: pytest.Item, suffix: str) -> pytest.Function:
    """A row of its own that does the same; rows with parameters cannot be copied."""
    assert isinstance(item, pytest.Function)
    made: pytest.Function = pytest.Function.from_parent(item.parent, name=item.name + suffix, callobj=item.obj)
    return made


def mutated(item: pytest.Item, mutant: str) -> pytest.Item:
    """A row with workers that lack a protection: it has to fail."""
    copy = copy_of(item, f"-without-{mutant}")
    copy.add_marker(pytest.mark.xfail(strict=True, reason=f"without {mutant}"))
    copy.stash[_MUTANT] = mutant
    return copy


def pytest_unconfigure(config: pytest.Config) -> None:
    tally = config.stash.get(TALLY, None)
    if tally is not None and not config.option.collectonly:
        tally.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    began_s = time.monotonic()
    result = yield
    told = item.stash.get(_FAILED, "")
    mutant = item.stash.get(_MUTANT, "")
    outcome: Outcome = "violated" if told else "held"
    if mutant:
        outcome = "caught" if told else "got away"
    if _SKIPPED in item.stash:
        outcome, told = "skipped", item.stash[_SKIPPED]
    seconds = round(time.monotonic() - began_s, 1)
    row = row_of(item) + (f"-without-{mutant}" if mutant else "")
    item.config.stash[TALLY].count(Ran(row, seed_of(item), outcome, item.stash.get(_KILLS, 0), seconds, told))
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    if call.excinfo is not None:
        # The first difference, in a line.
        lines = str(call.excinfo.value).strip().splitlines() or [call.excinfo.typename]
        skipped = call.excinfo.errisinstance(pytest.skip.Exception)
        item.stash.setdefault(_SKIPPED if skipped else _FAILED, lines[0][:300])
    return report


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Tally:
    return request.config.stash[TALLY]


def _had(find: Callable[[], Cluster]) -> Cluster:
    try:
        return find()
    except MissingPart as missing:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def one_node(tally: Tally) -> Iterator[Cluster]:
    """A single node for all rows that need no more; each leaves it running."""
    tally.tell("starting Kafka")
    cluster = _had(Cluster)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def spares(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spares]:
    """Worker processes for all rows."""
    made = Spares(tmp_path_factory.mktemp("workers"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def three_nodes(tally: Tally) -> Iterator[Cluster]:
    """Three nodes, every topic in three copies of which two must have a record."""
    tally.tell("starting three nodes of Kafka")
    cluster = _had(lambda: Cluster(3))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def script_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Script]:
    """Recordings by seed and number of partitions, made once."""
    made: dict[tuple[int, int, int, int], Script] = {}

    def make(seed: int, partitions: int = 4, records: int = 3_000, rounds: int = 1) -> Script:
        key = (seed, partitions, records, rounds)
        if key not in made:
            made[key] = make_script(seed, tmp_path_factory.mktemp("script"), *key[1:])
        return made[key]

    return make


@pytest.fixture
def make_stage(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    unique: str,
    tally: Tally,
    spares: Spares,
    script_of: Callable[..., Script],
) -> Iterator[MakeStage]:
    """Make the stage of a row, on a cluster; it ends, and is counted, with the row."""
    stages: list[Stage] = []
    row = row_of(request.node)

    def make(cluster: Cluster, *, appendonly: bool = False, **script: int) -> Stage:
        tally.tell(f"{row}: setting up")
        cluster.mend()
        played = script_of(seed_of(request.node), **script)
        store = open_own_redis(appendonly=appendonly)
        stage = Stage(cluster, store, spares, unique, tmp_path, played, lambda what: tally.tell(f"{row}: {what}"))
        stage.mutant = request.node.stash.get(_MUTANT, "")
        stages.append(stage)
        return stage

    yield make
    for stage in stages:
        stage.close()
    request.node.stash[_KILLS] = sum(stage.kills_seen() for stage in stages)


@pytest.fixture
def stage(make_stage: MakeStage, one_node: Cluster) -> Stage:
    """The usual stage: one node, four partitions, everything produced before the workers start."""
    made = make_stage(one_node)
    made.produce_all(made.script.recording)
    return made
