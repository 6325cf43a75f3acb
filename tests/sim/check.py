"""What must hold after any run."""

from collections import Counter, defaultdict

from aiokafka import TopicPartition

from schemas.topics import COMMITS, DLQ_SUFFIX
from streams.engine.order import LogRecord
from streams.store.seal import unseal
from streams.worker.commitlog import CommitLogError, Committed, Reader
from tests.sim.broker import Broker
from tests.sim.engine import OUTPUT, SWEEP, Known, Oracle
from tests.sim.store import Server
from tests.sim.world import TOPICS, World

_ALL = 1 << 30


def committed(broker: Broker, topic: str, partition: int) -> list[LogRecord]:
    """What a reader downstream sees of a topic's partition."""
    place = TopicPartition(topic, partition)
    return broker.committed(place, 0, len(broker.logs.get(place, ())))[0]


def commit_log(broker: Broker, partition: int) -> list[Committed]:
    """Every record of a task's commit log; reading it checks that they follow each other.

    Raises:
        CommitLogError: they do not.
    """
    reader = Reader(partition)
    fed = [reader.feed(record.offset, record.value) for record in committed(broker, COMMITS, partition)]
    return [found for found in fed if found is not None]


def check(world: World) -> list[str]:
    """What is wrong after a run, a line each."""
    wrong = list(world.wrong)
    if wrong:
        return wrong
    for server in world.servers:
        try:
            wrong += _check_task(world, server)
        except CommitLogError as error:
            wrong.append(str(error))
    return wrong


def _check_task(world: World, server: Server) -> list[str]:
    broker, partition = world.broker, server.partition
    inputs = {topic: committed(broker, topic, partition) for topic in TOPICS}
    log = commit_log(broker, partition)
    wrong: list[str] = []
    # What each pass came to, as the commits tell of them; and what comes of sweeps that hold all else up.
    oracle, strict = Oracle(SWEEP), Oracle(_ALL)
    order_ms = dict.fromkeys(TOPICS, 0)
    taken = dict.fromkeys(TOPICS, 0)
    positions = dict.fromkeys(TOPICS, 0)
    order: list[tuple[int, str, int]] = []
    for entry in log:
        chunk = []
        for topic, (position, told_ms) in sorted(entry.record.positions.items()):
            if position < positions[topic]:
                wrong.append(f"task {partition}: commit {entry.record.seq} goes back in {topic}")
            positions[topic] = position
            while taken[topic] < len(inputs[topic]) and inputs[topic][taken[topic]].offset < position:
                record = inputs[topic][taken[topic]]
                taken[topic] += 1
                order_ms[topic] = max(order_ms[topic], record.timestamp)
                chunk.append((order_ms[topic], topic, record.offset, record))
            if told_ms != order_ms[topic]:
                wrong.append(f"task {partition}: commit {entry.record.seq}: order time of {topic} is {told_ms}")
        if entry.record.kind == "chunk" and not chunk:
            if not oracle.sweeping:
                wrong.append(f"task {partition}: commit {entry.record.seq} takes no records, and there is no sweep")
            oracle.go_on()
        for found in sorted(chunk):
            order.append(found[:3])
            oracle.take(found[0], found[3])
            strict.take(found[0], found[3])
    if oracle.overtaken:
        wrong.append(f"task {partition}: a control record did not wait for the end of a sweep")
    if any(taken[topic] < len(records) for topic, records in inputs.items()):
        wrong.append(f"task {partition}: not all records are taken")
    if world.plan.beforehand and order != sorted(order):
        wrong.append(f"task {partition}: records that were there from the start are not in their order")
    outputs = [record.value for record in committed(broker, OUTPUT, partition)]
    wanted_outputs = [value for _, value in oracle.outputs]
    if outputs != wanted_outputs:
        wrong.append(f"task {partition}: outputs: {_difference(outputs, wanted_outputs)}")
    if _by_borrower(oracle) != _by_borrower(strict) or _packed(oracle.known) != _packed(strict.known):
        wrong.append(f"task {partition}: what went on beside a sweep shows in a borrower")
    doubled = [value for value, count in Counter(outputs).items() if count > 1]
    if doubled:
        wrong.append(f"task {partition}: put out twice: {doubled[:3]}")
    for topic in TOPICS:
        letters = [
            (topic, int(dict(record.headers)["__dlq.errors.offset"]))
            for record in committed(broker, topic + DLQ_SUFFIX, partition)
        ]
        wanted = [letter for letter in oracle.dead if letter[0] == topic]
        if letters != wanted:
            wrong.append(f"task {partition}: dead letters of {topic}: {letters} instead of {wanted}")
    return wrong + _check_transactions(broker, partition, log) + _check_store(server, log, oracle)


def _check_transactions(broker: Broker, partition: int, log: list[Committed]) -> list[str]:
    """Every commit is one transaction, and everything put out is in the transaction of its commit."""
    commits = TopicPartition(COMMITS, partition)
    for entry in log:
        if len({id(found.transaction) for found in broker.logs[commits][entry.first : entry.last + 1]}) > 1:
            return [f"task {partition}: commit {entry.record.seq} is in two transactions"]
    for topic in (OUTPUT, *(topic + DLQ_SUFFIX for topic in TOPICS)):
        for _, transaction in broker.logs.get(TopicPartition(topic, partition), ()):
            if transaction is not None and transaction.committed and commits not in transaction.places:
                return [f"task {partition}: a transaction on {topic} has no commit record"]
    return []


def _check_store(server: Server, log: list[Committed], oracle: Oracle) -> list[str]:
    wrong = []
    states: dict[str, bytes] = {}
    wakes: dict[str, int] = {}
    for entry in log:
        states |= entry.record.states
        for name, wake_ms in entry.record.wakes.items():
            if wake_ms is None:
                wakes.pop(name, None)
            else:
                wakes[name] = wake_ms
    held = server.held
    if held._states != states or held._moments != wakes:
        wrong.append(f"task {server.partition}: the store is not what the log says")
    if {name: unseal(name, state) for name, state in states.items()} != _packed(oracle.known):
        wrong.append(f"task {server.partition}: states differ from a fold of the same order")
    if wakes != {name: known.wake_ms for name, known in oracle.known.items() if known.wake_ms is not None}:
        wrong.append(f"task {server.partition}: wake-ups differ from a fold of the same order")
    blobs = [entry.record.task for entry in log if entry.record.task is not None]
    if held._task != (blobs[-1] if blobs else None):
        wrong.append(f"task {server.partition}: the task's state is not that of its last commit")
    return wrong


def _by_borrower(oracle: Oracle) -> dict[str, list[bytes]]:
    told = defaultdict(list)
    for name, value in oracle.outputs:
        told[name].append(value)
    return told


def _packed(known: dict[str, Known]) -> dict[str, bytes]:
    return {name: one.pack() for name, one in known.items()}


def _difference(found: list[bytes | None], wanted: list[bytes]) -> str:
    for at, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if one != other:
            return f"at {at} {one!r} instead of {other!r}"
    return f"{len(found)} instead of {len(wanted)}"
