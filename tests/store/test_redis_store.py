"""What only a Redis can get wrong."""

from collections.abc import Callable
from random import Random
from typing import cast
from zlib import crc32

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from streams.config import load_settings
from streams.store import redis_store
from streams.store.contract import OLDEST_SCHEMA, SCHEMA, Corrupted, Fenced, Foreign, Stale, StoreError, Unavailable
from streams.store.redis_store import RedisSettings, RedisStore, check_settings, open_redis, problems, read_settings
from tests.parts.redis import OwnRedis
from tests.store.changes import change

pytestmark = pytest.mark.redis

LOG = "log-1"


@pytest.fixture
async def store(redis: Redis, unique: str) -> RedisStore:
    store = RedisStore(redis, unique, 3)
    await store.claim(10, LOG)
    await store.apply(10, None, change(10, 10, {"anna": b"a" * 50, "bert": b"b" * 50}, {"anna": 5}, b"task"))
    return store


async def test_all_keys_of_a_task_share_one_hash_tag_and_never_expire(
    store: RedisStore, redis: Redis, unique: str
) -> None:
    keys = {key.decode() async for key in redis.scan_iter(match=f"*{unique}*")}
    tag = f"{{{unique}:3}}"
    names = ("meta", "task", "wakes", "b:anna", "b:bert")
    assert keys == {f"{tag}:{name}" for name in names}
    for key in keys:
        assert await redis.ttl(key) == -1


@pytest.mark.parametrize("at", [0, 3, 4, 5, 9, -1])
async def test_a_damaged_state_is_found_and_nobody_is_named(
    store: RedisStore, redis: Redis, unique: str, at: int
) -> None:
    key = f"{{{unique}:3}}:b:anna"
    kept = bytearray(cast(bytes, await redis.get(key)))
    kept[at] ^= 1
    await redis.set(key, bytes(kept))
    with pytest.raises(Corrupted, match="task 3") as caught:
        await store.load(10, 10, ["anna", "bert"], None, 1)
    assert "anna" not in str(caught.value)
    with pytest.raises(Corrupted):
        await store.load(10, 10, [], 5, 1)


async def test_a_state_that_vanishes_is_missed(store: RedisStore, redis: Redis, unique: str) -> None:
    tag = f"{{{unique}:3}}"
    assert (await store.load(10, 10, ["carl"], None, 1)).blobs == {"carl": None}
    await redis.delete(f"{tag}:task")
    with pytest.raises(Corrupted, match="vanished"):
        await store.task_blob(10, 10)
    await redis.delete(f"{tag}:b:anna")
    with pytest.raises(Corrupted, match="vanished") as caught:
        await store.load(10, 10, ["bert", "anna"], None, 1)
    assert "anna" not in str(caught.value)
    with pytest.raises(Corrupted, match="vanished"):
        await store.load(10, 10, [], 5, 1)
    await store.wipe(10)
    await store.apply(10, None, change(10, 10, {"bert": b"b"}))
    assert (await store.load(10, 10, ["anna", "bert"], None, 1)).blobs == {"anna": None, "bert": b"b"}


async def test_a_state_under_another_name_and_a_cut_one_are_found(store: RedisStore, redis: Redis, unique: str) -> None:
    await redis.copy(f"{{{unique}:3}}:b:anna", f"{{{unique}:3}}:b:bert", replace=True)
    with pytest.raises(Corrupted):
        await store.load(10, 10, ["bert"], None, 1)
    await redis.set(f"{{{unique}:3}}:task", b"ta")
    with pytest.raises(Corrupted):
        await store.task_blob(10, 10)


async def test_a_state_that_is_gone_is_missed(store: RedisStore, redis: Redis, unique: str) -> None:
    assert set((await store.roll(10, 10, "", 1_000)).states) == {"anna", "bert"}
    await redis.delete(f"{{{unique}:3}}:b:anna")
    with pytest.raises(Corrupted, match="task 3: a state has vanished") as caught:
        await store.roll(10, 10, "", 1_000)
    assert "anna" not in str(caught.value)


@pytest.mark.parametrize("borrowers", [100, 1_000])
async def test_a_place_that_another_process_gave_begins_anew(store: RedisStore, borrowers: int) -> None:
    states = {f"b{n:04d}": b"1" * 20 for n in range(borrowers)}
    await store.apply(10, 10, change(11, 11, states))
    first = await store.roll(10, 11, "", 500)
    assert first.after is not None
    process, _, place = first.after.partition(":")
    assert not (await store.roll(10, 11, first.after, 500)).states.keys() & first.states.keys()
    elsewhere = f"{process[::-1]}:{place}"
    assert (await store.roll(10, 11, elsewhere, 500)) == first


async def test_tasks_do_not_see_each_other(store: RedisStore, redis: Redis, unique: str) -> None:
    other = RedisStore(redis, unique, 4)
    await other.claim(99, LOG)
    await other.apply(99, None, change(99, 99))
    assert (await other.load(99, 99, ["anna"], 100, 10)).blobs == {"anna": None}
    await other.wipe(99)
    assert (await store.load(10, 10, ["anna"], None, 1)).blobs == {"anna": b"a" * 50}


