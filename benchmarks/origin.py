"""How fast the embedded origin is, against nginx: files of 10 KiB over connections that are kept.

Both servers run on one core, one after the other in each round, and `wrk` loads them from another core. The origin must
never be what is measured when somebody measures a client.

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
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(options.rounds):
            for name, url in servers.items():
                rates[name].append(_load(url, options.connections, options.seconds))
    base = statistics.median(rates["eventflow origin"])
    print(f"{'10 KiB files, one core':<24}{'requests/s':>12}{'lowest':>10}{'highest':>10}{'ratio':>8}")
    for name, found in rates.items():
        middle = statistics.median(found)
        print(f"{name:<24}{middle:>12,.0f}{min(found):>10,.0f}{max(found):>10,.0f}{middle / base:>7.2f}x")


@contextlib.contextmanager
def _origin() -> Iterator[str]:
    with start_origin(OriginSettings(files=1, size=FILE_BYTES)) as origin:
        _pin(origin.pid, SERVER_CORE)
        yield f"{origin.url}/files/000000.bin"


@contextlib.contextmanager
def _nginx() -> Iterator[str]:
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
                yield f"http://127.0.0.1:{port}/file.bin"
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


def _load(url: str, connections: int, seconds: int) -> float:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        _pin(load.pid, CLIENT_CORE)
        output, _ = load.communicate()
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None or "Non-2xx" in output:
        raise SystemExit(f"wrk failed: {output}")
    return float(found[1])


if __name__ == "__main__":
    main()
