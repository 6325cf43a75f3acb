"""The form in which a packed state is kept: compressed, with a checksum in front.

A sealed state is the CRC-32 of its name and body (4 bytes, little endian) and then the body: one damaged byte is found,
and so is a state that stands under another's name. The body is one byte that names the dictionary and a zstd frame made
with it, without magic number and dictionary id. The dictionary holds what such states have in common (`states.zdict`,
see `benchmarks.dictionary`) and halves them. What was sealed before there was one has the content itself for a body: a
packed state is a msgpack array, whose first byte is none of a dictionary.

Compressor and decompressor are for one thread at a time.
"""

from pathlib import Path
from typing import Final
from zlib import crc32

from zstandard import (
    FORMAT_ZSTD1_MAGICLESS,
    ZstdCompressionDict,
    ZstdCompressionParameters,
    ZstdCompressor,
    ZstdDecompressor,
    ZstdError,
)

LEVEL: Final = 1
"""Of compression: the next two take half as long again, or twice, and save 3 %."""
CHECKSUM_BYTES: Final = 4
_FIRST = b"\x01"

_dictionary = ZstdCompressionDict(Path(__file__).with_name("states.zdict").read_bytes())
_dictionary.precompute_compress(level=LEVEL)
_parameters = ZstdCompressionParameters.from_level(
    LEVEL, dict_size=len(_dictionary), format=FORMAT_ZSTD1_MAGICLESS, write_dict_id=False
)
_compress = ZstdCompressor(compression_params=_parameters, dict_data=_dictionary).compress
_decompress = ZstdDecompressor(dict_data=_dictionary, format=FORMAT_ZSTD1_MAGICLESS).decompress


class BrokenSeal(Exception):
    """Content and checksum do not match. Says nothing about whose content it is."""


def seal(name: str, content: bytes) -> bytes:
    """`content` as it is kept; `name` is the borrower it belongs to, empty for the task's own state."""
    body = _FIRST + _compress(content)
    return crc32(body, crc32(name.encode())).to_bytes(CHECKSUM_BYTES, "little") + body


def unseal(name: str, sealed: bytes) -> bytes:
    """The content of what was sealed under `name`.

    Raises:
        BrokenSeal: it is damaged, or belongs to another name.
    """
    checksum, body = sealed[:CHECKSUM_BYTES], sealed[CHECKSUM_BYTES:]
    if checksum != crc32(body, crc32(name.encode())).to_bytes(CHECKSUM_BYTES, "little"):
        raise BrokenSeal
    return content_of(body)


def content_of(body: bytes) -> bytes:
    """What a body holds; nothing is checked.

    Raises:
        BrokenSeal: it does not open.
    """
    if not body.startswith(_FIRST):
        return body
    try:
        return _decompress(body[1:])
    except (ZstdError, MemoryError):
        # A frame may claim any size.
        raise BrokenSeal from None
