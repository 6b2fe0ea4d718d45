"""The clients that `benchmarks/fetch.py` compares: which are here, and how each is started for the same job."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CURL_PARALLEL_MAX = 300  # what curl took at most until 8.16; it lowers a higher number to this with a warning

PYTHON_PEERS = {
    "pycurl multi": ("pycurl", "pycurl"),
    "aiohttp": ("aiohttp", "aiohttp"),
    "httpx, asyncio": ("httpx-asyncio", "httpx"),
    "httpx, trio": ("httpx-trio", "httpx+trio"),
}


class Job(NamedTuple):
    """What to fetch and where to: the same for every client. `folder` is for the lists that some need."""

    urls: list[str]
    size: int
    connections: int
    folder: Path
    out: Path
    store: Path

    @property
    def list_file(self) -> Path:
        """A URL a line."""
        return self._write("list.txt", (f"{url}\n" for url in self.urls))

    @property
    def curl_config(self) -> Path:
        """A pair of lines for each URL, since `-O` has no folder of its own in old versions."""
        lines = (f'url = "{url}"\noutput = "{self.out}/{url.rpartition("/")[2]}"\n' for url in self.urls)
        return self._write("curl.conf", lines)

    def _write(self, name: str, lines: Iterable[str]) -> Path:
        path = self.folder / name
        with path.open("w", encoding="ascii") as file:
            file.writelines(lines)
        return path


class Client(NamedTuple):
    """A name for the table, and the command for a job."""

    name: str
    command: Callable[[Job], list[str]]
    is_ours: bool = False


def our_clients(stage: str, processes: list[int]) -> list[Client]:
    """eventflow: the director for each number of processes, or another stage, whose workers are its connections."""
    if stage not in {"director", "lineage"}:
        return [Client(f"eventflow {stage}", lambda job: our_command(job, stage, job.connections), is_ours=True)]
    return [
        Client(f"eventflow {stage}, {count} process{'es' * (count > 1)}", _our_processes(stage, count), is_ours=True)
        for count in processes
    ]


def our_command(job: Job, stage: str, workers: int, without: str | None = None) -> list[str]:
    """One run of eventflow; `without` the log's "writer" or the whole "recorder"."""
    program = [str(HERE / "_fetch_unrecorded.py"), without] if without else ["-m", "eventflow"]
    command = [sys.executable, *program, "run", stage, "--input", str(job.list_file), "--out", str(job.out)]
    command += ["--store", str(job.store), "--json", "--workers", str(workers)]
    return [*command, "--concurrency", str(job.connections)] if stage in {"director", "lineage"} else command


def _our_processes(stage: str, count: int) -> Callable[[Job], list[str]]:
    return lambda job: our_command(job, stage, count)


def find_peers(python: str) -> tuple[list[Client], list[str]]:
    """The peers that are here, and the names of those that are not."""
    programs = {"curl": _curl, "wget2": _wget2, "aria2c": _aria2c}
    found = [Client(_versioned(name), command) for name, command in programs.items() if shutil.which(name)]
    missing = [name for name in programs if not shutil.which(name)]
    for name, (kind, modules) in PYTHON_PEERS.items():
        check = [python, str(HERE / "_fetch_peer.py"), f"check-{modules}"]
        if subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode:
            missing.append(name)
        else:
            found.append(Client(name, _python_peer(python, kind)))
    return found, missing


def _versioned(name: str) -> str:
    first = subprocess.run([name, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"\d+\.\d+(\.\d+)?", first)
    return f"{name} {version[0]}" if version else name


def _curl(job: Job) -> list[str]:
    most = str(min(job.connections, CURL_PARALLEL_MAX))
    return ["curl", "-q", "-Z", "--parallel-max", most, "-sSf", "-K", str(job.curl_config)]


def _wget2(job: Job) -> list[str]:
    command = ["wget2", "--no-config", "-q", "--progress=none", "--max-threads", str(job.connections)]
    return [*command, "--no-compression", "-P", str(job.out), "-i", str(job.list_file)]


def _aria2c(job: Job) -> list[str]:
    # Without its control files and preallocation, which the others do not have either.
    command = ["aria2c", "--no-conf", "-q", "--summary-interval=0", "--download-result=hide", "-x1", "-s1"]
    command += ["--file-allocation=none", "--auto-save-interval=0", "-j", str(job.connections)]
    return [*command, "-d", str(job.out), "-i", str(job.list_file)]


def _python_peer(python: str, kind: str) -> Callable[[Job], list[str]]:
    program = [python, str(HERE / "_fetch_peer.py"), kind]
    return lambda job: [*program, str(job.list_file), str(job.out), str(job.connections)]
