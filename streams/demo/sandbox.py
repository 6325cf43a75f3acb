"""Child processes and a folder for them; all of it goes when this process goes, however it goes."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_PREFIX = "duewatch-demo-"
_LOCK = "lock"
_TERM_S = 10.0
_CLEAN_UP = 'read _; rm -rf -- "$1"; kill -KILL 0'
"""What the guard runs: its standard input ends when we are gone. The group is its own and that of all children."""


class DemoError(Exception):
    """The demo cannot run, or could not go on: one line that says why and how to mend it."""


class Sandbox:
    """A folder, processes in a group of their own, and a guard in that group that ends them all when we have ended.

    A group of their own also keeps Ctrl-C from them: they are stopped in good order, by us.
    """

    def __init__(self) -> None:
        _sweep()
        self.folder, self._lock = _make_folder()
        self._children: list[subprocess.Popen[str]] = []
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _CLEAN_UP, "guard", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log_of(self, name: str) -> Path:
        """Where a child's output goes."""
        return self.folder / f"{name}.log"

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str], *, answers: bool = False
    ) -> subprocess.Popen[str]:
        """Start a child. With `answers` its standard output is a pipe to us, else it is logged like its errors.

        Its standard input is a pipe too and ends with us.
        """
        with self.log_of(name).open("ab") as log:
            child = subprocess.Popen(
                command,
                cwd=self.folder,
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if answers else log,
                stderr=log,
                text=True,
                process_group=self._guard.pid,
            )
        self._children.append(child)
        return child

    def close(self) -> None:
        """End the children in good order, the last one first, then the guard; remove the folder."""
        for child in reversed(self._children):
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(_TERM_S)
        # What is left is the guard's to end.
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()
        for child in self._children:
            child.wait()
        os.close(self._lock)


def _make_folder() -> tuple[Path, int]:
    """A folder, and the lock on it that we hold as long as we live. Others sweep it by its name, which it gets last."""
    unnamed = Path(tempfile.mkdtemp(prefix="duewatch-new-"))
    lock = os.open(unnamed / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return unnamed.rename(unnamed.with_name(unnamed.name.replace("duewatch-new-", _PREFIX))), lock


def _sweep() -> None:
    """Remove folders of ours whose owner is gone and whose guard could not do it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
