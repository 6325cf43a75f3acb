"""What peers run in: an environment of their own for those in Python, jars and a compiled class for Kafka Streams."""

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.parts import MissingPart
from tests.parts.kafka import VERSION, jars_of

_ROOT = Path(__file__).parents[1]
_BUILD = _ROOT / "build"
_LOCK = Path(__file__).parent / "requirements-peers.lock"
_STREAMS = Path(__file__).parent / "contestants" / "kafka_streams"
_SHOWN = ("bytewax", "faust-streaming", "quixstreams")


def python() -> str:
    """The Python of the peers' environment; made when the lock file has changed.

    Raises:
        MissingPart: a package cannot be had here.
    """
    folder = _BUILD / f"peers-{_digest(_LOCK.read_bytes(), sys.version.encode())}"
    program = folder / "bin" / "python"
    if not folder.is_dir():
        for old in _BUILD.glob("peers-*"):
            shutil.rmtree(old)
        unfinished = _BUILD / "unfinished-peers"
        shutil.rmtree(unfinished, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(unfinished)], "make an environment for the peers")
        install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "-r",
            str(_LOCK),
        ]
        _run([str(unfinished / "bin" / "python"), *install], "install the peers")
        # What pip has written of scripts names the old folder; the program itself finds its packages beside it.
        unfinished.rename(folder)
    return str(program)


def kafka_streams() -> list[str]:
    """The command of the program for Kafka Streams, but for its argument.

    Raises:
        MissingPart: Java's compiler or Maven is not here, or a jar cannot be had.
    """
    java, javac = shutil.which("java"), shutil.which("javac")
    if java is None or javac is None:
        raise MissingPart("no Java compiler: install a JDK (openjdk-17-jdk-headless)")
    jars = jars_of("kafka-streams", _STREAMS / "pom.xml")
    source = _STREAMS / "SmallFold.java"
    classes = _BUILD / f"kafka-streams-{_digest(source.read_bytes(), VERSION.encode())}"
    if not classes.is_dir():
        unfinished = _BUILD / "unfinished-classes"
        shutil.rmtree(unfinished, ignore_errors=True)
        _run([javac, "-cp", f"{jars}/*", "-d", str(unfinished), str(source)], "compile the fold for Kafka Streams")
        unfinished.rename(classes)
    # The parallel collector is the quickest on few cores; the heap holds the cache of states.
    options = ["-Xmx1g", "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    return [java, *options, "-cp", f"{classes}:{jars}/*", "SmallFold"]


def versions() -> dict[str, str]:
    """What the peers are, by their lock file."""
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", _LOCK.read_text(), re.MULTILINE))
    return {"kafka-streams": VERSION, **{name: locked[name] for name in _SHOWN}}


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _run(command: Sequence[str], what: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise MissingPart(f"cannot {what}: {' '.join(done.stdout.split())[-600:]}")
