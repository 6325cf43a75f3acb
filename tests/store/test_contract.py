"""Every store keeps the same promises."""

from random import Random

import pytest

from streams.store import redis_store
from streams.store.contract import SCHEMA, Fenced, Foreign, Meta, Stale, Store
from streams.store.memory import MemoryStore
from streams.store.redis_store import RedisStore
from streams.store.seal import seal
from tests.store.changes import change

LOG = "log-1"
BINARY = bytes(range(256)) * 3


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def store(request: pytest.FixtureRequest, unique: str) -> Store:
    if request.param == "memory":
        return MemoryStore(5)
    return RedisStore(request.getfixturevalue("redis"), unique, 5)


async def claimed(store: Store, fence: int = 10) -> Store:
    """A store whose first claim stands at `fence`, copied."""
    await store.claim(fence, LOG)
    await store.apply(fence, None, change(fence, fence))
    return store


async def test_a_task_nobody_claimed_knows_nothing(store: Store) -> None:
    assert await store.meta() == Meta()
    assert store.partition == 5


async def test_a_claim_raises_the_fence_and_tells_where_the_copy_stands(store: Store) -> None:
    assert await store.claim(10, LOG) == Meta(10, None, None, SCHEMA, LOG)
    await store.apply(10, None, change(to_applied=12, read_from=11))
    assert await store.claim(20, LOG) == Meta(20, 12, 11, SCHEMA, LOG)
    assert await store.claim(20, LOG) == await store.meta()


async def test_a_predecessor_is_fenced_in_every_call(store: Store) -> None:
    await claimed(store, 10)
    await store.claim(20, LOG)
    for call in (
        store.claim(10, LOG),
        store.apply(10, 10, change(11, 11, {"b": b"zombie"})),
        store.load(10, 10, ["b"], None, 1),
        store.task_blob(10, 10),
        store.wipe(10),
    ):
        with pytest.raises(Fenced) as caught:
            await call
        assert caught.value.held == 20
    assert (await store.load(20, 10, ["b"], None, 1)).blobs == {"b": None}


async def test_a_claim_the_store_has_lost_is_stale(store: Store) -> None:
    await claimed(store, 10)
    for call in (
        store.apply(30, 10, change(31, 31)),
        store.load(30, 10, [], None, 1),
        store.task_blob(30, 10),
        store.wipe(30),
    ):
        with pytest.raises(Stale) as caught:
            await call
        assert caught.value.applied == 10


async def test_nothing_is_applied_before_a_claim(store: Store) -> None:
    with pytest.raises(Stale) as caught:
        await store.apply(10, None, change(10, 10, {"b": b"x"}))
    assert caught.value.applied is None
    assert await store.meta() == Meta()


async def test_state_of_another_log_is_refused(store: Store) -> None:
    await claimed(store)
    with pytest.raises(Foreign, match="task 5"):
        await store.claim(30, "log-2")
    assert (await store.meta()).fence == 10


async def test_what_is_applied_is_loaded(store: Store) -> None:
    await claimed(store)
    await store.apply(10, 10, change(13, 11, {"anna": BINARY, "bö": b""}, task=BINARY))
    loaded = await store.load(10, 13, ["bö", "anna", "carl"], None, 10)
    assert loaded.blobs == {"anna": BINARY, "bö": b"", "carl": None}
    assert loaded.due == []
    assert await store.task_blob(10, 13) == BINARY
    assert await store.meta() == Meta(10, 13, 11, SCHEMA, LOG)
    assert {name async for name in store.borrowers()} == {"anna", "bö"}


async def test_a_commit_replaces_states_and_keeps_the_others(store: Store) -> None:
    await claimed(store)
    await store.apply(10, 10, change(11, 11, {"a": b"1", "b": b"1"}, task=b"t1"))
    await store.apply(10, 11, change(12, 12, {"b": b"2"}))
    assert (await store.load(10, 12, ["a", "b"], None, 1)).blobs == {"a": b"1", "b": b"2"}
    assert await store.task_blob(10, 12) == b"t1"


