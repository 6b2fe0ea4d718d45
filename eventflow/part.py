"""A temporary file of the output folder, from its first byte until it is a file under its final name, or gone.

What is written is in the system's cache; `eventflow.storing` makes it durable. The digest may be another thread's than
the one that writes.

Invariants:
    the digest is that of the file's bytes, in their order;
    a part whose write failed is never made final;
    its descriptor is closed once, whoever discards it.
"""

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Protocol

from eventflow.folder_disk import FolderDisk

_READ_BYTES = 1 << 20


class Home(Protocol):
    """The output folder, as a part needs it."""

    path: Path
    disk: FolderDisk

    def leave(self, directory: int) -> None:
        """Close a folder that was entered."""
        ...

    def make_durable(self, parents: tuple[str, ...], directory: int) -> None:
        """Return when the names in a folder survive a power cut."""
        ...


class _State(Enum):
    OPEN = "open"
    BROKEN = "broken"  # a write failed, so what the file holds is unknown
    SUBMITTED = "submitted"
    STORING = "storing"
    CLOSED = "closed"


class Part:
    """A temporary file that is being written. `Folder.begin` makes it; `FileStore.submit` makes it final.

    One thread writes; `discard` may be called from any. Methods below `discard` are the file store's.
    """

    def __init__(
        self, folder: Home, parents: tuple[str, ...], name: str, directory: int, temporary: str, descriptor: int
    ) -> None:
        self.folder, self.parents = folder, parents
        self.bytes = self._digested = 0
        self._disk = folder.disk
        self._name, self._directory = name, directory
        self._temporary, self._descriptor = temporary, descriptor
        self._digest = hashlib.sha256()
        self._state = _State.OPEN
        self._lock = threading.Lock()  # between the writer and a `discard` from outside: a descriptor closes once

    def write(self, chunk: bytes) -> None:
        """Append to the file. It is in the page cache then, not on the disk.

        Raises:
            OSError: it could not be written, or the part is not open any more; what is left to do is `discard`.
        """
        self.put(chunk)
        self.absorb(chunk)

    def put(self, chunk: bytes | memoryview) -> None:
        """`write` without the digest, which `absorb` takes, in another thread if need be, in the same order."""
        self._append(lambda: self._disk.write_all(self._descriptor, chunk), len(chunk))

    def put_from(self, pipe: int, size: int) -> None:
        """`put` for what stands in a pipe; `absorb_written` takes it into the digest."""
        self._append(lambda: self._disk.splice_all(pipe, self._descriptor, size), size)

    def _append(self, write: Callable[[], None], size: int) -> None:
        with self._lock:
            if self._state is not _State.OPEN:
                raise OSError(errno.EBADF, "the temporary file is not open any more")
            self._state = _State.BROKEN
            write()
            self.bytes += size
            self._state = _State.OPEN

    def absorb(self, chunk: bytes | memoryview) -> None:
        """Add to the digest what `put` wrote, or will write."""
        self._digest.update(chunk)
        self._digested += len(chunk)

    def absorb_written(self, size: int, buffer: bytearray) -> None:
        """Add to the digest the next bytes of the file, which are there. Not while `discard` or `keep` may be called.

        Raises:
            OSError: they cannot be read again.
        """
        view, end = memoryview(buffer), self._digested + size
        while self._digested < end:
            count = os.preadv(self._descriptor, [view[: end - self._digested]], self._digested)
            if not count:
                raise OSError(errno.EIO, "the temporary file is shorter than what was written")
            self.absorb(view[:count])

    def sha256(self) -> str:
        """The SHA-256 of what was written so far, 64 lower-case hex digits."""
        return self._digest.hexdigest()

    @property
    def temporary(self) -> str:
        """The temporary file's name, relative to the output folder."""
        return "/".join((*self.parents, self._temporary))

    def matches(self, size: int, sha256: str) -> bool:
        """Whether the file, just opened again, begins with `size` bytes of that digest; then it is cut behind them.

        Raises:
            OSError: it cannot be read or cut.
        """
        left = size
        while left:
            chunk = os.read(self._descriptor, min(left, _READ_BYTES))
            if not chunk:
                return False
            self.absorb(chunk)
            left -= len(chunk)
        if self.sha256() != sha256:
            return False
        self._disk.truncate(self._descriptor, size)
        self.bytes = size
        return True

    def keep(self) -> None:
        """Close the temporary file and leave it where it is, for `Folder.reopen`."""
        with self._lock:
            if self._state in (_State.STORING, _State.CLOSED):
                return
            self._state = _State.CLOSED
        self._temporary = ""
        self.remove()

    def discard(self) -> None:
        """Close and remove the temporary file. Idempotent; too late, and without effect, once it is being stored."""
        with self._lock:
            if self._state in (_State.STORING, _State.CLOSED):
                return
            self._state = _State.CLOSED
        self.remove()

    def submitted(self) -> None:
        """No write comes any more.

        Raises:
            OSError: the part was discarded, submitted before, or a write of it failed.
        """
        with self._lock:
            if self._state is not _State.OPEN:
                raise OSError(errno.EBADF, f"the temporary file is {self._state.value}")
            self._state = _State.SUBMITTED

    def claim(self) -> None:
        """From here on `discard` has no effect.

        Raises:
            OSError: the part was discarded.
        """
        with self._lock:
            if self._state is not _State.SUBMITTED:
                raise OSError(errno.ECANCELED, "the temporary file was discarded")
            self._state = _State.STORING

    def sync(self) -> None:
        """Make the bytes durable, and close. OSError: they may be lost; never to be called again."""
        self._disk.sync(self._descriptor)
        descriptor, self._descriptor = self._descriptor, -1
        self._disk.close(descriptor)

    def rename(self) -> None:
        """Give the file its final name."""
        self._disk.rename_in(self._directory, self._temporary, self._name)
        self._temporary = ""

    def make_name_durable(self) -> None:
        """Make the name durable, that of other parts of the same folder with it."""
        self.folder.make_durable(self.parents, self._directory)

    def release(self) -> None:
        """The part is stored, or never will be: let go of everything."""
        with self._lock:
            if self._state is _State.CLOSED:
                return
            self._state = _State.CLOSED
        self.remove()

    def remove(self) -> None:
        """Close what is open, remove the temporary file if there is one."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self._disk.close(self._descriptor)
        if self._temporary:
            with contextlib.suppress(OSError):
                self._disk.remove_in(self._directory, self._temporary)
        self.folder.leave(self._directory)
