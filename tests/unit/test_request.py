"""What a line of the input becomes; `tests/property/test_request.py` says that nothing else can come of it."""

import io
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import httpx
import pytest

from eventflow.errors import InvalidRequest, UsageError
from eventflow.request import (
    LINE_BYTES_MAX,
    BadLine,
    Request,
    count_requests,
    expected_requests,
    open_input,
    read_requests,
)

SHA256 = "0123456789ABCDEF" * 4


def read(*lines: bytes) -> list[Request | BadLine]:
    """What the lines become."""
    return list(read_requests(lines))


def read_one(line: bytes | str) -> Request:
    """The request of a line that is one."""
    (item,) = read(line.encode() if isinstance(line, str) else line)
    assert isinstance(item, Request)
    return item


def read_bad(line: bytes | str) -> BadLine:
    """The bad line that a line becomes, after looking at what every bad line has."""
    (item,) = read(line.encode() if isinstance(line, str) else line)
    assert isinstance(item, BadLine)
    assert item.preview.isprintable()
    assert len(item.preview) <= 120
    assert item.error.url == item.preview
    assert "\n" not in str(item.error)
    assert str(item.error).endswith(": correct the line")
    return item


class Endless(io.RawIOBase):
    """A file of one line of so many bytes, and then the text."""

    def __init__(self, size: int, then: bytes) -> None:
        super().__init__()
        self._size, self._then = size, then

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._size:
            count = min(self._size, len(buffer))
            self._size -= count
            buffer[:count] = b"a" * count
        else:
            count = len(self._then)
            buffer[:count] = self._then
            self._then = b""
        return count


def test_a_line_is_a_url() -> None:
    """The plainest list: one URL a line."""
    assert read(b"http://example.org/a.txt\n", b"https://example.org/b.txt") == [
        Request(0, "http://example.org/a.txt", "a.txt"),
        Request(1, "https://example.org/b.txt", "b.txt"),
    ]


def test_name_and_checksum_stand_after_tabs() -> None:
    """Name and SHA-256 follow the URL; either may be empty or missing; hex digits may be capital."""
    url = "http://example.org/a.txt"
    assert read_one(f"{url}\tb/c.txt") == Request(0, url, "b/c.txt")
    assert read_one(f"{url}\tb.txt\t{SHA256}\r\n") == Request(0, url, "b.txt", SHA256.lower())
    assert read_one(f"{url}\t\t{SHA256} ") == Request(0, url, "a.txt", SHA256.lower())
    assert read_one(f"  {url} \t\t\n") == Request(0, url, "a.txt")


def test_a_line_is_a_json_object() -> None:
    """The same as JSON; keys that eventflow does not know are for other tools."""
    line = json.dumps({"url": "http://example.org/ä", "name": "b.txt", "sha256": SHA256, "caption": ["x"]})
    assert read_one(line) == Request(0, "http://example.org/%C3%A4", "b.txt", SHA256.lower())
    assert read_one('{"url": "http://example.org/a", "name": null, "sha256": ""}') == Request(
        0, "http://example.org/a", "a"
    )


def test_comments_and_blank_lines_do_not_count() -> None:
    """Only lines that are meant as requests have a number; a `#` inside a URL is no comment."""
    items = read(b"# list\n", b"\n", b"  \t\r\n", b"http://h/a#b\n", b"   # http://h/b\n", b"nonsense\n", b"http://h/c")
    assert [item.number for item in items] == [0, 1, 2]
    assert [type(item) for item in items] == [Request, BadLine, Request]
    assert isinstance(items[0], Request)
    assert items[0].url == "http://h/a#b"


def test_windows_files_are_read() -> None:
    """A byte order mark and CRLF are not part of a URL."""
    text = "# ä\r\nhttp://h/a\r\n\r\nhttp://h/b".encode("utf-8-sig")
    assert [item.number for item in read_requests(io.BytesIO(text))] == [0, 1]
    assert read(b"\xef\xbb\xbfhttp://h/a\r\n") == [Request(0, "http://h/a", "a")]


