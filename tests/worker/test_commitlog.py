"""The commit log's records survive the wire, and what did not is found."""

from collections.abc import Iterable
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.store.contract import Change
from streams.store.seal import seal, seal_all, unseal
from streams.worker import commitlog
from streams.worker.commitlog import ORIGIN, CommitLogError, CommitRecord, Committed, Encoded, Reader, Roll, encode

OVERHEAD = 100

names = st.text("abc-09äµ李", min_size=1, max_size=20)
instants = st.integers(0, 253_402_300_799_999)
records = st.builds(
    CommitRecord,
    kind=st.sampled_from(["claim", "chunk"]),
    seq=st.integers(0, 2**63),
    incarnation=names,
    positions=st.dictionaries(names, st.tuples(st.integers(0, 2**62), instants), max_size=7),
    changed=st.dictionaries(names, st.binary(max_size=300), max_size=12).map(seal_all),
    wakes=st.dictionaries(names, st.none() | instants, max_size=12),
    task=st.none() | st.binary(max_size=300).map(lambda task: seal("", task)),
    failures=st.lists(st.text(max_size=20), max_size=5),
    failures_from=st.none() | st.text(max_size=8),
    carried=st.dictionaries(names, st.tuples(st.binary(max_size=300), st.none() | instants), max_size=3).map(
        lambda carried: {name: (seal(name, state), moment) for name, (state, moment) in carried.items()}
    ),
    carried_failures=st.lists(st.text(max_size=20), max_size=5),
    erased=st.lists(names, max_size=3),
    roll=st.builds(
        Roll, st.integers(-1, 2**62), st.integers(-1, 2**62), st.integers(0, 2**31), st.none() | st.text(max_size=9)
    ),
)


def read(reader: Reader, encoded: Encoded, at: int) -> Committed:
    """The record of `encoded`, whose first part stands at the offset `at`."""
    *heads, last = encoded.values
    for offset, value in enumerate(heads, start=at):
        assert reader.feed(offset, value) is None
    committed = reader.feed(at + len(heads), last)
    assert committed is not None
    return committed


def read_all(reader: Reader, values: Iterable[bytes], at: int = 0) -> None:
    for offset, value in enumerate(values, start=at):
        reader.feed(offset, value)


def chain(count: int, limit: int = 900_000) -> list[Encoded]:
    """Records that follow one another."""
    written: list[Encoded] = []
    for seq in range(count):
        record = CommitRecord(
            "chunk", seq, "log", {"logins": (seq, 5)}, seal_all({f"b{n}": bytes(range(n, n + 99)) for n in range(5)})
        )
        written.append(encode(record, written[-1].digest if written else ORIGIN, limit))
    return written


@given(records, st.integers(1, 400), st.binary(min_size=32, max_size=32))
def test_a_record_comes_back_from_its_parts(record: CommitRecord, room: int, previous: bytes) -> None:
    encoded = encode(record, previous, OVERHEAD + room)
    assert all(len(value) <= OVERHEAD + room for value in encoded.values)
    committed = read(Reader(2), encoded, at=40)
    assert committed == Committed(record, 40, 39 + len(encoded.values), encoded.digest)
    states = {name: state for name, (state, _) in record.carried.items()} | record.changed
    moments = {name: moment for name, (_, moment) in record.carried.items()} | record.wakes
    failures = record.carried_failures + record.failures
    assert committed.change == Change(
        committed.last,
        40,
        states,
        moments,
        record.task,
        failures=failures,
        failures_from=record.failures_from,
        erased=record.erased,
    )


