"""A small, good client in each Python library, for `benchmarks/fetch.py`: `_fetch_peer.py KIND LIST OUT CONNECTIONS`.

LIST has a URL a line. Prints `{"seconds": ...}`: from the first client object to the last file, without imports and
start-up. KIND `check-LIBRARY` only imports it. Needs nothing but the library, since it runs in any interpreter.
"""

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHUNK = 256 << 10


def main() -> None:
    """Run one client and print how long it took."""
    kind = sys.argv[1]
    if kind.startswith("check-"):
        for name in kind.removeprefix("check-").split("+"):
            importlib.import_module(name)
        return
    urls = Path(sys.argv[2]).read_text(encoding="ascii").split()
    run = CLIENTS[kind](urls, Path(sys.argv[3]), int(sys.argv[4]))
    start = time.perf_counter()
    run()
    print(json.dumps({"seconds": time.perf_counter() - start}))


def with_aiohttp(urls: list[str], out: Path, connections: int) -> Callable[[], None]:
    """One session, as many tasks as connections."""
    aiohttp: Any = importlib.import_module("aiohttp")

    async def fetch_some(session: Any, pending: Iterator[str]) -> None:
        for url in pending:
            async with session.get(url) as response:
                response.raise_for_status()
                with (out / _name(url)).open("wb", buffering=0) as file:
                    async for chunk in response.content.iter_chunked(CHUNK):
                        file.write(chunk)

    async def run() -> None:
        connector, no_limit = aiohttp.TCPConnector(limit=connections), aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=no_limit) as session:
            pending = iter(urls)
            await asyncio.gather(*(fetch_some(session, pending) for _ in range(connections)))

    return lambda: asyncio.run(run())


def with_httpx_asyncio(urls: list[str], out: Path, connections: int) -> Callable[[], None]:
    """One client, as many tasks as connections, on asyncio."""
    httpx: Any = importlib.import_module("httpx")

    async def run() -> None:
        async with _httpx_client(httpx, connections) as client:
            pending = iter(urls)
            await asyncio.gather(*(_fetch_with_httpx(client, pending, out) for _ in range(connections)))

    return lambda: asyncio.run(run())


def with_httpx_trio(urls: list[str], out: Path, connections: int) -> Callable[[], None]:
    """The same on trio."""
    httpx: Any = importlib.import_module("httpx")
    trio: Any = importlib.import_module("trio")

    async def run() -> None:
        pending = iter(urls)
        async with _httpx_client(httpx, connections) as client, trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(_fetch_with_httpx, client, pending, out)

    return lambda: trio.run(run)


def with_pycurl(urls: list[str], out: Path, connections: int) -> Callable[[], None]:
    """One multi handle, and as many easy handles as connections, used again and again."""
    pycurl: Any = importlib.import_module("pycurl")

    def begin(multi: Any, handle: Any, url: str) -> None:
        handle.file = (out / _name(url)).open("wb", buffering=0)
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.WRITEFUNCTION, handle.file.write)
        multi.add_handle(handle)

    def run() -> None:
        multi, pending = pycurl.CurlMulti(), iter(urls)
        multi.setopt(pycurl.M_MAXCONNECTS, connections)
        running = 0
        for url in urls[:connections]:
            next(pending)
            handle = pycurl.Curl()
            handle.setopt(pycurl.FAILONERROR, 1)
            handle.setopt(pycurl.BUFFERSIZE, CHUNK)
            begin(multi, handle, url)
            running += 1
        while running:
            while multi.perform()[0] == pycurl.E_CALL_MULTI_PERFORM:
                pass
            _, done, failed = multi.info_read(connections)
            if failed:
                raise SystemExit(f"pycurl: {failed[0]}")
            for handle in done:
                multi.remove_handle(handle)
                handle.file.close()
                if (following := next(pending, None)) is not None:
                    begin(multi, handle, following)
                else:
                    running -= 1
            if running and not done:
                multi.select(1.0)

    return run


CLIENTS = {
    "aiohttp": with_aiohttp,
    "httpx-asyncio": with_httpx_asyncio,
    "httpx-trio": with_httpx_trio,
    "pycurl": with_pycurl,
}


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _httpx_client(httpx: Any, connections: int) -> Any:
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(limits=limits, timeout=None, trust_env=False)


async def _fetch_with_httpx(client: Any, pending: Iterator[str], out: Path) -> None:
    for url in pending:
        async with client.stream("GET", url) as response:
            response.raise_for_status()
            with (out / _name(url)).open("wb", buffering=0) as file:
                async for chunk in response.aiter_raw():
                    file.write(chunk)


if __name__ == "__main__":
    main()
