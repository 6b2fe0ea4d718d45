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
from instrumentation import processes
from instrumentation.processes import Reading, read_tree
from instrumentation.sampler import Sampler

MIB = 2**20
HELD = 200 * MIB
WITHIN = 0.05

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

# What os.times says, but in microseconds: four figures in whole ticks are up to 0.04 s less.
SAY_CPU_SECONDS = """
import resource
usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(usage.ru_utime + usage.ru_stime for usage in usages), flush=True)
"""

BURN = f"""
import time
while time.process_time() < 0.4:
    pass
{SAY_CPU_SECONDS}
"""

BURN_BELOW = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]], stdout=subprocess.DEVNULL)
{SAY_CPU_SECONDS}
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
    return call is not None and bool(processes._libc.syscall(call, pid, pid, processes._KCMP_VM, 0, 0) == 0)


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
    """What a child or grandchild used before it was reaped is in the sum, within 10 % of what it says itself."""
    with sampling() as (sampler, _):
        before = time.process_time()
        done = subprocess.run([sys.executable, "-c", *arguments], check=True, stdout=subprocess.PIPE, text=True)
        own = time.process_time() - before
    burned = float(done.stdout)
    assert burned >= 0.4
    assert sampler.peak.cpu_seconds - own == pytest.approx(burned, rel=0.1)


def test_a_child_of_300_ms_is_seen() -> None:
    """A process that lives for 0.3 s is in several samples, with its memory."""
    source = f"import time; held = b'x' * {64 * MIB}; time.sleep(0.3)"
    with sampling() as (sampler, samples):
        child = subprocess.Popen([sys.executable, "-c", source])
        child.wait()
    seen = [process for sample in samples for process in sample.processes if process.pid == child.pid]
    assert len(seen) >= 3
    assert max(process.memory_bytes for process in seen) == pytest.approx(64 * MIB, rel=0.25)
    assert sampler.peak.processes >= 2


def test_sampling_is_frequent_and_cheap() -> None:
    """Samples come at about 10 Hz or faster and take little of a core; the bounds leave room for a loaded machine."""
    with sampling() as (_, samples):
        begin = time.perf_counter()
        time.sleep(1.0)
        elapsed = time.perf_counter() - begin
    assert len(samples) >= 10 * elapsed * 0.5
    # The rule is 2 % (tests/unit/test_sampler.py); a busy machine and a coverage tool make it more.
    assert sum(sample.sampling_seconds for sample in samples) / elapsed <= 0.2