@given(records, st.data())
@settings(max_examples=300)
def test_any_flipped_bit_is_found(record: CommitRecord, data: st.DataObject) -> None:
    values = encode(record, limit=OVERHEAD + 150).values
    part = data.draw(st.integers(0, len(values) - 1))
    at = data.draw(st.integers(0, len(values[part]) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = bytearray(values[part])
    damaged[at] ^= 1 << bit
    values[part] = bytes(damaged)
    reader = Reader(2)
    with pytest.raises(CommitLogError, match=rf"commit log of task 2, offset {40 + part}: "):
        read_all(reader, values, at=40)


@given(records, st.data())
def test_a_value_cut_short_is_found(record: CommitRecord, data: st.DataObject) -> None:
    (value,) = encode(record).values
    with pytest.raises(CommitLogError):
        Reader(0).feed(0, value[: data.draw(st.integers(0, len(value) - 1))])


def test_every_byte_of_a_record_is_guarded() -> None:
    (value,) = chain(1)[0].values
    for at in range(len(value)):
        with pytest.raises(CommitLogError):
            Reader(0).feed(0, value[:at] + bytes([value[at] ^ 0xFF]) + value[at + 1 :])


def test_a_chain_reads_on_from_any_record() -> None:
    written = chain(4)
    for start in range(4):
        reader = Reader(0)
        seqs = [read(reader, encoded, 10 * n).record.seq for n, encoded in enumerate(written) if n >= start]
        assert seqs == list(range(start, 4))
        assert reader.last is not None
        assert reader.last.digest == written[-1].digest


def test_a_reader_that_knows_the_last_record_takes_only_its_successor() -> None:
    written = chain(3)
    first = read(Reader(0), written[0], 0)
    assert read(Reader(0, after=first), written[1], 5).record.seq == 1
    with pytest.raises(CommitLogError, match="commit 2 follows commit 0"):
        read(Reader(0, after=first), written[2], 5)


def test_a_lost_record_a_swap_and_a_repetition_are_found() -> None:
    written = chain(4)
    for order in ([0, 2], [0, 1, 3, 2], [0, 1, 1], [1, 0]):
        reader = Reader(0)
        with pytest.raises(CommitLogError, match="follows commit"):
            read_all(reader, [written[n].values[0] for n in order])


def test_a_record_written_after_another_one_is_found() -> None:
    # The same number, but not the same past: what two owners at once, or another log, would leave behind.
    ours, theirs = chain(2), encode(CommitRecord("chunk", 0, "log"))
    reader = Reader(7)
    read(reader, theirs, 0)
    with pytest.raises(CommitLogError, match=r"task 7, offset 1: commit 1 was not written after the one at offset 0"):
        read(reader, ours[1], 1)


def test_an_incomplete_head_is_skipped() -> None:
    first, second = chain(2, limit=OVERHEAD)
    parts = len(first.values)
    assert parts > 2
    for start in range(1, parts):
        reader = Reader(0)
        for offset in range(start, parts):
            assert reader.feed(offset, first.values[offset]) is None
        assert read(reader, second, parts).record.seq == 1


def test_a_lost_part_is_found() -> None:
    first, second = chain(2, limit=OVERHEAD)
    for lost in range(1, len(first.values)):
        reader = Reader(0)
        values = [*first.values[:lost], *first.values[lost + 1 :], *second.values]
        with pytest.raises(CommitLogError, match="is due"):
            read_all(reader, values)


def test_a_part_of_another_record_is_found() -> None:
    first = encode(CommitRecord("chunk", 0, "log", changed=seal_all({"a": bytes(range(256))})), limit=OVERHEAD)
    other = encode(CommitRecord("chunk", 0, "log", changed=seal_all({"b": bytes(range(256))})), limit=OVERHEAD)
    assert len(first.values) == len(other.values) > 1
    reader = Reader(0)
    reader.feed(0, first.values[0])
    with pytest.raises(CommitLogError, match="belongs to another record"):
        reader.feed(1, other.values[1])


@pytest.mark.parametrize("value", [None, b"", b"{}", b'{"type": "tick"}' * 20])
def test_what_is_no_commit_record_is_named_so(value: bytes | None) -> None:
    with pytest.raises(CommitLogError, match="commit log of task 3, offset 9: not a commit record"):
        Reader(3).feed(9, value)


def test_a_newer_version_asks_for_an_upgrade() -> None:
    (value,) = encode(CommitRecord("claim", 0, "log")).values
    newer = value[:4] + bytes([value[4] + 1]) + value[5:]
    with pytest.raises(CommitLogError, match="written in version 4, this program reads up to 3: upgrade it"):
        Reader(0).feed(0, newer)


def test_what_the_first_version_wrote_is_read_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(name: str, state: bytes) -> bytes:
        return crc32(state, crc32(name.encode())).to_bytes(4, "little") + state

    sealed, task = plain("anna", b"\x95state"), plain("", b"\x95task")
    record = CommitRecord("chunk", 0, "log", changed={"anna": sealed}, task=task, wakes={"anna": 5})
    with monkeypatch.context() as before:
        before.setattr(commitlog, "_VERSION", 1)
        first = encode(record)
    assert first.values[0][4] == 1
    log = Reader(0)
    read = log.feed(0, first.values[0])
    assert read is not None
    assert read.record == record
    assert (unseal("anna", read.record.changed["anna"]), read.record.packed_task) == (b"\x95state", b"\x95task")
    other = seal_all({"anna": b"\x95other"})
    next_one = encode(CommitRecord("chunk", 1, "log", changed=other), read.digest)
    assert next_one.values[0][4] == 3
    again = log.feed(1, next_one.values[0])
    assert again is not None
    assert again.record.changed == other


def test_a_state_that_does_not_match_its_checksum_is_found_and_nobody_is_named() -> None:
    # Damaged before it was sent: the checksums of the parts and the digest are right.
    damaged = bytes(4) + b"x"
    for record in (
        CommitRecord("chunk", 0, "log", changed={"anna": damaged}),
        CommitRecord("chunk", 0, "log", task=damaged),
        CommitRecord("chunk", 0, "log", carried={"anna": (damaged, None)}),
    ):
        (value,) = encode(record).values
        with pytest.raises(CommitLogError, match="offset 5: a state in it does not match") as caught:
            Reader(0).feed(5, value)
        assert "anna" not in str(caught.value)


def test_a_large_record_is_cut_below_the_brokers_limit() -> None:
    noise = b"".join(n.to_bytes(4, "little") for n in range(1_000_003, 700_000_000, 1_001))
    changed = seal_all({"a": noise})
    encoded = encode(CommitRecord("chunk", 0, "log", changed=changed))
    assert len(encoded.values) > 1
    assert max(map(len, encoded.values)) <= 900_000
    assert read(Reader(0), encoded, 0).record.changed == changed
