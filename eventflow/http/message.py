"""Messages of HTTP/1.1: the bytes of a request, and the reader that turns bytes of a connection into a response.

The grammar is llhttp's (httptools), strict; what it leaves open is decided here, always for refusing: the server is a
stranger, and a response that two readers could read in two ways is not to be stored.

Limits are looked at where a block of `head_bytes_max` bytes of the response ends, wherever its reads end, for only so
does it not depend on the network whether a response is too large. The head must be over with the first block; and of
each whole block of a chunked body one byte in 64 must be body, or else it is extensions, trailers or leading zeros that
may never end (Go's reader has such a rule as well, since CVE-2023-39326).

Invariants:
    however the bytes of a response are split into reads, the result is the same;
    memory is bounded by two blocks and by what one `feed` was given;
    a byte that comes after the end of a response makes the connection one that is not used again.
"""

from enum import IntEnum
from typing import Protocol

import httptools
import msgspec

from eventflow.errors import BadResponse, ConnectionLost, HeadTooLarge, RequestError, ShortBody

HEAD_BYTES_MAX = 64 << 10
HEADERS_MAX = 128
INTERIM_MAX = 16
_MESSAGE_MAX = 120
_NO_BODY = frozenset((204, 304))
_BODY_SHARE_MIN = 64  # one byte in so many


class Head(msgspec.Struct, frozen=True):
    """Status line and headers of a response. Names are lower-case; repeated ones are joined by `, ` (RFC 9110 §5.3).

    `length` is Content-Length where it delimits the body, None where something else does.
    """

    status: int
    version: str
    headers: dict[str, str]
    raw: list[tuple[bytes, bytes]]
    length: int | None


class Receiver(Protocol):
    """Who gets a response, piece by piece. What it raises ends the exchange."""

    def on_head(self, head: Head) -> None:
        """The final response's head."""
        ...

    def on_body(self, piece: bytes) -> None:
        """A piece of the body, without its transfer coding. Called while one `feed` goes on, so it must not wait."""
        ...


