"""What the collector of cycles looks at, and what not."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from streams.worker import collector


class Ring:
    """Something in a cycle: only the collector ends it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def all_is_looked_at_again() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def looked_at(one: object) -> bool:
    return any(other is one for other in gc.get_objects())


def test_what_a_fold_leaves_is_never_looked_at() -> None:
    with collector.folding():
        states = [[1, 2, 3]]
        assert looked_at(states)
    assert not looked_at(states)
    assert not looked_at(states[0])


def test_a_fold_is_not_interrupted() -> None:
    found: list[str] = []
    gc.callbacks.append(lambda phase, info: found.append(phase))
    try:
        gc.set_threshold(10, 1, 1)
        with collector.folding():
            before = len(found)
            kept = [[number] for number in range(1_000)]
            assert len(found) == before
        assert gc.isenabled()
    finally:
        gc.callbacks.pop()
    assert len(kept) == 1_000


def test_cycles_made_between_two_folds_are_ended_by_the_second() -> None:
    with collector.folding():
        pass
    ring = Ring()
    end = weakref.ref(ring)
    del ring
    with collector.folding():
        assert end() is None


def test_a_fold_that_fails_leaves_the_collector_at_work() -> None:
    with pytest.raises(ValueError, match="a rule"), collector.folding():
        raise ValueError("a rule")
    assert gc.isenabled()


def test_whoever_has_turned_the_collector_off_keeps_it_off() -> None:
    frozen = gc.get_freeze_count()
    gc.disable()
    try:
        with collector.folding():
            states = [[1, 2, 3]]
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert looked_at(states)
    assert gc.get_freeze_count() == frozen
