"""The engine compiled, as the image has it: the wheel, built and unpacked, to be put before the sources."""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

from tests.parts import BrokenPart, MissingPart

_ROOT = Path(__file__).parents[1]
_BUILD = _ROOT / "build"


def compiled_tree() -> Path:
    """A folder that holds the packages with the engine compiled; built when its sources have changed.

    Raises:
        MissingPart: there is no C compiler, or Python's headers are not there.
        BrokenPart: it does not build.
    """
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise MissingPart(f"no C compiler ({compiler}): install gcc, or measure with --interpreted")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise MissingPart("Python's headers are not installed (Debian, Ubuntu: python3-dev); or use --interpreted")
    tree = _BUILD / f"compiled-{sources_digest()}"
    if not tree.is_dir():
        _build(tree)
    return tree


def sources_digest() -> str:
    """A name for what the wheel is built from."""
    digest = hashlib.sha256(sys.version.encode())
    for package in ("hatch_build.py", "schemas", "streams"):
        path = _ROOT / package
        for source in [path] if path.is_file() else sorted(path.rglob("*")):
            if source.is_file() and "__pycache__" not in source.parts:
                digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _build(tree: Path) -> None:
    wheels = _BUILD / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    for old in _BUILD.glob("compiled-*"):
        shutil.rmtree(old)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    built = subprocess.run(
        [*command, "--wheel-dir", str(wheels), str(_ROOT)],
        env={**os.environ, "DUEWATCH_COMPILE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if built.returncode != 0:
        raise BrokenPart(f"the engine does not compile: {built.stdout[-2_000:]}")
    (wheel,) = wheels.glob("*.whl")
    unfinished = tree.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unfinished)
    unfinished.rename(tree)


def check_same(recording: Path, tree: Path) -> None:
    """Fold a recording with the engine as it stands and compiled.

    Raises:
        BrokenPart: they differ in a byte of an output or a state.
    """
    plain, compiled = (_digest(recording, path) for path in (_ROOT, tree))
    if plain != compiled:
        raise BrokenPart(f"the compiled engine gives other bytes ({compiled}) than the plain one ({plain})")


def _digest(recording: Path, path: Path) -> str:
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.digest", str(recording)],
        cwd=_ROOT / "build",
        env={**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{_ROOT}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if told.returncode != 0:
        raise BrokenPart(f"the fold failed: {told.stderr[-2_000:]}")
    return told.stdout.strip()
