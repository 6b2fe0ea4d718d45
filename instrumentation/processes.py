"""Memory, CPU time and threads of a process and all its descendants, at one instant.

The sampler reads with this several times a second, from a thread of the program that it measures. Two forces shape it.
RSS counts a shared page once in each process (nine forked processes that share 200 MB sum up to 1.9 GB), so memory is
PSS, which shares a page out among those that map it. And the interpreter lock must not be given away for each small
file (procfs.py): beside one busy thread a reading took 26 ms, beside 16 it took 790 ms. Read with the lock held, but
for the memory map, it takes 5 ms and 77 ms.

PSS costs a third of a millisecond for each process, and the kernel keeps no high-water mark of it. It keeps one of RSS,
which costs microseconds: what rose and fell between two readings is seen in that.

Invariants:
    memory that processes of the tree share is counted once where the kind is `pss`; a reading has one kind of memory;
    CPU time is never counted twice. A process that is reaped while the tree is read may be missing from that reading;
    from the next on, its time is in its parent's.

Limits: a process that leaves the tree (its parent died, or it made itself a daemon) is not seen any more; the CPU time
of a child whose parent ignores SIGCHLD ends with the child (the kernel gives it to nobody); CPU time comes in clock
ticks of 10 ms, but for the reading process itself, which has microseconds. Memory is what is resident: swapped-out
pages and explicit huge pages (hugetlbfs) are not in it.
"""

import contextlib
import ctypes
import errno
import os
import platform
import resource
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
import psutil

from eventflow.measuring_events import MemoryKind, ProcessReading
from instrumentation.procfs import folder_size, libc, list_held, read_held, read_released

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PF_FORKNOEXEC = 0x40
_KCMP_VM = 1
_KCMP_CALL = {"x86_64": 312, "aarch64": 272, "riscv64": 272}.get(platform.machine())
_HAS_PROC = Path("/proc/self/stat").exists()
_HAS_CHILDREN = Path(f"/proc/self/task/{threading.get_native_id()}/children").exists()
_NOT_SEEN = (FileNotFoundError, ProcessLookupError, PermissionError)  # ended, or hidden (proc mounted with hidepid)
_WALL = 0x40000000
_SIGINFO_BYTES = 128


class Reading(msgspec.Struct, frozen=True):
    """A process and its descendants at one instant, the root first.

    Attributes:
        processes: those that were there, ended ones that nobody has reaped yet among them (their memory is 0).
        memory_kind: what all memory in this reading is: `pss`, or `rss` where the PSS of one could not be read.
        memory_bytes: the sum over the processes. In RSS, what they share is counted once in each.
        cpu_seconds: user and system time of the root, its reaped descendants and its live ones, since the root started.
        resident_bytes: the RSS of each process, by the same account as its `peak_bytes`; 0 where that is not known.
    """

    processes: tuple[ProcessReading, ...]
    memory_kind: MemoryKind
    memory_bytes: int
    cpu_seconds: float
    resident_bytes: tuple[int, ...] = ()


class Marks(msgspec.Struct, frozen=True):
    """What the kernel notes of one process: bytes resident now and at most so far, and files open now; 0: unknown."""

    resident_bytes: int = 0
    peak_bytes: int = 0
    descriptors: int = 0


class ProcessStat(msgspec.Struct, frozen=True):
    """What `/proc/PID/stat` says of a process, as far as it is needed here (proc_pid_stat(5)).

    `resident_bytes` is an estimate since Linux 6.2, and 0 for many a small process: enough to see much memory come.
    `cpu_seconds` includes reaped children, `user_seconds` and `system_seconds` do not. `executed` is
    False between fork and exec, and for ever in a worker that was only forked.
    """

    pid: int
    parent: int
    state: str
    executed: bool
    cpu_seconds: float
    threads: int
    resident_bytes: int = 0
    user_seconds: float = 0.0
    system_seconds: float = 0.0


def read_tree(root_pid: int) -> Reading:
    """Read the process and everything below it. Processes that vanish meanwhile, or are hidden from us, are skipped.

    The processes are read one after the other, not frozen: memory that moves between two of them in those milliseconds
    may be seen twice or not at all. Costs about 0.3 ms a process, and 10 ms more for each GB that it maps.

    Raises:
        ProcessLookupError: there is no such root.
    """
    return _read_proc(root_pid) if _HAS_PROC else read_tree_portably(root_pid)


def look_at_tree(root_pid: int) -> int:
    """About how many bytes are resident in the process and everything below it; shared pages count in each of them.

    Costs some tens of microseconds a process: a twentieth of a reading.

    Raises:
        ProcessLookupError: there is no such root.
    """
    if not _HAS_PROC:
        return 0
    return sum(stat.resident_bytes for stat in _walk(root_pid) if _has_own_memory(stat))


