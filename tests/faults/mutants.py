"""Whether the rows would notice: each mutant is the worker with one protection taken out.

    python -m tests.faults.mutants [NAME ...] [--seed N]

runs for each mutant the row that is to catch it, and says by what it did. Exit code 1 where one gets away.
"""

import argparse
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from schemas.topics import CONTROL
from streams.store import redis_store
from streams.store.seal import CHECKSUM_BYTES, content_of
from streams.worker import app, producer, takeover
from streams.worker.commitlog import Committed
from streams.worker.producer import Message, Transactions

_FENCED = re.compile(r"^.*return \{'FENCED', .*\n", re.MULTILINE)
_STALE = re.compile(r"^.*return \{'STALE', .*\n", re.MULTILINE)


def _no_producer_fence() -> None:
    """Every owner writes under a transactional id of its own: nobody fences a predecessor."""
    inner = Transactions.begin.__func__  # type: ignore[attr-defined]

    async def begin(cls: type[Transactions], settings: Any, transactional_id: str) -> Transactions:
        made: Transactions = await inner(cls, settings, f"{transactional_id}-{uuid.uuid4().hex[:8]}")
        return made

    Transactions.begin = classmethod(begin)  # type: ignore[method-assign, assignment]


def _no_store_fence() -> None:
    """The store takes any owner for the right one."""
    for name, source in redis_store._SCRIPTS.items():
        redis_store._SCRIPTS[name] = _FENCED.sub("", source).replace("fence ~= ARGV[1] or ", "")


def _no_validated_load() -> None:
    """States are loaded wherever the store stands."""
    for name in ("load", "roll"):
        redis_store._SCRIPTS[name] = _STALE.sub("", redis_store._SCRIPTS[name])


def _no_awaited_sends() -> None:
    """A transaction is committed although a send in it failed."""

    async def commit(self: Transactions, messages: Any, last: Any) -> list[int]:
        await self._wire.begin()
        self._in_transaction = True
        await self._send(messages)
        ending = await self._send(last)
        placed = [(await future, count) for future, count in ending]
        await self._wire.commit()
        self._in_transaction = False
        return [metadata.offset + n for metadata, count in placed for n in range(count)]

    Transactions._commit = commit  # type: ignore[method-assign]


def _no_fresh_producer() -> None:
    """A producer that lost an answer goes on, as aiokafka has it."""
    producer._watch = lambda *_: None


def _no_co_partition_assertion() -> None:
    """Whatever the group has handed out is worked on."""
    app.tasks_of = lambda assigned: sorted({tp.partition for tp in assigned if tp.topic == CONTROL})


def _no_claim_record() -> None:
    """A take-over leaves nothing in the commit log: its fence is the last commit of the owner before."""
    inner = takeover.Takeover._claim

    async def claim(self: takeover.Takeover, commits: takeover.CommitLog, transactions: Transactions) -> Committed:
        last = await commits.last()
        return await inner(self, commits, transactions) if last is None else last

    takeover.Takeover._claim = claim  # type: ignore[method-assign, assignment]


def _no_eviction_check() -> None:
    """A Redis that evicts is as good as any."""

    async def check(_: Any) -> None: ...

    app.check_settings = check  # type: ignore[attr-defined, assignment]


def _no_seal() -> None:
    """A stored state is believed whatever its checksum."""
    redis_store.check = lambda *_: None  # type: ignore[attr-defined, assignment]
    redis_store.unseal_all = (
        lambda names, states: {  # type: ignore[attr-defined, assignment]
            name: None if state is None else content_of(state[CHECKSUM_BYTES:])
            for name, state in zip(names, states, strict=True)
        }
    )


def _no_position_check() -> None:
    """Reading goes on at the start of what is left of an input."""
    inner = takeover.Takeover._positions

    async def positions(self: takeover.Takeover, consumer: Any, partition: int, committed: Any) -> Any:
        found = await inner(self, consumer, partition, {})
        return {
            topic: (max(start, committed.get(topic, (start, 0))[0]), committed.get(topic, (start, 0))[1])
            for topic, (start, _) in found.items()
        }

    takeover.Takeover._positions = positions  # type: ignore[method-assign]


def _split_transaction() -> None:
    """Outputs leave in a transaction of their own, before the commit record's."""
    inner = Transactions.commit

    async def commit(self: Transactions, messages: Any, last: Any = ()) -> list[int]:
        outputs: list[Message] = list(messages)
        if outputs:
            await inner(self, outputs, ())
        return await inner(self, (), last)

    Transactions.commit = commit  # type: ignore[method-assign]


class Mutant(NamedTuple):
    """How it is made, and the rows that are to catch it, which have no parameters."""

    make: Callable[[], None]
    rows: tuple[str, ...]


MUTANTS = {
    "producer_fence": Mutant(_no_producer_fence, ("zombie_before_its_commit",)),
    "store_fence": Mutant(_no_store_fence, ("zombie_between_commit_and_store",)),
    "validated_load": Mutant(_no_validated_load, ("redis_restored_from_an_old_backup",)),
    "awaited_sends": Mutant(_no_awaited_sends, ("a_send_is_refused",)),
    "fresh_producer": Mutant(_no_fresh_producer, ("the_end_of_a_transaction_comes_late",)),
    "co_partition_assertion": Mutant(_no_co_partition_assertion, ("an_assignment_that_splits_tasks",)),
    "claim_record": Mutant(_no_claim_record, ("redis_flushed",)),
    "noeviction_check": Mutant(_no_eviction_check, ("redis_that_would_evict",)),
    "seal": Mutant(_no_seal, ("a_state_is_damaged",)),
    "position_check": Mutant(_no_position_check, ("inputs_deleted_before_they_were_read",)),
    "one_transaction": Mutant(_split_transaction, ("bad_records_in_bulk",)),
}
"""By the protection that is taken out."""


def install(name: str) -> None:
    """Take a protection out of this process; the empty name takes none."""
    if name:
        MUTANTS[name].make()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MUTANTS))
    parser.add_argument("--seed", default="1")
    asked = parser.parse_args()
    names = asked.names or list(MUTANTS)
    if unknown := sorted(set(names) - MUTANTS.keys()):
        parser.error(f"there is no mutant {', '.join(unknown)}")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/faults",
        "-q",
        "--no-header",
        "-p",
        "no:hypothesispytest",
        "-rX",
        "--tb=no",
    ]
    command += ["--seed", asked.seed, "--mutants", ",".join(names)]
    return subprocess.run(command, cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
