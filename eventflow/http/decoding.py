"""Decoding: the bytes of a body behind its Content-Encoding, in small pieces and within limits. Pure.

Between the transport, which reads what a stranger sent, and the part file. The forces: 10 MB may decode to 10 GB
(a bomb), a body may end early or go on after its end, and whoever decodes must hold neither all of it nor believe it.

The rules, where the specifications leave a choice:
    an empty body is empty in every encoding: servers send no byte for no content;
    gzip (RFC 1952): members follow one another, and zeros after a member are padding. Anything else after it is
    malformed: to leave it out would lose bytes without a word;
    deflate is the zlib format (RFC 9110 §8.4.1.2) or, since many servers never read that, raw deflate (RFC 1951): the
    first two bytes tell;
    zstd (RFC 8878): frames follow one another, skippable ones have no content, and a window over 8 MiB is refused
    (RFC 9659); br (RFC 7932): one stream. Nothing may follow deflate and br.

Invariants:
    pieces have at most `PIECE_BYTES_MAX` bytes, and decoding holds at most one piece for each coding beside its window;
    how a body is split before it is fed makes no difference to the bytes that come out;
    what was decoded is at most one piece over a limit when the error comes: after each coding of a chain, not only the
    last, since a bomb may be packed in the middle of one;
    `finish` returns only if every coding ended where the format says that it ends.
"""

import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from eventflow.errors import BadEncoding, ExpandsTooMuch, name_of

PIECE_BYTES_MAX = 256 * 1024
CODINGS_MAX = 3

# What one step of a decoder is given. Small, since zlib and zstd copy the rest of it at the end of each member.
_STEP_BYTES = 16 * 1024
# brotli fills whole blocks of 32, 64, 128 KiB …: with this limit a piece has up to 224 KiB (google/brotli#1396).
_BROTLI_LIMIT = 128 * 1024
_ZSTD_WINDOW_LOG_MAX = 23
_ZLIB_HEADER_BYTES = 2


class DecodingLimits(msgspec.Struct, frozen=True):
    """How much a body may expand.

    Args:
        ratio_max: bytes out for each byte in; deflate can reach 1 032, br and zstd much more, text has 3 to 20.
        bytes_max: bytes out at the end of the chain, None for any number.
        free_bytes: so many bytes may come out before the ratio counts: a small body may be all zeros.
    """

    ratio_max: float = 200.0
    bytes_max: int | None = None
    free_bytes: int = 1024 * 1024


def decoder(content_encoding: str, limits: DecodingLimits, url: str) -> "Decoder":
    """A decoder for a body with this Content-Encoding (RFC 9110 §8.4); an empty one leaves it as it is.

    Args:
        content_encoding: the header's value, several joined by commas, in the order in which they were applied.
        limits: how much the body may expand.
        url: the redacted URL, for errors.

    Raises:
        BadEncoding: a coding is not known here, or there are more than three. Fetch it without decoding.
    """
    names = [
        name for part in content_encoding.lower().split(",") if (name := part.strip(" \t")) not in ("", "identity")
    ]
    if len(names) > CODINGS_MAX:
        raise BadEncoding(url, f"{len(names)} codings on top of each other, and the limit is {CODINGS_MAX}")
    chain = []
    for name in reversed(names):
        make = _CODINGS.get(_ALIASES.get(name, name))
        coding = make() if make else None
        if coding is None:
            raise BadEncoding(url, f"the content coding {name_of(name)} is not known here")
        chain.append(coding)
    return Decoder(chain, limits, url)


def accept_encoding() -> str:
    """The value of Accept-Encoding: what `decoder` can decode here. br and zstd need their packages.

    >>> accept_encoding()
    'gzip, deflate, br, zstd'
    """
    return ", ".join(name for name, make in _CODINGS.items() if make() is not None)