async def test_applying_again_changes_nothing(store: Store) -> None:
    await claimed(store)
    await store.apply(10, 10, change(11, 11, {"a": b"1"}))
    await store.apply(10, 10, change(11, 11, {"a": b"other"}))
    assert (await store.load(10, 11, ["a"], None, 1)).blobs == {"a": b"1"}


async def test_a_gap_or_an_older_commit_is_stale(store: Store) -> None:
    await claimed(store)
    await store.apply(10, 10, change(12, 11, {"a": b"1"}))
    for before, after in ((10, 11), (11, 13), (13, 14), (None, 14)):
        with pytest.raises(Stale) as caught:
            await store.apply(10, before, change(after, after, {"a": b"wrong"}, {"a": 1}, b"wrong"))
        assert caught.value.applied == 12
    for at in (10, 13):
        with pytest.raises(Stale):
            await store.load(10, at, ["a"], None, 1)
        with pytest.raises(Stale):
            await store.task_blob(10, at)
    loaded = await store.load(10, 12, ["a"], 5, 1)
    assert loaded.blobs == {"a": b"1"}
    assert loaded.due == []


async def test_the_next_owner_copies_on_where_the_last_one_stopped(store: Store) -> None:
    await claimed(store)
    await store.apply(10, 10, change(11, 11, {"a": b"1"}, {"a": 100}))
    meta = await store.claim(20, LOG)
    assert meta.applied == 11
    await store.apply(20, 11, change(15, 14, {"a": b"2", "b": b"1"}))
    await store.apply(20, 15, change(20, 20))
    loaded = await store.load(20, 20, ["b"], 100, 10)
    assert loaded.blobs == {"a": b"2", "b": b"1"}
    assert loaded.due == [(100, "a")]


async def test_due_wakes_come_in_order_up_to_the_limit(store: Store) -> None:
    await claimed(store)
    far = 253_402_300_799_999
    wakes: dict[str, int | None] = {"d": 300, "b": 200, "ö": 200, "a": 200, "c": 100, "z": far}
    await store.apply(10, 10, change(11, 11, {name: name.encode() for name in wakes}, wakes))
    due = [(100, "c"), (200, "a"), (200, "b"), (200, "ö")]
    assert (await store.load(10, 11, [], 299, 10)).due == due
    assert (await store.load(10, 11, [], 200, 10)).due == due
    assert (await store.load(10, 11, [], 199, 10)).due == due[:1]
    assert (await store.load(10, 11, [], 99, 10)).due == []
    assert (await store.load(10, 11, [], None, 10)).due == []
    assert (await store.load(10, 11, [], far - 1, 10)).due[-1] == (300, "d")
    assert (await store.load(10, 11, [], far, 10)).due[-1] == (far, "z")
    loaded = await store.load(10, 11, ["d", "a"], 300, 2)
    assert loaded.due == due[:2]
    assert loaded.blobs == {"d": b"d", "a": b"a", "c": b"c"}


async def test_a_wake_is_moved_and_dropped(store: Store) -> None:
    await claimed(store)
    states = dict.fromkeys(("a", "b", "c"), b"1")
    await store.apply(10, 10, change(11, 11, states, {"a": 100, "b": 100, "c": 100}))
    await store.apply(10, 11, change(12, 12, states | {"new": b"1"}, {"a": 300, "b": None, "new": None}))
    assert (await store.load(10, 12, [], 1_000, 10)).due == [(100, "c"), (300, "a")]
    assert (await store.look(10, 12, ["a", "b", "c", "new"])).wakes == {"a": 300, "b": None, "c": 100, "new": None}


async def test_a_wiped_task_is_copied_anew(store: Store) -> None:
    await claimed(store)
    await store.apply(10, 10, change(11, 11, {f"b{n}": b"1" for n in range(2_500)}, {"b1": 5}, b"t"))
    await store.wipe(10)
    assert await store.meta() == Meta(10, None, None, SCHEMA, LOG)
    with pytest.raises(Stale):
        await store.load(10, 11, [], None, 1)
    assert [name async for name in store.borrowers()] == []
    await store.apply(10, None, change(7, 7, {"b2": b"2"}))
    loaded = await store.load(10, 7, ["b1", "b2"], 100, 1)
    assert loaded.blobs == {"b1": None, "b2": b"2"}
    assert loaded.due == []
    assert await store.task_blob(10, 7) is None


