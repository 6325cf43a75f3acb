"""Draws the state machines as a Markdown document with Mermaid diagrams."""

from collections.abc import Iterable

from streams.engine.machines import Machine, Move, machines
from streams.policy.model import Policy

_HEAD = """# State machines

Drawn from the tables in [streams/engine/machines.py](../streams/engine/machines.py) under the shipped policy by
`duewatch schemas machines --out docs/state-machines.md`; tests hold every decision to them. Each table names what tells
a move and when it is made; the diagram shows the moves between neighbours.
"""


def document(policy: Policy) -> str:
    """The document, as it is under a policy."""
    return "\n".join([_HEAD, *(_section(machine) for machine in machines(policy))])


def _section(machine: Machine) -> str:
    rows = [f"| {sources} | `{event}` | {target} | {when} |" for sources, event, target, when in _rows(machine.moves)]
    return "\n".join(
        [
            f"## {machine.name.capitalize()}",
            "",
            machine.about,
            "",
            "```mermaid",
            "stateDiagram-v2",
            f"    [*] --> {machine.start}",
            *_drawn(machine),
            "```",
            "",
            "| from | told by | to | when |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _rows(moves: Iterable[Move]) -> list[tuple[str, str, str, str]]:
    """Moves that differ only in where they come from are one row."""
    sources: dict[tuple[str, str, str], list[str]] = {}
    for move in moves:
        sources.setdefault((move.event, move.target, move.when), []).append(move.source)
    return [(", ".join(named), event, target, when) for (event, target, when), named in sources.items()]


def _drawn(machine: Machine) -> list[str]:
    """Moves between neighbours, with all that tells them on one arrow; of a small machine every move."""
    states = machine.states
    arrows: dict[tuple[str, str], list[str]] = {}
    for move in machine.moves:
        near = abs(states.index(move.source) - states.index(move.target)) <= 1
        if near or len(machine.moves) <= len(states) * 2:
            told = arrows.setdefault((move.source, move.target), [])
            if move.event not in told:
                told.append(move.event)
    return [f"    {source} --> {target}: {', '.join(told)}" for (source, target), told in arrows.items()]
