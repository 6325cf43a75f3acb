"""The checksum under which a packed state is kept.

A sealed state is the CRC-32 of its name and content (4 bytes, little endian) and then the content: one damaged byte
is found, and so is a state that stands under another's name.
"""

from zlib import crc32

_WIDTH = 4


class BrokenSeal(Exception):
    """Content and checksum do not match. Says nothing about whose content it is."""


def seal(name: str, content: bytes) -> bytes:
    """`content` with its checksum in front; `name` is the borrower it belongs to, empty for the task's own state."""
    return crc32(content, crc32(name.encode())).to_bytes(_WIDTH, "little") + content


def unseal(name: str, sealed: bytes) -> bytes:
    """The content of what was sealed under `name`.

    Raises:
        BrokenSeal: it is damaged, or belongs to another name.
    """
    content = sealed[_WIDTH:]
    if len(sealed) < _WIDTH or crc32(content, crc32(name.encode())) != int.from_bytes(sealed[:_WIDTH], "little"):
        raise BrokenSeal
    return content
