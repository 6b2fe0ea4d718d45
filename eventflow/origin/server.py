"""The server: HTTP/1.1 on asyncio and httptools, so that it costs less than whatever is measured against it.

Invariants:
    responses leave in the order of the requests of a connection, pipelined or not;
    a connection holds at most a megabyte of a body in memory.
"""

import asyncio
import socket
import struct
from collections import Counter, deque
from collections.abc import Iterator
from itertools import chain

import httptools

from eventflow.origin.content import checksum, file_name, pieces
from eventflow.origin.settings import Fault, OriginSettings, Plan, decide, file_size, is_refused

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_SMALL = 256 << 10
_TICK_SECONDS = 0.02
_LAST_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


class Site:
    """What all connections share.

    The settings, how often each file was asked for, and the address where nothing listens.
    """

    def __init__(self, settings: OriginSettings) -> None:
        self.settings = settings
        self.tries: Counter[int] = Counter()
        self.host, self.port, self.refusing_port = "127.0.0.1", 0, 0
        self.refusing: socket.socket | None = None

    def url(self, number: int) -> str:
        """Where file `number` is."""
        port = self.refusing_port if is_refused(self.settings, number) else self.port
        return f"http://{self.host}:{port}/files/{file_name(number)}"

    def manifest(self) -> Iterator[bytes]:
        """The list of all files: URL, name, SHA-256, a line each."""
        for number in range(self.settings.files):
            yield f"{self.url(number)}\t{file_name(number)}\t{checksum(self.settings, number)}\n".encode()

    def plan(self, number: int) -> Plan:
        """What happens to the next try of a file."""
        attempt = self.tries[number]
        self.tries[number] += 1
        return decide(self.settings, number, attempt)


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._parser = httptools.HttpRequestParser(self)
        self._requests: deque[tuple[bytes, bytes, dict[bytes, bytes]]] = deque()
        self._busy = self._closed = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._url, self._headers = b"", dict[bytes, bytes]()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        """Bytes came: parse them; whole requests are answered in turn."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self._transport.close()
            return
        if not self._busy:
            self._answer_next()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        del exc
        self._closed = True
        self._writable.set()
        if self._task:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._writable.set()

    def on_message_begin(self) -> None:
        """httptools: a request begins."""
        self._url, self._headers = b"", {}

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header."""
        self._headers[name.lower()] = value

    def on_message_complete(self) -> None:
        """httptools: the request is whole."""
        self._requests.append((self._parser.get_method(), self._url, self._headers))

    def _answer_next(self) -> None:
        """Answer the requests that wait, until one takes time."""
        while self._requests and not self._closed:
            method, url, headers = self._requests.popleft()
            number = _file_number(url, self._site.settings.files)
            if number is None:
                self._answer_other(method, url)
                continue
            plan = self._site.plan(number)
            if plan.latency_s > 0:
                self._busy = True
                self._loop.call_later(plan.latency_s, self._answer_late, method, number, headers, plan)
                return
            if self._answer_file(method, number, headers, plan):
                return

    def _answer_late(self, method: bytes, number: int, headers: dict[bytes, bytes], plan: Plan) -> None:
        self._busy = False
        if not self._closed and not self._answer_file(method, number, headers, plan):
            self._answer_next()

    def _answer_file(self, method: bytes, number: int, headers: dict[bytes, bytes], plan: Plan) -> bool:
        """Answer a request for a file. True if the connection is not ready for the next request yet."""
        if plan.fault:
            return self._fail(number, plan.fault)
        settings = self._site.settings
        size, etag = file_size(settings, number), f'"{settings.seed}-{number}"'
        start, end, status = _range(headers, size, etag)
        if status == 416:
            self._head(416, 0, f"Content-Range: bytes */{size}\r\n")
            return False
        extra = f"ETag: {etag}\r\nLast-Modified: {_LAST_MODIFIED}\r\nAccept-Ranges: bytes\r\n"
        if status == 206:
            extra += f"Content-Range: bytes {start}-{end - 1}/{size}\r\n"
        self._head(status, end - start, extra)
        if method == b"HEAD":
            return False
        return self._send(pieces(settings, number, start), end - start)

    def _send(self, body: Iterator[bytes], length: int) -> bool:
        if length <= _SMALL and self._site.settings.bandwidth is None:
            for piece in body:
                self._transport.write(piece[:length])
                length -= min(length, len(piece))
                if not length:
                    break
            return False
        self._busy = True
        self._task = self._loop.create_task(self._stream(body, length))
        return True

    async def _stream(self, body: Iterator[bytes], length: int) -> None:
        bandwidth = self._site.settings.bandwidth
        step = max(1, int(bandwidth * _TICK_SECONDS)) if bandwidth else _SMALL
        begun, sent = self._loop.time(), 0
        for piece in body:
            for place in range(0, len(piece), step):
                part = piece[place : place + min(step, length - sent)]
                await self._writable.wait()
                if self._closed or not part:
                    break
                self._transport.write(part)
                sent += len(part)
                if bandwidth:
                    await asyncio.sleep(begun + sent / bandwidth - self._loop.time())
        self._busy = False
        self._answer_next()

    def _fail(self, number: int, fault: Fault) -> bool:
        settings = self._site.settings
        size = file_size(settings, number)
        match fault:
            case Fault.ERROR:
                self._head(500, 0)
                return False
            case Fault.UNAVAILABLE:
                self._head(503, 0, f"Retry-After: {settings.retry_after_s}\r\n")
                return False
            case Fault.WRONG_BYTES:
                self._head(200, size)
                return self._send((bytes(255 - byte for byte in piece) for piece in pieces(settings, number)), size)
            case Fault.RESET | Fault.REFUSE:
                self._reset()
            case Fault.STALL:
                self._head(200, size)
                self._loop.call_later(settings.stall_s, self._transport.close)
            case Fault.SHORT_BODY:
                self._head(200, size)
                self._transport.write(next(chain(pieces(settings, number), (b"",)))[: size // 2])
                self._transport.close()
            case Fault.WRONG_LENGTH:
                self._head(200, size + 1)
                self._send(pieces(settings, number), size)
                self._busy = True
                self._loop.call_later(0.05, self._transport.close)
        self._busy = True
        return True

    def _reset(self) -> None:
        """Close with RST in place of FIN, as a crashed server does."""
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def _answer_other(self, method: bytes, url: bytes) -> None:
        if url == b"/manifest.tsv" and method == b"GET":
            self._busy = True
            self._task = self._loop.create_task(self._send_manifest())
        elif url == b"/-/reset" and method == b"POST":
            self._site.tries.clear()
            self._head(204, None)
        else:
            self._head(404, 0)

    async def _send_manifest(self) -> None:
        self._head(200, None, "Connection: close\r\nContent-Type: text/tab-separated-values\r\n")
        for line in self._site.manifest():
            await self._writable.wait()
            if self._closed:
                return
            self._transport.write(line)
            await asyncio.sleep(0)
        self._transport.close()

    def _head(self, status: int, length: int | None, extra: str = "") -> None:
        measured = f"Content-Length: {length}\r\n" if length is not None else ""
        kind = "" if "Content-Type" in extra else "Content-Type: application/octet-stream\r\n"
        self._transport.write(f"HTTP/1.1 {status} {_PHRASES[status]}\r\n{measured}{kind}{extra}\r\n".encode())


_PHRASES = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    404: "Not Found",
    416: "Range Not Satisfiable",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def _file_number(url: bytes, files: int) -> int | None:
    path = url.split(b"?", 1)[0]
    name = path.removeprefix(b"/files/")
    if name == path or not name.endswith(b".bin") or not name[:-4].isdigit():
        return None
    number = int(name[:-4])
    return number if number < files else None


def _range(headers: dict[bytes, bytes], size: int, etag: str) -> tuple[int, int, int]:
    """Start, end and status for a request (RFC 9110 §14).

    A single range, and only if If-Range names this very entity.
    """
    wanted = headers.get(b"range", b"").decode("latin-1")
    condition = headers.get(b"if-range", etag.encode()).decode("latin-1")
    if not wanted.startswith("bytes=") or "," in wanted or condition not in (etag, _LAST_MODIFIED):
        return 0, size, 200
    first, dash, last = wanted.removeprefix("bytes=").strip().partition("-")
    if not dash or not (first + last).isdigit():
        return 0, size, 200
    if not first:
        start, end = max(0, size - int(last)), size
        return (start, end, 206) if int(last) and size else (0, 0, 416)
    start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end, 206) if start < size and start < end else (0, 0, 416)


async def serve(site: Site, host: str, port: int) -> asyncio.Server:
    """Listen. The address where nothing listens is bound too, so that nobody else can listen there."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(site), host, port, backlog=4096)
    site.host, site.port = host, server.sockets[0].getsockname()[1]
    refusing = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    refusing.bind((host, 0))
    site.refusing_port = refusing.getsockname()[1]
    site.refusing = refusing  # kept open as long as the site
    return server