async def test_thousands_of_borrowers_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # More than Lua's stack takes in one call, and more than one part.
    monkeypatch.setattr(redis_store, "PART_STATES", 5_000)
    await claimed(store)
    names = [f"borrower-{n:06d}" for n in range(12_001)]
    states = {name: name.encode() * 3 for name in names}
    wakes: dict[str, int | None] = {name: n for n, name in enumerate(names)}
    await store.apply(10, 10, change(11, 11, states, wakes, b"t"))
    loaded = await store.load(10, 11, names, 8_999, 20_000)
    assert loaded.blobs == states
    assert loaded.due == [(n, name) for n, name in enumerate(names[:9_000])]
    gone: dict[str, int | None] = dict.fromkeys(names[:11_000])
    await store.apply(10, 11, change(12, 12, dict.fromkeys(gone, b"2"), gone))
    assert (await store.load(10, 12, [], 20_000, 20_000)).due == [(n, names[n]) for n in range(11_000, 12_001)]


async def test_a_look_tells_states_and_wakes_at_one_commit(store: Store) -> None:
    await claimed(store)
    far = 253_402_300_799_999
    await store.apply(10, 10, change(11, 11, {"a": b"1", "b": b"2", "c": b"3"}, {"a": far, "c": 7}))
    looked = await store.look(10, 11, ["a", "b", "c", "d"])
    assert looked.states == {"a": b"1", "b": b"2", "c": b"3", "d": None}
    assert looked.wakes == {"a": far, "b": None, "c": 7, "d": None}
    assert looked.wake_count == 2
    assert (await store.look(10, 11, [])).wake_count == 2
    with pytest.raises(Stale):
        await store.look(10, 10, ["a"])


async def test_failures_are_found_between_two_entries_in_their_order(store: Store) -> None:
    await claimed(store)
    entries = ["0020001|bö|1", "0020000|zoe", "0020001|anna", "0020003|carl", "0020001|anna"]
    await store.apply(10, 10, change(11, 11, {"anna": b"a", "bö|1": b"b", "carl": b"c"}, failures=entries))
    ordered = ["0020000|zoe", "0020001|anna", "0020001|bö|1", "0020003|carl"]
    loaded = await store.load(10, 11, ["dora"], None, 10, ("0020000|", "0020004|"))
    assert loaded.failures == ordered
    assert loaded.blobs == {"dora": None, "zoe": None, "anna": b"a", "bö|1": b"b", "carl": b"c"}
    assert (await store.load(10, 11, [], None, 2, ("0020000|zoe", "0020004|"))).failures == ordered[1:3]
    assert (await store.load(10, 11, [], None, 9, ("0020001|bö|1", "0020003|carl"))).failures == []
    assert (await store.load(10, 11, [], None, 9)).failures == []


async def test_old_failures_are_dropped_and_a_wipe_forgets_them_all(store: Store) -> None:
    await claimed(store)
    names = [f"b{n:04d}" for n in range(5_000)]
    entries = [f"{day:07d}|{name}" for day in (7, 8) for name in names]
    await store.apply(10, 10, change(11, 11, failures=entries))
    await store.apply(10, 11, change(12, 12, failures=["0000009|z"], failures_from="0000008|"))
    found = (await store.load(10, 12, [], None, 20_000, ("", "0000010|"))).failures
    assert found == [*entries[5_000:], "0000009|z"]
    await store.wipe(10)
    await store.apply(10, None, change(13, 13))
    assert (await store.load(10, 13, [], None, 9, ("", "0000010|"))).failures == []