@pytest.mark.parametrize("schema", [OLDEST_SCHEMA - 1, SCHEMA + 1])
async def test_another_layout_is_refused(store: RedisStore, redis: Redis, unique: str, schema: int) -> None:
    await redis.hset(f"{{{unique}:3}}:meta", "schema", str(schema))
    with pytest.raises(Foreign, match=f"layout {schema}"):
        await store.claim(20, LOG)


async def test_what_the_layout_before_has_sealed_is_taken_over(store: RedisStore, redis: Redis, unique: str) -> None:
    tag = f"{{{unique}:3}}"
    content = b"\x95of before"
    await redis.set(f"{tag}:b:anna", crc32(content, crc32(b"anna")).to_bytes(4, "little") + content)
    await redis.hset(f"{tag}:meta", "schema", str(OLDEST_SCHEMA))
    assert (await store.claim(20, LOG)).schema == SCHEMA
    await store.apply(20, 10, change(20, 20))
    assert (await store.load(20, 20, ["anna", "bert"], None, 1)).blobs == {"anna": content, "bert": b"b" * 50}


async def test_the_index_of_the_layout_before_is_taken_over_piece_by_piece(
    store: RedisStore, redis: Redis, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = f"{{{unique}:3}}"
    names = [f"b{n:02d}" for n in range(20)]
    await store.apply(10, 10, change(11, 11, {name: name.encode() for name in names}, {"b03": 7, "b04": 8}))
    # As it was: wake-ups alone, and everybody in an index of its own.
    everybody = {**dict.fromkeys(names, 11), "anna": 10, "bert": 10}
    await redis.zremrangebyscore(f"{tag}:wakes", "+inf", "+inf")
    await redis.zadd(f"{tag}:written", everybody)
    await redis.hset(f"{tag}:meta", "schema", "3")
    monkeypatch.setattr(redis_store, "_ADOPTED", 6)
    with monkeypatch.context() as patch:
        Cut(store, patch, 3)
        with pytest.raises(Unavailable):
            await store.claim(20, LOG)
    assert 0 < await redis.zcard(f"{tag}:written") < len(everybody)
    successor = RedisStore(redis, unique, 3)
    assert (await successor.claim(30, LOG)).schema == SCHEMA
    assert not await redis.exists(f"{tag}:written")
    assert (await successor.load(30, 11, [], 100, 10)).due == [(5, "anna"), (7, "b03"), (8, "b04")]
    rolled = await successor.roll(30, 11, "", 10_000)
    assert (set(rolled.states), rolled.total) == (set(everybody), len(everybody))
    assert (await successor.look(30, 11, [])).wake_count == 3
    await redis.delete(f"{tag}:b:b05")
    with pytest.raises(Corrupted, match="vanished"):
        await successor.load(30, 11, ["b05"], None, 1)


class Cut:
    """Lets `count` scripts through and fails the next, as a connection lost in between does."""

    def __init__(self, store: RedisStore, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        run = store._run

        async def limited(script: str, *args: object) -> object:
            nonlocal count
            if count == 0:
                raise Unavailable("cut")
            count -= 1
            return await run(script, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(store, "_run", limited)


async def test_half_a_commit_is_never_seen_and_the_next_owner_completes_it(
    store: RedisStore, redis: Redis, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "PART_BYTES", 100)
    states: dict[str, bytes | None] = {name: Random(name).randbytes(60) for name in ("anna", "bert", "carl")}
    twelfth = change(12, 11, states, {"anna": 7}, b"TASK")
    with monkeypatch.context() as patch:
        Cut(store, patch, 2)
        with pytest.raises(Unavailable):
            await store.apply(10, 10, twelfth)
    for at in (10, 12):
        with pytest.raises(Stale) as caught:
            await store.load(10, at, ["anna"], None, 1)
        assert caught.value.applied == 10
    successor = RedisStore(redis, unique, 3)
    assert (await successor.claim(20, LOG)).applied == 10
    with pytest.raises(Corrupted, match="part of commit 12"):
        await successor.apply(20, 10, change(20, 20))
    await successor.apply(20, 10, twelfth)
    loaded = await successor.load(20, 12, ["anna", "bert", "carl"], 100, 10)
    assert loaded.blobs == states
    assert loaded.due == [(7, "anna")]
    assert await successor.task_blob(20, 12) == b"TASK"


async def test_half_a_commit_is_wiped_with_the_rest(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_store, "PART_STATES", 1)
    with monkeypatch.context() as patch:
        Cut(store, patch, 1)
        with pytest.raises(Unavailable):
            await store.apply(10, 10, change(12, 12, {"anna": b"A", "bert": b"B"}))
    await store.wipe(10)
    await store.apply(10, None, change(1, 1, {"anna": b"1"}))
    assert (await store.load(10, 1, ["anna", "bert"], None, 1)).blobs == {"anna": b"1", "bert": None}


async def test_a_wipe_stops_where_the_next_owner_comes_in(
    store: RedisStore, redis: Redis, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.apply(10, 10, change(11, 11, {f"b{n}": b"1" for n in range(20)}))
    monkeypatch.setattr(redis_store, "_WIPE_KEYS", 5)
    successor = RedisStore(redis, unique, 3)
    run = store._run

    async def overtaken(*args: object) -> object:
        answer = await run(*args)  # type: ignore[arg-type]
        await successor.claim(20, LOG)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(store, "_run", overtaken)
        with pytest.raises(Fenced):
            await store.wipe(10)
    left = {name async for name in store.borrowers()}
    assert 0 < len(left) < 22
    # What is left is not taken for the whole.
    assert (await successor.meta()).applied is None
    await successor.wipe(20)
    assert [name async for name in store.borrowers()] == []


async def test_an_answer_that_repeats_its_arguments_is_not_repeated(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def renamed(keys: object, args: object) -> None:
        raise ResponseError("unknown command 'EVALSHA', with args beginning with: 'anna'")

    monkeypatch.setitem(store._scripts, "load", renamed)
    with pytest.raises(Unavailable, match="task 3: Redis: ResponseError") as caught:
        await store.load(10, 10, ["anna"], None, 1)
    assert "anna" not in str(caught.value)


async def test_state_survives_a_kill(make_redis: Callable[..., OwnRedis], unique: str) -> None:
    server = make_redis(appendonly=True)
    async with open_redis(load_settings(redis_url=server.url)) as client:
        store = RedisStore(client, unique, 0)
        await store.claim(10, LOG)
        await store.apply(10, None, change(10, 10, {"a": b"1"}, {"a": 5}, b"t"))
        server.kill()
        with pytest.raises(Unavailable) as caught:
            await store.load(10, 10, ["a"], 5, 1)
        assert "task 0" in str(caught.value)
        server.start()
        # The scripts are gone with the process; the same store goes on.
        loaded = await store.load(10, 10, ["a"], 5, 1)
    assert loaded.blobs == {"a": b"1"}
    assert loaded.due == [(5, "a")]


async def test_a_unix_socket_and_a_password_work_and_the_password_is_never_told(
    make_redis: Callable[..., OwnRedis], unique: str
) -> None:
    server = make_redis()
    async with open_redis(load_settings(redis_url=server.unix_url)) as client:
        store = RedisStore(client, unique, 0)
        await store.claim(1, LOG)
        assert (await store.meta()).fence == 1
        await client.config_set("requirepass", "s3cret")
    with_password = server.url.replace("redis://", "redis://:s3cret@")
    async with open_redis(load_settings(redis_url=with_password)) as client:
        assert (await RedisStore(client, unique, 0).meta()).fence == 1
    for wrong in (server.url, server.url.replace("redis://", "redis://:s3cret-wrong@")):
        async with open_redis(load_settings(redis_url=wrong)) as client:
            with pytest.raises(Unavailable) as caught:
                await RedisStore(client, unique, 0).meta()
            assert "s3cret" not in str(caught.value)
            assert "user and password" in str(caught.value)


async def test_a_full_redis_is_told_without_its_arguments(make_redis: Callable[..., OwnRedis], unique: str) -> None:
    server = make_redis()
    async with open_redis(load_settings(redis_url=server.url)) as client:
        store = RedisStore(client, unique, 0)
        await store.claim(1, LOG)
        await client.config_set("maxmemory", "1")
        with pytest.raises(Unavailable, match="more memory") as caught:
            await store.apply(1, None, change(1, 1, {"anna": b"x"}))
        assert "anna" not in str(caught.value)
        await store.wipe(1)
        await client.config_set("maxmemory", "0")
        await store.apply(1, None, change(1, 1, {"anna": b"x"}))


async def test_an_evicting_redis_is_refused(make_redis: Callable[..., OwnRedis]) -> None:
    async with open_redis(load_settings(redis_url=make_redis().url)) as client:
        await check_settings(client)
        await client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(StoreError, match="noeviction"):
            await check_settings(client)


async def test_settings_are_read_where_config_is_forbidden(make_redis: Callable[..., OwnRedis]) -> None:
    server = make_redis(appendonly=True)
    async with open_redis(load_settings(redis_url=server.url)) as client:
        found = await read_settings(client)
        assert (found.maxmemory_policy, found.append_only, found.snapshots) == ("noeviction", True, False)
        await client.acl_setuser(
            "app", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"], commands=["-config"]
        )
    limited = server.url.replace("redis://", "redis://app:pw@")
    async with open_redis(load_settings(redis_url=limited)) as client:
        found = await read_settings(client)
    assert (found.maxmemory_policy, found.append_only, found.snapshots) == ("noeviction", True, None)


def test_an_old_redis_is_refused() -> None:
    assert problems(RedisSettings("6.2.14", "noeviction", True, True)) == [
        "Redis 6.2.14 is too old: use Redis 7.0 or newer"
    ]
    assert problems(RedisSettings("7.0.0", "noeviction", False, False)) == []
    assert problems(RedisSettings("10.1", "noeviction", False, False)) == []
