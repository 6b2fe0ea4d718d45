"""The few calls to the operating system on which durability rests, behind one small interface.

The log is given a `Disk`, so that a test can hand it one that fills up, tears a write or fails an fsync, without a hook
in the code that is tested.

Invariants:
    a call either does all of what it says or raises OSError; `write_all` never returns after a short write.
"""

import fcntl
import os
from pathlib import Path


class Disk:
    """The real disk. Every method raises OSError as the operating system does."""

    def create(self, path: Path) -> int:
        """A descriptor for a new file, readable by its owner only.

        FileExistsError if there is one; symlinks are not followed.
        """
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def lock(self, descriptor: int) -> None:
        """Take the exclusive lock of a file that this process made; it ends with the process.

        Nobody else writes to such a file, but a reader may hold its lock for the microseconds in which it looks whether
        anybody does: so this waits.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def write_all(self, descriptor: int, data: bytes) -> None:
        """Append all of `data`, normally in one system call."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        """Return when the file's bytes and size survive a power cut.

        Never call it again on a descriptor for which it failed.
        """
        os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file back to `size` bytes."""
        os.ftruncate(descriptor, size)

    def close(self, descriptor: int) -> None:
        """Close the descriptor."""
        os.close(descriptor)

    def sync_folder(self, path: Path) -> None:
        """Return when the folder's entries (created, renamed, removed) survive a power cut."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace_file(self, path: Path, data: bytes) -> None:
        """Put `data` under `path` so that after a crash there is the old file or the new one, whole."""
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        descriptor = self.create(temporary)
        try:
            self.write_all(descriptor, data)
            self.sync(descriptor)
        finally:
            self.close(descriptor)
        temporary.replace(path)
        self.sync_folder(path.parent)
