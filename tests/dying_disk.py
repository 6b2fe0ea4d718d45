"""A disk on which its process dies: killed before, after or in the middle of its n-th call."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from eventflow.disk import Disk

Result = TypeVar("Result")

BEFORE, AFTER = "before", "after"
TORN = ("1", "half", "all but 1")
"""How much of a write is done before the process dies in it."""


class DyingDisk(Disk):
    """The real disk, up to one call.

    Args:
        die_at: the number of the call, from 0, at which the process is killed; None: it lives.
        moment: `before` or `after` the call, or in a write, when as much of it is done as `TORN` says.

    Attributes:
        calls: the names of all calls, in order.
    """

    def __init__(self, die_at: int | None = None, moment: str = BEFORE) -> None:
        self.calls: list[str] = []
        self._die_at, self._moment = die_at, moment

    def create_folder(self, path: Path) -> None:
        self._call("create_folder", lambda: super(DyingDisk, self).create_folder(path))

    def create(self, path: Path) -> int:
        return self._call("create", lambda: super(DyingDisk, self).create(path))

    def open(self, path: Path) -> int:
        return self._call("open", lambda: super(DyingDisk, self).open(path))

    def lock(self, path: Path) -> int:
        return self._call("lock", lambda: super(DyingDisk, self).lock(path))

    def write_all(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        if len(self.calls) == self._die_at and self._moment in TORN:
            size = {"1": 1, "half": len(data) // 2, "all but 1": len(data) - 1}[self._moment]
            super().write_all(descriptor, data[:size])
            die()
        self._call("write_all", lambda: super(DyingDisk, self).write_all(descriptor, data))

    def sync(self, descriptor: int) -> None:
        self._call("sync", lambda: super(DyingDisk, self).sync(descriptor))

    def truncate(self, descriptor: int, size: int) -> None:
        self._call("truncate", lambda: super(DyingDisk, self).truncate(descriptor, size))

    def close(self, descriptor: int) -> None:
        self._call("close", lambda: super(DyingDisk, self).close(descriptor))

    def rename(self, old: Path, new: Path) -> None:
        self._call("rename", lambda: super(DyingDisk, self).rename(old, new))

    def remove(self, path: Path) -> None:
        self._call("remove", lambda: super(DyingDisk, self).remove(path))

    def sync_folder(self, path: Path) -> None:
        self._call("sync_folder", lambda: super(DyingDisk, self).sync_folder(path))

    def _call(self, name: str, act: Callable[[], Result]) -> Result:
        is_last = len(self.calls) == self._die_at
        self.calls.append(name)
        if is_last and self._moment == BEFORE:
            die()
        result = act()
        if is_last:
            die()
        return result


def crash_points(calls: list[str]) -> list[tuple[int, str]]:
    """Every instant at which a process that makes these calls can die, as far as its disk can tell."""
    return [
        (number, moment)
        for number, call in enumerate(calls)
        for moment in (BEFORE, *(TORN if call == "write_all" else ()), AFTER)
    ]


def die() -> NoReturn:
    """As `kill -9` does: nothing more is run, flushed or released but what the kernel releases."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive")
