"""The demo as a user runs it: from the command line, on its own broker and Redis."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from streams.demo import run_demo
from streams.demo.sandbox import Sandbox
from streams.demo.view import Moment, screen, summary
from streams.demo.watch import Gauges, Outputs
from tests.parts import wait_until

demo = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes left behind in /proc")


class Run:
    """A demo, with a folder of its own for temporary files, by which all its processes are known."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._mark = f"TMPDIR={folder}".encode()
        self._folder = folder
        self._out = folder.with_suffix(".out")
        with self._out.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "demo", *arguments],
                env={**os.environ, "TMPDIR": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def printed(self) -> str:
        return self._out.read_text(errors="replace")

    def wait_for_events(self) -> None:
        """Until it shows that the worker folds."""
        wait_until(lambda: self._ended() or self._shows_events(), "the demo shows events", timeout_s=90)
        assert not self._ended(), self.printed

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        return self._process.wait(90)

    def leaves_nothing(self) -> bool:
        """Whether no process and no file of it is left."""
        return not list(self._folder.iterdir()) and not any(self._mark in environ for environ in _environs())

    def close(self) -> None:
        if not self._ended():
            self._process.kill()
        self._process.wait()
        wait_until(self.leaves_nothing, "all of the demo is gone", timeout_s=20)

    def _ended(self) -> bool:
        return self._process.poll() is not None

    def _shows_events(self) -> bool:
        return re.search(r"^ +\d+ s .* [1-9][\d,]* events", self.printed, re.MULTILINE) is not None


def _environs() -> Iterator[list[bytes]]:
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            yield place.read_bytes().split(b"\0")
        except OSError:
            continue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "t"
    made.mkdir()
    return made


def _figures(printed: str) -> tuple[int, int, int]:
    """Records sent, folded and refused, as the summary tells."""
    told = re.search(r"^events +([\d,]+) sent = ([\d,]+) folded \+ ([\d,]+) dead letters: nothing lost$", printed, re.M)
    assert told is not None, printed
    sent, folded, refused = (int(figure.replace(",", "")) for figure in told.groups())
    return sent, folded, refused


@demo
@pytest.mark.demo
def test_a_run_ends_by_itself_and_accounts_for_every_event_even_after_another_was_killed(folder: Path) -> None:
    killed = Run(folder)
    try:
        killed.wait_for_events()
        assert not killed.leaves_nothing()
        killed.send(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        wait_until(killed.leaves_nothing, "all of the killed demo is gone", timeout_s=20)
    finally:
        killed.close()
    run = Run(folder, "--for", "8s")
    try:
        assert run.wait() == 0, run.printed
        assert run.leaves_nothing()
        sent, folded, refused = _figures(run.printed)
        assert sent == folded + refused
        assert folded > 1_000
        assert refused > 0
        assert re.search(r"^dead letters +\w+ \d+", run.printed, re.M)
        assert re.search(r"^warnings +watch [1-9]", run.printed, re.M), run.printed
    finally:
        run.close()


@demo
@pytest.mark.demo
def test_ctrl_c_ends_it_with_the_same_summary(folder: Path) -> None:
    run = Run(folder)
    try:
        run.wait_for_events()
        run.send(signal.SIGINT)
        assert run.wait() == 0, run.printed
        assert run.leaves_nothing()
        sent, folded, refused = _figures(run.printed)
        assert sent == folded + refused > 0
        assert "Traceback" not in run.printed
    finally:
        run.close()


@demo
@pytest.mark.demo
def test_ctrl_c_while_it_starts_ends_it_too(folder: Path) -> None:
    run = Run(folder)
    try:
        wait_until(lambda: "starting" in run.printed, "it starts")
        run.send(signal.SIGINT)
        assert run.wait() == 130
        assert run.leaves_nothing()
        assert run.printed.splitlines()[1:] == ["duewatch: interrupted"]
    finally:
        run.close()


def test_without_the_extra_it_says_in_one_line_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run_demo(1.0) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"duewatch: .*confluent-kafka.*pip install 'duewatch\[demo\]'\n", told.err)


def test_only_folders_whose_owner_is_gone_are_swept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    stale, foreign = folder / "duewatch-demo-stale", folder / "duewatch-other"
    for place in (stale, foreign):
        place.mkdir()
        (place / "lock").touch()
    with Sandbox() as first:
        assert not stale.exists()
        with Sandbox() as second:
            assert {first.folder, second.folder, foreign} == set(folder.iterdir())
        assert {first.folder, foreign} == set(folder.iterdir())
        child = first.start("sleeper", ["sleep", "60"], {"PATH": os.environ["PATH"]})
    assert child.returncode == -signal.SIGTERM
    assert [foreign] == list(folder.iterdir())


class _Read(Outputs):
    """Outputs that have been read before."""

    def __init__(self) -> None:
        self.warnings = Counter(watch=1_132, amber=27, red=23, critical=16, warning_lowered=1, warning_cleared=91)
        self.limits = Counter(limit_frozen=12, limit_zeroed=5)
        self.refused = Counter(malformed_json=7, wrong_type=6)
        self.last = deque()


_GAUGES = Gauges(
    read=1_065_120,
    loans={"C": (1_306, 1_336_983_800), "M1": (1_400, 4_974_600), "M2": (0, 0)},
    levels={"none": 900, "watch": 20, "amber": 3, "red": 6, "critical": 160},
    statuses={"normal": 2_120, "zeroed": 5},
)


def _moment(sent: int) -> Moment:
    return Moment(20.0, sent, 1_709_136_000_000, 53_256.4, _GAUGES, _Read())


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50)])
def test_no_figure_is_cut_on_any_usual_terminal(width: int, height: int) -> None:
    console = Console(width=width, height=height, record=True, file=Path(os.devnull).open("w"))  # noqa: SIM115
    console.print(screen(_moment(1_065_125)))
    shown = console.export_text()
    for figure in ("1,065,107", "53,256", "1,306", "13,369,838", "49,746", "1,132", "160", "2,120", "2024-02-29"):
        assert figure in shown


def test_the_summary_says_what_was_not_read() -> None:
    assert "1,065,120 sent = 1,065,107 folded + 13 dead letters: nothing lost" in summary(_moment(1_065_120))
    assert "1,065,125 sent = 1,065,107 folded + 13 dead letters: 5 not read" in summary(_moment(1_065_125))


def test_time_is_simulated_time_in_the_lenders_zone() -> None:
    """16:00 UTC is midnight in Shanghai."""
    assert _moment(1).on == "2024-02-29"
    before = Moment(0.0, 0, 1_709_136_000_000 - 1, 0.0, _GAUGES, _Read())
    assert before.on == "2024-02-28"
