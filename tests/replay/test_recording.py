"""Recordings are read back as they were written, in both formats, and say what is wrong with them."""

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from streams.engine.order import LogRecord
from streams.replay import manifest, parquet, spool
from streams.replay.parquet import read_batches
from streams.replay.recording import Recording, RecordingError, RecordingWriter

FORMATS = ["recording", "recording.jsonl", "recording.jsonl.gz", "recording.jsonl.zst"]

RECORDS = [
    LogRecord("control", 0, 0, 1_000, None, b'{"type":"tick"}'),
    LogRecord("repayments", 0, 5, 900, b"b1", b'{"amount_minor":1}'),
    LogRecord("repayments", 1, 0, 1_100, b"b2", b'{"name":"\xc3\xa9"}', (("trace", b"7"), ("trace", b"8"))),
    LogRecord("repayments", 0, 9, 800, b"b1", b"\xff\x00 not UTF-8", (("raw", b"\xfe"),)),
    LogRecord("repayments", 0, 10, 800, b"\xff", None),
    LogRecord("repayments", 0, 11, 801, b"", b""),
]


def written(path: Path, records: Iterable[LogRecord] = RECORDS) -> Path:
    with RecordingWriter(path, partitions=2, source={"simulator_seed": 3}) as writer:
        for record in records:
            writer.write(record)
    return path


def content(recording: Recording) -> list[LogRecord]:
    return [
        record
        for topic in recording.topics()
        for partition in recording.partitions(topic)
        for record in recording.records(topic, partition)
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_records_come_back_as_they_were_written(tmp_path: Path, name: str) -> None:
    with Recording.open(written(tmp_path / name)) as recording:
        recording.verify()
        assert content(recording) == sorted(RECORDS, key=lambda record: record[:3])
        assert recording.topics() == ["control", "repayments"]
        assert recording.partitions() == [0, 1]
        assert recording.partitions("control") == [0]
        assert list(recording.records("logins", 0)) == []
        assert (recording.manifest.records, recording.manifest.first_ms, recording.manifest.last_ms) == (6, 800, 1_100)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_records_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    def files(path: Path) -> dict[str, bytes]:
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        return {file.name: file.read_bytes() for file in found}

    assert files(written(tmp_path / "a" / name)) == files(written(tmp_path / "b" / name))


def test_a_gzip_file_carries_no_time(tmp_path: Path) -> None:
    assert written(tmp_path / "r.jsonl.gz").read_bytes()[4:8] == bytes(4)


def test_the_manifest_counts_and_names_its_source(tmp_path: Path) -> None:
    held = json.loads((written(tmp_path / "r") / "manifest.json").read_bytes())
    assert held["records"] == 6
    assert held["partitions"] == {"control": 2, "repayments": 2}
    assert held["source"] == {"simulator_seed": 3}
    entry = held["files"][1]
    assert entry["name"] == "repayments-00000-00000000000000000005.parquet"
    assert (entry["records"], entry["first_offset"], entry["last_offset"]) == (4, 5, 11)
    assert (entry["first_ms"], entry["last_ms"]) == (800, 900)
    assert Recording.open(tmp_path / "r").partition_count() == 2


def test_an_empty_recording_is_a_recording(tmp_path: Path) -> None:
    for name in ("empty", "empty.jsonl"):
        recording = Recording.open(written(tmp_path / name, []))
        assert (recording.topics(), recording.manifest.records, recording.manifest.first_ms) == ([], 0, None)


def test_a_partition_is_cut_into_files_and_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "FILE_RECORDS", 10)
    monkeypatch.setattr(parquet, "BATCH_RECORDS", 5)
    records = [LogRecord("logins", 3, n, n, b"b", b"%d" % n) for n in range(23)]
    with Recording.open(written(tmp_path / "r", records)) as recording:
        assert [entry.records for entry in recording.manifest.files] == [10, 10, 3]
        assert [len(batch) for batch in recording.batches("logins", 3)] == [5, 5, 5, 5, 3]
        assert content(recording) == records


