"""Servers that break the rules, on raw sockets: the table of what they do, and what must become of it.

A case is named by its path. It sends bytes, waits, and closes or resets; nothing of it goes through an HTTP library, so
that nothing is put right on the way.
"""

import contextlib
import gzip
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

BODY = b"0123456789" * 100
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
PAUSE_SECONDS = 1.6  # longer than the client's timeout
_LIMIT = 32 << 20  # of what an endless case sends


@dataclass(frozen=True)
class Case:
    """What a server sends, and what must happen.

    Args:
        send: the bytes, or a function of the connection; the connection is closed behind them.
        stored: the body that must be stored, None where the request must fail.
        error: the error that it must fail with.
        kept: whether the connection stays open after the bytes.
    """

    send: bytes | Callable[[socket.socket], None]
    stored: bytes | None = None
    error: str | None = None
    kept: bool = False


def ok(body: bytes = BODY, *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """A well-formed response with extra headers."""
    lines = [f"HTTP/{version} {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def raw(head: str, body: bytes = b"") -> bytes:
    """A response as it is written, each line of the head with CRLF."""
    return head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A chunked response."""
    coded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded + end


def reset(before: bytes = b"") -> Callable[[socket.socket], None]:
    """Send, then reset the connection."""

    def act(connection: socket.socket) -> None:
        connection.sendall(before)
        time.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return act


def pause(*pieces: bytes, seconds: float = PAUSE_SECONDS) -> Callable[[socket.socket], None]:
    """Send the pieces with a pause behind each."""

    def act(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(seconds)

    return act


def slowly(data: bytes, seconds: float = 0.001, before: bytes = b"") -> Callable[[socket.socket], None]:
    """Send byte by byte, after something that is sent at once."""

    def act(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(before)
        for place in range(len(data)):
            connection.sendall(data[place : place + 1])
            time.sleep(seconds)

    return act


def endless(begin: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    """Send the same again and again, until the other side has had enough."""

    def act(connection: socket.socket) -> None:
        connection.sendall(begin)
        for _ in range(_LIMIT // len(piece)):
            connection.sendall(piece)

    return act


def _bomb() -> bytes:
    return gzip.compress(bytes(64 << 20), 9)


_CASES: dict[str, Case] = {
    # A server that ends early.
    "close-at-once": Case(b"", error="ConnectionLost"),
    "close-in-status-line": Case(b"HTTP/1.1 20", error="ConnectionLost"),
    "close-in-headers": Case(b"HTTP/1.1 200 OK\r\nContent-Le", error="ConnectionLost"),
    "close-before-body": Case(_OK % 10, error="ShortBody"),
    "close-in-body": Case(_OK % 1000 + b"x" * 10, error="ShortBody"),
    "close-in-chunk": Case(chunked(b"abc", end=b"ff\r\nabc"), error="ShortBody"),
    "close-before-last-chunk": Case(chunked(b"abc", end=b""), error="ShortBody"),
    "close-in-trailers": Case(chunked(b"abc", end=b"0\r\nA: b\r\n"), error="ShortBody"),
    "reset-at-once": Case(reset(), error="ConnectionLost"),
    "reset-in-headers": Case(reset(b"HTTP/1.1 200 OK\r\nA"), error="ConnectionLost"),
    "reset-in-body": Case(reset(_OK % 1000 + b"x"), error="ConnectionLost"),
    "reset-in-large-body": Case(reset(_OK % (1 << 20) + b"x" * 70_000), error="ConnectionLost"),
    # A server that is slow.
    "silence": Case(pause(b""), error="TimedOut"),
    "silence-in-headers": Case(pause(b"HTTP/1.1 200 OK\r\n"), error="TimedOut"),
    "silence-in-body": Case(pause(_OK % 1000 + b"x"), error="TimedOut"),
    "silence-in-large-body": Case(pause(_OK % (1 << 20) + b"x" * 300_000), error="TimedOut"),
    "headers-for-ever": Case(slowly(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100, 0.05), error="TimedOut"),
    "body-one-byte-at-a-time": Case(slowly(b"y" * 100, 0.05, before=_OK % 100), error="TooSlow"),
    "byte-by-byte": Case(slowly(ok(b"abc")), stored=b"abc"),
    "chunks-byte-by-byte": Case(slowly(chunked(b"abc", b"de")), stored=b"abcde"),
    # Lengths.
    "longer-than-said": Case(ok(BODY) + b"more", stored=BODY),
    "length-twice-the-same": Case(
        raw("HTTP/1.1 200 OK\nContent-Length: 3\nContent-Length: 3", b"abc"), error="BadResponse"
    ),
    "length-twice": Case(raw("HTTP/1.1 200 OK\nContent-Length: 3\nContent-Length: 4", b"abcd"), error="BadResponse"),
    "length-list": Case(raw("HTTP/1.1 200 OK\nContent-Length: 3, 3", b"abc"), error="BadResponse"),
    "length-negative": Case(raw("HTTP/1.1 200 OK\nContent-Length: -3", b"abc"), error="BadResponse"),
    "length-plus": Case(raw("HTTP/1.1 200 OK\nContent-Length: +3", b"abc"), error="BadResponse"),
    "length-hex": Case(raw("HTTP/1.1 200 OK\nContent-Length: 0x3", b"abc"), error="BadResponse"),
    "length-empty": Case(raw("HTTP/1.1 200 OK\nContent-Length:", b"abc"), error="BadResponse"),
    "length-overflow": Case(raw("HTTP/1.1 200 OK\nContent-Length: 99999999999999999999", b"abc"), error="BadResponse"),
    "length-too-large": Case(_OK % (1 << 40), error="BodyTooLarge"),
    "length-and-chunked": Case(
        raw("HTTP/1.1 200 OK\nContent-Length: 3\nTransfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"),
        error="BadResponse",
    ),
    "no-length": Case(raw("HTTP/1.1 200 OK", BODY), stored=BODY),
    "no-length-1.0": Case(raw("HTTP/1.0 200 OK", BODY), stored=BODY),
    "empty": Case(ok(b""), stored=b""),
    # Chunks.
    "chunk-size-overflow": Case(chunked(end=b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"), error="BadResponse"),
    "chunk-size-negative": Case(chunked(end=b"-3\r\nabc\r\n0\r\n\r\n"), error="BadResponse"),
    "chunk-size-missing": Case(chunked(end=b"\r\nabc\r\n0\r\n\r\n"), error="BadResponse"),
    "chunk-without-end": Case(chunked(end=b"3\r\nabcd\r\n0\r\n\r\n"), error="BadResponse"),
    "chunk-extension": Case(chunked(end=b'3;a="b"\r\nabc\r\n0\r\n\r\n'), stored=b"abc"),
    "trailers": Case(chunked(b"abc", end=b"0\r\nServer-Timing: a\r\nA: b\r\n\r\n"), stored=b"abc"),
    "trailer-length": Case(chunked(b"abc", end=b"0\r\nContent-Length: 99\r\n\r\n"), error="BadResponse"),
    "trailers-for-ever": Case(
        endless(chunked(b"abc", end=b"0\r\n"), b"A: " + b"b" * 1000 + b"\r\n"), error="HeadTooLarge"
    ),
    "chunked-twice": Case(
        raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked, chunked", b"3\r\nabc\r\n0\r\n\r\n"), error="BadResponse"
    ),
    "coding-unknown": Case(raw("HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked", b"0\r\n\r\n"), error="BadResponse"),
    "chunked-in-1.0": Case(raw("HTTP/1.0 200 OK\nTransfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"), stored=b"abc"),
    "body-for-ever": Case(endless(raw("HTTP/1.1 200 OK"), b"z" * 65536), error="BodyTooLarge"),
    "chunks-for-ever": Case(endless(chunked(end=b""), b"1000\r\n" + b"z" * 4096 + b"\r\n"), error="BodyTooLarge"),
    # Headers.
    "header-for-ever": Case(endless(b"HTTP/1.1 200 OK\r\nA: ", b"b" * 4096), error="HeadTooLarge"),
    "headers-without-end": Case(endless(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 100), error="HeadTooLarge"),
    "header-large": Case(ok(BODY, "A: " + "b" * 60_000), stored=BODY),
    "header-too-large": Case(ok(BODY, "A: " + "b" * 70_000), error="HeadTooLarge"),
    "folded": Case(ok(BODY, "A: b\r\n c"), error="BadResponse"),
    "nul-in-header": Case(ok(BODY, "A: b\0c"), error="BadResponse"),
    "cr-in-header": Case(ok(BODY, "A: b\rc"), error="BadResponse"),
    "bare-lf": Case(b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", error="BadResponse"),
    "blank-before-colon": Case(ok(BODY, "A : b"), error="BadResponse"),
    "name-empty": Case(ok(BODY, ": b"), error="BadResponse"),
    "no-colon": Case(ok(BODY, "nonsense"), error="BadResponse"),
    "latin-1": Case(ok(BODY, "A: caf\xe9"), stored=BODY),
    "reason-missing": Case(b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", stored=b"abc"),
    # Versions and statuses.
    "http-0.9": Case(b"<html>hello</html>", error="BadResponse"),
    "http-1.0": Case(ok(BODY, version="1.0"), stored=BODY),
    "http-2.0": Case(ok(BODY, version="2.0"), error="BadResponse"),
    "http-9.9": Case(ok(BODY, version="9.9"), error="BadResponse"),
    "ssh": Case(b"SSH-2.0-OpenSSH_9.2p1\r\n", error="BadResponse"),
    "status-000": Case(ok(BODY, status="000 Odd"), error="BadResponse"),
    "status-099": Case(ok(BODY, status="099 Odd"), error="BadResponse"),
    "status-1000": Case(ok(BODY, status="1000 Odd"), error="BadResponse"),
    "status-999": Case(ok(BODY, status="999 Odd"), error="BadResponse"),
    "status-abc": Case(ok(BODY, status="abc Odd"), error="BadResponse"),
    "status-204": Case(raw("HTTP/1.1 204 No Content"), stored=b""),
    "status-204-with-a-body": Case(ok(BODY, status="204 No Content"), stored=b""),
    "status-304": Case(raw("HTTP/1.1 304 Not Modified"), error="BadResponse"),
    "status-206": Case(ok(BODY, "Content-Range: bytes 5-1004/2000", status="206 Partial Content"), error="BadResponse"),
    "status-206-multipart": Case(
        ok(BODY, "Content-Type: multipart/byteranges; boundary=x", status="206 Partial Content"), error="BadResponse"
    ),
    "status-300": Case(ok(BODY, status="300 Multiple Choices"), error="BadResponse"),
    "status-401": Case(ok(BODY, "WWW-Authenticate: Basic", status="401 Unauthorized"), error="ClientStatus"),
    "status-416": Case(ok(BODY, "Content-Range: bytes */9", status="416 Range Not Satisfiable"), error="ClientStatus"),
    "status-429": Case(ok(BODY, "Retry-After: 99999999999", status="429 Too Many"), error="ClientStatus"),
    "status-503": Case(ok(BODY, "Retry-After: Wed, 99 Foo 2099 00:00:00 GMT", status="503 Busy"), error="ServerStatus"),
    "error-with-an-endless-body": Case(endless(raw("HTTP/1.1 404 No"), b"z" * 65536), error="ClientStatus"),
    "continue": Case(raw("HTTP/1.1 100 Continue") + ok(BODY), stored=BODY),
    "early-hints": Case(raw("HTTP/1.1 103 Early Hints\nLink: </a>") * 3 + ok(BODY), stored=BODY),
    "processing-with-a-body": Case(
        raw("HTTP/1.1 102 Processing\nContent-Length: 3", b"abc") + ok(BODY), error="BadResponse"
    ),
    "continue-for-ever": Case(endless(b"", raw("HTTP/1.1 100 Continue") * 10), error="HeadTooLarge"),
    "switching": Case(raw("HTTP/1.1 101 Switching\nUpgrade: x\nConnection: upgrade", b"abc"), error="BadResponse"),
    "upgrade-offered": Case(ok(BODY, "Upgrade: h2c", "Connection: Upgrade"), stored=BODY),
    # Redirects.
    "redirect-to-itself": Case(ok(b"", "Location: redirect-to-itself", status="302 Found"), error="TooManyRedirects"),
    "redirect-to-file": Case(ok(b"", "Location: file:///etc/passwd", status="302 Found"), error="BadRedirect"),
    "redirect-to-script": Case(ok(b"", "Location: javascript:alert(1)", status="302 Found"), error="BadRedirect"),
    "redirect-to-nonsense": Case(ok(b"", "Location: http://", status="302 Found"), error="BadRedirect"),
    "redirect-nowhere": Case(ok(b"", status="302 Found"), error="BadResponse"),
    "redirect": Case(ok(b"gone", "Location: /empty", status="301 Moved"), stored=b""),
    "redirect-with-an-endless-body": Case(
        endless(raw("HTTP/1.1 302 Found\nLocation: /empty"), b"z" * 65536), stored=b""
    ),
    # Encodings, which are kept as they are sent unless --decode is given.
    "gzip-bomb": Case(
        lambda connection: connection.sendall(ok(_bomb(), "Content-Encoding: gzip")), error="ExpandsTooMuch"
    ),
    "gzip": Case(ok(gzip.compress(BODY), "Content-Encoding: gzip"), stored=BODY),
    "gzip-truncated": Case(ok(gzip.compress(BODY)[:-9], "Content-Encoding: gzip"), error="BadEncoding"),
    "gzip-none": Case(ok(BODY, "Content-Encoding: gzip"), error="BadEncoding"),
    "deflate": Case(ok(zlib.compress(BODY), "Content-Encoding: deflate"), stored=BODY),
    "encoding-unknown": Case(ok(BODY, "Content-Encoding: rot13"), error="BadEncoding"),
    "encoding-chain": Case(ok(BODY, "Content-Encoding: " + "gzip, " * 30 + "gzip"), error="BadEncoding"),
    # Names, which are never a server's to choose.
    "name-traversal": Case(ok(BODY, 'Content-Disposition: attachment; filename="../../etc/passwd"'), stored=BODY),
    "name-device": Case(ok(BODY, "Content-Disposition: attachment; filename=NUL"), stored=BODY),
    "name-8187": Case(ok(BODY, "Content-Disposition: attachment; filename*=UTF-8''%2e%2e%2fa%00b"), stored=BODY),
    "name-2047": Case(ok(BODY, 'Content-Disposition: attachment; filename="=?utf-8?B?Li4vYQ==?="'), stored=BODY),
    "name-both": Case(ok(BODY, "Content-Disposition: a; filename=a; filename*=UTF-8''b"), stored=BODY),
    "name-huge": Case(ok(BODY, "Content-Disposition: attachment; filename=" + "a" * 5000), stored=BODY),
    "name-empty-given": Case(ok(BODY, 'Content-Disposition: attachment; filename=""'), stored=BODY),
    # What stands behind a response must not become the next one.
    "garbage-behind": Case(ok(BODY) + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", stored=BODY, kept=True),
    "keep-alive-and-close": Case(ok(BODY, "Connection: keep-alive, close"), stored=BODY),
}
CASES = dict(_CASES)


@contextmanager
def hostile_server(host: str = "127.0.0.1", wrap: Callable[[socket.socket], Any] | None = None) -> Iterator[int]:
    """While it is entered, the cases are served on the port that it gives. `wrap` makes TLS of a connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, backlog=512)
    threading.Thread(target=_accept, args=(listener, wrap), daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def _accept(listener: socket.socket, wrap: Callable[[socket.socket], Any] | None) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, wrap), daemon=True).start()


def _serve(plain: socket.socket, wrap: Callable[[socket.socket], Any] | None) -> None:
    with contextlib.suppress(OSError), plain, wrap(plain) if wrap is not None else plain as connection:
        connection.settimeout(20)
        request = b""
        while b"\r\n\r\n" not in request:
            piece = connection.recv(65536)
            if not piece:
                return
            request += piece
        case = CASES.get(request.split(b" ")[1].decode()[1:])
        if case is None:
            connection.sendall(ok(b"", status="404 Not Found"))
            return
        if callable(case.send):
            case.send(connection)
        else:
            connection.sendall(case.send)
        if case.kept:
            time.sleep(0.5)
        if wrap is None:
            _end(connection)


def _end(connection: socket.socket) -> None:
    """Close in order: a socket that closes with something unread would reset what was sent."""
    with contextlib.suppress(OSError):
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("ii", 1, 0):
            return
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1)
        while connection.recv(65536):
            pass