class Decoder:
    """Decodes one body: `feed` it each piece that arrives and read all that this gives; at the end, `finish`.

    For one body, from one thread at a time. What it gave before an error is right as far as it goes; after one it is of
    no more use.

    Args:
        chain: the codings, in the order in which they are taken away.
        limits: how much the body may expand.
        url: the redacted URL, for errors.
    """

    def __init__(self, chain: Sequence["Coding"], limits: DecodingLimits, url: str) -> None:
        self._chain, self._limits, self._url = tuple(chain), limits, url
        self._given = [0] * len(self._chain)  # bytes out of each coding
        self._fed = 0
        self._unread = False

    @property
    def bytes_in(self) -> int:
        """How many bytes of the body were taken so far."""
        return self._fed

    @property
    def bytes_out(self) -> int:
        """How many bytes came out so far."""
        return self._given[-1] if self._given else self._fed

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bytes that this piece of the body decodes to, in pieces. Read them all before anything else is called.

        Raises:
            BadEncoding: the body is not in its encoding, or goes on after its end.
            ExpandsTooMuch: it decodes to more than the limits allow.
        """
        if self._unread:
            raise RuntimeError("what `feed` gave was not read to its end")
        self._unread = True
        return self._feed(data)

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            BadEncoding: it ended early; a body without a single byte is whole.
        """
        if self._unread:
            raise RuntimeError("what `feed` gave was not read to its end")
        for coding in self._chain:
            if not coding.may_end():
                raise BadEncoding(self._url, f"the {coding.name} body ends early")

    def _feed(self, data: bytes) -> Iterator[bytes]:
        for step in _steps(data, _STEP_BYTES if self._chain else PIECE_BYTES_MAX):
            self._fed += len(step)
            yield from self._decoded(step, 0)
        self._unread = False

    def _decoded(self, data: bytes, place: int) -> Iterator[bytes]:
        if place == len(self._chain):
            yield data
            return
        coding = self._chain[place]
        try:
            for piece in coding.pieces(data):
                self._given[place] += len(piece)
                self._check(place)
                for step in _steps(piece, _STEP_BYTES if place + 1 < len(self._chain) else PIECE_BYTES_MAX):
                    yield from self._decoded(step, place + 1)
        except coding.errors as error:
            raise BadEncoding(self._url, f"the {coding.name} body is malformed ({error})") from None

    def _check(self, place: int) -> None:
        limits, given = self._limits, self._given[place]
        problem = ""
        if given > limits.free_bytes and given > limits.ratio_max * self._fed:
            problem = f"{limits.ratio_max:g} times its size"
        elif limits.bytes_max is not None and given > limits.bytes_max and place + 1 == len(self._chain):
            problem = f"{limits.bytes_max} bytes"
        if problem:
            raise ExpandsTooMuch(self._url, f"the {self._chain[place].name} body expands to more than {problem}")


class Coding(Protocol):
    """One coding, being taken away from a body."""

    name: str
    errors: tuple[type[Exception], ...]  # what `pieces` raises when the body is malformed

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """All that can be said after this piece of the body, in pieces."""
        ...

    def may_end(self) -> bool:
        """Whether the body is whole."""
        ...


class _Member(Protocol):
    """One gzip member or zstd frame."""

    def pieces(self, data: bytes) -> Iterator[bytes]: ...

    def rest(self) -> bytes | None:
        """What follows its end; None before its end."""
        ...


class _Members:
    """Members one after the other, with zeros after each if the format takes that for padding."""

    def __init__(self, name: str, start: Callable[[], _Member], error: type[Exception], padding: bytes = b"") -> None:
        self.name = name
        self.errors: tuple[type[Exception], ...] = (error,)
        self._start, self._padding = start, padding
        self._member: _Member | None = None
        self._members = 0

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member is None:
                data = data.lstrip(self._padding) if self._members else data
                if not data:
                    return
                self._member = self._start()
                self._members += 1
            yield from self._member.pieces(data)
            rest = self._member.rest()
            if rest is None:
                return
            self._member, data = None, rest

    def may_end(self) -> bool:
        return self._member is None


