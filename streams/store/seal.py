"""The form in which a packed state is kept: compressed, with a checksum in front.

A sealed state is the CRC-32 of its name and body (4 bytes, little endian) and then the body: one damaged byte is found,
and so is a state that stands under another's name. The body is one byte that names the dictionary and a zstd frame made
with it, without magic number and dictionary id. The dictionary holds what such states have in common (`states.zdict`,
see `benchmarks.dictionary`) and halves them. What was sealed before there was one has the content itself for a body: a
packed state is a msgpack array, whose first byte is none of a dictionary.

Compressor and decompressor are for one thread at a time.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
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

_dictionary = ZstdCompressionDict(files("streams.store").joinpath("states.zdict").read_bytes())
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


def seal_all(states: Mapping[str, bytes]) -> dict[str, bytes]:
    """`seal` of each state, by borrower."""
    return {name: seal(name, content) for name, content in states.items()}


def check(name: str, sealed: bytes) -> None:
    """Raises:
    BrokenSeal: what was sealed under `name` is damaged, or belongs to another name.
    """
    if not sealed.startswith(crc32(sealed[CHECKSUM_BYTES:], crc32(name.encode())).to_bytes(CHECKSUM_BYTES, "little")):
        raise BrokenSeal


def unseal(name: str, sealed: bytes) -> bytes:
    """The content of what was sealed under `name`.

    Raises:
        BrokenSeal: it is damaged, or belongs to another name.
    """
    check(name, sealed)
    return content_of(sealed[CHECKSUM_BYTES:])


def unseal_all(names: Sequence[str], sealed: Sequence[bytes | None]) -> dict[str, bytes | None]:
    """`unseal` of each borrower's; None for who has none.

    Raises:
        BrokenSeal: one is damaged, or belongs to another name.
    """
    return {name: None if state is None else unseal(name, state) for name, state in zip(names, sealed, strict=True)}


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
