"""The transport beside httpx's own: the same request gives the same answer, and the same fault the same error."""

import gzip
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import httpx
import pytest
import trio

from eventflow.http import Transport
from tests.raw_server import Asked, Peer, Talk, each, respond, serving

BODY = bytes(range(256)) * 1000
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n"
)
MAKERS: list[Callable[[], httpx.AsyncBaseTransport]] = [Transport, httpx.AsyncHTTPTransport]


class Outcome(NamedTuple):
    """What a user sees of one request, and what the server saw of it."""

    status: int | None
    headers: list[tuple[bytes, bytes]] | None
    body: bytes | None
    error: str | None
    asked: list[Asked]


class Stream:
    """A body of three parts."""

    def __init__(self) -> None:
        self._parts = iter([b"one", b"two" * 50_000, b"three"])

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for part in self._parts:
            return part
        raise StopAsyncIteration


class Request(NamedTuple):
    """A request, and what its server answers, one request after the other."""

    answers: tuple[bytes, ...]
    method: str = "GET"
    target: str = "/"
    options: Mapping[str, Any] = {}
    client: Mapping[str, Any] = {}


def _redirect(to: str, status: str = "302 Found") -> bytes:
    return respond(b"", f"Location: {to}", status=status)


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
LENGTH = {"Content-Length": "150008"}
FOLLOW = {"follow_redirects": True}
COOKIE = respond(b"", "Set-Cookie: a=b", "Location: /b", status="302 Found")
DIGEST = respond(b"", 'WWW-Authenticate: Digest realm="r", nonce="n", algorithm=MD5', status="401 No")
ZIPPED = gzip.compress(BODY)
GOOD = {
    "get": Request((respond(BODY, "Content-Type: a/b", "X: 1", "x: 2"),)),
    "query": Request((respond(),), target="/a b/%20;c?d=e&f=%2f#g"),
    "head": Request((b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",), "HEAD"),
    "post": Request((respond(b"", status="201 Created"),), "POST", options={"json": {"a": [1, 2]}}),
    "form": Request((respond(),), "POST", options={"data": {"a": "b c", "d": "é"}}),
    "files": Request((respond(),), "POST", options={"files": {"f": ("n", BODY)}, "headers": MULTIPART}),
    "stream": Request((respond(b"taken"),), "PUT", options={"content": Stream}),
    "stream with length": Request((respond(b"taken"),), "PUT", options={"content": Stream, "headers": LENGTH}),
    "chunked": Request((CHUNKED,)),
    "http 1.0": Request((respond(b"old", version="1.0"),)),
    "up to the end": Request((b"HTTP/1.1 200 OK\r\n\r\n" + BODY,)),
    "no content": Request((b"HTTP/1.1 204 No Content\r\n\r\n",)),
    "not modified": Request((b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",)),
    "interim": Request((b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + respond(b"it"),)),
    "server error": Request((respond(b"sorry", status="503 Unavailable"),)),
    "odd status": Request((respond(b"", status="299 My Own"),)),
    "blanks": Request((b"HTTP/1.1 200 OK\r\nA:   b c  \r\nEmpty:\r\nContent-Length: 0\r\n\r\n",)),
    "gzip": Request((respond(ZIPPED, "Content-Encoding: gzip"),)),
    "redirects": Request(
        (_redirect("/b"), _redirect("c?d"), respond(b"there")), "POST", options={"content": b"x"}, client=FOLLOW
    ),
    "cookies": Request((COOKIE, respond(b"there")), client=FOLLOW),
    "basic auth": Request((respond(b"in"),), client={"auth": ("me", "hush")}),
    "digest auth": Request((DIGEST, respond(b"in")), client={"auth": httpx.DigestAuth("me", "hush")}),
}


def _reset(peer: Peer) -> None:
    peer.ask()
    peer.reset()


def _reset_in_body(peer: Peer) -> None:
    peer.ask()
    peer.send(respond(BODY)[:300])
    trio.run(trio.sleep, 0.05)  # so that the head is read before
    peer.reset()


def _closing(answer: bytes) -> Talk:
    def talk(peer: Peer) -> None:
        peer.ask()
        peer.send(answer)

    return talk


def _silent(peer: Peer) -> None:
    peer.ask()
    peer.wait_gone()


READ_SOON = {"timeout": httpx.Timeout(5, read=0.05)}
CONNECT_SOON = {"timeout": httpx.Timeout(5, connect=0.05)}
BAD: dict[str, tuple[Talk, str, Mapping[str, Any], str]] = {
    "closed without an answer": (_closing(b""), "{}/", {}, "RemoteProtocolError"),
    "closed in the headers": (_closing(b"HTTP/1.1 200 OK\r\nA: b"), "{}/", {}, "RemoteProtocolError"),
    "closed in the body": (_closing(respond(BODY)[:300]), "{}/", {}, "RemoteProtocolError"),
    "closed in a chunk": (_closing(CHUNKED[:-12]), "{}/", {}, "RemoteProtocolError"),
    "reset": (_reset, "{}/", {}, "ReadError"),
    "reset in the body": (_reset_in_body, "{}/", {}, "ReadError"),
    "no http": (_closing(b"220 mail.example.org ESMTP\r\n\r\n"), "{}/", {}, "RemoteProtocolError"),
    "bad length": (_closing(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "{}/", {}, "RemoteProtocolError"),
    "two lengths": (_closing(respond(b"x", "Content-Length: 2")), "{}/", {}, "RemoteProtocolError"),
    "bad chunk": (_closing(CHUNKED.replace(b"3;", b"z;")), "{}/", {}, "RemoteProtocolError"),
    "headers for ever": (_closing(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 200_000), "{}/", {}, "RemoteProtocolError"),
    "silence": (_silent, "{}/", READ_SOON, "ReadTimeout"),
    "no tls": (_silent, "https{}/", CONNECT_SOON, "ConnectTimeout"),
    "refused": (_silent, "http://127.0.0.1:1/", {}, "ConnectError"),
    "no such name": (_silent, "http://no.such.name.invalid/", {}, "ConnectError"),
    "no such scheme": (_silent, "ftp://127.0.0.1/", {}, "UnsupportedProtocol"),
    "a line in a header": (_silent, "{}/", {"headers": {"A": "b\r\nC: d"}}, "LocalProtocolError"),
    "a blank in a name": (_silent, "{}/", {"headers": {"A b": "c"}}, "LocalProtocolError"),
}


async def _ask(make: Callable[[], httpx.AsyncBaseTransport], request: Request, url: str, asked: list[Asked]) -> Outcome:
    options: dict[str, Any] = {name: value() if value is Stream else value for name, value in request.options.items()}
    client: dict[str, Any] = {"timeout": 5, **request.client}
    with trio.fail_after(10):
        async with httpx.AsyncClient(transport=make(), **client) as user:
            try:
                response = await user.request(request.method, url, **options)
            except httpx.TransportError as problem:
                return Outcome(None, None, None, type(problem).__name__, asked)
    assert response.http_version in ("HTTP/1.1", "HTTP/1.0")
    return Outcome(response.status_code, response.headers.raw, response.content, None, asked)


def _with_each(make: Callable[[], httpx.AsyncBaseTransport], request: Request) -> Outcome:
    asked: list[Asked] = []

    def talk(peer: Peer) -> None:
        for answer in request.answers:
            if (one := peer.ask()) is None:
                return
            # The port differs from server to server, and a digest has a random part.
            kept = [pair for pair in one.headers if pair[0] not in ("Host", "Authorization") or "Basic" in pair[1]]
            asked.append(one._replace(headers=kept))
            peer.send(answer)
        if b"Content-Length" not in request.answers[-1]:
            peer.close()
        peer.wait_gone()

    with serving(talk) as server:
        return trio.run(_ask, make, request, server.url + request.target, asked)


@pytest.mark.parametrize("name", GOOD)
def test_what_is_asked_and_answered_is_the_same(name: str) -> None:
    """The server sees the same request with both, and the user the same status, headers and body."""
    ours, theirs = (_with_each(make, GOOD[name]) for make in MAKERS)
    assert ours.error is None
    assert ours == theirs


@pytest.mark.parametrize("name", BAD)
def test_what_goes_wrong_is_the_same(name: str) -> None:
    """Who catches httpx's errors catches ours."""
    talk, place, options, expected = BAD[name]
    for make in MAKERS:
        with serving(talk) as server:
            url = place.format(server.url.removeprefix("http") if place.startswith("https") else server.url)
            outcome = trio.run(_ask, make, Request((), options=options), url, [])
        assert outcome.error == expected, make


def test_a_kept_connection_is_used_by_both() -> None:
    """Five requests, one connection."""
    for make in MAKERS:
        with serving(each(*[respond(b"x")] * 5)) as server:

            async def run(make: Callable[[], httpx.AsyncBaseTransport], url: str) -> None:
                async with httpx.AsyncClient(transport=make()) as client:
                    for _ in range(5):
                        await client.get(url)

            trio.run(run, make, server.url)
            assert len(server.peers) == 1
