"""The image, as far as it can be judged without building it."""

import re
import shlex
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_REPO = Path(__file__).parents[2]


def stages() -> list[list[tuple[str, str]]]:
    """(instruction, argument) by stage; continued lines are joined, comments left out."""
    text = (_REPO / "deploy" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found: list[list[tuple[str, str]]] = []
    for line in joined.splitlines():
        name, argument = line.split(maxsplit=1)
        if name == "FROM":
            found.append([])
        found[-1].append((name, " ".join(argument.split())))
    return found


def arguments(stage: list[tuple[str, str]], instruction: str) -> list[str]:
    return [argument for name, argument in stage if name == instruction]


def test_final_stage_runs_without_privileges() -> None:
    final = stages()[-1]
    (user,) = arguments(final, "USER")
    uid, gid = (int(part) for part in user.split(":"))
    assert uid >= 10_000
    assert gid >= 10_000
    # Nothing runs as root after it.
    names = [name for name, _ in final]
    assert "RUN" not in names[names.index("USER") :]
    assert f"--uid {uid}" in " ".join(arguments(final, "RUN"))


def test_every_stage_starts_from_the_same_slim_python() -> None:
    bases = {stage[0][1].split()[0] for stage in stages()}
    assert bases == {"python:3.11-slim"}
    assert len(stages()) > 1


def test_all_that_is_installed_is_locked_by_hash_and_only_our_own_is_compiled() -> None:
    installs = [
        part
        for stage in stages()
        for run in arguments(stage, "RUN")
        for part in run.split("&&")
        if re.search(r"\bpip\b.* install ", part)
    ]
    assert len(installs) == 3
    for install in installs:
        words = shlex.split(install)
        ours = "dist/*.whl" in words
        assert ("--no-index" in words and "--no-deps" in words) if ours else "--require-hashes" in words
        assert ours or ("--only-binary" in words and "--requirement" in words)
    assert any("--requirement requirements.lock" in install for install in installs)


def test_final_stage_brings_no_build_tools() -> None:
    final = stages()[-1]
    runs = " ".join(arguments(final, "RUN"))
    assert re.search(r"pip uninstall .*\bpip setuptools wheel\b", runs)
    assert not re.search(r"apt-get|pip install|gcc|build-essential", runs)
    assert arguments(final, "COPY") == ["--from=build /opt/duewatch /opt/duewatch"]


def test_build_requirements_picked_from_the_lock_are_all_that_building_needs() -> None:
    (build, *_) = stages()
    (picked,) = re.findall(r"/\^\(([\w|-]+)\)==/", " ".join(arguments(build, "RUN")))
    needed, seen = ["hatchling", "mypy", "setuptools"], set()
    while needed:
        name = canonicalize_name(needed.pop())
        if name not in seen:
            seen.add(name)
            found = (Requirement(line) for line in requires(name) or ())
            needed += [each.name for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]
    assert set(picked.split("|")) == seen
    locked = set(re.findall(r"^([\w.-]+)==", (_REPO / "requirements-dev.lock").read_text(), re.MULTILINE))
    assert seen <= locked


def test_health_is_asked_where_the_image_listens() -> None:
    final = stages()[-1]
    (health,) = arguments(final, "HEALTHCHECK")
    assert "/healthz" in health
    assert "DUEWATCH_HTTP_PORT" in health
    assert "DUEWATCH_HTTP_PORT=9464" in " ".join(arguments(final, "ENV"))
    assert arguments(final, "EXPOSE") == ["9464"]


def test_the_engine_is_compiled() -> None:
    (wheel,) = [run for run in arguments(stages()[0], "RUN") if "pip wheel" in run]
    assert wheel.startswith("DUEWATCH_COMPILE=1 pip wheel")


@pytest.mark.parametrize("source", ["schemas", "streams", "pyproject.toml", "hatch_build.py", "LICENSE"])
def test_what_is_copied_is_let_through_by_dockerignore(source: str) -> None:
    copied = " ".join(arguments(stages()[0], "COPY")).split()
    ignore = (_REPO / ".dockerignore").read_text().splitlines()
    assert source in copied
    assert f"!{source}" in {line.rstrip("/") for line in ignore}
