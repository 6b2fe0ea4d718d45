"""Requests: the list that a person gives, read a line at a time, each line one thing to fetch.

The first to touch the input, so nothing of it is trusted: a line may be no URL, no text, or a gigabyte long. The list
may have millions of lines and come from a pipe that is still being written, so it is never in memory and each line is
given as soon as it is there.

A line is `URL`, `URL<TAB>name<TAB>sha256` (name and sha256 may be empty or missing) or a JSON object with those keys.
Blank lines and lines that begin with `#` are skipped. A byte order mark and CRLF are accepted.

Invariants:
    every other line gives exactly one item, a `Request` or a `BadLine`; their numbers are 0, 1, 2 … in the order of the
    input;
    a `Request` can be fetched and stored as it is: an ASCII http or https URL with a valid host, and a name that no
    other request has;
    a `BadLine` holds no secret; less than 1 MiB of the input is in memory.
"""

import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

import msgspec

from eventflow.errors import InvalidRequest, UsageError, name_of
from eventflow.naming import Names
from eventflow.redaction import redact_url

LINE_BYTES_MAX = 64 << 10
PREVIEW_CHARACTERS_MAX = 120

_READ_BYTES = 256 << 10
_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<login>[^/?#\\]*@)?(?P<host>\[[^\]/?#\\@]*\]|[^:/?#\[\]\\@]*)"
    r"(?::(?P<port>[^/?#\\]*))?(?P<rest>(?:[/?#].*)?)"
)
_PLAIN_URL = re.compile(r"(https?://[a-z0-9.-]+(?::[0-9]+)?/)[!-~]*")  # nearly every one; the others take the long way
_BLANK_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\.?\Z){_LABEL}(?:\.{_LABEL})*\.?")
_DOTTED_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_OPENING = re.compile(rf"https?://{_LABEL}(?:\.{_LABEL})*(?::[0-9]*)?/")
_DISKS_IGNORE_CASE = sys.platform in {"darwin", "win32"}


class Request(msgspec.Struct, frozen=True):
    """One thing to fetch.

    Attributes:
        number: its place in the input, from 0.
        url: an ASCII URL, its secrets included: never record or show it.
        name: where it is stored, relative to the output folder; no other request of the input has it.
        sha256: what the file must have, 64 lower-case hex digits; None where the list does not say.
    """

    number: int
    url: str
    name: str
    sha256: str | None = None

    @property
    def redacted_url(self) -> str:
        """The URL as it may be shown and recorded."""
        return redact_url(self.url)


class BadLine(msgspec.Struct, frozen=True):
    """A line of the input that is not a request.

    Attributes:
        number: its place in the input, from 0, counted like a request.
        preview: what can be shown of it: redacted, printable, at most 120 characters.
        error: what is wrong with it.
    """

    number: int
    preview: str
    error: InvalidRequest


class _Entry(msgspec.Struct):
    """A line as JSON."""

    url: str
    name: str | None = None
    sha256: str | None = None


def read_requests(lines: Iterable[bytes] | BinaryIO) -> Iterator[Request | BadLine]:
    """Read the requests of a binary file, or of lines given one by one, lazily and in order.

    Nothing that a line holds raises. The file is closed when the iterator ends or is dropped.

    Raises:
        OSError: the input could not be read any further.
    """
    names, number = Names(ignore_case=_DISKS_IGNORE_CASE), 0
    try:
        for line_number, line in enumerate(_lines(lines), 1):
            if not _is_request(line):
                continue
            try:
                yield _read(number, line, names)
            except InvalidRequest as problem:
                preview = _preview(line)
                yield BadLine(number, preview, InvalidRequest(preview, f"line {line_number}: {problem.what}"))
            number += 1
    finally:
        if isinstance(lines, io.IOBase):
            lines.close()


def open_input(path: str) -> BinaryIO:
    """Open a list of requests to read; `-` is standard input, which stays open when the file is closed.

    Raises:
        UsageError: there is no such file, or it cannot be read.
    """
    if path == "-":
        return _standard_input()
    try:
        return Path(path).open("rb", buffering=_READ_BYTES)
    except FileNotFoundError:
        raise UsageError(f"there is no file {name_of(path)}", "check the path, or give - for standard input") from None
    except IsADirectoryError:
        raise UsageError(f"{name_of(path)} is a folder", "name a file with one URL a line") from None
    except PermissionError:
        raise UsageError(f"the file {name_of(path)} must not be read", "give yourself the right to read it") from None
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        reason = getattr(problem, "strerror", None) or "its name is not a path"
        shown = f"the file {name_of(path)} cannot be opened ({reason})"
        raise UsageError(shown, "name a file with one URL a line") from None


