"""The Java client's default partitioner: which partition a key belongs to."""

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """MurmurHash 2 with Kafka's seed, as an unsigned 32-bit number (`org.apache.kafka.common.utils.Utils.murmur2`)."""
    length = len(data)
    whole = length & ~3
    h = 0x9747B28C ^ length
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that a Java producer with default settings sends `key` to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
