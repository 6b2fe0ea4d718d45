"""The sampler against processes whose memory and CPU time are known."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from eventflow.measuring_events import ProcessSampled
from instrumentation import processes, procfs
from instrumentation.processes import Reading, read_tree
from instrumentation.sampler import Sampler

MIB = 2**20
HELD = 200 * MIB
WITHIN = 0.05
BRIEF = 100 * MIB

HOLD = """
import sys
print("started", flush=True)
sys.stdin.readline()
held = b"x" * (200 << 20)  # writes every page
print("holding", flush=True)
sys.stdin.readline()
"""

HOLD_AND_FORK = """
import os, sys
print("started", flush=True)
sys.stdin.readline()
held = b"x" * (200 << 20)
gate, keeper = os.pipe()
children = [os.fork() or [os.close(keeper), os.read(gate, 1), os._exit(0)] for _ in range(4)]
print(*children, flush=True)
sys.stdin.readline()
os.close(keeper)
for child in children:
    os.waitpid(child, 0)
"""

# The program that it spawns lives in its parent's memory until it calls exec, and first has to open the FIFO.
HOLD_AND_SPAWN = """
import os, sys
print("started", flush=True)
sys.stdin.readline()
held = b"x" * (200 << 20)
print("holding", flush=True)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
"""

# 100 MiB for 50 ms in which no other thread gets the interpreter, in a process that never had as much before.
HOLD_BRIEFLY_WHILE_BUSY = """
import sys, time
from instrumentation.sampler import Sampler
samples = []
with Sampler(samples.append) as sampler:
    sys.setswitchinterval(60.0)
    before, count = sampler.peak.memory_bytes, len(samples)
    held, until = b"x" * (100 << 20), time.perf_counter() + 0.05
    while time.perf_counter() < until:
        pass
    del held
    turns = len(samples) - count
    sys.setswitchinterval(0.005)
print(turns, sampler.peak.memory_bytes - before, flush=True)
sys.stdin.readline()
"""

# Nothing but a sampler, for three seconds. The first and the last sample stand out: a short run has them, too.
SAMPLE_ONLY = """
import subprocess, sys, time
from instrumentation.sampler import Sampler
children = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
time.sleep(0.5)
samples = []
with Sampler(samples.append) as sampler:
    begun, before = time.perf_counter(), time.process_time()
    time.sleep(3.0)
    elapsed, used = time.perf_counter() - begun, time.process_time() - before
edges = samples[0].sampling_seconds + samples[-1].sampling_seconds
for child in children:
    child.communicate(b"\\n")
print(len(samples), (sampler.peak.sampling_seconds - edges) / elapsed, used / elapsed, flush=True)
sys.stdin.readline()
"""

# A child that lives for 50 ms, with 100 MiB.
FORK_BRIEFLY = """
import os, sys, time
print("started", flush=True)
sys.stdin.readline()
child = os.fork()
if not child:
    held = b"x" * (100 << 20)
    time.sleep(0.05)
    os._exit(0)
os.waitpid(child, 0)
print("done", flush=True)
sys.stdin.readline()
"""

# A program with a buffer of 100 MiB, which it fills a few times: that takes it about as long.
SPAWN_BRIEFLY = """
import subprocess, sys
print("started", flush=True)
sys.stdin.readline()
subprocess.run(["dd", "if=/dev/zero", "of=/dev/null", "bs=104857600", "count=3"], stderr=subprocess.DEVNULL)
print("done", flush=True)
sys.stdin.readline()
"""

BURN = """
import time
while time.process_time() < 0.4:
    pass
"""

BURN_BELOW = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]])
"""

# As a user without rights it makes a child that may not be looked into, and reads itself with that child.
FORBIDDEN = """
import ctypes, os, sys
from instrumentation.processes import Reading, read_tree
if os.getuid() == 0:
    os.setuid(65534)
done, gate = os.pipe(), os.pipe()
child = os.fork()
if not child:
    ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE
    os.write(done[1], b"!")
    os.close(gate[1])
    os.read(gate[0], 1)
    os._exit(0)
os.read(done[0], 1)
reading = read_tree(os.getpid())
print(reading.memory_kind, len(reading.processes), min(process.memory_bytes for process in reading.processes))
os.close(gate[1])
os.waitpid(child, 0)
"""


class Program:
    """A Python program that goes on to its next step when it is told to, and says what it has done."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.pid = process, process.pid

    def wait_for_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def running(source: str, *arguments: str) -> Iterator[Program]:
    """The program, killed in the end."""
    command = [sys.executable, "-c", source, *arguments]
    # A coverage tool inside the program would hold memory of its own in each of its processes.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=bare) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


@contextlib.contextmanager
def sampling(root_pid: int | None = None) -> Iterator[tuple[Sampler, list[ProcessSampled]]]:
    """A sampler of the tree, and the samples that it takes."""
    samples: list[ProcessSampled] = []
    with Sampler(samples.append, root_pid) as sampler:
        yield sampler, samples


def wait_for_processes(root_pid: int, count: int) -> Reading:
    """The first reading with so many processes."""
    for _ in range(2000):
        if len((reading := read_tree(root_pid)).processes) >= count:
            return reading
        time.sleep(0.005)
    raise TimeoutError(f"there were never {count} processes")


def can_compare_memory() -> bool:
    """Whether kcmp(2) is allowed here; some container runtimes forbid it."""
    pid, call = os.getpid(), processes._KCMP_CALL
    return call is not None and bool(procfs.libc.syscall(call, pid, pid, processes._KCMP_VM, 0, 0) == 0)


def test_memory_that_a_child_holds_is_seen() -> None:
    """200 MiB that a child touched raise the peak of its parent's tree by 200 MiB, within 5 %."""
    with running(HOLD) as child:
        child.wait_for_line()
        with sampling() as (sampler, samples):
            baseline = sampler.peak.memory_bytes
            child.go_on()
            child.wait_for_line()
    assert sampler.peak.memory_kind == "pss"
    assert sampler.peak.memory_bytes - baseline == pytest.approx(HELD, rel=WITHIN)
    own = [process.memory_bytes for process in samples[-1].processes if process.pid == child.pid]
    assert own[0] == pytest.approx(HELD, rel=0.1)  # with the interpreter's own


