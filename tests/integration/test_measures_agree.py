"""What is measured against those who measure it independently: time(1), ps(1), control groups, and known amounts.

Within 5 %, each. The control groups can only be made by root, and where they are writable.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventflow.log.sql import query
from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings
from instrumentation import energy
from instrumentation.machine import energy_counters
from instrumentation.processes import read_tree
from instrumentation.usage import Account, difference, parse_interfaces, read_account

MIB = 1 << 20
WITHIN = 0.05
ROOT = Path(__file__).parents[2]
CGROUPS = Path("/sys/fs/cgroup")

# It uses known amounts, in itself and in children, and then says what its account says of them.
USE = """
import os, subprocess, sys, time
import msgspec
from instrumentation.processes import read_tree
from instrumentation.usage import read_account

def burn(seconds):
    while time.process_time() < seconds:
        sum(range(1000))

if sys.argv[1:] == ["child"]:
    burn(0.4)
    sys.exit()
subprocess.run([sys.executable, __file__, "child"], check=True)
burn(time.process_time() + 1.0)
with open("written", "wb") as file:
    file.write(os.urandom(48 << 20))
    file.flush()
    os.fsync(file.fileno())
for _ in range(1500):
    time.sleep(0.0002)
held = bytearray(os.urandom(1 << 20)) * 120
(own,) = read_tree(os.getpid()).processes
print(msgspec.json.encode([msgspec.to_builtins(read_account()), own.peak_bytes]).decode())
"""

RECEIVE = """
import fcntl, socket, struct, threading
from instrumentation.usage import difference, read_account

with socket.socket() as control:  # the loopback of a new network namespace is down
    name = b"lo".ljust(16, b"\\0")
    fcntl.ioctl(control, 0x8914, name + struct.pack("H14x", 1))  # SIOCSIFFLAGS, IFF_UP
before = read_account()
server = socket.create_server(("127.0.0.1", 0))

def send():
    with server.accept()[0] as connection:
        connection.sendall(bytes(20 << 20))

threading.Thread(target=send).start()
with socket.create_connection(server.getsockname()) as client:
    while client.recv(1 << 16):
        pass
used = difference(read_account(), before)
print(used.network_received_bytes, used.network_sent_bytes)
"""

# Three processes: one holds 60 MiB and forks two that share them and add 40 MiB each. They wait for a line.
HOLD = """
import os, sys, time
held = b"x" * (60 << 20)
gate, keeper = os.pipe()
children = []
for _ in range(2):
    pid = os.fork()
    if not pid:
        os.close(keeper)
        own = b"y" * (40 << 20)
        until = time.process_time() + 0.8
        while time.process_time() < until:
            pass
        os.write(1, b".")
        os.read(gate, 1)
        os._exit(0)
    children.append(pid)
sys.stdin.readline()
os.close(keeper)
for pid in children:
    os.waitpid(pid, 0)
"""


def environment(**more: str) -> dict[str, str]:
    """For programs that import this project's packages."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | more


@pytest.mark.part("time")
def test_the_account_agrees_with_time(tmp_path: Path, part: Callable[[str], Path]) -> None:
    """CPU time, switches, what was written and the greatest RSS are those of time(1), which asks wait4(2)."""
    program = tmp_path / "use.py"
    program.write_text(USE)
    command = [str(part("time")), "-v", "-o", str(tmp_path / "said"), sys.executable, str(program)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True)
    said = dict(re.findall(r"\t(.+?): (.+)\n", (tmp_path / "said").read_text()))
    account, peak_bytes = msgspec.json.decode(done.stdout, type=tuple[Account, int])
    seconds = float(said["User time (seconds)"]) + float(said["System time (seconds)"])
    assert account.user_seconds + account.system_seconds == pytest.approx(seconds, rel=WITHIN)
    assert account.voluntary_switches == pytest.approx(int(said["Voluntary context switches"]), rel=WITHIN)
    assert peak_bytes == pytest.approx(int(said["Maximum resident set size (kbytes)"]) * 1024, rel=WITHIN)
    assert account.disk_written_bytes == pytest.approx(int(said["File system outputs"]) * 512, rel=WITHIN)


def test_the_account_agrees_with_known_amounts(tmp_path: Path) -> None:
    """1.4 s of computing, 0.4 of them in a child, at least 1 500 waits and 48 MiB that were written to a disk."""
    program = tmp_path / "use.py"
    program.write_text(USE)
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True
    )
    account, _ = msgspec.json.decode(done.stdout, type=tuple[Account, int])
    used = account.user_seconds + account.system_seconds
    assert 1.4 <= used <= 1.4 + 1.5  # with two interpreters' starts and the random bytes
    assert account.voluntary_switches >= 1500
    if account.disk_written_bytes:  # 0 on a file system in memory
        assert account.disk_written_bytes == pytest.approx(48 * MIB, rel=WITHIN)


def test_network_bytes_agree_with_known_ones() -> None:
    """20 MiB over the loopback of a network namespace of its own are 20 MiB, received and sent."""
    command = ["unshare", "--net", sys.executable, "-c", RECEIVE]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip(f"no network namespace can be made here: {done.stderr.strip()}")
    assert not done.returncode, done.stderr
    assert [int(count) for count in done.stdout.split()] == pytest.approx([20 * MIB] * 2, rel=WITHIN)


def test_a_process_agrees_with_ps(tmp_path: Path) -> None:
    """Memory, threads and open files of a process are those that ps(1) and its folder tell."""
    source = f"""
import sys, threading, time
held = b"x" * {80 * MIB}
files = [open({str(tmp_path / "file")!r}, "w") for _ in range(40)]
for _ in range(7):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
"""
    with holding(source) as process:
        (own,) = read_tree(process.pid).processes
        told = subprocess.run(
            ["ps", "-o", "pss=,rss=,nlwp=", "-p", str(process.pid)], capture_output=True, text=True, check=True
        )
        descriptors = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    pss, rss, threads = map(int, told.stdout.split())
    assert own.memory_bytes == pytest.approx(pss * 1024, rel=WITHIN)
    assert own.peak_bytes == pytest.approx(rss * 1024, rel=WITHIN)
    assert (own.threads, own.descriptors) == (threads, descriptors) == (8, 43)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a control group")
