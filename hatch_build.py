"""The wheel's build step: with DUEWATCH_COMPILE=1 the engine goes in compiled by mypyc, else as it stands.

The sources are the same, and so are the outputs (`python -m benchmarks` compares them before it measures). Building
takes a C compiler, Python's headers and about a minute and a half.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What every event passes. Modules that hold shapes of what is decoded stay as they are, since msgspec reads their
# annotations when it makes a decoder; so do those that are seldom run.
_COMPILED = (
    "allocation", "arrears", "calendar", "cases", "debts", "decide", "decode", "delinquency", "encode",
    "feature", "features", "fold", "graces", "history", "incomes", "ingest", "journal", "ledger", "limits",
    "loan_facts", "login_skips", "offers", "order", "parts", "reasons", "regulatory", "relief", "reminders", "reviews",
    "rows", "score", "score_edges", "score_fall", "seen", "shadows", "signal_features", "signal_windows", "view",
    "warnings", "windows",
)  # fmt: skip
_COMPILED_BESIDE = ("streams/store/seal.py",)
_SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup
setup(
    name="engine",
    packages=[],
    ext_modules=mypycify(
        [*sys.argv.pop().split(","), "--ignore-missing-imports"], group_name="duewatch_engine", opt_level="3"
    ),
)
"""


class CompiledEngine(BuildHookInterface[Any]):
    """Adds the extension modules of `streams.engine`, and of what every state passes beside it, to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable" or os.environ.get("DUEWATCH_COMPILE") != "1":
            return
        root = Path(self.root)
        out = root / "build" / "mypyc"
        out.mkdir(parents=True, exist_ok=True)
        # In a folder of their own: setuptools would read the project's settings as its own.
        for package in ("schemas", "streams"):
            if not (out / package).is_symlink():
                (out / package).symlink_to(root / package, target_is_directory=True)
        modules = [*(f"streams/engine/{name}.py" for name in _COMPILED), *_COMPILED_BESIDE]
        shutil.rmtree(out / "lib", ignore_errors=True)
        command = [sys.executable, "-c", _SETUP, "build_ext", "--build-lib", "lib", "--build-temp", "temp"]
        subprocess.run([*command, ",".join(modules)], cwd=out, check=True)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for built in sorted((out / "lib").rglob("*.so")):
            build_data["force_include"][str(built)] = str(built.relative_to(out / "lib"))
