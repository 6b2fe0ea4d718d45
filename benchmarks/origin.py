"""How fast the embedded origin is, against nginx: files of 10 KiB over connections that are kept.

Both servers run on one core, one after the other in each round, and `wrk` loads them from another core. The origin must
never be what is measured when somebody measures a client.

Requests a second say what came through. Where the server was not busy all the time, the load, the kernel or the virtual
machine was the limit; requests for each second of the server's CPU time tell the servers apart, and the ratio is of
these.

    python benchmarks/origin.py --rounds 7 --seconds 2

Needs `wrk` (apt install wrk); without `nginx` only the origin is measured.
"""

import argparse
import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings

FILE_BYTES = 10 << 10
SERVER_CORE, CLIENT_CORE = 0, 1

NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""


class Server(NamedTuple):
    """Where the file is, and the process that serves it."""

    url: str
    pid: int


class Measured(NamedTuple):
    """Requests a second, and the share of that time in which the server had its core."""

    rate: float
    busy: float

    @property
    def per_cpu_second(self) -> float:
        """Requests for each second of CPU time that the server took, in the kernel too."""
        return self.rate / self.busy


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="length of each measurement")
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed: apt install wrk")
    with contextlib.ExitStack() as stack:
        servers = {"eventflow origin": stack.enter_context(_origin())}
        if _nginx_path():
            servers["nginx"] = stack.enter_context(_nginx())
        else:
            print("nginx is not installed (apt install nginx): only the origin is measured")
        found: dict[str, list[Measured]] = {name: [] for name in servers}
        for _ in range(options.rounds):
            for name, server in servers.items():
                found[name].append(_load(server, options.connections, options.seconds))
    _print(found)


def _print(found: dict[str, list[Measured]]) -> None:
    base = statistics.median(one.per_cpu_second for one in found["eventflow origin"])
    columns = (("requests/s", 12), ("lowest", 10), ("highest", 10), ("busy", 7), ("per CPU second", 16), ("ratio", 8))
    print(f"{'10 KiB files, one core':<24}" + "".join(f"{title:>{width}}" for title, width in columns))
    for name, rounds in found.items():
        rates = [one.rate for one in rounds]
        busy = statistics.median(one.busy for one in rounds)
        per_cpu_second = statistics.median(one.per_cpu_second for one in rounds)
        print(
            f"{name:<24}{statistics.median(rates):>12,.0f}{min(rates):>10,.0f}{max(rates):>10,.0f}{busy:>7.0%}"
            f"{per_cpu_second:>16,.0f}{per_cpu_second / base:>7.2f}x"
        )


@contextlib.contextmanager
def _origin() -> Iterator[Server]:
    with start_origin(OriginSettings(files=1, size=FILE_BYTES)) as origin:
        _pin(origin.pid, SERVER_CORE)
        yield Server(f"{origin.url}/files/000000.bin", origin.pid)


@contextlib.contextmanager
def _nginx() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="eventflow-nginx-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "file.bin").write_bytes(os.urandom(FILE_BYTES))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
        with subprocess.Popen(
            [str(_nginx_path()), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
        ) as server:
            try:
                _wait_listening(port)
                _pin(server.pid, SERVER_CORE)
                yield Server(f"http://127.0.0.1:{port}/file.bin", server.pid)
            finally:
                server.terminate()


def _nginx_path() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _wait_listening(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise SystemExit("nginx did not start")


def _pin(pid: int, core: int) -> None:
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(pid, {core})


def _load(server: Server, connections: int, seconds: int) -> Measured:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", server.url]
    process = psutil.Process(server.pid)
    begun, before = time.perf_counter(), process.cpu_times()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        _pin(load.pid, CLIENT_CORE)
        output, _ = load.communicate()
    after, taken = process.cpu_times(), time.perf_counter() - begun
    found = re.search(r"(\d+) requests in ", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"wrk failed: {output}")
    busy = (after.user + after.system - before.user - before.system) / taken
    return Measured(int(found[1]) / taken, busy)


if __name__ == "__main__":
    main()
