"""A disk for tests: it fails when told to, and knows what a power cut would take."""

import os
from collections import Counter
from pathlib import Path

from eventflow.folder_disk import FolderDisk


class FaultyDisk(FolderDisk):
    """The real disk, except that calls fail as told, and that it keeps count.

    It is also the model of a disk's promises: bytes and names that no fsync has made durable are lost in a power cut.

    Attributes:
        failing: which calls fail, by name, with which error number. Change it at any time.
        calls: the names of all calls, in order.
        unsafe_bytes: the inodes of files whose last bytes are not durable.
        unsafe_names: by the inode of a folder, the entries that are not durable.
    """

    def __init__(self, **failing: int) -> None:
        self.failing = failing
        self.calls: list[str] = []
        self.unsafe_bytes: set[int] = set()
        self.unsafe_names: dict[int, set[str]] = {}

    def count(self, call: str) -> int:
        """How often a call was made."""
        return Counter(self.calls)[call]

    def is_all_durable(self) -> bool:
        """Whether a power cut now would take nothing."""
        return not self.unsafe_bytes and not any(self.unsafe_names.values())

    def create_in(self, folder: int, name: str) -> int:
        self._call("create_in")
        return super().create_in(folder, name)

    def make_folder(self, folder: int, name: str) -> None:
        self._call("make_folder")
        super().make_folder(folder, name)
        self.unsafe_names.setdefault(_inode(folder), set()).add(name)

    def write_all(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        if "write_all" in self.failing:
            super().write_all(descriptor, data[: len(data) // 2])  # a full disk takes what it can
        self._call("write_all")
        super().write_all(descriptor, data)
        self.unsafe_bytes.add(_inode(descriptor))

    def splice_all(self, pipe: int, descriptor: int, size: int) -> None:
        if "splice_all" in self.failing:
            super().splice_all(pipe, descriptor, size // 2)
        self._call("splice_all")
        super().splice_all(pipe, descriptor, size)
        self.unsafe_bytes.add(_inode(descriptor))

    def sync(self, descriptor: int) -> None:
        self._call("sync")
        super().sync(descriptor)
        self.unsafe_bytes.discard(_inode(descriptor))

    def rename_in(self, folder: int, old: str, new: str) -> None:
        self._call("rename_in")
        super().rename_in(folder, old, new)
        self.unsafe_names.setdefault(_inode(folder), set()).add(new)

    def sync_open_folder(self, folder: int) -> None:
        self._call("sync_open_folder")
        super().sync_open_folder(folder)
        self.unsafe_names.pop(_inode(folder), None)

    def create_unnamed(self, folder: int) -> int:
        self._call("create_unnamed")
        return super().create_unnamed(folder)

    def link_in(self, descriptor: int, folder: int, name: str) -> None:
        self._call("link_in")
        super().link_in(descriptor, folder, name)
        self.unsafe_names.setdefault(_inode(folder), set()).add(name)

    def sync_file_system(self, folder: int) -> None:
        self._call("sync_file_system")
        before = set(self.unsafe_bytes)
        super().sync_file_system(folder)
        self.unsafe_bytes -= before

    def sync_folder(self, path: Path) -> None:
        self._call("sync_folder")
        super().sync_folder(path)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise OSError(self.failing[name], os.strerror(self.failing[name]))


def open_below(path: Path) -> list[str]:
    """What this process has open at a path and below, by the names of now."""
    descriptors = Path("/proc/self/fd")
    targets = [str(descriptor.readlink()) for descriptor in descriptors.iterdir() if descriptor.is_symlink()]
    return sorted(target for target in targets if Path(target).is_relative_to(path))


def _inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino
