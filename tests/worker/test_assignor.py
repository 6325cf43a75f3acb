"""Tasks are assigned whole, evenly, and move as little as can be."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.topics import INPUTS
from streams.worker.assignor import TaskAssignor, share_out


def assigned(partitions: int, members: dict[str, TaskAssignor]) -> dict[str, dict[str, list[int]]]:
    """One round of the group: what each member gets of each topic."""
    cluster: Any = SimpleNamespace(partitions_for_topic=lambda _: set(range(partitions)))
    leader = next(iter(members.values()))
    answers = leader.assign(cluster, {name: member.metadata(INPUTS) for name, member in members.items()})
    for name, answer in answers.items():
        members[name].on_assignment(answer)
    return {name: dict(answer.assignment) for name, answer in answers.items()}


@pytest.mark.parametrize("partitions", [1, 3, 4, 5, 12])
@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_every_input_gives_the_same_numbers(partitions: int, workers: int) -> None:
    members = {f"m{number}": TaskAssignor() for number in range(workers)}
    shares = assigned(partitions, members)
    for by_topic in shares.values():
        assert len({tuple(numbers) for numbers in by_topic.values()}) == 1
        assert by_topic.keys() == set(INPUTS)
    numbers = [number for by_topic in shares.values() for number in by_topic["control"]]
    assert sorted(numbers) == list(range(partitions))
    sizes = [len(by_topic["control"]) for by_topic in shares.values()]
    assert max(sizes) - min(sizes) <= 1


def test_a_member_that_comes_or_goes_moves_only_what_it_must() -> None:
    members = {name: TaskAssignor() for name in ("a", "b")}
    before = assigned(12, members)
    members["c"] = TaskAssignor()
    joined = assigned(12, members)
    moved = [set(before[name]["control"]) - set(joined[name]["control"]) for name in ("a", "b")]
    assert [len(lost) for lost in moved] == [2, 2]
    del members["b"]
    left = assigned(12, members)
    assert set(joined["a"]["control"]) <= set(left["a"]["control"])
    assert set(joined["c"]["control"]) <= set(left["c"]["control"])


@pytest.mark.parametrize(
    ("owned", "shares"),
    [
        ({"a": [0, 1, 2, 3, 4], "b": []}, {"a": [0, 1, 2], "b": [3, 4]}),
        ({"a": [], "b": [0, 1, 2]}, {"a": [3, 4], "b": [0, 1, 2]}),
        # Two members that claim the same, and one that claims what is not there.
        ({"a": [0, 1], "b": [0, 1], "c": [9]}, {"a": [0, 3], "b": [1, 4], "c": [2]}),
    ],
)
def test_shares(owned: dict[str, Iterable[int]], shares: dict[str, list[int]]) -> None:
    assert share_out(range(5), owned) == shares
