"""What the origin says to a request for a file. Pure: what is asked and how it goes wrong in, an answer out.

Invariants:
    the body has as many bytes as its head says, unless the fault is that it has not;
    an answer to HEAD has no body (RFC 9110 §9.3.2), so the faults of bodies do not befall it;
    the same ETag always means the same bytes.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from eventflow.origin.content import pieces
from eventflow.origin.settings import Fault, OriginSettings, file_size

LAST_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
BODY_FAULTS = frozenset({Fault.STALL, Fault.SHORT_BODY, Fault.WRONG_LENGTH, Fault.WRONG_BYTES})
_DIGITS_MAX = 18  # more than any file's size, and less than what int() takes long for
_WRONG = bytes(255 - byte for byte in range(256))
_PHRASES = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    416: "Range Not Satisfiable",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Ending(Enum):
    """What becomes of the connection after an answer."""

    KEPT = "the next request can come"
    CLOSED = "closed in order"
    STALLED = "silent for a time, then closed"
    RESET = "closed with a RST"


class Request(NamedTuple):
    """What was asked."""

    method: bytes
    target: bytes
    range: str = ""
    if_range: str = ""
    kept: bool = True
    chunked: bool = True


class Answer(NamedTuple):
    """What is said: a head, `length` bytes of body, and what happens then."""

    head: bytes
    body: Iterator[bytes] = iter(())
    length: int = 0
    ending: Ending = Ending.KEPT


def head(status: int, fields: str, kept: bool) -> bytes:
    """A status line and header fields, each of which ends with CRLF."""
    closing = "" if kept else "Connection: close\r\n"
    return f"HTTP/1.1 {status} {_PHRASES[status]}\r\n{fields}{closing}\r\n".encode()


def short_answer(status: int, fields: str, kept: bool) -> Answer:
    """An answer without a body."""
    length = "" if status == 204 else "Content-Length: 0\r\n"  # RFC 9110 §8.6
    return Answer(head(status, fields + length, kept), ending=Ending.KEPT if kept else Ending.CLOSED)


def file_number(target: bytes, files: int) -> int | None:
    """The number in `/files/000017.bin`, if there is such a file."""
    path = target.partition(b"?")[0]
    digits = path.removeprefix(b"/files/").removesuffix(b".bin")
    if len(digits) != len(path) - 11 or not digits.isdigit() or len(digits) > _DIGITS_MAX:
        return None
    number = int(digits)
    return number if number < files else None


def answer_file(settings: OriginSettings, request: Request, number: int, fault: Fault | None) -> Answer:
    """The answer to a GET or HEAD of file `number`, gone wrong in the way of `fault`."""
    if request.method == b"HEAD" and fault in BODY_FAULTS:
        fault = None
    if fault in (Fault.RESET, Fault.REFUSE):
        return Answer(b"", ending=Ending.RESET)
    if fault is Fault.ERROR:
        return short_answer(500, "", request.kept)
    if fault is Fault.UNAVAILABLE:
        return short_answer(503, f"Retry-After: {settings.retry_after_s}\r\n", request.kept)
    size = file_size(settings, number)
    etag = f'"{settings.seed}-{number}-{size}"'
    start, end, status = wanted_range(request, size, etag)
    if status == 416:
        return short_answer(416, f"Content-Range: bytes */{size}\r\n", request.kept)
    body, length, ending = _body(settings, number, start, end, fault)
    # Half of nothing is nothing: an empty body is cut short by promising a byte.
    promised = end - start + (fault is Fault.WRONG_LENGTH or (fault is Fault.SHORT_BODY and start == end))
    fields = f"Content-Type: application/octet-stream\r\nETag: {etag}\r\nLast-Modified: {LAST_MODIFIED}\r\n"
    fields += f"Accept-Ranges: bytes\r\nContent-Length: {promised}\r\n"
    if status == 206:
        fields += f"Content-Range: bytes {start}-{end - 1}/{size}\r\n"
    if ending is Ending.KEPT and not request.kept:
        ending = Ending.CLOSED
    if request.method == b"HEAD":
        body, length = iter(()), 0
    return Answer(head(status, fields, request.kept), body, length, ending)


def _body(
    settings: OriginSettings, number: int, start: int, end: int, fault: Fault | None
) -> tuple[Iterator[bytes], int, Ending]:
    """The bytes that are sent, how many, and what happens then."""
    match fault:
        case Fault.STALL:
            return iter(()), 0, Ending.STALLED
        case Fault.SHORT_BODY:
            half = (end - start) // 2
            return pieces(settings, number, start, start + half), half, Ending.CLOSED
        case Fault.WRONG_LENGTH:
            return pieces(settings, number, start, end), end - start, Ending.CLOSED
        case Fault.WRONG_BYTES:
            wrong = (piece.translate(_WRONG) for piece in pieces(settings, number, start, end))
            return wrong, end - start, Ending.KEPT
    return pieces(settings, number, start, end), end - start, Ending.KEPT


def wanted_range(request: Request, size: int, etag: str) -> tuple[int, int, int]:
    """Start, end and status: 200 for all, 206 for a part, 416 for a part that is not there.

    RFC 9110 §14.2: only GET has ranges; one range, and only if If-Range names this very file. Several, another unit and
    nonsense are answered with the whole file.
    """
    unit, _, wanted = request.range.partition("=")
    if request.method != b"GET" or unit.strip().lower() != "bytes" or request.if_range not in ("", etag, LAST_MODIFIED):
        return 0, size, 200
    first, dash, last = wanted.strip().partition("-")
    digits = first + last
    if not dash or not (digits.isascii() and digits.isdigit()) or max(len(first), len(last)) > _DIGITS_MAX:
        return 0, size, 200
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end, 206) if start < end else (0, 0, 416)
