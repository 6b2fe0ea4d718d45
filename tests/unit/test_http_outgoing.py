"""Requests as bytes: nothing in them makes a second line, and their length is said once."""

import math
from typing import Any

import httpx
import pytest

from eventflow.http.outgoing import Outgoing


def outgoing(method: str = "GET", url: str = "http://h/", **options: Any) -> Outgoing:
    """A request of httpx as it would be sent."""
    return Outgoing(httpx.Request(method, url, **options))


@pytest.mark.parametrize(
    "headers",
    [
        {"A": "b\r\nC: d"},
        {"A": "b\nC: d"},
        {"A": "b\rC: d"},
        {"A": "b\0"},
        {"A b": "c"},
        {"A\r\nB": "c"},
        {"A:": "c"},
        {"": "c"},
        [("Host", "a"), ("Host", "b")],
        [("Content-Length", "1"), ("Content-Length", "1")],
        [("Content-Length", "1"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
        {"Transfer-Encoding": "gzip, chunked"},
        {"Content-Length": "+1"},
        {"Content-Length": "1" * 30},
    ],
)
def test_headers_that_could_be_read_in_two_ways_are_not_sent(headers: Any) -> None:
    """Whoever puts a stranger's words into a header does not get a second header or a second request."""
    with pytest.raises(httpx.LocalProtocolError):
        outgoing("POST", headers=headers)


@pytest.mark.parametrize("method", ["GE T", "GET\r\n", "", "GÉT", "G:T"])
def test_a_method_is_a_token(method: str) -> None:
    """RFC 9110 §9.1."""
    with pytest.raises(httpx.LocalProtocolError):
        outgoing(method)


@pytest.mark.parametrize("target", [b"/a b", b"/\r\nA: b", b"", b"/\x7f", b"/\xe9"])
def test_a_target_has_no_blank_in_it(target: bytes) -> None:
    """The extension `target` is sent as it is, but for what would end the line."""
    with pytest.raises(httpx.LocalProtocolError):
        outgoing(extensions={"target": target})
    assert outgoing("OPTIONS", extensions={"target": b"*"})._head.startswith(b"OPTIONS * HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("method", "options", "may"),
    [
        ("GET", {}, True),
        ("HEAD", {}, True),
        ("DELETE", {}, True),
        ("PUT", {"content": b"x"}, True),
        ("PUT", {"files": {"f": b"x"}}, False),
        ("POST", {"content": b""}, False),
        ("PATCH", {}, False),
        ("BREW", {}, False),
    ],
)
def test_what_may_be_sent_twice(method: str, options: dict[str, Any], may: bool) -> None:
    """Idempotent methods (RFC 9110 §9.2.2) whose body is at hand."""
    assert outgoing(method, **options).may_repeat is may


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://h/", ("http", "h", 80)),
        ("https://h/", ("https", "h", 443)),
        ("http://H:8080/", ("http", "h", 8080)),
        ("http://h:0/", ("http", "h", 0)),
        ("http://[::1]:81/", ("http", "::1", 81)),
        ("http://bücher.example/", ("http", "xn--bcher-kva.example", 80)),
    ],
)
def test_the_origin_is_the_url_s(url: str, origin: tuple[str, str, int]) -> None:
    """Host names as DNS has them, ports as given or the scheme's."""
    made = outgoing(url=url).origin
    assert (made.scheme, made.host, made.port) == origin


def test_credentials_are_in_no_message() -> None:
    """What errors show of a URL is its origin."""
    assert outgoing(url="http://me:hush@h:81/a?b").shown == "http://h:81"


def test_timeouts_are_those_of_the_request() -> None:
    """None and nothing are for ever."""
    timed = outgoing(extensions={"timeout": {"read": 2.0, "write": None}})
    assert [timed.seconds(phase) for phase in ("read", "write", "pool")] == [2.0, math.inf, math.inf]
