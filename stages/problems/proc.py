"""Small readings of /proc: what `ps` would show of a process. Linux only; `has_proc` says whether it is there."""

import array
import contextlib
import fcntl
import os
import termios
from collections.abc import Iterator
from pathlib import Path

from instrumentation.processes import ProcessStat, parse_stat

PROC = Path("/proc")


def has_proc() -> bool:
    """Whether this system shows its processes as files."""
    return (PROC / "self" / "stat").exists()


def pids() -> Iterator[int]:
    """Every process that is there now."""
    with contextlib.suppress(OSError):
        yield from (int(name) for name in os.listdir(PROC) if name.isdigit())  # noqa: PTH208  (names are enough)


def state(pid: int) -> str:
    """The letter that `ps` shows: R runs, S sleeps, Z ended and nobody has asked how; empty where it is gone."""
    stat = _stat(pid)
    return stat.state if stat else ""


def parent(pid: int) -> int:
    """Who would have to ask how it ended; 0 where it is gone."""
    stat = _stat(pid)
    return stat.parent if stat else 0


def group(pid: int) -> int:
    """Its process group; 0 where it is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    """The processes that it started, zombies among them."""
    return [other for other in pids() if parent(other) == pid]


def command_line(pid: int) -> list[str]:
    """Its arguments, as every user of the machine may read them."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def waiting_bytes(pid: int) -> int:
    """How many bytes are in the pipes that it holds open and that nobody has read."""
    found = {}
    with contextlib.suppress(OSError):
        for path in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                target = path.readlink()
                if str(target).startswith("pipe:"):
                    found[target] = _readable(path)
    return sum(found.values())


def _readable(pipe: Path) -> int:
    """Opening the link opens the pipe itself once more; nothing is read from it."""
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        count = array.array("i", [0])
        fcntl.ioctl(descriptor, termios.FIONREAD, count)
        return count[0]
    finally:
        os.close(descriptor)


def _stat(pid: int) -> ProcessStat | None:
    try:
        return parse_stat((PROC / str(pid) / "stat").read_bytes())
    except OSError:
        return None
