"""Writing protocol buffers: the few kinds of field that a trace for Perfetto has. No package is needed for that.

A message is the bytes of its fields one after the other; a field is its number with its kind, then its value
(protobuf.dev, "Encoding").
"""

import struct
from functools import lru_cache

_VARINT, _FIXED64, _BYTES = 0, 1, 2
_CACHED = 4096
_SIXTY_FOUR_BITS = (1 << 64) - 1
_fixed = struct.Struct("<Q").pack
_double = struct.Struct("<d").pack


def _groups(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


_SMALL = tuple(_groups(value) for value in range(_CACHED))


def varint(value: int) -> bytes:
    """An integer in groups of seven bits, the lowest first; a negative one as its 64 bits.

    >>> varint(300).hex(), len(varint(-1))
    ('ac02', 10)
    """
    return _SMALL[value] if 0 <= value < _CACHED else _groups(value & _SIXTY_FOUR_BITS)


@lru_cache(_CACHED)
def _tag(number: int, kind: int) -> bytes:
    return varint(number << 3 | kind)


def integer(number: int, value: int) -> bytes:
    """A field of an integer, a truth value or an enumeration."""
    return _tag(number, _VARINT) + varint(value)


def fixed(number: int, value: int) -> bytes:
    """A field of 64 bits, without a sign."""
    return _tag(number, _FIXED64) + _fixed(value)


def double(number: int, value: float) -> bytes:
    """A field of a number with a fraction."""
    return _tag(number, _FIXED64) + _double(value)


def message(number: int, *fields: bytes) -> bytes:
    """A field that is a message of such fields."""
    value = b"".join(fields)
    return _tag(number, _BYTES) + varint(len(value)) + value


def text(number: int, value: str) -> bytes:
    """A field of text. What UTF-8 cannot hold becomes `?`."""
    data = value.encode(errors="replace")
    return _tag(number, _BYTES) + varint(len(data)) + data
