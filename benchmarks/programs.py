"""One run of a contestant's program, measured by what it tells of its progress."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.contestants.program import Setup
from benchmarks.contestants.rule import THRESHOLD_MINOR, WINDOW_MS
from benchmarks.field import FLOOR, Place, Program
from benchmarks.recordings import PARTITIONS
from benchmarks.reference import Reference, digest_of, read_warnings
from benchmarks.result import OWN, Run, run_of
from benchmarks.service import Service
from benchmarks.usage import Usage
from benchmarks.window import Sample, steady
from streams.replay.progress import progress
from tests.parts import BrokenPart, wait_until
from tests.parts.child import Child

_SAMPLE_S: Final = 0.25
_STUCK_S: Final = 60.0
_END_S: Final = 60.0


def run_program(
    service: Service,
    program: Program,
    reference: Reference,
    longest_s: float,
    tree: Path | None,
    place: tuple[str, int],
) -> Run:
    """Let a program do all events of the small fold, or those that it does in `longest_s`.

    One that has done all must end by itself, and have put out what the reference says.

    Args:
        tree: a folder with the packages that ours runs; None for these sources.
        place: contestant and round.

    Raises:
        BrokenPart: it failed, stood still, or put out something else.
    """
    contestant, number = place
    name = f"{contestant.replace('_', '-')}-{number}-{int(time.time())}"
    with service.outputs(name) as output, closing(Child(contestant)) as child:
        settings = {**program.settings, **program.given(Place(name, str(child.folder), service.node.bootstrap))}
        setup = Setup(
            name=name,
            bootstrap=service.node.bootstrap,
            redis_url=service.store.url,
            output=output,
            events=reference.events,
            partitions=PARTITIONS,
            folder=str(child.folder),
            state_bytes=reference.state_bytes,
            settings=settings,
            windows_ms=WINDOW_MS,
            threshold_minor=THRESHOLD_MINOR,
        )
        child.start([*program.command(tree), json.dumps(setup)], lambda: True)
        usage = Usage({OWN: [_pid(child)], **service.pids})
        samples: list[Sample] = []
        with progress(f"round {number + 1}, {contestant.replace('_', ' ')}", reference.events) as advance:
            for sample in _samples(child, usage, reference.events, longest_s):
                advance(sample.events - (samples[-1].events if samples else 0))
                samples.append(sample)
        warnings = 0
        if samples[-1].events == reference.events:
            wait_until(lambda: child.pid is None, f"{contestant} ends by itself", _END_S)
            if contestant != FLOOR:
                warnings = checked(service.node.bootstrap, output, reference, contestant)
        return run_of(place, steady(samples), usage, outputs=warnings)


def _samples(child: Child, usage: Usage, events: int, longest_s: float) -> Iterator[Sample]:
    """What the program tells, until it has done all or its time is over."""
    told = 0
    reached = 0
    began_s: float | None = None
    moved_s = time.monotonic()
    while reached < events and (began_s is None or time.monotonic() - began_s < longest_s):
        time.sleep(_SAMPLE_S)
        ended = child.pid is None
        if not ended:
            usage.sample()
        lines = [line for line in child.log_lines() if line.startswith('{"at_s"') and line.endswith("}")]
        for line in lines[told:]:
            sample = Sample(**json.loads(line))
            reached, moved_s = sample.events, time.monotonic()
            began_s = moved_s if began_s is None else began_s
            yield sample
        told = len(lines)
        if reached < events and (ended or time.monotonic() - moved_s > _STUCK_S):
            raise BrokenPart(f"{child.name} stopped at {reached} of {events} events\n{child.log_tail()}")


def checked(bootstrap: str, output: str, reference: Reference, contestant: str) -> int:
    """How many warnings a program put out.

    Raises:
        BrokenPart: they are not those of the reference.
    """
    warnings = read_warnings(bootstrap, output)
    if digest_of(warnings) != reference.sha256:
        raise BrokenPart(
            f"{contestant} put out {len(warnings)} warnings that are not the {reference.warnings} expected"
        )
    return len(warnings)


def _pid(child: Child) -> int:
    if child.pid is None:
        raise BrokenPart(f"{child.name} has ended: {child.log_tail()}")
    return child.pid
