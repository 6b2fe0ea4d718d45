import os
import struct
import subprocess
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from eventflow.measuring_events import ProcessReading
from instrumentation import processes, procfs
from instrumentation.processes import (
    Marks,
    ProcessStat,
    Reading,
    add_up,
    look_at_tree,
    parse_marks,
    parse_rollup,
    parse_stat,
    read_tree,
)
from instrumentation.procfs import parse_directory

TICK = 1 / os.sysconf("SC_CLK_TCK")
AFTER_NAME = b"R 41 42 42 0 -1 4194368 100 0 0 0 7 5 3 2 20 0 9 0 1000 5000000 321 18446744073709551615 1 1 0\n"


def stat_of(pid: int, cpu_seconds: float = 1.0) -> ProcessStat:
    """A process that executes a program in two threads."""
    return ProcessStat(pid=pid, parent=1, state="S", executed=True, cpu_seconds=cpu_seconds, threads=2)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A child that is known to run its own program, and waits."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"?")
        process.stdin.flush()
        process.stdout.read(1)
        yield process
        process.stdin.close()


def pids(reading: Reading) -> list[int]:
    """Of the processes, by number: they are read in an order of the kernel's."""
    return sorted(process.pid for process in reading.processes)


@pytest.mark.parametrize(
    "name",
    [b"cat", b"tmux: server", b"a) R 1 (b", b"))) ((", b"", b"two\nlines", b"\xff\xfe"],
    ids=["plain", "space", "like the rest", "only brackets", "empty", "newline", "not text"],
)
def test_the_name_of_a_program_cannot_confuse_the_fields(name: bytes) -> None:
    """Whatever a program calls itself, the fields after the name are found."""
    stat = parse_stat(b"4242 (" + name + b") " + AFTER_NAME)
    assert stat == ProcessStat(
        pid=4242,
        parent=41,
        state="R",
        executed=False,
        cpu_seconds=17 * TICK,
        threads=9,
        resident_bytes=321 * os.sysconf("SC_PAGE_SIZE"),
        user_seconds=7 * TICK,
        system_seconds=5 * TICK,
    )


@pytest.mark.parametrize(("flags", "executed"), [(b"4194304", True), (b"4194368", False), (b"64", False), (b"0", True)])
def test_a_process_that_was_only_forked_is_told_apart(flags: bytes, executed: bool) -> None:
    """PF_FORKNOEXEC says whether a process has called exec since it was forked."""
    assert parse_stat(b"1 (x) " + AFTER_NAME.replace(b"4194368", flags)).executed is executed


@pytest.mark.parametrize("content", [b"", b"12 (x", b"1 (x) R 1 2 3", b"one (x) " + AFTER_NAME])
def test_what_is_no_stat_file_is_an_error(content: bytes) -> None:
    """A truncated or foreign file is never taken for figures."""
    with pytest.raises(ValueError, match=r"."):
        parse_stat(content)


def test_own_stat_file_is_understood() -> None:
    """The kernel that this runs on writes what the parser reads."""
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123  (as the kernel gives it)
        stat = parse_stat(file.read())
    assert (stat.pid, stat.parent, stat.executed) == (os.getpid(), os.getppid(), True)
    assert stat.threads == len(os.listdir("/proc/self/task"))  # noqa: PTH208


def test_pss_is_the_line_of_that_name() -> None:
    """`Pss` is taken, in bytes, and none of the lines that begin alike."""
    rollup = b"00-ff ---p [rollup]\nRss:  900 kB\nPss_Dirty:  5 kB\nPss:                 382 kB\nPss_Anon:   112 kB\n"
    assert parse_rollup(rollup) == 382 * 1024


def test_a_rollup_without_pss_is_an_error() -> None:
    """A file without the line is not a process without memory."""
    with pytest.raises(ValueError, match="no Pss"):
        parse_rollup(b"Rss: 1 kB\nPss_Anon: 1 kB\n")


