"""Memory, CPU time and threads of a process and all its descendants, at one instant.

The sampler reads with this ten times a second and more, from a thread of the program that it measures. Two forces
shape it. RSS counts a shared page once in each process (nine forked processes that share 200 MB sum up to 1.9 GB), so
memory is PSS, which shares a page out among those that map it. And every system call made through Python gives the
interpreter lock away and gets it back up to 5 ms later (the switch interval, for each thread that wants it): beside one
busy thread a reading took 26 ms, beside 16 it took 790 ms. So the small files of /proc, which cost microseconds, are
read with the lock held; only the memory map, which costs milliseconds, is not. That made it 5 ms and 77 ms.

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
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
import psutil

from eventflow.measuring_events import MemoryKind, ProcessReading

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
_BUFFER_BYTES = 8192


class Reading(msgspec.Struct, frozen=True):
    """A process and its descendants at one instant, the root first.

    Attributes:
        processes: those that were there, ended ones that nobody has reaped yet among them (their memory is 0).
        memory_kind: what all memory in this reading is: `pss`, or `rss` where the PSS of one could not be read.
        memory_bytes: the sum over the processes. In RSS, what they share is counted once in each.
        cpu_seconds: user and system time of the root, its reaped descendants and its live ones, since the root started.
    """

    processes: tuple[ProcessReading, ...]
    memory_kind: MemoryKind
    memory_bytes: int
    cpu_seconds: float


class ProcessStat(msgspec.Struct, frozen=True):
    """What `/proc/PID/stat` says of a process, as far as it is needed here (proc_pid_stat(5)).

    Not its RSS: since Linux 6.2 that is an estimate, which is 0 for many a small process.
    `cpu_seconds` includes reaped children. `executed` is False between fork and exec, and for ever in a worker that
    was only forked.
    """

    pid: int
    parent: int
    state: str
    executed: bool
    cpu_seconds: float
    threads: int


def read_tree(root_pid: int) -> Reading:
    """Read the process and everything below it. Processes that vanish meanwhile, or are hidden from us, are skipped.

    The processes are read one after the other, not frozen: memory that moves between two of them in those milliseconds
    may be seen twice or not at all. Costs about 0.3 ms a process, and 10 ms more for each GB that it maps.

    Raises:
        ProcessLookupError: there is no such root.
    """
    return _read_proc(root_pid) if _HAS_PROC else read_tree_portably(root_pid)


def pss_readable() -> bool:
    """Whether this system tells the PSS of our own processes: Linux since 4.14, but not every sandbox."""
    try:
        return parse_rollup(_read_released("/proc/self/smaps_rollup")) > 0
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
    )


def parse_rollup(content: bytes) -> int:
    """The PSS in bytes out of `/proc/PID/smaps_rollup`.

    Raises:
        ValueError: it has no such line.
    """
    for line in content.splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no Pss in {content[:80]!r}")


def parse_directory(records: bytes) -> list[str]:
    """The names in the records that getdents64(2) gives, without those that begin with a dot."""
    names = []
    offset = 0
    while offset < len(records):
        (length,) = struct.unpack_from("=H", records, offset + 16)
        names.append(records[offset + 19 : records.index(b"\0", offset + 19)].decode())
        offset += length
    return [name for name in names if not name.startswith(".")]


def add_up(stats: Iterable[ProcessStat], memory_bytes: Mapping[int, int], kind: MemoryKind) -> Reading:
    """The reading that these make, with the memory by pid: 0 for a process that is not in it."""
    processes = tuple(
        ProcessReading(stat.pid, memory_bytes.get(stat.pid, 0), stat.cpu_seconds, stat.threads) for stat in stats
    )
    return Reading(
        processes,
        kind,
        sum(process.memory_bytes for process in processes),
        sum(process.cpu_seconds for process in processes),
    )


# ------------------------------------------------------------------------------------------------------- reading /proc


def _read_proc(root_pid: int) -> Reading:
    # The walk comes first and is quick: it fixes who is counted, and the CPU times. Then the memory, which takes long.
    stats = _walk(root_pid)
    with_memory = [stat.pid for stat in stats if _has_own_memory(stat)]
    try:
        return add_up(stats, {pid: _read_pss(pid) for pid in with_memory}, "pss")
    except OSError:
        return add_up(stats, {pid: _read_rss(pid) for pid in with_memory}, "rss")


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
    stat = parse_stat(_read_held(f"/proc/{pid}/stat"))
    return msgspec.structs.replace(stat, cpu_seconds=_own_cpu_seconds()) if pid == os.getpid() else stat


def _own_cpu_seconds() -> float:
    """Of this process and its reaped descendants: what its `/proc/PID/stat` says, in microseconds instead of ticks."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _children(stat: ProcessStat) -> list[int]:
    """Its children, which the kernel lists by the thread that made them. Empty if it is gone."""
    if stat.pid == os.getpid() and _childless():
        return []
    found: list[int] = []
    with contextlib.suppress(*_NOT_SEEN):
        threads = [str(stat.pid)] if stat.threads <= 1 else _list_held(f"/proc/{stat.pid}/task")
        for thread in threads:
            with contextlib.suppress(*_NOT_SEEN):
                found += map(int, _read_held(f"/proc/{stat.pid}/task/{thread}/children").split())
    return found


