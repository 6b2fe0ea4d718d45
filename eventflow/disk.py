"""The few calls to the operating system on which durability rests, behind one small interface.

The log is given a `Disk`, so that a test can hand it one that fills up, tears a write, fails an fsync or forgets what
was not synced, without a hook in the code that is tested.

Invariants:
    a call either does all of what it says or raises OSError; `write_all` never returns after a short write;
    symbolic links are not followed, and what is made is for its owner only;
    a lock ends with the process that took it, also if a child that it forked lives on.
"""

import contextlib
import fcntl
import os
import time
import weakref
from pathlib import Path
from typing import Protocol

_LOCK_TRIES = 100


class Disk:
    """The real disk. Every method raises OSError as the operating system does."""

    def create_folder(self, path: Path) -> None:
        """Make a folder. FileExistsError if something has that name. Durable after `sync_folder` of its parent."""
        path.mkdir(mode=0o700)

    def create(self, path: Path) -> int:
        """A descriptor for a new file. FileExistsError if there is one. Durable after `sync_folder` of its parent."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def open(self, path: Path) -> int:
        """A descriptor for a file that is there, to read it and to append to it."""
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    def lock(self, path: Path) -> int:
        """Take the exclusive lock that a file stands for; made if need be. It ends with the descriptor or the process.

        Raises:
            BlockingIOError: another process has it.
        """
        descriptor = self.open_lock(path)
        try:
            self.take_lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def open_lock(self, path: Path) -> int:
        """A descriptor to take a lock with and to release it, as often as wanted."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def take_lock(self, descriptor: int) -> None:
        """Take the exclusive lock of this descriptor's file.

        A reader that looks whether it is held has it for some microseconds, so this tries for a tenth of a second.

        Raises:
            BlockingIOError: another process has it.
        """
        for attempt in range(_LOCK_TRIES):
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if attempt == _LOCK_TRIES - 1:
                    raise
            time.sleep(0.001)
        return None

    def release_lock(self, descriptor: int) -> None:
        """Give a lock back and keep the descriptor. Nothing happens if it is not held."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def write_all(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`, normally in one system call."""
        written = os.write(descriptor, data)
        while written < len(data):
            written += os.write(descriptor, memoryview(data)[written:])

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

    def unlock(self, descriptor: int) -> None:
        """Let go of a lock. Never raises: nothing was written, so whatever close says, nothing is lost."""
        with contextlib.suppress(OSError):
            self.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file its final name, in place of what had it. Durable after `sync_folder`."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """Remove a file. Durable after `sync_folder`."""
        path.unlink()

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
        if temporary.exists() or temporary.is_symlink():
            self.remove(temporary)
        descriptor = self.create(temporary)
        try:
            self.write_all(descriptor, data)
            self.sync(descriptor)
        finally:
            self.close(descriptor)
        self.rename(temporary, path)
        self.sync_folder(path.parent)


class Holder(Protocol):
    """Something that has descriptors which mean that this process, and no other, may do something."""

    def abandon_in_child(self) -> None:
        """In a forked child: close them without another thought, and refuse to be used."""
        ...


_holders: "weakref.WeakSet[Holder]" = weakref.WeakSet()


def abandon_in_children(holder: Holder) -> None:
    """From now on every child that this process forks calls the holder's `abandon_in_child`.

    A child has its parent's descriptors, and a lock is held for as long as one of them is open anywhere.
    """
    _holders.add(holder)


def _after_fork_in_child() -> None:
    for holder in list(_holders):
        holder.abandon_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
