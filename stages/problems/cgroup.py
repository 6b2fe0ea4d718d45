"""A memory cgroup, where one can be made: its processes together get so much memory, and then the OOM killer comes.

As root that works on every Linux whose cgroups may be written (not in most containers); with cgroup v2 also for whoever
is logged in with systemd, in the slice that is their own.
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REMOVE_TRIES = 200
_REMOVE_SECONDS = 0.01


class MemoryCgroup:
    """A cgroup with a limit. `kind` says which interface of the kernel it is."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind

    def limit(self, size: int) -> None:
        """All its processes together get at most so many bytes, and no swap."""
        if self.kind == "v2":
            (self.path / "memory.max").write_text(str(size))
            with contextlib.suppress(OSError):  # where there is no swap accounting
                (self.path / "memory.swap.max").write_text("0")
        else:
            (self.path / "memory.limit_in_bytes").write_text(str(size))
            with contextlib.suppress(OSError):
                (self.path / "memory.swappiness").write_text("0")

    def add(self, pid: int) -> None:
        """Move a process in: what it takes from now on counts."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How many processes in it the OOM killer has killed."""
        text = (self.path / ("memory.events" if self.kind == "v2" else "memory.oom_control")).read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))

    def remove(self) -> None:
        """Remove it; its processes have ended, and the kernel takes a moment to forget them."""
        for _ in range(_REMOVE_TRIES):
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(_REMOVE_SECONDS)


@contextmanager
def memory_cgroup(name: str) -> Iterator[MemoryCgroup | None]:
    """A new memory cgroup while the context lasts; None where none can be made."""
    made = next(_made(name), None)
    try:
        yield made
    finally:
        if made is not None:
            made.remove()


def _made(name: str) -> Iterator[MemoryCgroup]:
    for parent, kind, limit in _places():
        path = parent / name
        try:
            path.mkdir()
        except OSError:
            continue
        group = MemoryCgroup(path, kind)
        is_ours = (path / limit).exists() and _takes_processes(group)
        group.remove()  # also a good one: what the trial took still counts in it
        if is_ours:  # else the memory controller is not there, or not for us
            path.mkdir()
            yield group
            return


def _takes_processes(group: MemoryCgroup) -> bool:
    """Whether a process may be moved in: a cgroup that was delegated to somebody may be made and not be used."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            group.add(process.pid)
        except OSError:
            return False
        finally:
            process.kill()
    return True


def _places() -> Iterator[tuple[Path, str, str]]:
    """Where one may be made, below or beside our own; each with the file that holds its limit."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if "memory" in controllers.split(","):
            base = root / "memory"
            yield from ((place, "v1", "memory.limit_in_bytes") for place in (base / own.lstrip("/"), base))
        elif not controllers:
            here = root / own.lstrip("/")
            places = (here.parent, here, root) if here != root else (root,)
            yield from ((place, "v2", "memory.max") for place in places)