def pss_readable() -> bool:
    """Whether this system tells the PSS of our own processes: Linux since 4.14, but not every sandbox."""
    try:
        return parse_rollup(read_released("/proc/self/smaps_rollup")) > 0
    except (OSError, ValueError):
        return False


# ------------------------------------------------------------------------------------------------------------- parsing


def parse_stat(content: bytes) -> ProcessStat:
    """The fields of `/proc/PID/stat`. The program's name may hold spaces, brackets and newlines: the last `)` ends it.

    Raises:
        ValueError: it is not such a file.
    """
    head, _, tail = content.rpartition(b")")
    fields = tail.split()
    if len(fields) < 18:
        raise ValueError(f"not a /proc/PID/stat: {content[:80]!r}")
    return ProcessStat(
        pid=int(head.partition(b" ")[0]),
        state=fields[0].decode(),
        parent=int(fields[1]),
        executed=not int(fields[6]) & _PF_FORKNOEXEC,
        cpu_seconds=sum(map(int, fields[11:15])) / _TICKS_PER_SECOND,
        threads=int(fields[17]),
        resident_bytes=int(fields[21]) * _PAGE_BYTES if len(fields) > 21 else 0,
        user_seconds=int(fields[11]) / _TICKS_PER_SECOND,
        system_seconds=int(fields[12]) / _TICKS_PER_SECOND,
    )


def parse_marks(content: bytes, descriptors: int = 0) -> Marks:
    """The marks in `/proc/PID/status`. A process that has ended has none."""
    found = {b"VmRSS": 0, b"VmHWM": 0}
    for line in content.splitlines():
        name, _, value = line.partition(b":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    return Marks(found[b"VmRSS"], found[b"VmHWM"], descriptors)


def parse_rollup(content: bytes) -> int:
    """The PSS in bytes out of `/proc/PID/smaps_rollup`.

    Raises:
        ValueError: it has no such line.
    """
    for line in content.splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no Pss in {content[:80]!r}")


def add_up(
    stats: Iterable[ProcessStat],
    memory_bytes: Mapping[int, int],
    kind: MemoryKind,
    marks: Mapping[int, Marks] | None = None,
) -> Reading:
    """The reading that these make, with the memory and the marks by pid: 0 for a process that is not in them."""
    stats, marks = tuple(stats), marks or {}
    noted = [marks.get(stat.pid, Marks()) for stat in stats]
    processes = tuple(
        ProcessReading(
            stat.pid,
            memory_bytes.get(stat.pid, 0),
            stat.cpu_seconds,
            stat.threads,
            mark.peak_bytes,
            mark.descriptors,
            stat.user_seconds,
            stat.system_seconds,
        )
        for stat, mark in zip(stats, noted, strict=True)
    )
    return Reading(
        processes,
        kind,
        sum(process.memory_bytes for process in processes),
        sum(process.cpu_seconds for process in processes),
        tuple(mark.resident_bytes for mark in noted),
    )


# ------------------------------------------------------------------------------------------------------- reading /proc


def _read_proc(root_pid: int) -> Reading:
    # The walk comes first and is quick: it fixes who is counted, and the CPU times. Then the memory, which takes long.
    stats = _walk(root_pid)
    with_memory = [stat.pid for stat in stats if _has_own_memory(stat)]
    marks = {pid: _read_marks(pid) for pid in with_memory}
    try:
        return add_up(stats, {pid: _read_pss(pid) for pid in with_memory}, "pss", marks)
    except OSError:
        return add_up(stats, {pid: _read_rss(pid) for pid in with_memory}, "rss", marks)


def _walk(root_pid: int) -> list[ProcessStat]:
    """Every process of the tree, each after its parent.

    That order keeps CPU time from being counted twice: a child that is reaped before it is read is skipped, one that is
    reaped after it was read is not yet in its parent's figure.
    """
    try:
        stats = [_read_stat(root_pid)]
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, "no such process", str(root_pid)) from None
    seen = {root_pid}
    children_of = _children if _HAS_CHILDREN else _children_by_scan(root_pid)
    for stat in stats:  # it grows while it is walked
        for pid in children_of(stat):
            if pid not in seen:
                seen.add(pid)
                with contextlib.suppress(*_NOT_SEEN):
                    stats.append(_read_stat(pid))
    return stats


def _read_stat(pid: int) -> ProcessStat:
    stat = parse_stat(read_held(f"/proc/{pid}/stat"))
    return msgspec.structs.replace(stat, **_own_cpu_seconds()) if pid == os.getpid() else stat


