"""The servers that `benchmarks/fetch.py` fetches from: nginx with a configuration of its own, and the slow origin."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings

TINY_BYTES = 100

NGINX = """
daemon off; worker_processes {workers}; {user} pid {folder}/pid; error_log {folder}/error.log;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_timeout 600s; keepalive_requests 1000000000;
  default_type application/octet-stream;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port} backlog=4096; root {folder}/files;
    location /tiny/ {{ return 200 "{tiny}"; }}
  }}
}}
"""


class Server(NamedTuple):
    """Its address without a slash at the end, and its first process."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time that it and its workers have taken until now."""
        first = psutil.Process(self.pid)
        times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
        return sum(one.user + one.system for one in times)


def nginx_path() -> str | None:
    """Where nginx is; Debian has it where only root's PATH looks."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextlib.contextmanager
def serve_nginx(folder: Path, workers: int, cores: str | None) -> Iterator[Server]:
    """Nginx for `folder`/files on a free port; its processes stay on `cores`, such as "0" or "0,1"."""
    folder.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # The workers of a master that root started are somebody else, who may not read a temporary folder's files.
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(folder=folder, port=port, workers=workers, user=user, tiny="x" * TINY_BYTES)
    (folder / "nginx.conf").write_text(text)
    command = pinned([str(nginx_path()), "-c", str(folder / "nginx.conf")], cores)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_listening(port)
            yield Server(f"http://127.0.0.1:{port}", server.pid)
        finally:
            server.terminate()


@contextlib.contextmanager
def serve_slowly(files: int, size: int, latency_s: float) -> Iterator[Server]:
    """The embedded origin, which can wait before it answers (nginx cannot); files are at /files/000000.bin and on."""
    with start_origin(OriginSettings(files=files, size=size, latency_s=latency_s)) as origin:
        yield Server(origin.url, origin.pid)


def pinned(command: list[str], cores: str | None) -> list[str]:
    """The command, on these cores only."""
    return ["taskset", "-c", cores, *command] if cores else command


def _wait_listening(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise SystemExit("nginx did not start")