class _Inflating:
    """One stream of deflate in the wrapping that `wbits` means to zlib."""

    def __init__(self, wbits: int) -> None:
        self._inflater = zlib.decompressobj(wbits)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while not self._inflater.eof:
            piece = self._inflater.decompress(data, PIECE_BYTES_MAX)
            if piece:
                yield piece
            data = self._inflater.unconsumed_tail
            if not data and len(piece) < PIECE_BYTES_MAX:
                return

    def rest(self) -> bytes | None:
        return self._inflater.unused_data if self._inflater.eof else None


class _Deflate:
    """The zlib format, or raw deflate, whichever the first two bytes are."""

    name = "deflate"
    errors: tuple[type[Exception], ...] = (zlib.error,)

    def __init__(self) -> None:
        self._head = b""
        self._stream: _Inflating | None = None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            data = self._head + data
            if len(data) < _ZLIB_HEADER_BYTES:
                self._head = data
                return
            self._head = b""
            self._stream = _Inflating(zlib.MAX_WBITS if _is_zlib(data) else -zlib.MAX_WBITS)
        elif self._stream.rest() is not None:
            raise zlib.error("bytes after its end")
        yield from self._stream.pieces(data)
        if self._stream.rest():
            raise zlib.error("bytes after its end")

    def may_end(self) -> bool:
        return not self._head if self._stream is None else self._stream.rest() is not None


class _Brotli:
    name = "br"

    def __init__(self, stream: Any, error: type[Exception]) -> None:
        self.errors: tuple[type[Exception], ...] = (error,)
        self._stream = stream
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        self._begun = True
        piece = self._stream.process(data, output_buffer_limit=_BROTLI_LIMIT)
        # That it takes more input does not mean that it has no more output: only an empty piece says that.
        while piece:
            yield piece
            piece = b"" if self._stream.is_finished() else self._stream.process(b"", output_buffer_limit=_BROTLI_LIMIT)

    def may_end(self) -> bool:
        return not self._begun or bool(self._stream.is_finished())


class _ZstdFrame:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._stream.decompress(data, PIECE_BYTES_MAX)
            if piece:
                yield piece
            if self._stream.eof or self._stream.needs_input:
                return
            data = b""

    def rest(self) -> bytes | None:
        return bytes(self._stream.unused_data) if self._stream.eof else None


def _gzip() -> Coding:
    return _Members("gzip", lambda: _Inflating(16 + zlib.MAX_WBITS), zlib.error, padding=b"\0")


def _brotli() -> Coding | None:
    try:
        import brotli
    except ImportError:
        return None
    # Before 1.2 there was no way to limit what one call gives, so a bomb could not be stopped.
    if not hasattr(brotli.Decompressor, "can_accept_more_data"):
        return None
    return _Brotli(brotli.Decompressor(), brotli.error)


def _zstd() -> Coding | None:
    try:
        if sys.version_info >= (3, 14):
            from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
        else:
            from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
    except ImportError:
        return None
    options: dict[int, int] = {DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG_MAX}
    return _Members("zstd", lambda: _ZstdFrame(ZstdDecompressor(options=options)), ZstdError)


_CODINGS: dict[str, Callable[[], Coding | None]] = {
    "gzip": _gzip,
    "deflate": _Deflate,
    "br": _brotli,
    "zstd": _zstd,
}
_ALIASES = {"x-gzip": "gzip"}


def _is_zlib(data: bytes) -> bool:
    """RFC 1950 §2.2: method 8, a window of at most 32 KiB, and the check bits.

    A raw stream that begins like this would need padding bits that are not zero, which no encoder writes.
    """
    return data[0] & 0x0F == 8 and data[0] >> 4 <= 7 and (data[0] << 8 | data[1]) % 31 == 0


def _steps(data: bytes, size: int) -> Iterator[bytes]:
    """The data in steps of at most `size` bytes, none of them empty."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