def test_an_empty_input_gives_nothing() -> None:
    """No line, no request; the caller says so to the user."""
    assert read() == read(b"") == list(read_requests(io.BytesIO(b"\xef\xbb\xbf\n#\n"))) == []


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h/ä?ö=ü#ß", "http://h/%C3%A4?%C3%B6=%C3%BC#%C3%9F"),
        ("http://bücher.example:8080/ä", "http://xn--bcher-kva.example:8080/%C3%A4"),
        ("http://ü:ä@h/", "http://%C3%BC:%C3%A4@h/"),
        ("http://h/%20%zz", "http://h/%20%zz"),
        ("HTTPS://Example.ORG/A", "HTTPS://Example.ORG/A"),
        ("http://u:p@ss@h/", "http://u:p@ss@h/"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("http://127.0.0.1:65535/", "http://127.0.0.1:65535/"),
        ("http://h:/a", "http://h:/a"),
        ("http://my_host.example./a", "http://my_host.example./a"),
        ("http://h?a=b", "http://h?a=b"),
        ("http://h/\u3042\ufeff", "http://h/%E3%81%82%EF%BB%BF"),
    ],
)
def test_urls_are_made_ready_for_http(text: str, url: str) -> None:
    """Letters outside ASCII are percent-encoded, or Punycode in the host; the rest stays. httpx takes the result."""
    assert read_one(text).url == url
    assert httpx.URL(url).host


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("file:///etc/passwd", "the scheme file:// does not work here; http:// and https:// do"),
        ("ftp://h/a", "the scheme ftp:// does not work"),
        ("example.org/a", "one begins with http:// or https://"),
        ("mailto:me@h", "one begins with http:// or https://"),
        ("http:/h/a", "one begins with http:// or https://"),
        ("http://h\\a/", "one begins with http:// or https://"),
        ("http://[::1/", "one begins with http:// or https://"),
        ("http:///a", "there is no host"),
        ("http://:80/", "there is no host"),
        ("http://u:p@/a", "there is no host"),
        ("http://a..b/", "not a valid name"),
        ("http://-a/", "not a valid name"),
        ("http://a%41/", "not a valid name"),
        ("http://*.h/", "not a valid name"),
        (f"http://{'a' * 64}/", "not a valid name"),
        (f"http://{'a.' * 150}b/", "not a valid name"),
        ("http://1.2.3.256/", "not a valid name"),
        ("http://[::g]/", "not a valid name"),
        ("http://[fe80::1%25eth0]/", "not a valid name"),
        ("http://١٢.example/", "not a valid name"),
        ("http://ü;ü/", "not a valid name"),
        ("http://h:0/", "port"),
        ("http://h:65536/", "port"),
        ("http://h:8o/", "port"),
        ("http://h:٣/", "port"),
        ("http://h/a b", "there is a space in the URL; write it as %20"),
        ("http://h/a\u3000b", "there is a blank or control character in the URL; write it as %E3%80%80"),
        ("http://h/a\x00b", "write it as %00"),
        ("http://h/a\x85b", "write it as %C2%85"),
        ("http://h/a\rb", "write it as %0D"),
        ("http://h/a\nhttp://h/b", "write it as %0A"),
        ("http://h/\t../a", "leads out of the output folder"),
        ("http://h/\ta\t12ab", "SHA-256 is not 64 hex digits"),
        ("http://h/\ta\t" + "g" * 64, "SHA-256 is not 64 hex digits"),
        ("http://h/\ta\t" + "٣" * 64, "SHA-256 is not 64 hex digits"),
        ("http://h/\ta\tb\tc", "it has 4 fields"),
        ("\ta", "one begins with http:// or https://"),
        ('{"url": 1}', "Expected `str`, got `int`"),
        ('{"name": "a"}', "missing required field `url`"),
        ('{"url": "http://h/a"', "begins like a JSON object"),
        ('{"url": "http://h/\\ud800a"}', "begins like a JSON object"),
        ('["http://h/"]', "one begins with http:// or https://"),
        (b"http://h/\xff", "not UTF-8"),
        (b'{"url": "http://h/\xff"}', "not UTF-8"),
        (b"http://h/" + b"a" * LINE_BYTES_MAX, "longer than 64 KiB"),
        ("http://h/" + "ä" * (LINE_BYTES_MAX // 4), "longer than 64 KiB"),
        (b" " * (LINE_BYTES_MAX + 1) + b"http://h/", "longer than 64 KiB"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_request_is_a_bad_line(line: bytes | str, reason: str) -> None:
    """A line that cannot be fetched is told from the others, with the reason and what works."""
    assert reason in read_bad(line).error.what


def test_a_bad_line_says_where_it_is() -> None:
    """The line of the file is in the message, comments and blank lines counted, so that an editor finds it."""
    items = read(b"# list\n", b"http://h/a\n", b"\n", b"ftp://h/b\n")
    assert isinstance(items[1], BadLine)
    assert items[1].number == 1
    assert items[1].error.what.startswith("line 4: ")


@pytest.mark.parametrize(
    "line",
    [
        b"ftp://me:s3cret@h/a",
        b"me:s3cret@h/a",
        b"http://me:x s3cret@h/a",
        b"http://me:s3cret/x@h/a b",
        b"http://h/a b?token=s3cret",
        b"http://h/a b#s3cret",
        b"http://h/a\thttp://me:s3cret@mirror/a",
        b'{"url": "ftp://me:s3cret@h/a"}',
        b'{"url": "ftp://me:s3cret\\u0040h/a"}',
        b'{"url": "ftp://me:s3cret\\u0040h/a"',
        b'{"url": "http:\\/\\/me:s3cret@h\\/a", "name": "../a"}',
        b'{"name": "ftp://me:s3cret@h/a"}',
        b"http://me:s3cret\xff@h/a",
        b"http://me:s3cret" + b"a" * LINE_BYTES_MAX + b"@h/a",
        b"http://h/a?token=s3cret" + b"a" * LINE_BYTES_MAX,
    ],
    ids=lambda line: repr(line[:40]),
)
def test_a_bad_line_shows_no_secret(line: bytes) -> None:
    """Preview and message hold no credential, however the line is broken."""
    assert "s3cret" not in str(read_bad(line).error)


def test_a_line_that_is_too_long_shows_its_host() -> None:
    """Of a line that was cut only the host is shown, if that is certain."""
    assert read_bad(b"http://example.org:80/a" + b"a" * LINE_BYTES_MAX).preview == "http://example.org:80/…"
    assert read_bad(b"http://example.org:80" + b"0" * LINE_BYTES_MAX).preview == "…"


def test_a_url_is_redacted_on_request() -> None:
    """A request keeps its credentials for the server, and has a URL without them for everybody else."""
    request = read_one("https://me:s3cret@h/a?token=s3cret#b")
    assert request.url == "https://me:s3cret@h/a?token=s3cret#b"
    assert request.redacted_url == "https://REDACTED:REDACTED@h/a?token=REDACTED"


def test_items_cross_processes() -> None:
    """Both kinds of item can be pickled: engines send them to other processes."""
    items = read(b"http://h/a", b"ftp://h/b")
    copies = pickle.loads(pickle.dumps(items))
    assert copies[0] == items[0]
    assert isinstance(copies[1].error, InvalidRequest)
    assert str(copies[1].error) == str(items[1].error)  # type: ignore[union-attr]


def test_a_gigantic_line_is_not_kept_in_memory() -> None:
    """A line of 32 MB costs less than 2 MiB, becomes one bad line, and the lines after it are read."""
    file = io.BufferedReader(Endless(32_000_000, b"\nhttp://h/a\n"), 256 << 10)
    tracemalloc.start()
    try:
        bad, request = read_requests(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(bad, BadLine)
    assert request == Request(1, "http://h/a", "a")
    assert peak < 2 << 20


def test_the_longest_line_is_read() -> None:
    """64 KiB are allowed, the line end not counted, in a file as in a list of lines."""
    line = b"http://h/" + b"a" * (LINE_BYTES_MAX - 9)
    for ending in (b"", b"\n", b"\r\n"):
        for items in (read(line + ending), list(read_requests(io.BytesIO(line + ending)))):
            assert [type(item) for item in items] == [Request]
    assert [type(item) for item in read_requests(io.BytesIO(line + b"a\r\n" + line))] == [BadLine, Request]


def test_a_request_is_given_as_soon_as_its_line_is_there() -> None:
    """From a pipe that stays open each request comes at once."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", buffering=0) as pipe:
        requests = read_requests(os.fdopen(reading, "rb"))
        for number in range(3):
            pipe.write(b"http://h/a\n")
            assert next(requests).number == number
    assert list(requests) == []


def test_the_file_is_closed() -> None:
    """The file is closed at its end, and also when nobody reads it to its end."""
    file = io.BytesIO(b"http://h/a\nhttp://h/b\n")
    assert len(list(read_requests(file))) == 2
    assert file.closed
    file = io.BytesIO(b"http://h/a\nhttp://h/b\n")
    requests = read_requests(file)
    next(requests)
    del requests
    assert file.closed


def test_a_file_is_opened(tmp_path: Path) -> None:
    """A path gives its bytes, in a context manager."""
    path = tmp_path / "list"
    path.write_bytes(b"http://h/a\n")
    with open_input(str(path)) as file:
        assert list(read_requests(file)) == [Request(0, "http://h/a", "a")]


@pytest.mark.parametrize(
    ("name", "problem", "fix"),
    [
        ("missing", "there is no file", "check the path"),
        ("", "is a folder", "name a file"),
        ("list/x", "cannot be opened", "name a file"),
        ("a\0b", "cannot be opened", "name a file"),
        ("a" * 300, "cannot be opened", "name a file"),
        ("locked", "must not be read", "give yourself the right"),
    ],
)
def test_a_file_that_cannot_be_opened_is_an_error_of_use(tmp_path: Path, name: str, problem: str, fix: str) -> None:
    """A wrong path is told in one line, with what to do; never a traceback."""
    (tmp_path / "list").touch()
    (tmp_path / "locked").touch(mode=0o000)
    user = os.geteuid()
    if user == 0 and name == "locked":
        os.seteuid(65534)  # the superuser may read everything
    try:
        with pytest.raises(UsageError) as caught:
            open_input(f"{tmp_path}/{name}")
    finally:
        os.seteuid(user)
    assert problem in caught.value.problem
    assert fix in caught.value.fix
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)


def test_standard_input_is_read() -> None:
    """`-` is standard input, which is still open afterwards."""
    program = """if True:
        import os, sys
        from eventflow.request import open_input, read_requests
        for item in read_requests(open_input("-")):
            print(item.url)
        os.fstat(0)
    """
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, input=b"http://h/a\nhttp://h/b\n", capture_output=True, check=True)
    assert ended.stdout == b"http://h/a\nhttp://h/b\n"


def test_a_standard_input_that_is_no_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something else was put in its place, a notebook's or a test's, that is read."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"http://h/a\n")))
    assert len(list(read_requests(open_input("-")))) == 1


def test_no_standard_input_is_an_error_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without standard input says so."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="there is no standard input"):
        open_input("-")


def test_requests_of_a_file_are_counted(tmp_path: Path) -> None:
    """The count is that of the items, bad lines included, for the total of a progress bar."""
    path = tmp_path / "list"
    path.write_bytes(
        b"\xef\xbb\xbf# a\nhttp://h/a\n\n  \nnonsense\n" + b"a" * 70_000 + b"\n#" + b"a" * 70_000 + b"\nhttp://h/b"
    )
    assert count_requests(str(path)) == 4 == len(list(read_requests(open_input(str(path)))))
    assert path.read_bytes()


def test_what_is_no_regular_file_is_not_counted(tmp_path: Path) -> None:
    """A pipe could be read only once, so it is not counted; neither is what is not there."""
    os.mkfifo(tmp_path / "pipe")
    for path in ("-", str(tmp_path), str(tmp_path / "missing"), str(tmp_path / "pipe"), "a\0b", "/dev/null"):
        assert count_requests(path) is None


def test_the_length_of_an_input_is_known_while_it_is_what_it_was(tmp_path: Path) -> None:
    """By size and time, as the run's settings have them; not of what is gone, changed, or no file."""
    path = tmp_path / "urls.txt"
    path.write_text("https://example.org/a\nhttps://example.org/b\n")
    status = path.stat()
    settings = {"source": str(path), "source_size": status.st_size, "source_mtime_ns": status.st_mtime_ns}
    assert expected_requests(settings) == 2
    for changed in ({"source_size": 1}, {"source_mtime_ns": 1}, {"source": None}, {"source": str(tmp_path / "gone")}):
        assert expected_requests(settings | changed) is None
    assert expected_requests({"source": "a\0b"}) is None