def _own_cpu_seconds() -> dict[str, float]:
    """Of this process and its reaped descendants: what its `/proc/PID/stat` says, in microseconds instead of ticks."""
    own, reaped = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_seconds": own.ru_utime + own.ru_stime + reaped.ru_utime + reaped.ru_stime,
        "user_seconds": own.ru_utime,
        "system_seconds": own.ru_stime,
    }


def _children(stat: ProcessStat) -> list[int]:
    """Its children, which the kernel lists by the thread that made them. Empty if it is gone."""
    if stat.pid == os.getpid() and _childless():
        return []
    found: list[int] = []
    with contextlib.suppress(*_NOT_SEEN):
        threads = [str(stat.pid)] if stat.threads <= 1 else list_held(f"/proc/{stat.pid}/task")
        for thread in threads:
            with contextlib.suppress(*_NOT_SEEN):
                found += map(int, read_held(f"/proc/{stat.pid}/task/{thread}/children").split())
    return found


def _childless() -> bool:
    """Whether this process has no child: one call instead of a file for each thread, which took 2 ms with 256 of them.

    It asks what waitid(2) would wait for, without waiting and without reaping anything.
    """
    information = ctypes.create_string_buffer(_SIGINFO_BYTES)
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL
    return libc.waitid(os.P_ALL, 0, information, options) < 0 and ctypes.get_errno() == errno.ECHILD


def _children_by_scan(root_pid: int) -> Callable[[ProcessStat], list[int]]:
    """The same for a kernel without those lists: all of /proc is read, once, which takes milliseconds."""
    below = [process.pid for process in psutil.Process(root_pid).children(recursive=True)]  # parents come first
    return lambda stat: below if stat.pid == root_pid else []


def _has_own_memory(stat: ProcessStat) -> bool:
    """False for one that has ended, and for one made by vfork or posix_spawn: until exec it lives in its parent's."""
    if stat.state in "ZX":
        return False
    if stat.executed or _KCMP_CALL is None:
        return True
    return bool(libc.syscall(_KCMP_CALL, stat.pid, stat.parent, _KCMP_VM, 0, 0) != 0)  # kcmp(2): 0 is the same memory


def _read_marks(pid: int) -> Marks:
    """What the kernel notes of it; nothing if it has ended, or is hidden."""
    with contextlib.suppress(*_NOT_SEEN):
        return parse_marks(read_held(f"/proc/{pid}/status"), _count_descriptors(pid))
    return Marks()


def _count_descriptors(pid: int) -> int:
    """How many files it has open: since Linux 6.2 that is the size of a folder, before it has to be listed."""
    with contextlib.suppress(*_NOT_SEEN):
        size = folder_size(f"/proc/{pid}/fd")
        return size if size > 0 else len(list_held(f"/proc/{pid}/fd"))
    return 0


def _read_pss(pid: int) -> int:
    """Its PSS in bytes, 0 if it has ended. OSError if this may not be read, or not here."""
    try:
        return parse_rollup(read_released(f"/proc/{pid}/smaps_rollup"))
    except ProcessLookupError:
        return 0
    except FileNotFoundError:
        # Either the process is gone, or the file is: such a kernel tells no PSS at all.
        if Path(f"/proc/{pid}").exists():
            raise
        return 0


def _read_rss(pid: int) -> int:
    """Its RSS in bytes, 0 if it has ended."""
    with contextlib.suppress(*_NOT_SEEN):
        return int(read_held(f"/proc/{pid}/statm").split()[1]) * _PAGE_BYTES
    return 0


# ------------------------------------------------------------------------------------------------ other systems (macOS)


def read_tree_portably(root_pid: int) -> Reading:
    """The same as `read_tree` through psutil, where there is no /proc: always RSS.

    There, only the reaped children of the reading process itself are known; those of others are lost with them.

    Raises:
        ProcessLookupError: there is no such root.
    """
    try:
        root = psutil.Process(root_pid)
        found = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        raise ProcessLookupError(errno.ESRCH, "no such process", str(root_pid)) from None
    stats, memory_bytes = [], {}
    for process in found:
        with contextlib.suppress(psutil.Error):
            memory_bytes[process.pid] = process.memory_info().rss
            stats.append(_stat_by_psutil(process))
    return add_up(stats, memory_bytes, "rss")


def _stat_by_psutil(process: psutil.Process) -> ProcessStat:
    """psutil.Error if the process is gone, or belongs to another user and tells nothing."""
    times = process.cpu_times()
    stat = ProcessStat(
        pid=process.pid,
        parent=process.ppid(),
        state=process.status(),
        executed=True,
        cpu_seconds=float(sum(times[:4])),
        threads=process.num_threads(),
        user_seconds=times.user,
        system_seconds=times.system,
    )
    return msgspec.structs.replace(stat, **_own_cpu_seconds()) if process.pid == os.getpid() else stat
