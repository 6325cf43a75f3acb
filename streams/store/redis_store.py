"""A task's state in Redis.

Keys, all under the hash tag `{app:partition}`, so that every script stays on one node of a cluster: `:meta` (hash),
`:task` and `:b:<borrower>` (packed states, sealed), `:wakes` (sorted set of all borrowers by moment, infinity for who
has no wake-up, so that a state that vanishes is missed), `:failures` (sorted set of index entries, all of score 0).
None expires.

A commit is one script as long as its states stay within `PART_BYTES`; a larger one is cut, so that no script holds
Redis up for long. Nobody sees what has been copied of it meanwhile: the first part marks the task and `load` refuses
until the last part has moved `applied` on. Where the copying ends in between, the next owner copies the same commit
over it.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import hiredis
from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams.config import Settings, authority
from streams.engine.chunk import Span, Wake
from streams.engine.incidents import borrower_of
from streams.store.contract import (
    OLDEST_SCHEMA,
    ROLL_FAILURES,
    SCHEMA,
    Change,
    Corrupted,
    Fenced,
    Foreign,
    Loaded,
    Looked,
    Meta,
    Rolled,
    Stale,
    StoreError,
    Unavailable,
)
from streams.store.seal import BrokenSeal, check, unseal_all

PART_BYTES = 8 * 1024 * 1024
PART_STATES = 8_000
"""Most bytes and states that one script copies or reads: about 30 ms of Redis' time."""
_WIPE_KEYS = 1_000
_ROLL_STATES = 500
_ADOPTED = 3_000
"""Most borrowers of a layout before that one script moves: 10 to 20 ms."""
_RETRIES = 3
_OLDEST = (7, 0)

_Told = tuple[str, bytes, int | str]
"""(key, sealed state or nothing for who is erased, score of the next wake-up or nothing where it is as it was)."""

_SCRIPTS = {file.stem: file.read_text() for file in Path(__file__).parent.glob("*.lua")}

_REBUILD = "wipe it and copy it again from the commit log"
_CHOOSE = "choose another app_id or Redis database, or delete the application's keys"
_HINTS: dict[type[Exception], str] = {
    AuthenticationError: ": check user and password in redis_url",
    NoPermissionError: ": the user in redis_url needs EVALSHA, SCRIPT, HMGET, SCAN, INFO, and the keys {app_id:*",
    OutOfMemoryError: ": give it more memory (maxmemory); nothing is lost, the worker goes on afterwards",
    ReadOnlyError: ": it is a replica: let redis_url name the primary",
    BusyLoadingError: ": it is loading its data; wait",
}


class RedisSettings(Struct, frozen=True):
    """How a Redis is set up. `append_only` and `snapshots` are its persistence; None where Redis does not tell."""

    version: str
    maxmemory_policy: str
    append_only: bool
    snapshots: bool | None


# redis-py looks at each argument in Python, which takes longer than all the rest of a call with thousands of them.
class _Packed:
    def pack_command(self, *args: Any) -> list[bytes]:
        # Some commands of its own are two words.
        return [hiredis.pack_command((*args[0].split(), *args[1:]))]


class _Tcp(_Packed, Connection):
    pass


class _Tls(_Packed, SSLConnection):
    pass


class _Unix(_Packed, UnixDomainSocketConnection):
    pass


_PACKED: dict[type, type] = {Connection: _Tcp, SSLConnection: _Tls, UnixDomainSocketConnection: _Unix}


def open_redis(settings: Settings) -> Redis:
    """A client for all tasks of a process; connects on first use. Close it with `aclose`.

    Raises:
        ConfigError: redis_ca_file cannot be used.
    """
    options: dict[str, Any] = dict(parse_url(settings.redis_url.get_secret_value()))
    kind = _PACKED[options.pop("connection_class", Connection)]
    options |= {
        "protocol": 3,
        "decode_responses": False,
        "client_name": settings.app_id,
        "socket_timeout": settings.redis_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "socket_read_size": 1024 * 1024,
        "health_check_interval": 30,
        # Every script may be run twice: the second finds the first one's work done.
        "retry": Retry(ExponentialWithJitterBackoff(cap=1.0, base=0.05), _RETRIES),
    }
    if kind is _Tls and settings.redis_ca_file is not None:
        # The client would tell of a missing file as of a server that does not answer.
        authority("redis_ca_file", settings.redis_ca_file)
        options["ssl_ca_certs"] = str(settings.redis_ca_file)
    return Redis.from_pool(ConnectionPool(connection_class=kind, **options))


async def read_settings(redis: Redis) -> RedisSettings:
    """How Redis is set up. Uses INFO, which managed services allow; CONFIG only where it is allowed too.

    Raises:
        Unavailable: Redis does not answer, or refuses; then with what it says.
    """
    with _reported("Redis", in_full=True):
        info: dict[str, Any] = await redis.info("server", "memory", "persistence")
        try:
            snapshots: bool | None = bool((await redis.config_get("save")).get("save"))
        except ResponseError:
            snapshots = None
    return RedisSettings(
        str(info["redis_version"]), str(info["maxmemory_policy"]), bool(info["aof_enabled"]), snapshots
    )


