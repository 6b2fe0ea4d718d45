"""The input: lines that become requests, one at a time, whatever is in them.

A line is `URL`, or `URL<TAB>name<TAB>sha256` (name and sha256 may be empty), or a JSON object with `url`, and `name` and `sha256` if it
likes. Blank lines and lines that begin with `#` are passed over.

Invariants:
    each other line gives exactly one `Request` or `BadLine`, numbered from 0; none raises, none stops the reading;
    memory is one line of at most `LINE_BYTES_MAX`, and the names (see `eventflow.naming.Names`).
"""

import re
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

import msgspec

from eventflow.errors import InvalidRequest, UsageError, name_of
from eventflow.naming import Names
from eventflow.redaction import redact_url

LINE_BYTES_MAX = 64 << 10
_BLOCK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]")
_PREVIEW_MAX = 120


class Request(msgspec.Struct, frozen=True):
    """One thing to fetch: its place in the input, where it is, the file it becomes, and its SHA-256 (64 hex digits) if that is known."""

    number: int
    url: str
    name: str
    sha256: str | None = None

    @property
    def redacted_url(self) -> str:
        """The URL as it may be recorded and shown."""
        return redact_url(self.url)


class BadLine(msgspec.Struct, frozen=True):
    """A line that is not a request; `preview` is its beginning, redacted."""

    number: int
    preview: str
    error: InvalidRequest


class _JsonLine(msgspec.Struct):
    url: str
    name: str | None = None
    sha256: str | None = None


_json_line = msgspec.json.Decoder(_JsonLine)


def open_input(path: str) -> BinaryIO:
    """The input file for reading; `-` is standard input.

    Raises:
        UsageError: it cannot be read.
    """
    if path == "-":
        return sys.stdin.buffer
    try:
        if Path(path).is_dir():
            raise UsageError(f"the input {name_of(path)} is a folder", "give a file with one URL a line")
        return Path(path).open("rb")
    except (OSError, ValueError) as problem:
        if isinstance(problem, UsageError):
            raise
        reason = getattr(problem, "strerror", None) or str(problem)
        raise UsageError(f"the input {name_of(path)} cannot be read ({reason})", "give a file with one URL a line, or - for a pipe") from problem


def count_requests(path: str) -> int | None:
    """How many requests a regular file holds, quickly; None for anything else."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return None
        with Path(path).open("rb") as file:
            return sum(1 for line in _lines(file) if line is None or _is_request_line(line))
    except (OSError, ValueError):
        return None


def read_requests(lines: BinaryIO | Iterable[bytes]) -> Iterator[Request | BadLine]:
    """The requests of an input, lazily, in its order."""
    names = Names()
    number = 0
    for line in _lines(lines) if hasattr(lines, "readline") else lines:
        if line is not None and not _is_request_line(line):
            continue
        yield _parse(number, line, names)
        number += 1


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a file; None in place of one that is too long, of which no more than a block is ever in memory."""
    first = True
    while line := file.readline(LINE_BYTES_MAX + 1):
        if first:
            line, first = line.removeprefix(b"\xef\xbb\xbf"), False
        if len(line) > LINE_BYTES_MAX and not line.endswith(b"\n"):
            while (rest := file.readline(_BLOCK_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield None
        else:
            yield line


def _is_request_line(line: bytes) -> bool:
    stripped = line.strip()
    return bool(stripped) and not stripped.startswith(b"#")


def _parse(number: int, line: bytes | None, names: Names) -> Request | BadLine:
    if line is None:
        return _bad(number, "(a very long line)", f"longer than {LINE_BYTES_MAX >> 10} KiB")
    try:
        text = line.strip(b"\r\n \t").decode()
    except UnicodeDecodeError:
        return _bad(number, line.decode("utf-8", "backslashreplace"), "not UTF-8")
    try:
        fields = _json_line.decode(text) if text.startswith("{") else _tabbed(text)
    except msgspec.MsgspecError as problem:
        return _bad(number, "{…}", f"not a JSON object with a url ({problem})")
    try:
        return _check(number, fields, names)
    except InvalidRequest as problem:
        return _bad(number, fields.url, problem.what)


def _tabbed(text: str) -> _JsonLine:
    url, _, rest = text.partition("\t")
    name, _, sha256 = rest.partition("\t")
    return _JsonLine(url.strip(), name, sha256.strip())


def _check(number: int, fields: _JsonLine, names: Names) -> Request:
    url, sha256 = fields.url, fields.sha256 or None
    shown = redact_url(url)
    if _BLANK_OR_CONTROL.search(url):
        raise InvalidRequest(shown, "a blank or control character in the URL (write %20 for a space)")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidRequest(shown, "not a URL") from None
    if parts.scheme.lower() not in ("http", "https"):
        raise InvalidRequest(shown, f"the scheme {name_of(parts.scheme)} is not fetched, only http:// and https:// are")
    if not parts.hostname or port == 0:
        raise InvalidRequest(shown, "no host or no valid port in the URL")
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise InvalidRequest(shown, "the SHA-256 is not 64 hex digits")
    if not url.isascii():
        path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
        url = parts._replace(path=path, query=quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")).geturl()
    return Request(number, url, names.take(number, fields.name, url), sha256)


def _bad(number: int, text: str, what: str) -> BadLine:
    shown = redact_url("".join(char if char.isprintable() else "�" for char in text[: 4 * _PREVIEW_MAX]))
    if len(shown) > _PREVIEW_MAX:
        shown = shown[: _PREVIEW_MAX - 1] + "…"
    return BadLine(number, shown, InvalidRequest(f"request {number} of the list, {shown}", what))
