"""A server process with a folder of its own; both go when this process goes, however it goes."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.parts import BrokenPart, wait_until

_LOG_LINES = 15


class Guard:
    """Runs a shell command when this process has died, even by SIGKILL: until then it waits on a pipe of ours."""

    def __init__(self, command: str, *arguments: str) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", f"read _; {command}", "guard", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A group of its own, so that what kills ours (Ctrl-C, a time limit) leaves it to do its work.
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """End it without running the command."""
        self._shell.kill()
        self._shell.wait()
        if self._shell.stdin is not None:
            self._shell.stdin.close()


class Child:
    """One server process at a time, started, ended and started again over the same folder."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"duewatch-{name}-"))
        self._log = self.folder / "log"
        self._running: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._running.pid if self._running is not None and self._running.poll() is None else None

    def start(self, command: Sequence[str], ready: Callable[[], bool]) -> None:
        """Start the server and wait until `ready` says so.

        Raises:
            BrokenPart: It ended, or was not ready in time.
        """
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._guard = Guard('kill -9 "$1"; sleep 0.5; rm -rf "$2"', str(self._running.pid), str(self.folder))
        try:
            wait_until(lambda: self.pid is None or ready(), f"{self.name} ready")
        except BrokenPart as slow:
            self.kill()
            raise BrokenPart(f"{slow}\n{self.log_tail()}") from None
        if self.pid is None:
            self.kill()
            raise BrokenPart(f"{self.name} ended while it started\n{self.log_tail()}")

    def stop(self, grace_s: float = 30.0) -> None:
        """End it in good order; by force when it takes longer than `grace_s`."""
        if self._running is not None:
            self._running.terminate()
            try:
                self._running.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._running.kill()
        self._gone()

    def kill(self) -> None:
        """End it with SIGKILL: it writes nothing more."""
        if self._running is not None:
            self._running.send_signal(signal.SIGKILL)
        self._gone()

    def _gone(self) -> None:
        if self._running is not None:
            self._running.wait()
        if self._guard is not None:
            self._guard.dismiss()
        self._running = self._guard = None

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_lines(self) -> list[str]:
        """What it wrote."""
        return self._log.read_text(errors="replace").splitlines()

    def log_tail(self) -> str:
        """The last lines that it wrote."""
        return "\n".join(self.log_lines()[-_LOG_LINES:])
