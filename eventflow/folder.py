"""The output folder, and the temporary files in it that are not yet whole.

Below `eventflow.storing`, which makes the files final. The forces: the list of names may be a stranger's, somebody may
put a link in the way while a run goes on, and a process may be killed at any moment. Hence all calls are relative to
open folders, and what is not whole has a name that tells it.

Invariants:
    nothing is made outside the folder: a parent that is a symbolic link is refused, a file that is one is replaced;
    a part is a file of its own beside its final name, never the final name itself;
    a part that was discarded leaves nothing, one whose process was killed leaves what `Folder.sweep` removes.
"""

import contextlib
import errno
import hashlib
import os
import re
import stat
import threading
import weakref
from collections.abc import Container
from enum import Enum
from pathlib import Path
from typing import Self

from eventflow.errors import UsageError, name_of
from eventflow.folder_disk import FolderDisk
from eventflow.naming import NAME_BYTES_MAX, PART_SUFFIX
from eventflow.sources import Sources, SystemSources

_DURABLE_FOLDERS_MAX = 4096
_READ_BYTES = 1 << 20
_CREATE_TRIES = 10
_TAG = re.compile(r"[A-Za-z0-9-]{0,64}")


class Folder:
    """An output folder. Safe to use from several threads. Make it with `Folder.open`."""

    def __init__(self, path: Path, disk: FolderDisk, sources: Sources) -> None:
        self.path = path
        self.disk = disk
        self._suffix = sources.name_suffix
        self._descriptor = disk.open_folder(None, f"{path}/")  # the output folder itself may be a link
        self._durable: set[str] = set()
        weakref.finalize(self, disk.close, self._descriptor)

    @classmethod
    def open(cls, path: Path, *, disk: FolderDisk | None = None, sources: Sources | None = None) -> Self:
        """Open an output folder; it and its parents are made where they are missing.

        Raises:
            UsageError: it cannot be made or written.
        """
        path, disk = path.absolute(), disk or FolderDisk()
        try:
            _make_folders(path, disk)
            if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, "no right to write in it")
            return cls(path, disk, sources or SystemSources())
        except (FileExistsError, NotADirectoryError):
            problem = f"the output folder {name_of(str(path))} is a file, or below one"
            raise UsageError(problem, "name another folder with --out") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            problem = f"the output folder {name_of(str(path))} cannot be used"
            reason = getattr(error, "strerror", None) or "its name is not a path"
            raise UsageError(f"{problem} ({reason})", "name a folder that you may write to with --out") from None

    def begin(self, name: str, *, tag: str = "") -> "Part":
        """A new temporary file beside the final name, whose missing parent folders are made.

        Args:
            name: the final name, relative to this folder.
            tag: what `sweep` knows the file by, at most 64 letters, digits and hyphens: the run.

        Raises:
            OSError: it cannot be made; ELOOP if a parent is a symbolic link, EINVAL if the name leads out.
        """
        *parents, last = name.split("/")
        if not _TAG.fullmatch(tag) or "\0" in name or not {"", ".", ".."}.isdisjoint((*parents, last)):
            raise OSError(errno.EINVAL, "not a name in the output folder")
        directory = self._enter(parents)
        try:
            temporary, descriptor = self._create(directory, last, tag)
        except BaseException:
            self.leave(directory)
            raise
        return Part(self, tuple(parents), last, directory, temporary, descriptor)

    def reopen(self, name: str, temporary: str) -> "Part":
        """The part of the file `name` that an earlier attempt kept under `temporary`; see `Part.matches`.

        Raises:
            OSError: it is not there, or not a regular file beside its final name.
        """
        *parents, last = name.split("/")
        *beside, part = temporary.split("/")
        if beside != parents or not part.endswith(PART_SUFFIX) or "\0" in part:
            raise OSError(errno.EINVAL, "not the temporary file of that name")
        directory = self._enter(parents)
        descriptor = -1
        try:
            descriptor = self.disk.open_in(directory, part)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise OSError(errno.EINVAL, "not a regular file of its own")
            return Part(self, tuple(parents), last, directory, part, descriptor)
        except BaseException:
            if descriptor >= 0:
                self.disk.close(descriptor)
            self.leave(directory)
            raise

    def takes_unnamed(self) -> bool:
        """Whether the disk knows files without a name; not all do (NFS)."""
        try:
            self.disk.close(self.disk.create_unnamed(self._descriptor))
        except (OSError, AttributeError):
            return False
        return Path("/proc/self/fd").is_dir()

    def write_unnamed(self, body: bytes) -> int:
        """A file without a name that holds `body`: its descriptor, for `name_unnamed`."""
        descriptor = self.disk.create_unnamed(self._descriptor)
        try:
            self.disk.write_all(descriptor, body)
        except BaseException:
            self.disk.close(descriptor)
            raise
        return descriptor

    def name_unnamed(self, descriptor: int, name: str, tag: str) -> None:
        """Give a file its final name, relative to this folder; what had it is replaced. Durable after `sync_names`."""
        *parents, last = name.split("/")
        directory = self._enter(parents)
        try:
            self.disk.link_in(descriptor, directory, last)
        except FileExistsError:
            temporary = f"..{tag}.{self._suffix()}{PART_SUFFIX}"
            self.disk.link_in(descriptor, directory, temporary)
            try:
                self.disk.rename_in(directory, temporary, last)
            except OSError:  # a folder has the name
                self.disk.remove_in(directory, temporary)
                raise
        finally:
            self.leave(directory)

    def sync_names(self, parents: tuple[str, ...]) -> None:
        """Return when the names in a folder below this one survive a power cut."""
        directory = self._enter(parents)
        try:
            self.make_durable(parents, directory)
        finally:
            self.leave(directory)

    def sync_file_system(self) -> None:
        """Return when every byte on this folder's disk survives a power cut."""
        self.disk.sync_file_system(self._descriptor)

    def has(self, name: str, size: int) -> bool:
        """Whether there is a regular file of that name and size in bytes. Never raises."""
        try:
            status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == size

    def sweep(self, tag: str, keep: Container[str] = ()) -> int:
        """Remove the temporary files that a killed process left with this tag, here and below; gives their number.

        Only for a tag that nobody writes with now. What must not be read or removed is left where it is, and so are the
        parts named in `keep`, relative to this folder.
        """
        pattern = re.compile(rf"\..*\.{re.escape(tag)}\.[0-9a-f]{{8}}{re.escape(PART_SUFFIX)}", re.DOTALL)
        count = 0
        for folder, _, names in os.walk(self.path, followlinks=False):
            for name in filter(pattern.fullmatch, names):
                if os.path.relpath(f"{folder}/{name}", self.path) in keep:
                    continue
                with contextlib.suppress(OSError):
                    Path(folder, name).unlink()
                    count += 1
        return count

    def make_durable(self, parents: tuple[str, ...], directory: int) -> None:
        """Return when the entries of a folder below this one, and its own entry, survive a power cut.

        Raises:
            OSError: nobody knows what is on the disk.
        """
        self.disk.sync_open_folder(directory)
        # A folder may have been made by another part, or by a process that was killed: so each is seen to once.
        for depth in range(len(parents)):
            path = "/".join(parents[: depth + 1])
            if path not in self._durable:
                holder = self._enter(parents[:depth])
                try:
                    self.disk.sync_open_folder(holder)
                finally:
                    self.leave(holder)
                if len(self._durable) >= _DURABLE_FOLDERS_MAX:
                    self._durable.clear()  # bounded; forgetting costs an fsync, no more
                self._durable.add(path)

    def leave(self, directory: int) -> None:
        """Close a descriptor that `_enter` gave."""
        if directory != self._descriptor:
            self.disk.close(directory)

    def _enter(self, parents: list[str] | tuple[str, ...]) -> int:
        """A descriptor of a folder below this one, made where it is missing; give it back with `leave`."""
        directory = self._descriptor
        for name in parents:
            outer = directory
            try:
                directory = self._open_or_make(outer, name)
            finally:
                self.leave(outer)
        return directory

    def _open_or_make(self, folder: int, name: str) -> int:
        try:
            return self.disk.open_folder(folder, name)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                self.disk.make_folder(folder, name)
            return self.disk.open_folder(folder, name)
        except NotADirectoryError:  # what Linux says to O_NOFOLLOW with O_DIRECTORY
            if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, "a parent folder is a symbolic link", name) from None
            raise

    def _create(self, directory: int, name: str, tag: str) -> tuple[str, int]:
        for _ in range(_CREATE_TRIES):
            end = f".{tag}.{self._suffix()}{PART_SUFFIX}" if tag else f".{self._suffix()}{PART_SUFFIX}"
            begin = f".{name}".encode()[: NAME_BYTES_MAX - len(end)].decode(errors="ignore")
            with contextlib.suppress(FileExistsError):
                return begin + end, self.disk.create_in(directory, begin + end)
        raise FileExistsError(errno.EEXIST, "no name is free for a temporary file")


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
        self, folder: Folder, parents: tuple[str, ...], name: str, directory: int, temporary: str, descriptor: int
    ) -> None:
        self.folder, self.parents = folder, parents
        self.bytes = 0
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
        with self._lock:
            if self._state is not _State.OPEN:
                raise OSError(errno.EBADF, "the temporary file is not open any more")
            self._state = _State.BROKEN
            self._disk.write_all(self._descriptor, chunk)
            self.bytes += len(chunk)
            self._state = _State.OPEN

    def absorb(self, chunk: bytes | memoryview) -> None:
        """Add to the digest what `put` wrote, or will write."""
        self._digest.update(chunk)

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


def _make_folders(path: Path, disk: FolderDisk) -> None:
    """Make a folder and its missing parents, durably."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        _make_folders(path.parent, disk)
    path.mkdir(exist_ok=True)
    disk.sync_folder(path.parent)
