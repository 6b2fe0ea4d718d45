"""Whatever the input is, each line of it becomes one item, and each request can be fetched and stored."""

import io
import json
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventflow.naming import name_problem
from eventflow.redaction import redact_url
from eventflow.request import BadLine, Request, count_requests, read_requests

PIECES = [
    b"http://",
    b"https://",
    b"ftp://",
    b"h",
    b"u:p@",
    b"/",
    b":80",
    b"[::1]",
    b"?",
    b"#",
    b"\t",
    b" ",
    b"\n",
    b"\r\n",
]
PIECES += [
    b"\xef\xbb\xbf",
    b"\xff",
    "ü".encode(),
    b"\0",
    b"\\",
    b"%",
    b"..",
    b'{"url":"http://h/a"}',
    b'{"url":',
    b"a" * 64,
]
INPUTS = st.lists(st.sampled_from(PIECES)).map(b"".join) | st.binary()
TEXTS = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]))


@given(INPUTS)
def test_any_input_is_read(data: bytes) -> None:
    """Nothing raises; the numbers are 0, 1, 2 …; what is bad can be shown; what is good has a name of its own."""
    items = list(read_requests(io.BytesIO(data)))
    assert [item.number for item in items] == list(range(len(items)))
    for item in items:
        if isinstance(item, BadLine):
            assert item.preview.isprintable()
            assert len(item.preview) <= 120
            assert "\n" not in str(item.error)
        else:
            assert name_problem(item.name) is None
    names = [item.name for item in items if isinstance(item, Request)]
    assert len(set(names)) == len(names)


@given(
    INPUTS | TEXTS.map(lambda text: f"http://h/{text}".encode()) | TEXTS.map(lambda text: f"http://{text}/".encode())
)
def test_a_request_can_be_sent(data: bytes) -> None:
    """The URL of a request is one to every part of the program that reads it: httpx, urllib and redaction."""
    for item in read_requests(io.BytesIO(data)):
        if isinstance(item, Request):
            assert item.url.isascii()
            assert httpx.URL(item.url).host
            assert urlsplit(item.url).hostname
            assert urlsplit(item.url).port != 0
            assert isinstance(redact_url(item.url), str)


@given(INPUTS)
def test_a_file_is_read_like_its_lines(data: bytes) -> None:
    """A file and the list of its lines give the same."""
    from_file = list(read_requests(io.BytesIO(data)))
    from_lines = list(read_requests(data.splitlines(keepends=True) if b"\r" not in data else io.BytesIO(data)))
    assert [(type(item), item.number) for item in from_file] == [(type(item), item.number) for item in from_lines]
    assert [item for item in from_file if isinstance(item, Request)] == [
        i for i in from_lines if isinstance(i, Request)
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=INPUTS)
def test_the_count_is_right(tmp_path: Path, data: bytes) -> None:
    """`count_requests` says how many items there will be."""
    path = tmp_path / "list"
    path.write_bytes(data)
    assert count_requests(str(path)) == len(list(read_requests(io.BytesIO(data))))


@given(st.lists(st.tuples(TEXTS, st.none() | TEXTS)))
def test_a_copy_of_the_requests_is_the_same_list(fields: list[tuple[str, str | None]]) -> None:
    """What was read, written as JSON with its names, is read as the same again: a run's copy of its input."""
    lines = [json.dumps({"url": f"http://h/{path}", "name": name}).encode() for path, name in fields]
    items = list(read_requests(lines))
    copy = [
        json.dumps(
            {"url": item.url, "name": item.name} if isinstance(item, Request) else {"bad": item.preview}
        ).encode()
        for item in items
    ]
    again = list(read_requests(copy))
    assert [item for item in again if isinstance(item, Request)] == [
        item for item in items if isinstance(item, Request)
    ]
    assert [item.preview for item in again if isinstance(item, BadLine)] == [
        item.preview for item in items if isinstance(item, BadLine)
    ]
