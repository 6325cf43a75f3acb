"""The sealed form of a state."""

import hashlib
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.fold import Engine
from streams.policy.loader import load
from streams.replay.cycle import LocalTask, chunks
from streams.replay.recording import Recording
from streams.replay.simulate import writing
from streams.store import seal as module
from streams.store.seal import BrokenSeal, seal, unseal

contents = st.binary(max_size=2_000)


@given(st.text(max_size=20), contents)
def test_what_is_sealed_comes_back(name: str, content: bytes) -> None:
    assert unseal(name, seal(name, content)) == content


@given(contents, st.data())
def test_any_flipped_bit_is_found(content: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal("b1", content))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BrokenSeal):
        unseal("b1", bytes(sealed))


@given(contents, st.integers(0, 2_100))
def test_what_is_cut_off_is_found(content: bytes, kept: int) -> None:
    sealed = seal("b1", content)
    with pytest.raises(BrokenSeal):
        unseal("b1", sealed[: min(kept, len(sealed) - 1)])


def test_a_state_under_another_name_is_found() -> None:
    with pytest.raises(BrokenSeal):
        unseal("b2", seal("b1", b"\x95state"))


def test_a_right_checksum_over_what_does_not_open_is_a_broken_seal() -> None:
    body = b"\x01no frame"
    with pytest.raises(BrokenSeal):
        unseal("b1", crc32(body, crc32(b"b1")).to_bytes(4, "little") + body)


@given(st.binary(max_size=500))
def test_what_was_sealed_without_compression_is_read(rest: bytes) -> None:
    content = b"\x95" + rest
    assert unseal("b1", crc32(content, crc32(b"b1")).to_bytes(4, "little") + content) == content


def test_the_dictionary_is_the_one_that_states_are_kept_with() -> None:
    """States in logs and stores cannot be read without it: whoever wants another puts it beside this one."""
    dictionary = Path(module.__file__).with_name("states.zdict").read_bytes()
    assert hashlib.sha256(dictionary).hexdigest() == "41b662901e1bf657a3e201a0929ee88fc5b543211ea164a15deb067034590b3b"


def test_states_take_little_more_than_half_of_their_room(tmp_path: Path) -> None:
    writing.simulate(3, 60, 3_000, tmp_path / "recording", 1)
    with Recording.open(tmp_path / "recording") as recording:
        task = LocalTask(Engine(load("standard"), partitions=1))
        for chunk in chunks(recording, 0):
            for _ in task.fold(chunk):
                pass
    states = {name: task.state(name) or b"" for name in task.borrowers()}
    room = sum(map(len, states.values()))
    assert len(states) > 50
    assert sum(len(seal(name, state)) for name, state in states.items()) < 0.6 * room
