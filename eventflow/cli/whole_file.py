"""Writing a file piece by piece so that it is there whole or not at all.

Invariants:
    whoever opens the path sees what was there before, or all that was written, also after a crash or Ctrl-C;
    what is no file, a device or a pipe, is written to and never replaced.
"""

import contextlib
import errno
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from eventflow.errors import StoreError, UsageError, name_of

STANDARD_OUTPUT = Path("-")
NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))
_PIECE_BYTES = 1 << 20


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write the pieces to `path`, `-` for standard output. A file that is there is replaced.

    Raises:
        UsageError: it cannot be written. There is no part of it then.
        StoreError: there is no room for it, or the disk failed. The same holds.
        BrokenPipeError: whoever read standard output is gone.
    """
    if path == STANDARD_OUTPUT:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    with whole_file(path) as temporary:
        with explained(path):
            file = temporary.open("wb")
        with file:
            for piece in pieces:
                with explained(path):
                    file.write(piece)
            with explained(path):
                file.flush()


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to be written, which is at `path`, durably, when the block has ended without an error.

    For a device or a pipe it is the thing itself.

    Raises:
        UsageError, StoreError: it cannot be made.
    """
    with explained(path):
        final = path.resolve()  # a symbolic link stays one
        if final.exists() and not final.is_file():
            yield final
            return
        temporary = final.with_name(f".{final.name[:100]}.{secrets.token_hex(4)}.new")
        temporary.open("xb").close()
    try:
        yield temporary
        with explained(path):
            _sync(temporary)
            temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def pieces_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """An error of the operating system becomes one of ours, in one line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as problem:
        reason = f"{name_of(str(path))} cannot be written ({problem.strerror or problem})"
        if problem.errno in NO_ROOM:
            raise StoreError(f"{reason}: make room, or name a file elsewhere with --out") from problem
        raise UsageError(reason, "name another file with --out") from problem
