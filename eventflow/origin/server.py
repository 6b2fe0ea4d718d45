"""The server: HTTP/1.1 on asyncio and httptools, so that it costs less than whatever is measured against it.

What to say is decided in `eventflow.origin.answer`; here it is said, at the right time and speed.

Invariants:
    answers leave in the order of the requests of a connection, pipelined or not;
    a connection holds a bounded number of requests and bytes, whatever the client sends, reads or does not read.
"""

import asyncio
import resource
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from functools import partial

import httptools

from eventflow.origin.answer import Answer, Ending, Request, answer_file, file_number, head, short_answer
from eventflow.origin.content import PIECE_BYTES
from eventflow.origin.scarce import Link, Places
from eventflow.origin.settings import Fault, latency_factor
from eventflow.origin.site import Entry, Site

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_TICK_SECONDS = 0.02
_REQUESTS_WAITING_MAX = 64
_REQUEST_BYTES_MAX = 64 << 10
_UNREADABLE = Request(b"", b"", kept=False)
_LISTS = {
    b"/manifest.tsv": ("text/tab-separated-values", Entry.tsv),
    b"/manifest.jsonl": ("application/jsonl", Entry.jsonl),
}


class Shared:
    """What the connections to a site share: its places, its link, and when it began."""

    def __init__(self, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        settings = site.settings
        self.places = Places(settings.concurrency, loop.call_soon) if settings.concurrency else None
        self.link = Link(settings.total_bandwidth) if settings.total_bandwidth else None
        self.begun_s = loop.time()


class Connection(asyncio.Protocol):
    """One client's connection.

    `_busy` is set while an answer takes time, and stays set when there will be no other: the requests wait.
    `_placed` is set while one of the places that all connections share is held.
    """

    def __init__(self, site: Site, shared: Shared) -> None:
        self._site, self._shared = site, shared
        self._placed = self._lost = False
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._unfinished_bytes = 0
        self._busy = self._deaf = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._target, self._range, self._if_range = b"", "", ""
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        """Bytes came: parse them; whole requests are answered in turn."""
        if self._deaf:
            return
        self._unfinished_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse_more()
        if self._unfinished_bytes > _REQUEST_BYTES_MAX:
            self._refuse_more()
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was sent away."""
        del exc
        self._busy = self._lost = True
        self._leave()
        self._waiting.clear()
        if self._task:
            self._task.cancel()
        if self._timer:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._writable.set()
        self._advance()

    def on_message_begin(self) -> None:
        """httptools: a request begins."""
        self._target, self._range, self._if_range = b"", "", ""

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the request's target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header field. Two of them matter."""
        match name.lower():
            case b"range":
                self._range = value.decode("latin-1")
            case b"if-range":
                self._if_range = value.decode("latin-1")

    def on_message_complete(self) -> None:
        """httptools: the request is whole."""
        newest = self._parser.get_http_version() == "1.1"
        kept = newest and self._parser.should_keep_alive()
        request = Request(self._parser.get_method(), self._target, self._range, self._if_range, kept, newest)
        self._waiting.append(request)
        self._unfinished_bytes = 0

    def _parse(self, data: bytes) -> None:
        """Feed the parser. An offer to speak another protocol is passed over (RFC 9110 §7.8)."""
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
            else:
                return

    def _refuse_more(self) -> None:
        """What came is no HTTP, or has no end: say so after the answers that are due, and listen no more."""
        if not self._deaf:
            self._waiting.append(_UNREADABLE)
        self._deaf = True

    def _advance(self) -> None:
        """Answer the requests that wait, until one takes time or the client does not read."""
        while self._waiting and not self._busy and self._writable.is_set():
            self._begin(self._waiting.popleft())
        # A client that sends much faster than it is answered is left in the socket's buffers.
        if len(self._waiting) > _REQUESTS_WAITING_MAX:
            self._transport.pause_reading()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def _begin(self, request: Request) -> None:
        number = file_number(request.target, self._site.settings.files)
        if number is None or request.method not in (b"GET", b"HEAD"):
            self._begin_other(request, known=number is not None)
            return
        places = self._shared.places
        if places is None or places.enter(partial(self._admitted, request, number)):
            self._placed = places is not None
            self._handle(request, number)
        else:
            self._busy = True

    def _admitted(self, request: Request, number: int) -> None:
        """Its turn has come; the client may have gone while it waited."""
        self._placed = True
        if self._lost:
            self._leave()
            return
        self._busy = False
        self._handle(request, number)
        self._advance()

    def _leave(self) -> None:
        if self._placed and self._shared.places:
            self._placed = False
            self._shared.places.leave()

    def _handle(self, request: Request, number: int) -> None:
        settings = self._site.settings
        plan = self._site.plan(number)
        latency_s = plan.latency_s * latency_factor(settings, self._loop.time() - self._shared.begun_s)
        if latency_s > 0:
            self._busy = True
            self._timer = self._loop.call_later(latency_s, self._begin_late, request, number, plan.fault)
        else:
            self._compute(request, number, plan.fault)

    def _begin_late(self, request: Request, number: int, fault: Fault | None) -> None:
        self._busy = False
        self._compute(request, number, fault)
        self._advance()

    def _compute(self, request: Request, number: int, fault: Fault | None) -> None:
        """Take the CPU time that it costs. Nobody else has a turn meanwhile: that is what it is for."""
        if self._site.settings.cpu_s:
            end_s = time.thread_time() + self._site.settings.cpu_s
            while time.thread_time() < end_s:
                pass
        self._say(answer_file(self._site.settings, request, number, fault))

    def _begin_other(self, request: Request, known: bool) -> None:
        """Whatever is not the GET or HEAD of a file."""
        reading = request.method in (b"GET", b"HEAD")
        if request is _UNREADABLE:
            self._say(short_answer(400, "", kept=False))
        elif request.target in _LISTS and reading:
            self._say_list(request)
        elif request.target == b"/-/reset" and request.method == b"POST":
            self._site.tries.clear()
            self._shared.begun_s = self._loop.time()
            self._say(short_answer(204, "", request.kept))
        elif known or request.target in _LISTS:
            self._say(short_answer(405, "Allow: GET, HEAD\r\n", request.kept))
        else:
            self._say(short_answer(404, "", request.kept))

    def _say(self, answer: Answer) -> None:
        bandwidth = self._site.settings.bandwidth
        limited = bandwidth is not None or self._shared.link is not None
        if answer.length <= PIECE_BYTES and not (limited and answer.length):
            self._transport.write(b"".join((answer.head, *answer.body)))
            self._end(answer.ending)
        else:
            self._transport.write(answer.head)
            self._stream(answer.body, answer.ending, bandwidth)

    def _say_list(self, request: Request) -> None:
        """The list of files, made while it is sent. Only HTTP/1.1 knows a body whose end is said at its end."""
        kind, line = _LISTS[request.target]
        fields = f"Content-Type: {kind}\r\n" + ("Transfer-Encoding: chunked\r\n" if request.chunked else "")
        self._transport.write(head(200, fields, request.kept))
        lines = (line(entry) for entry in self._site.entries())
        ending = Ending.KEPT if request.kept else Ending.CLOSED
        if request.method == b"HEAD":
            self._end(ending)
        else:
            self._stream(_chunked(lines) if request.chunked else lines, ending, None)

    def _stream(self, body: Iterator[bytes], ending: Ending, bandwidth: int | None) -> None:
        self._busy = True
        self._task = self._loop.create_task(self._send(body, ending, bandwidth))

    async def _send(self, body: Iterator[bytes], ending: Ending, bandwidth: int | None) -> None:
        """Send at `bandwidth` bytes a second. Other connections have their turn after each piece."""
        link = self._shared.link
        rates = [rate for rate in (bandwidth, link and link.bandwidth) if rate]
        step = max(1, int(min(rates) * _TICK_SECONDS)) if rates else PIECE_BYTES
        begun, sent = self._loop.time(), 0
        for piece in body:
            for place in range(0, len(piece), step):
                part = piece[place : place + step]
                if link:
                    await asyncio.sleep(link.reserve(self._loop.time(), len(part)) - self._loop.time())
                await self._writable.wait()
                self._transport.write(part)
                sent += len(part)
                await asyncio.sleep(begun + sent / bandwidth - self._loop.time() if bandwidth else 0)
        self._busy = False
        self._end(ending)
        self._advance()

    def _end(self, ending: Ending) -> None:
        """What comes after an answer."""
        if ending is not Ending.STALLED:
            self._leave()
        if ending is Ending.KEPT:
            return
        self._busy = self._deaf = True
        if ending is Ending.CLOSED:
            self._transport.close()
        elif ending is Ending.STALLED:
            self._timer = self._loop.call_later(self._site.settings.stall_s, self._transport.close)
        else:
            self._reset()

    def _reset(self) -> None:
        """Close with RST in place of FIN, as a crashed server does."""
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()


def _chunked(body: Iterator[bytes]) -> Iterator[bytes]:
    """A body in chunks (RFC 9112 §7.1), so that the client can tell its end from a broken connection."""
    for piece in body:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


async def serve(site: Site, port: int) -> asyncio.Server:
    """Listen at the site's host. The address where nothing listens is bound too, so that nobody else can listen there.

    Raises:
        OSError: the address is not of this machine, or in use.
    """
    loop = asyncio.get_running_loop()
    shared = Shared(site, loop)
    server = await loop.create_server(lambda: Connection(site, shared), site.host, port, backlog=4096)
    site.port = server.sockets[0].getsockname()[1]
    refusing = socket.socket(server.sockets[0].family, socket.SOCK_STREAM)
    refusing.bind((server.sockets[0].getsockname()[0], 0))
    site.refusing_port = refusing.getsockname()[1]
    site.refusing = refusing  # kept open as long as the site
    return server


def allow_many_connections() -> None:
    """Raise the limit of open files of this process as far as a plain user may: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