class Framing(IntEnum):
    """What says where the body ends (RFC 9112 §6.3)."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3


class ResponseReader:
    """Reads the responses of one connection, one after the other: `begin`, then `feed` until `is_complete`."""

    __slots__ = (
        "_block_bytes",
        "_headers",
        "_headers_max",
        "_interims",
        "_is_bodiless",
        "_is_head_only",
        "_is_interim",
        "_parser",
        "_received_before",
        "_receiver",
        "_room",
        "_url",
        "framing",
        "has_surplus",
        "head",
        "is_complete",
        "keeps_alive",
        "received",
    )

    def __init__(self, *, head_bytes_max: int = HEAD_BYTES_MAX, headers_max: int = HEADERS_MAX) -> None:
        self._block_bytes, self._headers_max = head_bytes_max, headers_max
        self._parser: httptools.HttpResponseParser | None = None
        self._receiver: Receiver
        self.is_complete = True
        self.has_surplus = self._is_head_only = self._is_bodiless = False
        self.begin_none()

    def begin_none(self) -> None:
        """Forget what was read, for a new response."""
        self._headers: list[tuple[bytes, bytes]] = []
        self._room = self._block_bytes  # bytes to the end of the block
        self._received_before: int | None = None  # of the body, when the block began; None: the head was not over
        self._interims = 0
        self._is_interim = False
        self.head: Head | None = None
        self.framing = Framing.NONE
        self.keeps_alive = False
        self.received = 0  # bytes of the body so far

    def begin(self, receiver: Receiver, url: str, *, head_only: bool = False) -> None:
        """The next response is for `receiver`; errors name the redacted `url`.

        `head_only`: it answers HEAD, so it has no body whatever its headers say (RFC 9112 §6.3).
        """
        self._receiver, self._url = receiver, url
        # After HEAD the parser still waits for the body that its headers speak of.
        if self._parser is None or self._is_head_only:
            self._parser = httptools.HttpResponseParser(self)
        self._is_head_only = head_only
        self.begin_none()
        self.is_complete = self.has_surplus = False

    def feed(self, data: bytes) -> None:
        """Take what was read from the connection.

        Raises:
            BadResponse, HeadTooLarge: it is no response. Drop the connection.
            Exception: whatever the receiver raised.
        """
        view: bytes | memoryview = data
        while len(view) >= self._room and self._has_blocks():
            block, view = memoryview(view)[: self._room], memoryview(view)[self._room :]
            self._parse(block)
            self._end_block()
        self._room -= len(view)
        self._parse(view)

    def _has_blocks(self) -> bool:
        return self.head is None or (self.framing is Framing.CHUNKED and not self.is_complete)

    def _end_block(self) -> None:
        before, self._room = self._received_before, self._block_bytes
        if self.is_complete:
            return
        if self.head is None:
            raise HeadTooLarge(self._url, f"the headers are larger than {self._block_bytes >> 10} KiB")
        self._received_before = self.received
        is_chunked = self.framing is Framing.CHUNKED
        if is_chunked and before is not None and (self.received - before) * _BODY_SHARE_MIN < self._block_bytes:
            raise HeadTooLarge(self._url, "next to nothing of its chunks is body: extensions or trailers do not end")

    def _parse(self, data: bytes | memoryview) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise BadResponse(self._url, "the server wants to speak another protocol (101)") from None
        except httptools.HttpParserCallbackError as problem:
            raise (problem.__context__ or problem) from None
        except httptools.HttpParserError as problem:
            if not self.is_complete:
                raise BadResponse(self._url, f"not a valid HTTP response ({problem})"[:_MESSAGE_MAX]) from None
            self.has_surplus = True

    def take_over(self) -> int:
        """The bytes that are left of a body with a length; whoever calls this reads them without this reader."""
        assert self.head is not None
        assert self.head.length is not None
        self._parser = None
        self.is_complete = True
        return self.head.length - self.received

    def end(self) -> None:
        """The connection has ended.

        Raises:
            ConnectionLost, ShortBody: the response has not.
        """
        self.keeps_alive = False
        if self.is_complete:
            return
        if self.head is None:
            raise ConnectionLost(self._url, "the connection closed in the middle of the headers")
        if self.framing is not Framing.CLOSE:
            raise ShortBody(self._url, "the connection closed before the whole body had arrived")
        self.is_complete = True

    # What follows is called by the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer: those are dropped (RFC 9110 §6.5.1 lets a client)."""
        # One too many is noticed at their end: what is malformed comes first.
        if self.head is None and len(self._headers) <= self._headers_max:
            self._headers.append((name, value.rstrip(b" \t")))  # the blanks behind it are none of it (RFC 9112 §5)

    def on_headers_complete(self) -> None:
        """Every header of a response, interim or final, is there."""
        assert self._parser is not None
        if self.is_complete:
            self.has_surplus = True
            return
        if len(self._headers) > self._headers_max:
            raise HeadTooLarge(self._url, f"there are more than {self._headers_max} headers")
        status = self._parser.get_status_code()
        if status < 200:
            self._count_interim(status)
            return
        head = self._make_head(status)
        self.keeps_alive = self._parser.should_keep_alive() and self.framing is not Framing.CLOSE
        self.head = head
        if self._is_head_only:
            self._end_head_only(head)
        self._receiver.on_head(head)

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if self.is_complete:
            self.has_surplus = True
            return
        if self.head is None:
            raise self._bad("an interim response has a body")
        self.received += len(piece)
        self._receiver.on_body(piece)

    def on_message_complete(self) -> None:
        """The end of a response."""
        if self._is_interim:
            self._is_interim = False
            self._headers = []
        elif self.is_complete:
            # The parser says it at once of a response to HEAD that has no body for it either.
            self.has_surplus = not self._is_bodiless or self.has_surplus
            self._is_bodiless = False
        else:
            self.is_complete = True
            # The parser heeds `Connection: close` in a trailer as well, and would then read no further response.
            assert self._parser is not None
            self.keeps_alive = self.keeps_alive and self._parser.should_keep_alive()

    def on_message_begin(self) -> None:
        """The beginning of a response."""
        if self.is_complete:
            self.has_surplus = True

    def _end_head_only(self, head: Head) -> None:
        """A response to HEAD ends here, though the parser does not know it."""
        self.is_complete = True
        self._is_bodiless = head.status in _NO_BODY or (
            "transfer-encoding" not in head.headers and not int(head.headers.get("content-length", "1").strip()[-20:])
        )
        # The parser takes a response without a length for one that ends with the connection.
        options = head.headers.get("connection", "").lower()
        self.keeps_alive = "close" not in options and (head.version == "1.1" or "keep-alive" in options)

    def _count_interim(self, status: int) -> None:
        if status < 100 or status == 101:
            raise BadResponse(self._url, f"the status {status} makes no sense here")
        self._interims += 1
        self._is_interim = True
        if self._interims > INTERIM_MAX:
            raise HeadTooLarge(self._url, f"more than {INTERIM_MAX} interim responses came before the final one")

    def _make_head(self, status: int) -> Head:
        headers = {str(name, "latin-1").lower(): str(value, "latin-1") for name, value in self._headers}
        if len(headers) != len(self._headers):
            headers = _joined(self._headers)
        if status > 599:
            raise self._bad(f"the status {status} is not one of HTTP")
        assert self._parser is not None
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise self._bad(f"the version HTTP/{version} is not one that this client speaks")
        return Head(status, version, headers, self._headers, self._frame(status, headers))

    def _frame(self, status: int, headers: dict[str, str]) -> int | None:
        """What delimits the body (RFC 9112 §6.3). The parser has refused two lengths, and a length beside a coding."""
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if status in _NO_BODY or self._is_head_only:
            self.framing = Framing.NONE
            return None
        if coding is not None:
            if coding.strip().lower() != "chunked":
                raise self._bad(f"its Transfer-Encoding is not chunked ({coding[:40]})")
            self.framing = Framing.CHUNKED
            return None
        if length is not None:
            self.framing = Framing.LENGTH
            return int(length.strip(" \t")[-20:])  # any number of zeros may come first; the parser limits the value
        self.framing = Framing.CLOSE
        return None

    def _bad(self, what: str) -> RequestError:
        return BadResponse(self._url, f"not a valid HTTP response: {what}")


def _joined(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers of which some come more than once."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = str(name, "latin-1").lower(), str(value, "latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers
