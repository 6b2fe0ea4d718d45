"""One run of one client: its time, CPU time (and the server's), memory and instructions, and whether all is there."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, NamedTuple

import psutil

from benchmarks._fetch_clients import Job
from benchmarks._fetch_servers import Server, pinned

SAMPLE_SECONDS = 0.05


class Measured(NamedTuple):
    """One run. Seconds, except for `requests`, `bytes` and the memory, which is in bytes.

    Attributes:
        wall: of the process, from its start to its end.
        inside: of the work as the client itself measures it; None where it does not.
        user, system: CPU time of the client and its children.
        server: CPU time of the server.
        pss: the highest sum of the proportional set sizes of its processes, sampled; 0 if not asked for.
        rss: the sum of the highest resident set sizes of its processes; 0 if not asked for.
        problem: what is not as it must be; "" if nothing is.
    """

    requests: int
    bytes: int
    wall: float
    inside: float | None
    user: float
    system: float
    server: float
    pss: int
    rss: int
    problem: str


class Memory(threading.Thread):
    """Looks at the memory of a process and its children until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._stopped, self._highest = pid, threading.Event(), dict[int, int]()
        self.pss = 0

    @property
    def rss(self) -> int:
        """The sum of what each process had at most."""
        return sum(self._highest.values())

    def run(self) -> None:
        """Sample; a process that is gone meanwhile counts with what it had."""
        while not self._stopped.wait(SAMPLE_SECONDS):
            self.pss = max(self.pss, sum(self._sample(pid) for pid in self._pids()))

    def stop(self) -> None:
        """End the sampling."""
        self._stopped.set()
        self.join()

    def _pids(self) -> list[int]:
        with contextlib.suppress(psutil.Error):
            return [self._pid, *(child.pid for child in psutil.Process(self._pid).children(recursive=True))]
        return []

    def _sample(self, pid: int) -> int:
        with contextlib.suppress(OSError):
            self._highest[pid] = max(self._highest.get(pid, 0), _kilobytes(pid, "status", "VmHWM"))
            return _kilobytes(pid, "smaps_rollup", "Pss")
        return 0


def run_client(command: list[str], job: Job, server: Server, cores: str | None, *, sample: bool = False) -> Measured:
    """Run it in a fresh folder, which is removed after the measurement, as is the store."""
    job.out.mkdir()
    os.sync()
    before, begun = server.cpu_seconds(), time.perf_counter()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(pinned(command, cores), stdout=output, stderr=errors)
        memory = Memory(process.pid)
        if sample:
            memory.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for already, say so to subprocess
        if sample:
            memory.stop()
        took = server.cpu_seconds() - before
        said, complaint = _read(output), _read(errors)
    problem = _find_problem(job, process.returncode, complaint)
    clean(job)
    count, size = len(job.urls), len(job.urls) * job.size
    inside = _inside(said)
    return Measured(count, size, wall, inside, usage.ru_utime, usage.ru_stime, took, memory.pss, memory.rss, problem)


def clean(job: Job) -> None:
    """Remove what a run wrote."""
    shutil.rmtree(job.out, ignore_errors=True)
    shutil.rmtree(job.store, ignore_errors=True)


def count_instructions(command: list[str], job: Job) -> int:
    """Instructions in user space of the command and its children: by perf, or where it has no counters by valgrind.

    Raises:
        SystemExit: neither is there.
    """
    job.out.mkdir()
    try:
        return _count_with_perf(command) if _has_counters() else _count_with_valgrind(command, job.folder)
    finally:
        clean(job)


def _has_counters() -> bool:
    if shutil.which("perf") is None:
        return False
    command = ["perf", "stat", "-x,", "-e", "instructions:u", "true"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr[:1].isdigit()


def _count_with_perf(command: list[str]) -> int:
    with tempfile.NamedTemporaryFile("r") as report:
        counted = ["perf", "stat", "-x,", "-o", report.name, "-e", "instructions:u", *command]
        subprocess.run(counted, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        found = re.search(r"^(\d+),", report.read(), re.MULTILINE)
    if found is None:
        raise SystemExit("perf gave no number")
    return int(found[1])


def _count_with_valgrind(command: list[str], folder: Path) -> int:
    if shutil.which("valgrind") is None:
        raise SystemExit("instructions: perf has no counters here, and valgrind is not installed")
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    counted = [*tool, "--trace-children=yes", f"--log-file={folder}/counts.%p", *command]
    subprocess.run(counted, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    total = 0
    for report in folder.glob("counts.*"):
        found = re.search(r"I\s+refs:\s+([\d,]+)", report.read_text(errors="replace"))
        total += int(found[1].replace(",", "")) if found else 0
        report.unlink()
    return total


def _find_problem(job: Job, code: int, complaint: str) -> str:
    sizes = [entry.stat().st_size for entry in os.scandir(job.out)] if job.out.is_dir() else []
    if len(sizes) == len(job.urls) and sum(sizes) == len(job.urls) * job.size:
        return ""
    last = (complaint.strip().splitlines() or [""])[-1]
    return f"{len(sizes)} of {len(job.urls)} files, {sum(sizes)} bytes; exit {code}; {last[:120]}"


def _inside(said: str) -> float | None:
    with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):
        return float(json.loads(said.strip().splitlines()[-1])["seconds"])
    return None


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _kilobytes(pid: int, file: str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) << 10 if found else 0
