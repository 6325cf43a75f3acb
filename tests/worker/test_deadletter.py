"""A dead letter is the record as it came, and why it is there."""

from streams.engine.chunk import DeadLetter
from streams.engine.order import LogRecord
from streams.worker.deadletter import dead_letter_message


def letter(*headers: tuple[str, bytes], offset: int = 7, message: str = "amount_minor is missing") -> DeadLetter:
    record = LogRecord("repayments", 2, offset, 1_700_000_000_000, b"k\xff", b"\x00{", headers)
    return DeadLetter(record, "missing_field", message, "decode")


def test_bytes_and_headers() -> None:
    message = dead_letter_message(letter(("trace", b"\x01")))
    assert message[:4] == ("repayments.dlq", 2, b"k\xff", b"\x00{")
    assert message.timestamp_ms == 1_700_000_000_000
    told = dict(message.headers)
    assert len(told.pop("__dlq.errors.fingerprint")) == 16
    assert told == {
        "trace": b"\x01",
        "__dlq.errors.topic": b"repayments",
        "__dlq.errors.partition": b"2",
        "__dlq.errors.offset": b"7",
        "__dlq.errors.reason": b"missing_field",
        "__dlq.errors.message": b"amount_minor is missing",
        "__dlq.errors.stage": b"decode",
        "__dlq.errors.replay.count": b"0",
    }


def test_the_fingerprint_is_that_of_the_cause() -> None:
    def fingerprint(of: DeadLetter) -> bytes:
        return dict(dead_letter_message(of).headers)["__dlq.errors.fingerprint"]

    assert fingerprint(letter(offset=7)) == fingerprint(letter(offset=8))
    assert fingerprint(letter()) != fingerprint(letter(message="channel is missing"))


def test_a_replayed_letter_keeps_its_count_and_no_old_reason() -> None:
    old = (("__dlq.errors.reason", b"unknown_loan"), ("__dlq.errors.replay.count", b"2"), ("trace", b"\x01"))
    names = [name for name, _ in dead_letter_message(letter(*old)).headers]
    assert len(names) == len(set(names))
    told = dict(dead_letter_message(letter(*old)).headers)
    assert told["__dlq.errors.reason"] == b"missing_field"
    assert told["__dlq.errors.replay.count"] == b"2"


def test_a_count_that_is_none_is_zero() -> None:
    for count in (b"", b"-1", b"\xff", b"9" * 400):
        told = dict(dead_letter_message(letter(("__dlq.errors.replay.count", count))).headers)
        assert told["__dlq.errors.replay.count"] == b"0"
