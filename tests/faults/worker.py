"""The worker of the rows: `duewatch worker` with points, and perhaps with one protection taken out.

It imports everything, then waits for one line on its standard input: its environment as JSON. It ends with whoever
holds the other end of that pipe.
"""

import json
import os
import sys
import threading
from pathlib import Path

from streams.config import load_settings
from streams.log import start_logging
from streams.worker.app import run_worker
from tests.faults import ailments, mutants, points


def main() -> int:
    line = sys.stdin.readline()
    if not line:
        return 0
    os.environ.update(json.loads(line))
    threading.Thread(target=_follow, daemon=True).start()
    settings = load_settings()
    start_logging(settings)
    # Shorter than the least that users may set, so that a row need not wait long for a dead worker's tasks.
    settings = settings.model_copy(update={"session_timeout_s": float(os.environ.get("FAULTS_SESSION_S", "3"))})
    mutants.install(os.environ.get("FAULTS_MUTANT", ""))
    ailments.install(os.environ.get("FAULTS_AILMENT", ""), Path(os.environ["FAULTS_FOLDER"]) / "marks")
    points.install(dict(os.environ))
    return run_worker(settings)


def _follow() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
