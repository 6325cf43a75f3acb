"""docs/guarantees.md names what proves each sentence; what it names is there."""

import re
from pathlib import Path

from tests.faults.mutants import MUTANTS

_ROOT = Path(__file__).parents[1]
_GUARANTEES = (_ROOT / "docs" / "guarantees.md").read_text()
_NAME = re.compile(r"`([a-z][a-z0-9_]+)`")
_TEST = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)


def rows_and_tests() -> tuple[set[str], set[str]]:
    """Names of the rows of faults (without `test_`), and of all other tests."""
    rows: set[str] = set()
    tests: set[str] = set()
    for file in (_ROOT / "tests").rglob("test_*.py"):
        names = _TEST.findall(file.read_text())
        if file.parent.name == "faults":
            rows.update(name.removeprefix("test_") for name in names)
        else:
            tests.update(names)
    return rows, tests


def proofs() -> dict[str, list[str]]:
    """What each line of a table with proofs names in its last column, by its first one."""
    found: dict[str, list[str]] = {}
    has_proofs = False
    for line in _GUARANTEES.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            has_proofs = False
        elif cells[-1] == "proof":
            has_proofs = True
        elif has_proofs and set(cells[-1]) != {"-"}:
            found[cells[0]] = _NAME.findall(cells[-1])
    return found


def test_every_sentence_names_its_proof() -> None:
    assert len(proofs()) > 20
    assert [sentence for sentence, names in proofs().items() if not names] == []


def test_every_proof_is_there() -> None:
    rows, tests = rows_and_tests()
    assert {name for names in proofs().values() for name in names} - rows - tests == set()


def test_every_row_proves_something() -> None:
    rows, _ = rows_and_tests()
    assert rows - set(_NAME.findall(_GUARANTEES)) == set()


def test_every_protection_taken_out_is_listed_with_what_catches_it() -> None:
    table = _GUARANTEES[_GUARANTEES.index("| taken out |") :].splitlines()[2:]
    listed = {names[0]: tuple(names[1:2]) for line in table if len(names := _NAME.findall(line)) > 1}
    assert listed == {name: mutant.rows for name, mutant in MUTANTS.items()}
