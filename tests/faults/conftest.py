"""Options and fixtures of the rows, what is shown while they run, and the summary at the end."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.conftest import REQUIRED
from tests.faults.cluster import Cluster
from tests.faults.mutants import MUTANTS
from tests.faults.stage import Script, Spares, Stage, make_script
from tests.parts import MissingPart
from tests.parts.redis import open_own_redis

_SEED = 1
_FAILED = pytest.StashKey[str]()
_MUTANT = pytest.StashKey[str]()
MakeStage = Callable[..., Stage]
"""Makes the stage of a row: on a cluster, with `appendonly` for its Redis; the rest goes to `make_script`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--seed", type=int, default=_SEED, help="of the recording and of where faults strike")
    group.addoption("--row", default="", help="only these rows: names of tests without test_, with commas between")
    group.addoption("--mutants", default="", help="run what catches them: see tests/faults/mutants.py")
    group.addoption("--short", action="store_true", help="only the rows that a change has to pass")


def pytest_configure(config: pytest.Config) -> None:
    # It tells each retry, and retries are what the rows are about.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    config.addinivalue_line("markers", "long: a row that takes longer than a change can wait for")


def row_of(item: pytest.Item) -> str:
    """The name of a row: that of its test, without `test_`."""
    return item.name.removeprefix("test_")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = [name for name in config.getoption("--row").split(",") if name]
    mutants = [name for name in config.getoption("--mutants").split(",") if name]
    left_out = []
    for item in items:
        if asked or mutants:
            wanted = row_of(item) in asked or row_of(item).split("[")[0] in asked
        else:
            wanted = not (config.getoption("--short") and item.get_closest_marker("long"))
        if not wanted:
            left_out.append(item)
    everything = list(items)
    items[:] = [item for item in items if item not in left_out]
    for name in mutants:
        items += [mutated(item, name) for item in everything if row_of(item) in MUTANTS[name].rows]
    if asked and not items:
        raise pytest.UsageError(f"there is no row {config.getoption('--row')}")
    config.hook.pytest_deselected(items=left_out)
    config.stash[_TALLY] = Tally(config, len(items))


def mutated(item: pytest.Item, mutant: str) -> pytest.Item:
    """A row with workers that lack a protection: it has to fail."""
    assert isinstance(item, pytest.Function)
    copy: pytest.Function = pytest.Function.from_parent(
        item.parent, name=f"{item.name}-without-{mutant}", callobj=item.obj
    )
    copy.add_marker(pytest.mark.xfail(strict=True, reason=f"without {mutant}"))
    copy.stash[_MUTANT] = mutant
    return copy


class Tally:
    """Counts rows, kills and violations, and shows how far it is."""

    def __init__(self, config: pytest.Config, rows: int) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self.rows = self.kills = 0
        self.violations: list[str] = []
        self.seed = config.getoption("--seed")
        self._began_s = time.monotonic()
        self._console = Console(file=self._real_stderr(), soft_wrap=True)
        columns = (
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._task = self._progress.add_task("starting Kafka", total=rows)
        if rows and not config.option.collectonly:
            self._progress.start()

    def _real_stderr(self) -> IO[str]:
        """Past pytest's capture, which would show it only of a row that failed."""
        if self._capture is None:
            return os.fdopen(os.dup(2), "w")
        with self._capture.global_and_fixture_disabled():
            return os.fdopen(os.dup(2), "w")

    def tell(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def count(self, row: str, kills: int, seconds: float, failed: str) -> None:
        self.rows += 1
        self.kills += kills
        self._progress.advance(self._task)
        outcome = "[red]violated[/red]" if failed else "held"
        self._console.print(f"  {escape(row)}: {outcome}, {kills} kills, {seconds:.0f} s", highlight=False)
        if failed and "-without-" in row:
            self._console.print(f"    {escape(failed)}", highlight=False)
        elif failed:
            self.violations.append(f"{row}, seed {self.seed}: {failed}")

    def end(self) -> None:
        self._progress.stop()
        with self._capture.global_and_fixture_disabled():
            for violation in self.violations:
                print(f"violation: {violation}")
                print(f"  once more: make faults SEED={self.seed} ROW={violation.split(',')[0]}")
            seconds = time.monotonic() - self._began_s
            told = f"{self.rows} rows, {self.kills} kills, {len(self.violations)} violations"
            print(f"faults: {told}, seed {self.seed}, {seconds:.0f} s", flush=True)


_TALLY = pytest.StashKey[Tally]()


def pytest_unconfigure(config: pytest.Config) -> None:
    tally = config.stash.get(_TALLY, None)
    if tally is not None and not config.option.collectonly:
        tally.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if call.when == "call" and call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        # The first difference, in a line.
        lines = str(call.excinfo.value).strip().splitlines() or [call.excinfo.typename]
        item.stash[_FAILED] = lines[0][:300]
    return report


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Tally:
    return request.config.stash[_TALLY]


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
    """Recordings by number of partitions, made once."""
    made: dict[tuple[int, int, int], Script] = {}
    seed: int = request.config.getoption("--seed")

    def make(partitions: int = 4, records: int = 3_000, rounds: int = 1) -> Script:
        key = (partitions, records, rounds)
        if key not in made:
            made[key] = make_script(seed, tmp_path_factory.mktemp("script"), *key)
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
    began_s = time.monotonic()

    def make(cluster: Cluster, *, appendonly: bool = False, **script: int) -> Stage:
        tally.tell(f"{row}: setting up")
        cluster.mend()
        played = script_of(**script)
        store = open_own_redis(appendonly=appendonly)
        stage = Stage(cluster, store, spares, unique, tmp_path, played, lambda what: tally.tell(f"{row}: {what}"))
        stage.mutant = request.node.stash.get(_MUTANT, "")
        stages.append(stage)
        return stage

    yield make
    for stage in stages:
        stage.close()
    kills = sum(stage.kills_seen() for stage in stages)
    tally.count(row, kills, time.monotonic() - began_s, request.node.stash.get(_FAILED, ""))


@pytest.fixture
def stage(make_stage: MakeStage, one_node: Cluster) -> Stage:
    """The usual stage: one node, four partitions, everything produced before the workers start."""
    made = make_stage(one_node)
    made.produce_all(made.script.recording)
    return made