async def check_settings(redis: Redis) -> None:
    """Refuse a Redis on which state could vanish or scripts cannot run.

    Raises:
        StoreError: what is wrong and how to mend it.
        Unavailable: Redis does not answer.
    """
    found = await read_settings(redis)
    for problem in problems(found):
        raise StoreError(problem)


def problems(found: RedisSettings) -> list[str]:
    """Why a worker refuses to start on such a Redis, each with how to mend it; empty: it does not."""
    wrong = []
    if tuple(int(part) for part in found.version.split(".")[:2]) < _OLDEST:
        wrong.append(f"Redis {found.version} is too old: use Redis {_OLDEST[0]}.{_OLDEST[1]} or newer")
    if found.maxmemory_policy != "noeviction":
        wrong.append(
            f"Redis would evict state: maxmemory-policy is {found.maxmemory_policy}: "
            "run CONFIG SET maxmemory-policy noeviction (and set it in redis.conf or the service's parameters)"
        )
    return wrong


class RedisStore:
    """The state of task `partition` of the application `app_id`."""

    def __init__(self, redis: Redis, app_id: str, partition: int) -> None:
        self._redis = redis
        self._partition = partition
        tag = f"{{{app_id}:{partition}}}"
        self._meta = f"{tag}:meta"
        self._task = f"{tag}:task"
        self._wakes = f"{tag}:wakes"
        self._failures = f"{tag}:failures"
        # Of layouts before: all borrowers once more, by the commit their state was copied from.
        self._written = f"{tag}:written"
        self._prefix = f"{tag}:b:"
        self._scripts = {name: redis.register_script(source) for name, source in _SCRIPTS.items()}

    @property
    def partition(self) -> int:
        return self._partition

    async def meta(self) -> Meta:
        with self._reported():
            fields = ["fence", "applied", "read_from", "schema", "incarnation"]
            held = cast(list[bytes | None], await self._redis.hmget(self._meta, fields))
        fence, applied, read_from, schema = (_number(value) for value in held[:4])
        return Meta(fence, applied, read_from, schema, None if held[4] is None else held[4].decode())

    async def claim(self, fence: int, incarnation: str) -> Meta:
        await self._run("claim", fence, None, [self._meta], [fence, incarnation, SCHEMA, OLDEST_SCHEMA])
        left = True
        while left:
            _, left = await self._run("adopt", fence, None, [self._meta, self._wakes, self._written], [fence, _ADOPTED])
        return await self.meta()

    async def apply(self, fence: int, from_applied: int | None, change: Change) -> None:
        wakes = change.wakes
        states: list[_Told] = [(self._prefix + name, b"", "") for name in change.erased]
        states += [
            (self._prefix + name, sealed, _score(wakes[name]) if name in wakes else "")
            for name, sealed in change.changed.items()
        ]
        parts = list(_cut(states))
        before = "" if from_applied is None else from_applied
        for number, part in enumerate(parts, start=1):
            more = number < len(parts)
            await self._run(
                "apply",
                fence,
                from_applied,
                [self._meta, self._task, self._wakes, self._failures, *(key for key, _, _ in part)],
                [
                    fence,
                    before,
                    change.to_applied,
                    change.read_from,
                    "1" if more else "",
                    "" if more or change.task is None else change.task,
                    "" if more or change.failures_from is None else f"({change.failures_from}",
                    *(state for _, state, _ in part),
                    *(moment for _, _, moment in part),
                    *(() if more else change.failures),
                ],
            )

    async def load(
        self,
        fence: int,
        applied: int,
        borrowers: Sequence[str],
        due_until_ms: int | None,
        limit: int,
        failures: Span | None = None,
    ) -> Loaded:
        blobs: dict[str, bytes | None] = {}
        due: list[Wake] = []
        entries: list[str] = []
        until: int | str = "" if due_until_ms is None else due_until_ms
        span = ("", "") if failures is None else (f"({failures[0]}", f"({failures[1]}")
        for start in range(0, max(len(borrowers), 1), PART_STATES):
            asked = borrowers[start : start + PART_STATES]
            keys = [self._meta, self._wakes, self._failures]
            keys += [self._prefix + name for name in asked]
            _, states, wakes, due_states, failed, failed_states = await self._run(
                "load", fence, applied, keys, [fence, applied, until, limit, self._prefix, *span]
            )
            until, span = "", ("", "")
            woken = [name.decode() for name in wakes[::2]]
            due += zip((int(moment) for moment in wakes[1::2]), woken, strict=True)
            blobs.update(self._unseal(asked, states))
            blobs.update(self._unseal(woken, due_states))
            found = [entry.decode() for entry in failed]
            entries += found
            blobs.update(self._unseal([borrower_of(entry) for entry in found], failed_states))
        return Loaded(blobs, due, entries)

    async def task_blob(self, fence: int, applied: int) -> bytes | None:
        keys = [self._meta, self._wakes, self._failures, self._task]
        _, states, *_ = await self._run("load", fence, applied, keys, [fence, applied, "", 0, self._prefix, "", ""])
        return self._unseal([""], states)[""]

    async def roll(
        self, fence: int, applied: int, after: str | None, most_bytes: int, failures_after: str | None = None
    ) -> Rolled:
        behind = "" if failures_after is None else f"({failures_after}" if failures_after else "-"
        place = "-" if after is None else after
        _, names, states, moments, reached, total, failures = await self._run(
            "roll",
            fence,
            applied,
            [self._meta, self._wakes, self._failures],
            [fence, applied, place, most_bytes, _ROLL_STATES, self._prefix, behind, ROLL_FAILURES],
        )
        found: dict[str, tuple[bytes, int | None]] = {}
        with self._unbroken():
            # ZSCAN may tell somebody twice.
            for key, state, moment in zip(names, states, moments, strict=True):
                name = key.decode()
                check(name, state)
                found[name] = state, _number(moment)
        entries = [entry.decode() for entry in failures]
        return Rolled(found, None if reached is None else reached.decode(), total, entries)

    async def look(self, fence: int, applied: int, borrowers: Sequence[str]) -> Looked:
        keys = [self._meta, self._wakes, *(self._prefix + name for name in borrowers)]
        _, states, moments, count = await self._run("look", fence, applied, keys, [fence, applied, *borrowers])
        wakes = {name: _number(moment) for name, moment in zip(borrowers, moments, strict=True)}
        return Looked(self._unseal(borrowers, states), wakes, count)

    async def wipe(self, fence: int) -> None:
        batch = [self._task, self._wakes, self._failures, self._written]
        with self._reported():
            async for key in self._redis.scan_iter(match=f"{self._prefix}*", count=_WIPE_KEYS):
                batch.append(key)
                if len(batch) >= _WIPE_KEYS:
                    await self._run("wipe", fence, None, [self._meta, *batch], [fence])
                    batch = []
        await self._run("wipe", fence, None, [self._meta, *batch], [fence])

    async def borrowers(self) -> AsyncIterator[str]:
        with self._reported():
            async for key in self._redis.scan_iter(match=f"{self._prefix}*", count=_WIPE_KEYS):
                yield key.decode()[len(self._prefix) :]

    async def _run(
        self, script: str, fence: int, expected: int | None, keys: Sequence[Any], args: Sequence[Any]
    ) -> list[Any]:
        with self._reported():
            answer: list[Any] = await self._scripts[script](keys=keys, args=args)
        match answer[0]:
            case b"OK":
                return answer
            case b"FENCED":
                raise Fenced(self._partition, fence, int(answer[1]))
            case b"STALE":
                raise Stale(self._partition, expected, int(answer[1]) if answer[1] else None)
            case b"LOST":
                raise Corrupted(f"task {self._partition}: a state has vanished from Redis: {_REBUILD}")
            case b"TORN":
                raise Corrupted(f"task {self._partition}: Redis holds a part of commit {int(answer[1])}: {_REBUILD}")
            case _:
                raise Foreign(f"task {self._partition}: Redis holds state of {answer[1].decode()}: {_CHOOSE}")

    def _unseal(self, names: Sequence[str], states: Sequence[bytes | None]) -> dict[str, bytes | None]:
        with self._unbroken():
            return unseal_all(names, states)

    @contextmanager
    def _unbroken(self) -> Iterator[None]:
        try:
            yield
        except BrokenSeal:
            raise Corrupted(f"task {self._partition}: a state does not match its checksum: {_REBUILD}") from None

    def _reported(self) -> AbstractContextManager[None]:
        return _reported(f"task {self._partition}: Redis")


def _cut(states: Sequence[_Told]) -> Iterator[Sequence[_Told]]:
    """Parts of at most `PART_STATES` states and about `PART_BYTES`; one, maybe empty, where all fits."""
    start = size = 0
    for index, (_, state, _) in enumerate(states):
        size += len(state)
        if index > start and (size > PART_BYTES or index - start == PART_STATES):
            yield states[start:index]
            start, size = index, len(state)
    yield states[start:]


def _score(moment: int | None) -> int | str:
    return "+inf" if moment is None else moment


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(value)


@contextmanager
def _reported(who: str, *, in_full: bool = False) -> Iterator[None]:
    """`in_full`: what is asked names nobody, so that an answer's text may be told."""
    try:
        yield
    except RedisError as error:
        # An answer's text may repeat arguments, hence borrowers; a connection's text holds host and port alone.
        why = str(error) if isinstance(error, RedisConnectionError | RedisTimeoutError) else type(error).__name__
        if in_full and type(error) is ResponseError:
            # A server that does not know AUTH would repeat user and password.
            why += f": {str(error).partition(', with args')[0]}"
        raise Unavailable(f"{who}: {why}{_HINTS.get(type(error), '')}") from None
