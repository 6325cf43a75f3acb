import pytest
from aiokafka.partitioner import murmur2 as peer_murmur2
from hypothesis import given
from hypothesis import strategies as st

from schemas.partitioning import murmur2, partition_of

# From UtilsTest.testMurmur2 of Apache Kafka, which states them as signed 32-bit numbers.
KAFKA_VECTORS = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize(("key", "signed"), KAFKA_VECTORS)
def test_agrees_with_the_vectors_of_apache_kafka(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


@given(st.binary(max_size=80), st.integers(min_value=1, max_value=1_000))
def test_agrees_with_the_client_library(key: bytes, partitions: int) -> None:
    peer = peer_murmur2(key)
    assert murmur2(key) == peer % 2**32
    assert partition_of(key, partitions) == (peer & 0x7FFFFFFF) % partitions


def test_a_key_whose_hash_is_negative_in_java_has_a_partition() -> None:
    assert murmur2(b"21") >= 2**31
    assert 0 <= partition_of(b"21", 12) < 12
