"""docs/coverage.md names stories and tests that exist, and says of every point whether it has any."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
DOCUMENT = (TESTS.parent / "docs" / "coverage.md").read_text(encoding="utf-8")
ROWS = [line for line in DOCUMENT.splitlines() if line.startswith("| ") and not line.startswith(("| what ", "| law "))]
STORY = re.compile(r"`([\w/]+\.md): ([^`]+)`")
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def test_every_point_names_its_proof_or_says_that_it_has_none() -> None:
    assert len(ROWS) > 70
    for row in ROWS:
        proof = row.split(" | ", 1)[1]
        assert proof.startswith("no proof yet") or STORY.search(proof) or TEST.search(proof), row


def test_every_story_named_exists() -> None:
    named = STORY.findall(DOCUMENT)
    assert len(named) > 70
    headings = {file: (TESTS / file).read_text(encoding="utf-8").splitlines() for file, _ in named}
    assert [(file, title) for file, title in named if f"## {title}" not in headings[file]] == []


def test_every_test_named_exists() -> None:
    named = TEST.findall(DOCUMENT)
    assert len(named) > 40
    sources = {file: (TESTS / file).read_text(encoding="utf-8") for file, _ in named}
    assert [(file, name) for file, name in named if f"def {name}(" not in sources[file]] == []


def test_nothing_else_is_quoted_that_looks_like_a_proof() -> None:
    """A reference that is misspelt in its form would not be looked up at all."""
    quoted = re.findall(r"`([^`]+)`", "\n".join(ROWS))
    assert [text for text in quoted if not STORY.fullmatch(f"`{text}`") and not TEST.fullmatch(f"`{text}`")] == []