def _childless() -> bool:
    """Whether this process has no child: one call instead of a file for each thread, which took 2 ms with 256 of them.

    It asks what waitid(2) would wait for, without waiting and without reaping anything.
    """
    information = ctypes.create_string_buffer(_SIGINFO_BYTES)
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL
    return _libc.waitid(os.P_ALL, 0, information, options) < 0 and ctypes.get_errno() == errno.ECHILD


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
    return bool(_libc.syscall(_KCMP_CALL, stat.pid, stat.parent, _KCMP_VM, 0, 0) != 0)  # kcmp(2): 0 is the same memory


def _read_pss(pid: int) -> int:
    """Its PSS in bytes, 0 if it has ended. OSError if this may not be read, or not here."""
    try:
        return parse_rollup(_read_released(f"/proc/{pid}/smaps_rollup"))
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
        return int(_read_held(f"/proc/{pid}/statm").split()[1]) * _PAGE_BYTES
    return 0


# ---------------------------------------------------------------------------------------------------------- file access

_BlockCall = Callable[[int, ctypes.Array[ctypes.c_char], int], int]
_libc = ctypes.PyDLL(None, use_errno=True)  # unlike CDLL it keeps the interpreter lock during the call
_libc.open.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.read.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
_libc.read.restype = ctypes.c_ssize_t
_libc.waitid.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_char_p, ctypes.c_int]
_libc.syscall.argtypes = [ctypes.c_long] * 6
_libc.syscall.restype = ctypes.c_long
_GETDENTS = getattr(_libc, "getdents64", None)
if _GETDENTS is not None:
    _GETDENTS.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    _GETDENTS.restype = ctypes.c_ssize_t


def _read_held(path: str) -> bytes:
    """The file, without giving the interpreter lock away: for files of /proc that never wait for their process."""
    with _opened(path) as descriptor:
        return b"".join(_blocks(path, descriptor, _libc.read))


def _list_held(path: str) -> list[str]:
    """The names in the folder, in the same way: os.listdir gives the lock away for each name."""
    if _GETDENTS is None:
        return [entry.name for entry in os.scandir(path)]
    with _opened(path) as descriptor:
        return parse_directory(b"".join(_blocks(path, descriptor, _GETDENTS)))


def _read_released(path: str) -> bytes:
    """The first 8 KiB of a file that may cost milliseconds or wait for its process: the lock is free meanwhile."""
    with _opened(path) as descriptor:
        return os.read(descriptor, _BUFFER_BYTES)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = _libc.open(path.encode(), os.O_RDONLY | os.O_CLOEXEC)
    if descriptor < 0:
        raise _os_error(path)
    try:
        yield descriptor
    finally:
        _libc.close(descriptor)


def _blocks(path: str, descriptor: int, call: _BlockCall) -> Iterator[bytes]:
    """What `call` (read or getdents64) gives until it gives nothing."""
    buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
    while count := call(descriptor, buffer, _BUFFER_BYTES):
        if count < 0:
            raise _os_error(path)
        yield ctypes.string_at(buffer, count)


def _os_error(path: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), path)


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
    return ProcessStat(
        pid=process.pid,
        parent=process.ppid(),
        state=process.status(),
        executed=True,
        cpu_seconds=_own_cpu_seconds() if process.pid == os.getpid() else float(sum(process.cpu_times()[:4])),
        threads=process.num_threads(),
    )