def count_requests(path: str) -> int | None:
    """How many items `read_requests` will give for a regular file. None for a pipe, standard input, no file.

    It reads the whole file, at some millions of lines a second.
    """
    if path == "-" or "\0" in path or not Path(path).is_file():
        return None
    try:
        with Path(path).open("rb", buffering=_READ_BYTES) as file:
            return sum(map(_is_request, _lines(file)))
    except OSError:
        return None


def expected_requests(settings: Mapping[str, object]) -> int | None:
    """How many requests the input of a run has, by the settings in its `run.json`.

    None if it is no file, or not what it was when the run began. It reads the whole file, as `count_requests` does.
    """
    source = settings.get("source")
    if not isinstance(source, str):
        return None
    try:
        status = Path(source).stat()
    except (OSError, ValueError):
        return None
    if (status.st_size, status.st_mtime_ns) != (settings.get("source_size"), settings.get("source_mtime_ns")):
        return None
    return count_requests(source)


def first_lines(path: str, count: int) -> list[bytes]:
    """The lines of the first `count` items that `read_requests` gives for a file, as they are, each with its end.

    Raises:
        UsageError: as `open_input`.
    """
    with open_input(path) as file:
        lines = islice(filter(_is_request, _lines(file)), count)
        return [line if line.endswith(b"\n") else line + b"\n" for line in lines]


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise UsageError("there is no standard input", "name a file instead of -")
    try:
        return open(sys.stdin.fileno(), "rb", buffering=_READ_BYTES, closefd=False)
    except (OSError, ValueError):  # a standard input that is no file: a notebook's, a test's
        return cast(BinaryIO, sys.stdin.buffer)


def _lines(lines: Iterable[bytes] | BinaryIO) -> Iterator[bytes]:
    """The lines with their ends, without the byte order mark. A line of a file that is too long comes cut."""
    source = _file_lines(lines) if isinstance(lines, io.IOBase) else iter(lines)
    first = next(source, None)
    if first is not None:
        yield first.removeprefix(_BOM)
        yield from source


def _file_lines(file: io.IOBase) -> Iterator[bytes]:
    readline = file.readline
    while line := readline(LINE_BYTES_MAX + 3):  # room for the CRLF, and one byte to tell that there is more
        yield line
        while len(line) == LINE_BYTES_MAX + 3 and not line.endswith(b"\n"):
            line = readline(LINE_BYTES_MAX + 3)


def _is_request(line: bytes) -> bool:
    begin = line.lstrip(_BLANKS)[:1]
    return begin != b"#" if begin else _is_too_long(line)


def _is_too_long(line: bytes) -> bool:
    return len(line) > LINE_BYTES_MAX and len(line.rstrip(b"\r\n")) > LINE_BYTES_MAX


def _read(number: int, line: bytes, names: Names) -> Request:
    """The request that a line holds.

    Raises:
        InvalidRequest: it holds none. Its `what` is the reason; its `url` is empty.
    """
    if _is_too_long(line):
        raise InvalidRequest("", f"it is longer than {LINE_BYTES_MAX >> 10} KiB")
    try:
        text = line.decode().strip(" \r\n")
    except UnicodeDecodeError:
        raise InvalidRequest("", "it is not UTF-8 text") from None
    raw_url, name, sha256 = _json_fields(text) if text.startswith("{") else _fields(text)
    url = _normal_url(raw_url)
    if sha256 and not _SHA256.fullmatch(sha256):
        raise InvalidRequest("", "its SHA-256 is not 64 hex digits")
    return Request(number, url, names.take(number, name, url), sha256.lower() if sha256 else None)


def _fields(text: str) -> tuple[str, str | None, str | None]:
    if "\t" not in text:
        return text, None, None
    url, *others = text.split("\t")
    if len(others) > 2:
        raise InvalidRequest("", f"it has {len(others) + 1} fields; a line is URL, name, SHA-256 with tabs between")
    name, sha256 = [*others, ""][:2]
    return url.strip(" "), name, sha256.strip(" ")