def test_memory_that_forked_processes_share_is_counted_once() -> None:
    """Five processes that share 200 MiB hold 200 MiB, within 5 %, though their RSS adds up to five times that."""
    with running(HOLD_AND_FORK) as parent:
        parent.wait_for_line()
        baseline = read_tree(parent.pid)
        rss_baseline = psutil.Process(parent.pid).memory_info().rss
        parent.go_on()
        children = [int(pid) for pid in parent.wait_for_line().split()]
        with sampling(parent.pid) as (sampler, samples):
            rss = sum(psutil.Process(pid).memory_info().rss for pid in (parent.pid, *children))
        parent.go_on()
    assert {process.pid for process in samples[0].processes} == {parent.pid, *children}
    assert sampler.peak.processes == 5
    assert sampler.peak.memory_bytes - baseline.memory_bytes == pytest.approx(HELD, rel=WITHIN)
    assert rss - rss_baseline == pytest.approx(5 * HELD, rel=0.1)


@pytest.mark.skipif(not can_compare_memory(), reason="kcmp(2) is forbidden or unknown here")
def test_memory_lent_to_a_spawned_child_is_counted_once(tmp_path: Path) -> None:
    """A child between vfork and exec lives in its parent's memory: that is not seen twice."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with running(HOLD_AND_SPAWN, str(fifo)) as parent:
        parent.wait_for_line()
        baseline = read_tree(parent.pid)
        parent.go_on()
        parent.wait_for_line()
        reading = wait_for_processes(parent.pid, 2)
        owners = [processes._has_own_memory(stat) for stat in processes._walk(parent.pid)]
        os.close(os.open(fifo, os.O_WRONLY))
    assert reading.memory_bytes - baseline.memory_bytes == pytest.approx(HELD, rel=WITHIN)
    assert owners == [True, False]


def test_memory_of_a_process_that_may_not_be_read_is_rss() -> None:
    """One process whose PSS is refused makes the whole reading RSS, and that is said."""
    with running(FORBIDDEN) as program:
        kind, count, least = program.wait_for_line().split()
    assert (kind, int(count)) == ("rss", 2)
    assert int(least) > MIB


@pytest.mark.parametrize("arguments", [(BURN,), (BURN_BELOW, BURN)], ids=["child", "grandchild"])
def test_cpu_time_of_reaped_processes_is_counted(arguments: tuple[str, ...]) -> None:
    """What a child or grandchild used before it was reaped is in the sum, within 10 % of what the kernel says of it.

    The kernel says it in microseconds when it is reaped, with the interpreter's start and end, which take longer the
    busier the machine is.
    """
    with sampling() as (sampler, _):
        before = time.process_time()
        child = os.posix_spawn(sys.executable, [sys.executable, "-c", *arguments], os.environ)
        _, status, usage = os.wait4(child, 0)
        own = time.process_time() - before
    burned = usage.ru_utime + usage.ru_stime
    assert status == 0
    assert burned >= 0.4
    assert sampler.peak.cpu_seconds - own == pytest.approx(burned, rel=0.1)


def test_a_peak_of_50_ms_is_caught() -> None:
    """100 MiB that this process holds for 50 ms are in the peak, within 5 %, and the error that is stated is less."""
    with sampling() as (sampler, _):
        time.sleep(0.1)
        before = sampler.peak.memory_bytes
        held = b"x" * BRIEF
        time.sleep(0.05)
        del held
        time.sleep(0.1)
    assert sampler.peak.memory_bytes - before == pytest.approx(BRIEF, rel=WITHIN)
    assert sampler.peak.error_bytes <= WITHIN * BRIEF


def test_a_peak_of_50_ms_is_caught_while_the_interpreter_is_busy() -> None:
    """The sampler's thread may wait for the interpreter all the while: the kernel has noted the peak."""
    with running(HOLD_BRIEFLY_WHILE_BUSY) as program:
        turns, risen = map(int, program.wait_for_line().split())
    assert turns == 0
    assert risen == pytest.approx(BRIEF, rel=WITHIN)


@pytest.mark.parametrize("source", [FORK_BRIEFLY, SPAWN_BRIEFLY], ids=["forked", "spawned"])
def test_a_child_of_50_ms_is_caught(source: str) -> None:
    """100 MiB that a child holds for 50 ms, all that it lives, are in the peak of its parent's tree, within 5 %.

    Once in three times is enough: on a busy machine the sampler may get no turn in those 50 ms.
    """
    peaks = []
    for _ in range(3):
        with running(source) as parent:
            parent.wait_for_line()
            with sampling(parent.pid) as (sampler, _samples):
                baseline = sampler.peak.memory_bytes
                parent.go_on()
                parent.wait_for_line()
            parent.go_on()
        peaks.append(sampler.peak.memory_bytes - baseline)
    assert max(peaks) == pytest.approx(BRIEF, rel=WITHIN)


def test_sampling_takes_less_than_1_percent_of_a_core() -> None:
    """Looks and readings together, over three seconds, in a process with two children; both accounts of it say so."""
    with running(SAMPLE_ONLY) as program:
        samples, share, used = map(float, program.wait_for_line().split())
    assert samples >= 4
    assert share <= 0.01
    assert used <= 0.02