async def test_a_roll_tells_states_and_wake_ups_and_how_many_there_are(store: Store) -> None:
    await claimed(store)
    await store.apply(10, 10, change(11, 11, {name: name.encode() * 10 for name in "ab"}, {"a": 7, "b": 8}))
    await store.apply(10, 11, change(12, 12, {"c": b"c" * 10, "b": b"B" * 10}, {"b": None}))
    rolled = await store.roll(10, 12, "", 1_000)
    kept = {"a": (b"a" * 10, 7), "b": (b"B" * 10, None), "c": (b"c" * 10, None)}
    assert rolled.states == {name: (seal(name, state), moment) for name, (state, moment) in kept.items()}
    assert (rolled.after, rolled.total, rolled.failures) == (None, 3, [])
    nobody = await store.roll(10, 12, None, 1_000)
    assert (nobody.states, nobody.after, nobody.total) == ({}, None, 3)
    assert len((await store.roll(10, 12, "", 0)).states) == 1
    with pytest.raises(Stale):
        await store.roll(10, 11, "", 1_000)
    await store.wipe(10)
    await store.apply(10, None, change(14, 14))
    assert (await store.roll(10, 14, "", 1_000)).total == 0


@pytest.mark.parametrize("borrowers", [3, 40, 128, 129, 3_000])
async def test_a_roll_from_place_to_place_meets_everybody_whatever_changes_meanwhile(
    store: Store, borrowers: int
) -> None:
    await claimed(store)
    random = Random(borrowers)
    names = [f"b{n:05d}" for n in range(borrowers)]
    await store.apply(10, 10, change(11, 11, dict.fromkeys(names, b"1" * 9), dict.fromkeys(names[::2], 5)))
    most = 20 * len(seal("a", b"1" * 9))
    met: set[str] = set()
    place: str | None = ""
    at, most_calls = 11, 2 * borrowers
    while place is not None:
        rolled = await store.roll(10, at, place, most)
        assert len(rolled.states) <= 40
        assert rolled.states or rolled.after is None
        met |= rolled.states.keys()
        place = rolled.after
        # Some move behind everybody else, some before, some come and some go.
        moved: dict[str, int | None] = {
            name: random.choice((1, 10**6 + at, None)) for name in random.sample(names, min(borrowers, 50))
        }
        new = {f"n{at:05d}-{n}": None for n in range(3)}
        gone = [f"n{at - 1:05d}-{n}" for n in range(2)]
        await store.apply(
            10, at, change(at + 1, at + 1, dict.fromkeys(moved | new, b"2" * 9), moved | new, erased=gone)
        )
        at += 1
        assert at < most_calls + 20, "a round has an end"
    assert met >= set(names)


async def test_an_erased_borrower_is_gone_with_all_there_is_of_it(store: Store) -> None:
    await claimed(store)
    failures = ["0000007|a", "0000007|b", "0000009|a", "0000009|b"]
    await store.apply(10, 10, change(11, 11, {"a": b"1", "b": b"2"}, {"a": 5, "b": 6}, failures=failures))
    assert (await store.roll(10, 11, None, 100, "")).failures == failures
    assert (await store.roll(10, 11, None, 100, "0000007|b")).failures == failures[2:]
    await store.apply(10, 11, change(12, 12, {"c": b"3"}, erased=["a", "never"]))
    assert (await store.roll(10, 12, None, 100, "")).failures == ["0000007|b", "0000009|b"]
    loaded = await store.load(10, 12, ["a", "b", "c"], 100, 10)
    assert loaded.blobs == {"a": None, "b": b"2", "c": b"3"}
    assert loaded.due == [(6, "b")]
    assert (await store.roll(10, 12, None, 100)).total == 2
    assert sorted([name async for name in store.borrowers()]) == ["b", "c"]
    # Who comes again in the same commit begins anew.
    await store.apply(10, 12, change(13, 13, {"b": b"4"}, {"b": 9}, failures=["0000008|b"], erased=["b"]))
    loaded = await store.load(10, 13, ["b"], 100, 10)
    assert (loaded.blobs, loaded.due) == ({"b": b"4"}, [(9, "b")])
    again = await store.roll(10, 13, "", 100, "")
    assert (set(again.states), again.total, again.failures) == ({"b", "c"}, 2, ["0000008|b"])