def test_directory_records_give_the_names() -> None:
    """Names end at their NUL, records at their length, whatever pads them."""

    def record(name: bytes, padding: int) -> bytes:
        body = name + b"\0" * (1 + padding)
        return struct.pack("=QqHB", 7, 9, 19 + len(body), 4) + body

    assert parse_directory(record(b".", 4) + record(b"..", 3) + record(b"17", 0) + record(b"12345678", 5)) == [
        "17",
        "12345678",
    ]
    assert parse_directory(b"") == []


def test_own_directory_records_are_understood() -> None:
    """The kernel's records of a folder give the names that Python finds."""
    assert procfs.list_held("/proc/self/task") == os.listdir("/proc/self/task")  # noqa: PTH208


def test_a_reading_is_the_sum_of_its_processes() -> None:
    """Memory and CPU time are added up; a process without a figure for memory has none, and counts with its time."""
    reading = add_up([stat_of(5), stat_of(6, 0.5), stat_of(7, 0.0)], {5: 30, 6: 12}, "pss")
    assert reading == Reading(
        (ProcessReading(5, 30, 1.0, 2), ProcessReading(6, 12, 0.5, 2), ProcessReading(7, 0, 0.0, 2)),
        memory_kind="pss",
        memory_bytes=42,
        cpu_seconds=1.5,
        resident_bytes=(0, 0, 0),
    )


def test_marks_are_added_by_pid() -> None:
    """What the kernel notes of a process stands beside what was read of it; of one that is not noted it is 0."""
    marks = {6: Marks(resident_bytes=40, peak_bytes=90, descriptors=5)}
    reading = add_up([stat_of(5), stat_of(6)], {5: 30, 6: 12}, "pss", marks)
    assert reading.processes[1] == ProcessReading(6, 12, 1.0, 2, peak_bytes=90, descriptors=5)
    assert reading.resident_bytes == (0, 40)


def test_marks_are_read_from_the_status() -> None:
    """The lines of resident memory and its high-water mark count, in KiB; one that has ended has neither."""
    status = b"Name:\tVmRSS: 7 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n"
    assert parse_marks(status, 4) == Marks(resident_bytes=1 << 20, peak_bytes=2 << 20, descriptors=4)
    assert parse_marks(b"Name:\tx\nState:\tZ (zombie)\n") == Marks()


def test_open_files_are_counted() -> None:
    """The number of descriptors is that of the folder's entries, however it is found."""
    with open(os.devnull) as _:  # noqa: PTH123
        (own,) = (process for process in read_tree(os.getpid()).processes if process.pid == os.getpid())
        listed = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  (its own is open while it lists)
    assert abs(own.descriptors - listed) <= 1


def test_a_look_sees_about_what_is_resident() -> None:
    """A look is within a factor of two of the resident memory that the kernel tells exactly."""
    look = look_at_tree(os.getpid())
    assert 0.5 <= look / psutil.Process().memory_info().rss <= 2


