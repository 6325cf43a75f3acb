"""The year made and checked: one recording, then its partitions, several at a time, each kept when it is done.

What was done is kept in ~/.cache/duewatch by what it was made from: interrupted, the same command goes on.
"""

import hashlib
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.compiled import sources_digest
from benchmarks.recordings import simulator_digest
from schemas.topics import DEFAULT_PARTITIONS
from streams.replay.progress import Advance, progress
from streams.replay.recording import Recording
from streams.replay.replay import begin_process
from streams.replay.simulate.writing import simulate
from tests.laws.year import check as checking
from tests.laws.year.check import Found
from tests.parts import BrokenPart

_CACHE = Path.home() / ".cache" / "duewatch"
_LOOK_EVERY_S = 0.5


class Year(Struct, frozen=True):
    """Which year: the same one has the same recording on every machine."""

    seed: int
    borrowers: int
    days: int
    partitions: int = DEFAULT_PARTITIONS

    def folder(self, cache: Path) -> Path:
        """Where its recording and what was found in it are kept."""
        return cache / f"year-{self.seed}-{self.borrowers}-{self.days}-{self.partitions}-{simulator_digest()}"


class Interrupted(Exception):
    """Ctrl-C; the message says what is done."""


def run(year: Year, workers: int, tree: Path | None, cache: Path = _CACHE) -> tuple[Path, Found]:
    """Check a year; returns its recording and what was found.

    Args:
        tree: where the compiled engine is, None to run it as it stands.

    Raises:
        Interrupted: Ctrl-C; what is done is kept.
        BrokenPart: a process died.
    """
    folder, digest = year.folder(cache), _check_digest()
    recording = folder / "recording"
    try:
        if not recording.is_dir():
            _simulate(year, folder)
    except KeyboardInterrupt:
        raise Interrupted("the simulation begins again next time") from None
    results = folder / f"found-{digest}"
    results.mkdir(exist_ok=True)
    left = [partition for partition in range(year.partitions) if not _result(results, partition).is_file()]
    try:
        _check(recording, left, results, workers, tree)
    except KeyboardInterrupt:
        done = sum(1 for _ in results.iterdir())
        raise Interrupted(f"{done} of {year.partitions} partitions are checked, the same command goes on") from None
    total = Found()
    for partition in range(year.partitions):
        total += msgspec.json.decode(_result(results, partition).read_bytes(), type=Found)
    return recording, total


def _result(results: Path, partition: int) -> Path:
    return results / f"{partition:03d}.json"


def _simulate(year: Year, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Under another name until it is whole: a run that is cut off must not leave half of it.
    with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
        made = Path(unfinished) / "year"
        simulate(year.seed, year.borrowers, None, made / "recording", year.partitions, days=year.days)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _check_digest() -> str:
    """A name for what is checked and by what."""
    digest = hashlib.sha256(sources_digest().encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


# --- several processes --------------------------------------------------------------------------------------------

_done: "Synchronized[int]"


def _begin(done: "Synchronized[int]") -> None:
    global _done
    _done = done
    begin_process()


def _check_alone(recording: Path, partition: int, results: Path) -> None:
    found = checking.check(recording, partition, _advance)
    unfinished = results.parent / f"{partition:03d}.part"
    unfinished.write_bytes(msgspec.json.encode(found))
    unfinished.rename(_result(results, partition))


def _advance(records: int) -> None:
    with _done.get_lock():
        _done.value += records


def _check(recording: Path, left: list[int], results: Path, workers: int, tree: Path | None) -> None:
    with Recording.open(recording) as opened:
        records = sum(entry.records for entry in opened.manifest.files if entry.partition in left)
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    before = set(multiprocessing.active_children())
    with (
        _imported_from(tree),
        progress("checking", records) as advance,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(done,)) as pool,
    ):
        try:
            _follow({pool.submit(_check_alone, recording, at, results) for at in left}, done, advance)
        except BaseException as error:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                raise BrokenPart(f"{recording}: a process died (out of memory?): give fewer --workers") from None
            raise


def _follow(futures: set[Future[None]], done: "Synchronized[int]", advance: Advance) -> None:
    shown = 0
    while futures:
        ended, futures = wait(futures, timeout=_LOOK_EVERY_S, return_when=FIRST_COMPLETED)
        for future in ended:
            future.result()
        reached = done.value
        advance(reached - shown)
        shown = reached


@contextmanager
def _imported_from(tree: Path | None) -> Iterator[None]:
    """Processes that are started meanwhile import the packages from there."""
    if tree is None:
        yield
        return
    sys.path.insert(0, str(tree))
    try:
        yield
    finally:
        sys.path.remove(str(tree))
