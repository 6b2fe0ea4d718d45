"""Disks that do not do what is asked of them: one that waits, one that is full."""

import errno
import threading

from eventflow.disk import Disk


class HeldDisk(Disk):
    """A disk whose fsync waits until it is let go; the first one, of the opening, passes."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.syncs = 0

    def sync(self, descriptor: int) -> None:
        self.syncs += 1
        if self.syncs > 1:
            self.go.wait(30)
        super().sync(descriptor)


class FullDisk(Disk):
    """A disk that takes the opening and then no more."""

    def __init__(self) -> None:
        self.writes = 0

    def write_all(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1
        if self.writes > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write_all(descriptor, data)
