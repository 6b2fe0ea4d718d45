"""The files' bytes.

A pool of pseudo-random bytes from the seed, and for each file its own beginning and place in the pool.

The same function makes the bytes for the server, the manifest and the tests.
"""

import random
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256

from eventflow.origin.settings import OriginSettings, file_size

POOL_BYTES = 1 << 20
PIECE_BYTES = 256 << 10
_STEP = 7_919


@lru_cache(maxsize=4)
def _pool(seed: int) -> bytes:
    """The pool twice over, so that a piece from any place in it needs no wrapping."""
    return random.Random(seed).randbytes(POOL_BYTES) * 2  # noqa: S311


def content(settings: OriginSettings, number: int) -> bytes:
    """The bytes of file `number`."""
    return b"".join(pieces(settings, number))


def pieces(settings: OriginSettings, number: int, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes of file `number` from `start` to before `end`, in pieces of at most `PIECE_BYTES`."""
    size = file_size(settings, number)
    end = size if end is None else min(end, size)
    head = f"file {number} of seed {settings.seed}, from eventflow origin\n".encode()[:end]
    if start < len(head):
        yield head[start:]
        start = len(head)
    pool = _pool(settings.seed)
    while start < end:
        place = (number * _STEP + start) % POOL_BYTES
        piece = pool[place : place + min(PIECE_BYTES, end - start)]
        yield piece
        start += len(piece)


def checksum(settings: OriginSettings, number: int) -> str:
    """The SHA-256 of file `number`, 64 hex digits."""
    digest = sha256()
    for piece in pieces(settings, number):
        digest.update(piece)
    return digest.hexdigest()


def file_name(number: int) -> str:
    """The name of file `number`."""
    return f"{number:06}.bin"
