"""The calls to the operating system that the output folder needs, relative to open folders."""

import ctypes
import errno
import os
from functools import cache

from eventflow.disk import Disk


class FolderDisk(Disk):
    """The real disk, with calls that are relative to an open folder: nothing can be put in their way by moving folders.

    Every method raises OSError as the operating system does. A test hands in one that fails.
    """

    def open_folder(self, folder: int | None, name: str) -> int:
        """A descriptor of a folder in a folder. OSError with ELOOP or ENOTDIR if it is a symbolic link."""
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)

    def make_folder(self, folder: int, name: str) -> None:
        """Make a folder in a folder."""
        os.mkdir(name, dir_fd=folder)

    def create_in(self, folder: int, name: str) -> int:
        """A descriptor to write a new file with, and to read it; its permissions are what the umask leaves.

        Raises:
            FileExistsError: something has the name.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(name, flags, 0o666, dir_fd=folder)

    def open_in(self, folder: int, name: str) -> int:
        """A descriptor to read a file, and to write where reading has come to."""
        return os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)

    def rename_in(self, folder: int, old: str, new: str) -> None:
        """Give a file of the folder another name, in one step; a file or link of that name is gone."""
        os.replace(old, new, src_dir_fd=folder, dst_dir_fd=folder)

    def remove_in(self, folder: int, name: str) -> None:
        """Remove a file of the folder."""
        os.unlink(name, dir_fd=folder)

    def sync_open_folder(self, folder: int) -> None:
        """Return when the folder's entries survive a power cut."""
        os.fsync(folder)

    def splice_all(self, pipe: int, descriptor: int, size: int) -> None:
        """Write what stands in a pipe, `size` bytes: within the system (Linux), or if the disk cannot, through here."""
        while size:
            try:
                moved = os.splice(pipe, descriptor, size)
            except OSError as problem:
                if problem.errno not in (errno.EINVAL, errno.ENOSYS):
                    raise
                data = os.read(pipe, size)
                self.write_all(descriptor, data)
                moved = len(data)
            if not moved:
                raise OSError(errno.EIO, "the pipe holds less than was put into it")
            size -= moved

    def create_unnamed(self, folder: int) -> int:
        """A descriptor to write a file with that has no name yet, on the disk of a folder (Linux)."""
        return os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o666, dir_fd=folder)

    def link_in(self, descriptor: int, folder: int, name: str) -> None:
        """Give an unnamed file a name in a folder. FileExistsError if something has it."""
        os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=folder, follow_symlinks=True)

    def sync_file_system(self, folder: int) -> None:
        """Return when everything on the disk of an open folder is durable; OSError if something since then is not."""
        if _libc().syncfs(folder) != 0:
            number = ctypes.get_errno() or errno.EIO
            raise OSError(number, os.strerror(number))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
