"""Replay: the same recording gives the same bytes, and nothing in it is lost."""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from schemas.partitioning import partition_of
from schemas.topics import COMMITS, INPUTS
from streams.engine import fold
from streams.engine.fold import Engine
from streams.engine.order import LogRecord, Merge
from streams.policy.loader import SHIPPED, body, digest, load, loads
from streams.replay import cycle
from streams.replay.cycle import LocalTask
from streams.replay.outputs import BORROWER_OUTPUTS, Summary
from streams.replay.recording import Recording, RecordingError, RecordingWriter
from streams.replay.replay import replay
from streams.replay.simulate.writing import simulate
from streams.store.seal import seal
from streams.worker.commitlog import ORIGIN, CommitRecord, encode
from tests.replay.tape import Tape, ms

PARTITIONS = 3


def lines_of(folder: Path, topic: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{topic}.jsonl").read_bytes().splitlines()]


def all_lines(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.jsonl"))}


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated recording in which decisions are made on every partition."""
    path = tmp_path_factory.mktemp("simulated") / "recording"
    simulate(seed=11, borrowers=30, events=6_000, out=path, partitions=PARTITIONS)
    return path


@pytest.fixture(scope="module")
def replayed(population: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("replayed") / "out"
    return out, replay(population, "standard", out)


def test_lines_stand_by_partition_and_are_enough_to_compare(population: Path, replayed: tuple[Path, Summary]) -> None:
    out, summary = replayed
    partitions = [line["cause"]["partition"] for line in lines_of(out, "early-warnings")]
    assert partitions == sorted(partitions)
    assert set(partitions) == set(range(PARTITIONS))
    assert summary.by_topic["limit-adjustments"] > 0
    with Recording.open(population) as recording:
        assert summary.events == recording.manifest.records
    assert summary.dead_letters == 0


@pytest.mark.parametrize("chunk_records", [1, 7, 1_000])
def test_outputs_do_not_depend_on_the_size_of_a_chunk(
    chunk_records: int, population: Path, replayed: tuple[Path, Summary], tmp_path: Path
) -> None:
    again = replay(population, "standard", tmp_path / "out", chunk_records=chunk_records)
    assert all_lines(tmp_path / "out") == all_lines(replayed[0])
    assert again.output_sha256 == replayed[1].output_sha256


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_outputs_do_not_depend_on_how_a_long_sweep_is_cut(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven borrowers fall into arrears at the same moment; one has a login in the tick's own chunk."""
    tape = Tape()
    for number in range(7):
        tape.profile("2026-01-01 09:00", f"b{number}")
        tape.loan("2026-01-01 10:00", f"b{number}", due="2026-01-31" if number < 6 else "2026-02-01")
    tape.days("2026-01-01", "2026-02-10")
    tape.event("2026-02-05 00:30", "login", "b3", outcome="ok", device_id="d", channel="app")
    tape.tick("2026-05-20")
    source = tape.write(tmp_path / "r.jsonl")
    whole = replay(source, "standard", tmp_path / "whole")
    assert whole.by_topic["limit-adjustments"] == 7 * 4
    for module in (fold, cycle):
        monkeypatch.setattr(module, "SWEEP_LIMIT", limit)
    # Small chunks: what falls due within the chunk that set it never waits in the store.
    replay(source, "standard", tmp_path / "cut", chunk_records=5)
    assert all_lines(tmp_path / "cut") == all_lines(tmp_path / "whole")


def test_processes_give_the_bytes_of_one(population: Path, replayed: tuple[Path, Summary], tmp_path: Path) -> None:
    shared = replay(population, "standard", tmp_path / "out", workers=2)
    assert all_lines(tmp_path / "out") == all_lines(replayed[0])
    assert (shared.events, shared.by_topic) == (replayed[1].events, replayed[1].by_topic)


def test_json_lines_replay_as_the_folder_does(population: Path, replayed: tuple[Path, Summary], tmp_path: Path) -> None:
    lines = tmp_path / "recording.jsonl.gz"
    with Recording.open(population) as recording, RecordingWriter(lines) as writer:
        for topic in reversed(recording.topics()):
            for partition in reversed(recording.partitions(topic)):
                for record in recording.records(topic, partition):
                    writer.write(record)
    for workers in (1, 2):
        assert replay(lines, "standard", tmp_path / "out", workers).output_sha256 == replayed[1].output_sha256


def test_a_second_replay_replaces_the_first(tmp_path: Path) -> None:
    tape = overdue()
    source = tape.write(tmp_path / "r.jsonl")
    out = tmp_path / "out"
    first = replay(source, "standard", out)
    (out / "left-over.jsonl").write_text("{}\n")
    assert replay(source, "standard", out).output_sha256 == first.output_sha256
    assert not (out / "left-over.jsonl").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "r.jsonl"]


def overdue(tape: Tape | None = None) -> Tape:
    """A borrower who is never going to pay, watched for four months."""
    tape = tape or Tape()
    tape.days("2026-01-01", "2026-05-15")
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    return tape


def test_every_borrower_topic_has_a_file_and_the_summary_counts_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = replay(overdue().write(tmp_path / "r.jsonl"), "standard", out)
    assert {file.name for file in out.iterdir()} == {f"{topic}.jsonl" for topic in BORROWER_OUTPUTS} | {"summary.json"}
    assert {topic: len(lines_of(out, topic)) for topic in BORROWER_OUTPUTS if lines_of(out, topic)} == summary.by_topic
    assert json.loads((out / "summary.json").read_bytes())["output_sha256"] == summary.output_sha256
    assert summary.policy.digest == digest(load("standard"))
    assert [line["limit_seq"] for line in lines_of(out, "limit-adjustments")] == [1, 2, 3, 4]


def test_every_output_names_its_cause_and_policy(replayed: tuple[Path, Summary], population: Path) -> None:
    out, summary = replayed
    with Recording.open(population) as recording:
        causes = {
            (topic, partition, record.offset): json.loads(record.value or b"")["event_id"]
            for topic in INPUTS
            for partition in recording.partitions(topic)
            for record in recording.records(topic, partition)
        }
    seen: set[str] = set()
    for topic in summary.by_topic:
        for line in lines_of(out, topic):
            cause = line["cause"]
            assert causes[cause["topic"], cause["partition"], cause["offset"]] == cause["event_id"]
            assert line["policy"] == {"id": "standard", "digest": summary.policy.digest}
            assert line["event_id"] not in seen
            seen.add(line["event_id"])


# --- duplicates and late events -----------------------------------------------------------------------------------


def test_a_duplicate_changes_nothing(tmp_path: Path, population: Path) -> None:
    plain, doubled = tmp_path / "plain", tmp_path / "doubled"
    with Recording.open(population) as recording:
        records = [
            record
            for topic in recording.topics()
            for partition in recording.partitions(topic)
            for record in recording.records(topic, partition)
        ]
    with RecordingWriter(plain, PARTITIONS) as once, RecordingWriter(doubled, PARTITIONS) as twice:
        for record in records:
            apart = record._replace(offset=2 * record.offset)
            once.write(apart)
            twice.write(apart)
            if record.offset % 3 != 1:
                twice.write(apart._replace(offset=apart.offset + 1, value=respaced(record.value)))
    expected = replay(plain, "standard", tmp_path / "once")
    found = replay(doubled, "standard", tmp_path / "twice")
    assert found.events > expected.events
    assert found.dead_letters == 0
    assert all_lines(tmp_path / "twice") == all_lines(tmp_path / "once")


def respaced(value: bytes | None) -> bytes:
    """The same event with its keys in another order, spaces between and a field of a newer producer."""
    fields = json.loads(value or b"")
    return json.dumps(dict(sorted(fields.items(), reverse=True)) | {"since_v9": [1]}, indent=1).encode()


# --- dead letters -------------------------------------------------------------------------------------------------

LOGIN = {"type": "login", "event_id": "x1", "at_ms": ms("2026-01-02"), "borrower_id": "b1", "outcome": "ok"}
LOGIN |= {"device_id": "d1", "channel": "app"}


def login(**changes: Any) -> bytes:
    return json.dumps(LOGIN | changes).encode()


BAD: Mapping[str, tuple[bytes | None, bytes | None]] = {
    "too_large": (b"b1", login(device_id="d" * 70_000)),
    "malformed_json": (b"b1", b'{"type": "login", '),
    "too_deep": (b"b1", login()[:-1] + b', "more": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
    "duplicate_key": (b"b1", login()[:-1] + b', "outcome": "failed"}'),
    "not_finite": (b"b1", login()[:-1] + b', "more": NaN}'),
    "wrong_type": (b"b1", login(at_ms="soon")),
    "unknown_type": (b"b1", login(type="logout")),
    "future_dated": (b"b1", login(at_ms=ms("2026-01-03 00:01"))),
    "wrong_key": (b"b2", login()),
    "missing_field": (b"b1", json.dumps({key: value for key, value in LOGIN.items() if key != "channel"}).encode()),
    "out_of_range": (b"b1", login(at_ms=-1)),
    "empty_value": (b"b1", None),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_input_is_a_dead_letter_and_the_stream_goes_on(reason: str, tmp_path: Path) -> None:
    key, value = BAD[reason]
    clean, dirty = Tape(step=2), Tape(step=2)
    for tape in (overdue(clean), overdue(dirty)):
        tape.event("2026-01-01 20:00", "login", outcome="ok", device_id="d0", channel="app")
    bad = LogRecord("logins", 0, 1, ms("2026-01-02"), key, value, [("trace", b"t-1")])
    dirty.records.append(bad)
    expected = replay(clean.write(tmp_path / "clean.jsonl"), "standard", tmp_path / "expected")
    found = replay(dirty.write(tmp_path / "dirty"), "standard", tmp_path / "found")
    assert found.dead_letters_by_reason == {reason: 1}
    (letter,) = lines_of(tmp_path / "found", "logins.dlq")
    assert letter["key"] == (key or b"").decode()
    assert letter["value"] == (None if value is None else value.decode())
    headers = letter["headers"]
    assert headers["trace"] == "t-1"
    told = {name: headers[f"__dlq.errors.{name}"] for name in ("topic", "partition", "offset", "reason", "stage")}
    assert told == {"topic": "logins", "partition": "0", "offset": "1", "reason": reason, "stage": "decode"}
    good = {name: lines for name, lines in all_lines(tmp_path / "found").items() if name != "logins.dlq.jsonl"}
    assert good == all_lines(tmp_path / "expected")
    assert found.outputs == expected.outputs


def test_bytes_that_are_no_text_are_kept_as_base64(tmp_path: Path) -> None:
    tape = overdue()
    tape.raw("logins", "2026-01-02", b"\xff\x00", b"\xfe{", headers=[("h", b"\xfd"), ("n", b"1"), ("n", b"2")])
    replay(tape.write(tmp_path / "r"), "standard", tmp_path / "out")
    (letter,) = lines_of(tmp_path / "out", "logins.dlq")
    assert base64.b64decode(letter["key_base64"]) == b"\xff\x00"
    assert base64.b64decode(letter["value_base64"]) == b"\xfe{"
    assert base64.b64decode(letter["headers_base64"]["h"]) == b"\xfd"
    assert letter["headers"]["n"] == ["1", "2"]


FOLDED = {
    "unknown_loan": ("repayment_received", {"loan_id": "L9", "payment_id": "p9", "amount_minor": 1}),
    "currency_mismatch": ("repayment_received", {"payment_id": "p9", "amount_minor": 1, "currency": "EUR"}),
    "unknown_instalment": ("charge_added", {"instalment_no": 7, "component": "fee", "amount_minor": 1}),
    "conflicting_duplicate": ("repayment_received", {"payment_id": "p9", "amount_minor": 1, "event_id": "e2"}),
}


@pytest.mark.parametrize("reason", FOLDED)
def test_what_contradicts_the_facts_is_a_dead_letter(reason: str, tmp_path: Path) -> None:
    kind, fields = FOLDED[reason]
    tape = overdue(Tape(step=2))
    paid = {"method": "manual", "channel": "app"} if kind == "repayment_received" else {}
    tape.event("2026-01-05", kind, **({"loan_id": "L1"} | paid | fields))
    found = replay(tape.write(tmp_path / "r"), "standard", tmp_path / "out")
    clean = replay(overdue(Tape(step=2)).write(tmp_path / "c"), "standard", tmp_path / "clean")
    assert found.dead_letters_by_reason == {reason: 1}
    (letter,) = lines_of(tmp_path / "out", "repayments.dlq")
    assert letter["headers"]["__dlq.errors.stage"] == "fold"
    assert json.loads(letter["value"])["at_ms"] == ms("2026-01-05")
    assert found.by_topic == clean.by_topic


def test_a_key_on_anothers_partition_is_refused_where_the_partitions_are_known(tmp_path: Path) -> None:
    elsewhere = next(name for name in (f"b{number}" for number in range(9)) if partition_of(name.encode(), 2) == 1)
    tape = Tape()
    tape.days("2026-01-01", "2026-02-05")
    tape.loan("2026-01-01 10:00", elsewhere)
    known = replay(tape.write(tmp_path / "known", partitions=2), "standard", tmp_path / "a")
    assert known.dead_letters_by_reason == {"wrong_partition": 1}
    assert known.outputs == 0
    unknown = replay(tape.write(tmp_path / "unknown.jsonl"), "standard", tmp_path / "b")
    assert unknown.dead_letters == 0
    assert unknown.outputs > 0


# --- the commit log -----------------------------------------------------------------------------------------------


def test_a_commit_log_has_the_live_run_repeated(tmp_path: Path) -> None:
    """A payment of noon reaches its topic after the worker has read the tick that found it missing."""
    tape = overdue()
    tape.pays("2026-01-31 12:00", 105_000)
    live, seen = LocalTask(Engine(load("standard"))), list[bytes]()
    merge = Merge(INPUTS, {})
    positions: dict[str, tuple[int, int]] = {}
    commits: list[bytes] = []
    previous = ORIGIN
    late = [record for record in tape.records if b"repayment_received" in (record.value or b"")]
    early = [r for r in tape.records if r not in late and r.timestamp <= ms("2026-02-03 02:00")]
    rest = [record for record in tape.records if record not in late and record not in early]
    for seq, available in enumerate((early, late, rest)):
        for record in available:
            merge.push(record.topic, [record])
        chunk = merge.take(INPUTS, 10_000)
        for folded in live.fold(chunk):
            seen += [output.value for output in folded.outputs]
        for order_ms, topic, offset, _ in chunk:
            positions[topic] = (offset + 1, order_ms)
        # Cut into parts, as a large commit is.
        encoded = encode(
            CommitRecord("chunk", seq, "log", dict(positions), {"b1": seal("b1", bytes(range(250)))}), previous, 150
        )
        assert len(encoded.values) > 1
        commits += encoded.values
        previous = encoded.digest
    for value in commits:
        tape.raw(COMMITS, "2026-03-01", None, value)
    replay(tape.write(tmp_path / "live"), "standard", tmp_path / "out", chunk_records=7)
    merged = [line for lines in all_lines(tmp_path / "out").values() for line in lines.splitlines()]
    assert sorted(merged) == sorted(seen)
    assert [line["type"] for line in lines_of(tmp_path / "out", "early-warnings")] == [
        "warning_raised",
        "warning_cleared",
    ]
    tape.records = [record for record in tape.records if record.topic != COMMITS]
    replay(tape.write(tmp_path / "merged"), "standard", tmp_path / "plain")
    told = [json.loads(line) for lines in all_lines(tmp_path / "plain").values() for line in lines.splitlines()]
    assert {event["type"] for event in told} == {"reminder_due"}


# --- policies -----------------------------------------------------------------------------------------------------


def activated(tape: Tape, text: str) -> None:
    policy = loads(text, "test")
    fields = {"policy_id": policy.id, "digest": digest(policy), "mode": "live", "body": body(policy)}
    event = {"type": "policy_activated", "event_id": "a1", "at_ms": ms("2026-01-20"), "author": "ann", "approver": "bo"}
    tape.raw("control", "2026-01-20", None, json.dumps(event | fields).encode())


def test_which_policy_decides(tmp_path: Path) -> None:
    standard = SHIPPED["standard"].read_text()
    strict = standard.replace("id: standard", "id: strict").replace("{managed_dpd_from: 4}", "{managed_dpd_from: 2}")
    (tmp_path / "strict.yaml").write_text(strict)
    tape = Tape()
    tape.profile("2026-01-01 09:00")
    tape.loan("2026-01-01 10:00")
    tape.days("2026-01-01", "2026-01-19")
    activated(tape, strict)
    tape.days("2026-01-20", "2026-02-06")
    source = tape.write(tmp_path / "r.jsonl")
    days = {}
    for policy in ("standard", "recorded", str(tmp_path / "strict.yaml")):
        replay(source, policy, tmp_path / "out")
        (limit,) = lines_of(tmp_path / "out", "limit-adjustments")
        days[Path(policy).stem] = (limit["policy"]["id"], limit["at_ms"])
    assert days == {
        "standard": ("standard", ms("2026-02-04")),
        "recorded": ("strict", ms("2026-02-02")),
        "strict": ("strict", ms("2026-02-02")),
    }


# --- the output folder --------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return overdue().write(tmp_path / "r.jsonl")


def test_what_is_no_replays_output_is_never_touched(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("ten years")
    with pytest.raises(RecordingError, match="holds other things"):
        replay(source, "standard", out)
    (out / "summary.json").write_text('{"events": 1}')
    (out / "thesis.txt").rename(out / "thesis.jsonl")
    with pytest.raises(RecordingError, match="holds other things"):
        replay(source, "standard", out)
    assert (out / "thesis.jsonl").read_text() == "ten years"
    with pytest.raises(RecordingError, match="not a folder"):
        replay(source, "standard", source)


def test_an_empty_folder_is_used(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert replay(source, "standard", tmp_path / "out").outputs > 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RecordingError])
def test_nothing_is_left_half_written(
    error: type[BaseException], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = replay(source, "standard", tmp_path / "out")

    def broken(self: LocalTask, *_: object) -> Iterator[None]:
        raise error
        yield

    monkeypatch.setattr(LocalTask, "fold", broken)
    with pytest.raises(error):
        replay(source, "standard", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "r.jsonl"]
    assert json.loads((tmp_path / "out" / "summary.json").read_bytes())["output_sha256"] == before.output_sha256