def test_a_tree_has_the_root_first_and_then_its_descendants(child: subprocess.Popen[bytes]) -> None:
    """Children and grandchildren are found, and nothing that is not below the root."""
    with subprocess.Popen(["sh", "-c", "cat; exit"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(b"?")
        shell.stdin.flush()
        shell.stdout.read(1)
        whole, branch = read_tree(os.getpid()), read_tree(shell.pid)
        shell.stdin.close()
    assert whole.processes[0].pid == os.getpid()
    assert {child.pid, shell.pid} < set(pids(whole))
    assert branch.processes[0].pid == shell.pid
    assert len(pids(branch)) == 2
    assert set(pids(branch)) < set(pids(whole))


def test_a_child_of_another_thread_is_found() -> None:
    """The kernel lists children by the thread that made them; all threads are asked."""
    made: list[subprocess.Popen[bytes]] = []
    done, ended = threading.Event(), threading.Event()

    def make() -> None:
        made.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
        done.set()
        ended.wait()  # the child belongs to this thread as long as it lives

    thread = threading.Thread(target=make)
    thread.start()
    done.wait()
    try:
        assert made[0].pid in pids(read_tree(os.getpid()))
    finally:
        ended.set()
        thread.join()
        made[0].communicate()


def test_an_ended_child_keeps_its_cpu_time_and_has_no_memory() -> None:
    """Between its end and its reaping a process counts with its time alone; afterwards its parent has that time."""
    with subprocess.Popen(["sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        before = read_tree(os.getpid())
    after = read_tree(os.getpid())
    ended = next(reading for reading in before.processes if reading.pid == process.pid)
    assert ended.memory_bytes == 0
    assert ended.cpu_seconds > 0
    assert process.pid not in pids(after)
    assert after.cpu_seconds >= before.cpu_seconds - TICK


def test_a_process_that_ends_while_it_is_read_has_no_memory() -> None:
    """Between the walk and the reading of memory a process may end, and be reaped: that is no lack of PSS."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert processes._read_pss(process.pid) > 0
        assert processes._read_rss(process.pid) > 0
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert (processes._read_pss(process.pid), processes._read_rss(process.pid)) == (0, 0)
    assert (processes._read_pss(process.pid), processes._read_rss(process.pid)) == (0, 0)


def test_own_cpu_time_is_finer_than_a_tick() -> None:
    """The reading process's own time is what the clock of its CPU time says, in microseconds."""
    children = os.times()
    before = time.process_time()
    own = read_tree(os.getpid()).processes[0].cpu_seconds - children.children_user - children.children_system
    after = time.process_time()
    assert before - 2 * TICK <= own <= after + 2 * TICK
    first, second = (read_tree(os.getpid()).processes[0].cpu_seconds for _ in range(2))
    assert 0 < second - first < 0.1


def test_a_root_that_is_gone_is_an_error() -> None:
    """Nothing is read of a process that has ended, and the error says so, by either way of reading."""
    with subprocess.Popen(["true"]) as process:
        pass
    with pytest.raises(ProcessLookupError, match=str(process.pid)):
        read_tree(process.pid)
    with pytest.raises(ProcessLookupError, match=str(process.pid)):
        processes.read_tree_portably(process.pid)


def test_the_portable_way_agrees(child: subprocess.Popen[bytes]) -> None:
    """Without /proc the same processes are read, their memory as RSS."""
    by_proc, portably = read_tree(os.getpid()), processes.read_tree_portably(os.getpid())
    assert portably.memory_kind == "rss"
    assert pids(portably) == pids(by_proc)
    assert [process.threads for process in portably.processes] == [process.threads for process in by_proc.processes]
    assert portably.cpu_seconds == pytest.approx(by_proc.cpu_seconds, abs=0.1)
    assert portably.memory_bytes >= by_proc.memory_bytes * 0.9


def test_a_kernel_without_lists_of_children_is_read_too(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /proc/PID/task/TID/children is missing, the scan of all processes finds the same tree."""
    expected = pids(read_tree(os.getpid()))
    monkeypatch.setattr(processes, "_HAS_CHILDREN", False)
    assert pids(read_tree(os.getpid())) == expected


@pytest.mark.parametrize(
    "refusal", [PermissionError(13, "no"), FileNotFoundError(2, "no")], ids=["forbidden", "absent"]
)
def test_where_pss_is_refused_the_reading_is_rss(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, refusal: OSError
) -> None:
    """A kernel that refuses or lacks smaps_rollup gives a reading in RSS, and says so."""

    def refuse(path: str) -> bytes:
        raise refusal

    monkeypatch.setattr(processes, "read_released", refuse)
    reading = read_tree(os.getpid())
    assert reading.memory_kind == "rss"
    by_pid = {process.pid: process.memory_bytes for process in reading.processes}
    assert by_pid[os.getpid()] == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
    assert by_pid[child.pid] > 0
    assert processes.pss_readable() is False


def test_pss_can_be_read_here() -> None:
    """On the systems that this is tested on, PSS is there."""
    assert processes.pss_readable() is True


def test_held_reading_raises_as_the_operating_system_does() -> None:
    """A file that is not there is the error that Python would raise, with the path."""
    with pytest.raises(FileNotFoundError, match="/proc/0/stat"):
        procfs.read_held("/proc/0/stat")


def test_held_reading_reads_files_longer_than_its_buffer(tmp_path: os.PathLike[str]) -> None:
    """A long list of children is read to its end."""
    path = os.path.join(tmp_path, "long")  # noqa: PTH118
    content = b"12345 " * 20_000
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(content)
    assert procfs.read_held(path) == content
