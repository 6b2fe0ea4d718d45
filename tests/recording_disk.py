"""A machine that records what its processes tell the disk, so that its power can be cut; and disks that fail.

Processes work on real files through `ProcessDisk`, and read them as they like. Nothing is really synced, since that
is what the machine is to forget: `tests.power_cut` says what survives.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eventflow.disk import Disk
from tests.power_cut import Cut, Step, cut


class Killed(BaseException):
    """The process was killed: nothing more of it reaches the disk."""


class Fault(NamedTuple):
    """A call that fails.

    The n-th, from 0, of those in `calls`, with that error number; the later ones too if it is lasting. Half of a write
    that fails is done if it `is_short`.
    """

    calls: frozenset[str]
    number: int
    code: int
    is_lasting: bool = False
    is_short: bool = False


class Machine:
    """A machine with one disk, of which a folder is looked at. What is in the folder already is durable.

    Args:
        root: the folder; what is done outside of it is an error.

    Attributes:
        steps: all calls that changed something, in order.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps: list[Step] = []
        self._initial: dict[tuple[str, ...], bytes | None] = {}
        self._files: dict[int, int] = {}
        self._bare: set[int] = set()
        for path in sorted(root.rglob("*")):
            self._initial[path.relative_to(root).parts] = path.read_bytes() if path.is_file() else None
            if path.is_file():
                self._files[path.stat().st_ino] = len(self._files)
        self._count = len(self._files)

    def cut(self, target: Path, seed: int, after: int | None = None) -> Cut:
        """Make in `target` what a power cut after that many steps may leave; after all of them if None."""
        return cut(self._initial, self.steps[:after], target, seed)

    def folder_step(self, call: str, path: Path, new_name: str = "") -> None:
        """Take down a change of a folder's names, or its sync."""
        self.steps.append(Step(call, path.relative_to(self.root).parts, new_name=new_name))

    def file_step(self, call: str, descriptor: int, offset: int = 0, data: bytes = b"") -> None:
        """Take down a change of a file's bytes, or its sync."""
        file = self._files[os.fstat(descriptor).st_ino]
        if call == "write_all":
            self._bare.discard(file)
        elif file in self._bare:
            self.file_step("write_all", descriptor, 0, os.pread(descriptor, os.fstat(descriptor).st_size, 0))
        self.steps.append(Step(call, file=file, offset=offset, data=data))

    def created(self, path: Path, descriptor: int) -> None:
        """Take down that a file was made."""
        file, self._count = self._count, self._count + 1
        self._files[os.fstat(descriptor).st_ino] = file
        self._bare.add(file)
        self.steps.append(Step("create", path.relative_to(self.root).parts, file))

    def renaming(self, path: Path) -> None:
        """Take down what a file holds to which somebody wrote without the disk."""
        file = self._files[path.stat().st_ino]
        if file in self._bare:
            self._bare.discard(file)
            self.steps.append(Step("write_all", file=file, data=path.read_bytes()))


class ProcessDisk(Disk):
    """The disk as one process of a machine has it.

    Args:
        machine: the machine.
        die_at: the number of the call, from 0, at which the process is killed.
        fault: a call that fails.

    Attributes:
        calls: how often each call was made.
        retried_syncs: how often a sync was tried again on a descriptor for which it had failed. Must stay 0.
    """

    def __init__(self, machine: Machine, *, die_at: int | None = None, fault: Fault | None = None) -> None:
        self._machine, self._die_at, self.fault = machine, die_at, fault
        self.calls: Counter[str] = Counter()
        self.retried_syncs = 0
        self.log: list[str] = []
        self._open: set[int] = set()
        self._failed: set[int] = set()
        self._fault_count = 0

    def create_folder(self, path: Path) -> None:
        self._call("create_folder")
        super().create_folder(path)
        self._machine.folder_step("create_folder", path)

    def create(self, path: Path) -> int:
        self._call("create")
        descriptor = self._opened(super().create(path))
        self._machine.created(path, descriptor)
        return descriptor

    def open(self, path: Path) -> int:
        self._call("open")
        return self._opened(super().open(path))

    def lock(self, path: Path) -> int:
        before = set(self._open)
        try:
            return super().lock(path)
        except BaseException:
            self._open = before  # it was closed
            raise

    def open_lock(self, path: Path) -> int:
        self._call("open_lock")
        is_new = not os.path.lexists(path)
        descriptor = self._opened(super().open_lock(path))
        if is_new:
            self._machine.created(path, descriptor)
        return descriptor

    def take_lock(self, descriptor: int) -> None:
        self._call("take_lock")
        super().take_lock(descriptor)

    def release_lock(self, descriptor: int) -> None:
        self._call("release_lock")
        super().release_lock(descriptor)

    def write_all(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        part = bytes(data[: len(data) // 2])
        self._call("write_all", lambda: self._write(descriptor, part))
        self._write(descriptor, bytes(data))

    def sync(self, descriptor: int) -> None:
        self.retried_syncs += descriptor in self._failed
        try:
            self._call("sync")
        except OSError:
            self._failed.add(descriptor)
            self._machine.file_step("sync_failed", descriptor)
            raise
        self._machine.file_step("sync", descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        self._call("truncate")
        super().truncate(descriptor, size)
        self._machine.file_step("truncate", descriptor, size)

    def close(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        self._failed.discard(descriptor)
        super().close(descriptor)  # a close that fails has closed all the same
        self._call("close")

    def rename(self, old: Path, new: Path) -> None:
        self._call("rename")
        assert old.parent == new.parent
        self._machine.renaming(old)
        super().rename(old, new)
        self._machine.folder_step("rename", old, new.name)

    def remove(self, path: Path) -> None:
        self._call("remove")
        super().remove(path)
        self._machine.folder_step("remove", path)

    def sync_folder(self, path: Path) -> None:
        self._call("sync_folder")
        assert path.is_dir()
        self._machine.folder_step("sync_folder", path)

    @property
    def has_failed(self) -> bool:
        """Whether the fault has come about."""
        return self.fault is not None and self._fault_count > self.fault.number

    @property
    def open_count(self) -> int:
        """How many descriptors are open."""
        return len(self._open)

    def kill(self) -> None:
        """End the process: what it has open is closed, and with it its locks."""
        self._die_at = -1
        while self._open:
            os.close(self._open.pop())

    def _opened(self, descriptor: int) -> int:
        self._open.add(descriptor)
        return descriptor

    def _write(self, descriptor: int, data: bytes) -> None:
        offset = os.fstat(descriptor).st_size
        super().write_all(descriptor, data)
        self._machine.file_step("write_all", descriptor, offset, data)

    def _call(self, name: str, begin: Callable[[], None] = lambda: None) -> None:
        """Count a call; it may be the process's last, or fail. `begin` does half of it."""
        self.calls[name] += 1
        self.log.append(name)
        if self._die_at is not None and len(self.log) > self._die_at:
            if len(self.log) == self._die_at + 1:
                begin()
            raise Killed
        fault = self.fault
        if fault is not None and name in fault.calls:
            self._fault_count += 1
            place = self._fault_count - 1
            if place == fault.number or (fault.is_lasting and place > fault.number):
                if fault.is_short:
                    begin()
                raise OSError(fault.code, os.strerror(fault.code))
