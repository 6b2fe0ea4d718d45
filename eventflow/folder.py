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
import os
import re
import stat
import weakref
from collections.abc import Container
from pathlib import Path
from typing import Self

from eventflow.errors import UsageError, name_of
from eventflow.folder_disk import FolderDisk
from eventflow.naming import NAME_BYTES_MAX, PART_SUFFIX
from eventflow.part import Part
from eventflow.sources import Sources, SystemSources

_DURABLE_FOLDERS_MAX = 4096
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

    def begin(self, name: str, *, tag: str = "") -> Part:
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

    def reopen(self, name: str, temporary: str) -> Part:
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


def _make_folders(path: Path, disk: FolderDisk) -> None:
    """Make a folder and its missing parents, durably."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        _make_folders(path.parent, disk)
    path.mkdir(exist_ok=True)
    disk.sync_folder(path.parent)
