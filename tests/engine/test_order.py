"""The order of a task's records depends on the log alone, never on how it was fetched."""

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.order import LogRecord, Merge, Ordered

TOPICS = ("control", "logins", "repayments")


def log(timestamps: dict[str, list[int]]) -> dict[str, list[LogRecord]]:
    return {
        topic: [LogRecord(topic, 0, offset, ms, None, None) for offset, ms in enumerate(times)]
        for topic, times in timestamps.items()
    }


def whole(records: dict[str, list[LogRecord]]) -> list[Ordered]:
    merge = Merge(TOPICS, {})
    for topic, rows in records.items():
        merge.push(topic, rows)
    return merge.take(TOPICS, 10**9)


def places(ordered: list[Ordered]) -> list[tuple[str, int]]:
    return [(topic, offset) for _, topic, offset, _ in ordered]


def test_a_late_timestamp_never_moves_a_record_before_what_its_partition_already_delivered() -> None:
    records = log({"control": [5], "logins": [10, 1, 3], "repayments": [4]})
    assert places(whole(records)) == [
        ("repayments", 0),
        ("control", 0),
        ("logins", 0),
        ("logins", 1),
        ("logins", 2),
    ]


def test_equal_order_times_follow_topic_name_then_offset() -> None:
    records = log({"control": [7], "logins": [7, 7], "repayments": [7]})
    assert places(whole(records)) == [("control", 0), ("logins", 0), ("logins", 1), ("repayments", 0)]


def test_nothing_overtakes_a_topic_that_may_still_deliver() -> None:
    merge = Merge(TOPICS, {})
    records = log({"control": [100], "logins": [1], "repayments": [50, 60]})
    merge.push("control", records["control"])
    merge.push("repayments", records["repayments"])
    assert merge.take(("control", "repayments"), 10) == []
    merge.push("logins", records["logins"])
    assert places(merge.take(("control", "repayments"), 10)) == [("logins", 0)]
    assert places(merge.take(TOPICS, 10)) == [("repayments", 0), ("repayments", 1), ("control", 0)]


def test_order_time_carries_over_a_restart() -> None:
    merge = Merge(TOPICS, {"logins": 90})
    merge.push("logins", [LogRecord("logins", 0, 7, 40, None, None)])
    merge.push("repayments", [LogRecord("repayments", 0, 3, 80, None, None)])
    taken = merge.take(TOPICS, 10)
    assert places(taken) == [("repayments", 3), ("logins", 7)]
    assert [order_ms for order_ms, *_ in taken] == [80, 90]


def test_what_waits_is_counted_in_records_and_in_bytes_of_their_values() -> None:
    merge = Merge(TOPICS, {})
    values = [b"four", None, b"", b"two", b"1"]
    merge.push("logins", [LogRecord("logins", 0, offset, 5, None, value) for offset, value in enumerate(values[:3])])
    merge.push("logins", [LogRecord("logins", 0, offset, 5, None, value) for offset, value in enumerate(values[3:], 3)])
    assert (merge.buffered("logins"), merge.buffered_bytes("logins"), merge.buffered_bytes("control")) == (5, 8, 0)
    merge.take(TOPICS, 4)
    assert (merge.buffered("logins"), merge.buffered_bytes("logins")) == (1, 1)
    merge.take(TOPICS, 4)
    assert (merge.buffered("logins"), merge.buffered_bytes("logins")) == (0, 0)


@given(
    st.fixed_dictionaries({topic: st.lists(st.integers(0, 30), max_size=25) for topic in TOPICS}),
    st.randoms(use_true_random=False),
)
def test_any_fetching_gives_the_same_order(timestamps: dict[str, list[int]], rng: object) -> None:
    """However the topics come in, piece by piece, and however many records are taken at a time."""
    import random

    assert isinstance(rng, random.Random)
    records = log(timestamps)
    merge = Merge(TOPICS, {})
    sent = dict.fromkeys(TOPICS, 0)
    taken: list[Ordered] = []
    while len(taken) < sum(map(len, records.values())):
        topic = rng.choice(TOPICS)
        count = rng.randint(0, 4)
        merge.push(topic, records[topic][sent[topic] : sent[topic] + count])
        sent[topic] = min(len(records[topic]), sent[topic] + count)
        complete = [name for name in TOPICS if sent[name] == len(records[name])]
        taken += merge.take(complete, rng.randint(1, 5))
    assert places(taken) == places(whole(records))
