"""The input: a simulated recording, made once and kept."""

import hashlib
import tempfile
from pathlib import Path

from streams.replay import simulate as simulator
from streams.replay.simulate import writing

PARTITIONS = 4
_CACHE = Path.home() / ".cache" / "duewatch"


def recording_of(seed: int, borrowers: int, events: int) -> Path:
    """A recording of about `events` events of `borrowers` borrowers on `PARTITIONS` partitions.

    It is kept in ~/.cache/duewatch by what it was made from, the simulator included.
    """
    name = f"simulated-{seed}-{borrowers}-{events}-{PARTITIONS}-{simulator_digest()}"
    folder = _CACHE / name
    if not folder.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        # Under another name until it is whole: a run that is cut off must not leave half of it.
        with tempfile.TemporaryDirectory(dir=_CACHE) as unfinished:
            made = Path(unfinished) / name
            made.mkdir()
            writing.simulate(seed, borrowers, events, made / "recording", PARTITIONS)
            if not folder.is_dir():
                made.rename(folder)
    return folder / "recording"


def simulator_digest() -> str:
    """A name for the simulator that there is."""
    digest = hashlib.sha256()
    for source in sorted(Path(next(iter(simulator.__path__))).glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