def test_a_tree_agrees_with_its_control_group() -> None:
    """The memory and CPU time of three processes that share pages are those of the control group that holds them."""
    with contextlib.ExitStack() as stack:
        memory, cpu = stack.enter_context(control_group("memory")), stack.enter_context(control_group("cpuacct"))
        join = " && ".join(f"echo $$ > {group / 'cgroup.procs'}" for group in {memory, cpu})
        process = subprocess.Popen(
            ["sh", "-c", f'{join} && exec {sys.executable} -c "$HOLD"'],
            env=environment(HOLD=HOLD),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stack.callback(process.communicate, timeout=20)
        assert process.stdout is not None
        assert process.stdout.read(2) == b".."
        reading = read_tree(process.pid)
        anonymous, seconds = memory_of(memory), cpu_seconds_of(cpu)
    assert len(reading.processes) == 3
    assert anonymous == pytest.approx(150 * MIB, rel=0.1)  # 140, and the interpreters'
    # What is mapped from files (the interpreter itself) is no anonymous memory: it comes on top, and is some MiB.
    assert anonymous * (1 - WITHIN) <= reading.memory_bytes <= anonymous * (1 + WITHIN) + 10 * MIB
    assert reading.cpu_seconds == pytest.approx(seconds, rel=WITHIN)


@contextlib.contextmanager
def holding(source: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that has said that it is ready, and ends when it is told."""
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def control_group(controller: str) -> Iterator[Path]:
    """A control group of its own, of whichever version this machine has for that controller."""
    folder = CGROUPS / controller if (CGROUPS / controller).is_dir() else CGROUPS
    group = folder / f"eventflow-test-{os.getpid()}-{controller}"
    try:
        group.mkdir()
    except OSError as problem:
        pytest.skip(f"no control group can be made here: {problem}")
    try:
        yield group
    finally:
        group.rmdir()


def memory_of(group: Path) -> int:
    """Bytes of anonymous memory in a control group; skipped where its memory is not counted."""
    with contextlib.suppress(FileNotFoundError):
        said = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(said.get("anon") or said["rss"])
    pytest.skip("the control groups here do not count memory")


def cpu_seconds_of(group: Path) -> float:
    """CPU time of a control group, in seconds."""
    with contextlib.suppress(FileNotFoundError):
        return int((group / "cpuacct.usage").read_text()) / 1e9
    said = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(said["usage_usec"]) / 1e6


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run: four files of 200 kB at 0.5 MB/s behind 0.3 s, then a program that sleeps 0.4 s."""
    folder = tmp_path_factory.mktemp("times")
    settings = OriginSettings(files=4, size=200_000, latency_s=0.3, bandwidth=500_000)
    with start_origin(settings) as origin:
        (folder / "urls").write_text("".join(f"{entry.url}\n" for entry in origin.entries()))
        command = ["run", "subprocess", "--workers", "1", "--exec"]
        subprocess.run(
            [sys.executable, "-m", "eventflow", *command, "sleep 0.4", "-i", "urls", "--quiet", "--store", "store"],
            cwd=folder,
            env=environment(),
            check=True,
        )
    return folder / "store"


class TestTimes:
    """Durations in the log against servers that take a known time, and a program that sleeps for one."""

    @pytest.mark.parametrize(
        ("phase", "seconds"), [("first byte", 0.3), ("body", 0.4), ("process", 0.4), ("request", 1.1)]
    )
    def test_phases_take_what_they_take(self, log: Path, phase: str, seconds: float) -> None:
        """The median of each phase is what the server and the program take, within 5 % and 20 ms for starting it."""
        ((median,),) = query(log, f"SELECT p50_seconds FROM latencies WHERE phase = '{phase}'")
        assert seconds * (1 - WITHIN) <= median <= seconds * (1 + WITHIN) + 0.02

    def test_the_whole_takes_what_it_takes(self, log: Path) -> None:
        """Four requests of 1.1 s, one after the other, take 4.4 s; the first result is there after a quarter of it."""
        ((seconds, first, rate),) = query(log, "SELECT seconds, first_result_seconds, bytes_per_second FROM runs")
        assert 4.4 * (1 - WITHIN) <= seconds <= 4.4 * (1 + WITHIN) + 0.5
        assert 1.1 * (1 - WITHIN) <= first <= 1.1 * (1 + WITHIN) + 0.5
        assert rate == pytest.approx(800_000 / seconds, rel=WITHIN)

    def test_the_run_says_what_it_used(self, log: Path) -> None:
        """One row of usage, with what the sampler cost itself, and energy of both kinds of machines."""
        columns = "sampling_share, samples, energy_server_joules, energy_desktop_joules, voluntary_switches"
        ((share, samples, server, desktop, switches),) = query(log, f"SELECT {columns} FROM usage")
        assert (
            0 < share < 0.03
        )  # it is less than 0.01: see the sampler; a busy machine and a coverage tool make it more
        assert samples >= 4
        assert min(server, desktop) > 0
        assert switches > 0


class TestEnergy:
    """The counters as the kernel shows them, in a folder that is made like /sys, and the model's arithmetic."""

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        """The counter of one CPU package that wraps at 1 000 J, and stands at 900 J."""
        folder = tmp_path / "sys/class/powercap/intel-rapl:0"
        folder.mkdir(parents=True)
        (folder / "max_energy_range_uj").write_text("1000000000\n")
        (folder / "energy_uj").write_text("900000000\n")
        return folder / "energy_uj"

    def test_a_counter_that_wraps_loses_nothing(self, package: Path) -> None:
        """It goes on from 0 behind its greatest value, also several times."""
        counters = energy.Counters([package])
        found = []
        for microjoules in (950_000_000, 20_000_000, 990_000_000, 10_000_000):
            package.write_text(f"{microjoules}\n")
            found.append(counters.joules())
        assert found == [50.0, 120.0, 1090.0, 1110.0]

    def test_a_counter_that_may_not_be_read_measures_nothing(self, package: Path) -> None:
        """One that is gone or refused makes the figure None, for good: a part of the truth is no measurement."""
        assert energy.Counters([]).joules() is None
        counters = energy.Counters([package])
        package.write_text("")
        assert counters.joules() is None
        package.write_text("950000000\n")
        assert counters.joules() is None

    def test_the_platform_is_no_package(self, package: Path, tmp_path: Path) -> None:
        """`psys` counts the whole platform, with the packages in it; counted beside them it would count twice."""
        zone = tmp_path / "sys/class/powercap/intel-rapl:1"
        zone.mkdir()
        (zone / "name").write_text("psys\n")
        (zone / "energy_uj").write_text("1\n")
        assert energy_counters(tmp_path) == [package]

    @pytest.mark.parametrize(
        ("seconds", "cpu_seconds", "gib_seconds", "joules", "idle"),
        [(10, 0, 0, 10 * 4 * 0.74, 10 * 4 * 0.74), (0, 10, 0, 27.6, 0), (0, 0, 10, 4.209, 0), (1, 4, 0, 14.0, 2.96)],
        ids=["idle", "busy", "memory", "four CPUs for a second"],
    )
    def test_the_model_is_a_straight_line(
        self, seconds: float, cpu_seconds: float, gib_seconds: float, joules: float, idle: float
    ) -> None:
        """Idle time, CPU time and memory each count what the table of the machine says, and full load is full power."""
        said: dict[str, Any] = {"seconds": seconds, "cpu_seconds": cpu_seconds, "cpus": 4}
        answer = energy.modelled(energy.SERVER, memory_byte_seconds=gib_seconds * 2**30, **said)
        assert [answer.joules, answer.idle_joules] == pytest.approx([joules, idle], rel=1e-3)

    @pytest.mark.parametrize(
        ("chassis", "is_virtual", "name"),
        [("3", False, "desktop"), ("10", False, "desktop"), ("23", False, "server"), ("1", True, "server"),
         ("3", True, "server"), ("", None, "server"), ("odd", False, "server")],
    )  # fmt: skip
    def test_the_kind_of_machine(self, tmp_path: Path, chassis: str, is_virtual: bool | None, name: str) -> None:
        """A chassis that people have on or under a desk is a desktop's; what is virtual or unknown is a server."""
        folder = tmp_path / "sys/class/dmi/id"
        folder.mkdir(parents=True)
        (folder / "chassis_type").write_text(chassis)
        assert energy.machine_class(tmp_path, is_virtual=is_virtual).name == name


def test_a_difference_keeps_what_is_unknown() -> None:
    """Where a system does not tell, the difference does not either."""
    before = read_account()
    after = msgspec.structs.replace(before, user_seconds=before.user_seconds + 2, disk_read_bytes=None)
    found = difference(after, before)
    assert found.user_seconds == pytest.approx(2)
    assert (found.system_seconds, found.disk_read_bytes) == (0, None)
    assert parse_interfaces("") == (None, None)