def _json_fields(text: str) -> tuple[str, str | None, str | None]:
    try:
        entry = msgspec.json.decode(text, type=_Entry)
    except msgspec.ValidationError as problem:
        raise InvalidRequest("", f"it is not an object with url, name and sha256 ({problem})") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise InvalidRequest("", "it begins like a JSON object and is none") from None
    return entry.url, entry.name, entry.sha256


def _normal_url(text: str) -> str:
    """The URL as it goes to an HTTP client: an IRI's letters percent-encoded, its host in Punycode (RFC 3987 §3.1)."""
    plain = _PLAIN_URL.fullmatch(text)
    if plain is not None and _is_normal(plain[1]):
        return text
    return _normalized(text)


@lru_cache(maxsize=8192)
def _is_normal(prefix: str) -> bool:
    """Whether scheme, host and port are as they should be, whatever printable ASCII may come behind them."""
    try:
        return _normalized(prefix) == prefix
    except InvalidRequest:
        return False


def _normalized(text: str) -> str:
    if blank := _BLANK_OR_CONTROL.search(text):
        kind = "a space" if blank[0] == " " else "a blank or control character"
        raise InvalidRequest("", f"there is {kind} in the URL; write it as {quote(blank[0])}")
    parts = _URL.fullmatch(text)
    if parts is None:
        raise InvalidRequest("", "it is not a URL; one begins with http:// or https:// and a host")
    if parts["scheme"].lower() not in ("http", "https"):
        raise InvalidRequest("", f"the scheme {parts['scheme'][:20]}:// does not work here; http:// and https:// do")
    host = _ascii_host(parts["host"])
    if parts["port"] and not _is_port(parts["port"]):
        raise InvalidRequest("", "the port is not a number from 1 to 65535")
    if text.isascii():
        return text
    ascii_url = _percent_encoded(text[: parts.start("host")]) + host + _percent_encoded(text[parts.end("host") :])
    if len(ascii_url) > LINE_BYTES_MAX:
        raise InvalidRequest("", f"its URL is longer than {LINE_BYTES_MAX >> 10} KiB")
    return ascii_url


@lru_cache(maxsize=8192)
def _ascii_host(host: str) -> str:
    """The host as DNS knows it.

    Raises:
        InvalidRequest: it is no host.
    """
    if not host:
        raise InvalidRequest("", "there is no host in the URL")
    try:
        if host.startswith("[") and "%" not in host:  # a zone means something on one machine only
            IPv6Address(host[1:-1])
        elif _DOTTED_NUMBERS.fullmatch(host):
            IPv4Address(host)
        elif not host.isascii():
            host = _punycode(host)
        elif not _HOST.fullmatch(host):
            raise AddressValueError
    except AddressValueError:
        raise InvalidRequest("", "the host in the URL is not a valid name or address") from None
    return host


def _punycode(host: str) -> str:
    import httpx  # for names that are not ASCII only, since it takes a while to load

    try:
        return httpx.URL(f"http://{host}/").raw_host.decode()
    except httpx.InvalidURL:
        raise AddressValueError from None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65535


def _percent_encoded(text: str) -> str:
    return _NOT_ASCII.sub(lambda found: quote(found[0]), text)


def _preview(line: bytes) -> str:
    """What can be shown of a line that is no request."""
    if _is_too_long(line):
        # It was cut, perhaps inside a secret: show no more than is certainly a host.
        opening = _OPENING.match(line[:PREVIEW_CHARACTERS_MAX].decode(errors="replace"))
        return f"{opening[0] if opening else ''}…"
    shown = redact_url(_url_of(line.decode(errors="replace").strip(" \r\n")))
    shown = "".join(character if character.isprintable() else "\ufffd" for character in shown[:PREVIEW_CHARACTERS_MAX])
    return shown if len(shown) < PREVIEW_CHARACTERS_MAX else f"{shown[:-1]}…"


def _url_of(text: str) -> str:
    """The part of a line that is meant as its URL."""
    if not text.startswith("{"):
        return text.partition("\t")[0] or text
    try:
        fields = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text if "\\" not in text else "{…"  # an escape may hide what redaction looks for
    return next((value for value in (fields.get("url"), *fields.values()) if isinstance(value, str)), "{…}")
