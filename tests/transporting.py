"""What the tests of `eventflow.http.Transport` start with: a client over it, in a trio run of its own."""

import contextlib
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import trio

from eventflow.http import Transport

T = TypeVar("T")
FOR_THIS_HOST = "subjectAltName=IP:127.0.0.1"


def with_client(run: Callable[[httpx.AsyncClient], Awaitable[T]], **options: Any) -> T:
    """What `run` gives with a client; a test that hangs fails after ten seconds."""

    async def main() -> T:
        with trio.fail_after(10):
            async with httpx.AsyncClient(transport=Transport(**options), timeout=5) as client:
                return await run(client)

    return trio.run(main)


def ask(method: str, url: str, *, transport: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
    """One request with a client of its own."""

    async def run(client: httpx.AsyncClient) -> httpx.Response:
        return await client.request(method, url, **options)

    return with_client(run, **(transport or {}))


def open_sockets() -> int:
    """How many sockets this process holds."""
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder's own
            count += str(path.readlink()).startswith("socket:")
    return count


def certificate(folder: Path, names: str = FOR_THIS_HOST) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A certificate of its own making: the server's side, and a client's that trusts it."""
    key, path = folder / "it.key", folder / "it.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(path), "-days", "1", "-subj", "/CN=a", "-addext", names]
    subprocess.run([*command, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return context, ssl.create_default_context(cafile=path)