def test_lines_in_any_order_are_sorted_without_holding_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SORT_BYTES", 5_000)
    records = [LogRecord("logins", n % 3, n // 3, n, b"b", b"%d" % n) for n in range(60)]
    path = written(tmp_path / "r.jsonl", records[::-1])
    with Recording.open(path) as recording:
        assert content(recording) == sorted(records, key=lambda record: record[:3])
        folder = recording._spool
        assert folder is not None
        assert folder.exists()
    assert not folder.exists()


def test_what_kcat_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(
        b'{"topic":"t","partition":0,"offset":1,"tstype":"create","ts":5,"broker":1,'
        b'"headers":["a","1","b",null],"key":null,"payload":"\xff\\u0000"}\n\n'
        b'{"topic":"t","partition":0,"offset":0,"tstype":"create","ts":4,"broker":1,"key":"k","payload":"{}"}\n'
    )
    assert content(Recording.open(path)) == [
        LogRecord("t", 0, 0, 4, b"k", b"{}"),
        LogRecord("t", 0, 1, 5, None, b"\xff\x00", (("a", b"1"), ("b", None))),  # type: ignore[arg-type]
    ]


GOOD = {"topic": "t", "partition": 0, "offset": 0, "ts": 5, "key": "k", "payload": "{}"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        *[({name: value for name, value in GOOD.items() if name != left_out}, left_out) for left_out in GOOD
          if left_out != "key"],
        ({**GOOD, "payload": {"type": "tick"}}, "Expected `str | null`, got `object` - at `$.payload`"),
        ({**GOOD, "offset": -1}, "$.offset"),
        ({**GOOD, "ts": "5"}, "$.ts"),
        ({**GOOD, "ts": 9_000_000_000_000_000_000}, "$.ts"),
        ({**GOOD, "topic": "../t"}, "$.topic"),
        ({**GOOD, "headers": ["a"]}, "odd"),
        ({**GOOD, "payload_base64": "*"}, "base64"),
        ([GOOD], "Expected `object`"),
        (GOOD, "t/0 offset 0 is there twice"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_by_file_and_line(tmp_path: Path, line: object, says: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(line) + "\n")
    with pytest.raises(RecordingError) as caught:
        Recording.open(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize("bad", [b"{", b"\xff", b"[" * 100_000])
def test_a_line_that_is_no_json_is_named(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(bad)
    with pytest.raises(RecordingError, match=rf"{path}:1: [^\n]*$"):
        Recording.open(path)


@pytest.mark.parametrize("name", FORMATS[2:])
def test_a_file_cut_off_is_an_error(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordingError, match="not readable"):
        Recording.open(path)


def test_what_is_no_recording_is_an_error(tmp_path: Path) -> None:
    other = tmp_path / "events.csv"
    other.write_text("x")
    for path, says in [
        (tmp_path / "none", "no such recording"),
        (tmp_path, "not finished"),
        (other, "not a recording"),
    ]:
        with pytest.raises(RecordingError, match=says):
            Recording.open(path)


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    folder = written(tmp_path / "r")
    file = next(folder.glob("control-*.parquet"))
    whole = file.read_bytes()
    file.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    changed = r"control-.*SHA-256 is .* expects .*copy it again"
    with pytest.raises(RecordingError, match=changed):
        Recording.open(folder).verify()
    with Recording.open(folder) as recording:
        assert len(list(recording.records("repayments", 0))) == 4
        with pytest.raises(RecordingError, match=changed):
            list(recording.records("control", 0))
    file.write_bytes(whole[:-1])
    with pytest.raises(RecordingError, match="the manifest says"):
        Recording.open(folder)
    file.unlink()
    with pytest.raises(RecordingError, match="missing, the manifest lists it"):
        Recording.open(folder)


def test_a_file_that_is_no_parquet_is_an_error(tmp_path: Path) -> None:
    folder = written(tmp_path / "r")
    file = next(folder.glob("control-*.parquet"))
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(RecordingError, match=rf"{file}: damaged [^\n]*copy it again"):
        list(read_batches(file, "control", 0))


def test_a_page_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    records = [LogRecord("t", 0, at, at, b"k", b"%064d" % at) for at in range(2_000)]
    folder = written(tmp_path / "r", records)
    (file,) = folder.glob("*.parquet")
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 300] = bytes(300)
    file.write_bytes(whole)
    with pytest.raises(RecordingError, match=rf"{file}: damaged [^\n]*copy it again"):
        list(read_batches(file, "t", 0))


def test_a_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    sha256_of = manifest.sha256_of

    def counted(path: Path) -> str:
        hashed.append(path)
        return sha256_of(path)

    folder = written(tmp_path / "r")
    monkeypatch.setattr(manifest, "sha256_of", counted)
    with Recording.open(folder) as recording:
        content(recording)
        content(recording)
        recording.verify()
    assert sorted(hashed) == sorted(folder.glob("*.parquet"))


def test_a_time_that_no_date_can_be_given_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"t-.*has a timestamp of 9000000000000000000 ms"):
        Recording.open(written(tmp_path / "r", [LogRecord("t", 0, 0, 9 * 10**18, b"k", b"{}")]))


def test_a_manifest_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    manifest = written(tmp_path / "r") / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"control-', '"../control-'))
    with pytest.raises(RecordingError, match="not a plain name"):
        Recording.open(tmp_path / "r")


@pytest.mark.parametrize("name", FORMATS)
def test_an_unfinished_recording_leaves_nothing(tmp_path: Path, name: str) -> None:
    def broken() -> Iterator[LogRecord]:
        yield RECORDS[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        written(tmp_path / name, broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_written_over(tmp_path: Path, name: str) -> None:
    written(tmp_path / name)
    with pytest.raises(RecordingError, match="already there"):
        RecordingWriter(tmp_path / name)


@pytest.mark.parametrize("name", ["r", "r.jsonl"])
def test_offsets_are_counted_and_must_rise(tmp_path: Path, name: str) -> None:
    with RecordingWriter(tmp_path / name) as writer:
        assert [writer.append("t", partition, 0, None, b"") for partition in (0, 1, 0)] == [0, 0, 1]
        assert writer.append("t", 0, 0, None, b"", offset=7) == 7
        assert writer.append("t", 0, 0, None, b"") == 8
    with Recording.open(tmp_path / name) as recording:
        assert [record.offset for record in recording.records("t", 0)] == [0, 1, 7, 8]


def test_an_offset_that_does_not_rise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="t/0: offset 3 comes after 3"):
        written(tmp_path / "r", [LogRecord("t", 0, 3, 0, None, b"")] * 2)


def test_a_gzip_file_can_be_made_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    assert content(Recording.open(path)) == [LogRecord("t", 0, 0, 5, b"k", b"{}")]


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_leaves_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
