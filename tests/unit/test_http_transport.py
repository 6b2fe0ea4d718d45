"""The transport for users of httpx: what is sent, what comes back, and which of httpx's errors says that it did not."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio

from eventflow.errors import UsageError
from eventflow.http import Transport
from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings
from tests.raw_server import Asked, Peer, always, each, respond, serving
from tests.transporting import ask, with_client

SECRET = "hush-hush"


class Parts:
    """A body that is not at hand as a whole. No generator: one that is left half way is the business of its maker."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = iter(pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.sleep(0.0002)
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            return piece
        raise StopAsyncIteration


def noting(asked: list[Asked], answer: bytes = respond(b"hello")) -> Any:
    """A conversation that notes what was asked."""

    def talk(peer: Peer) -> None:
        while (one := peer.ask()) is not None:
            asked.append(one)
            peer.send(answer)

    return talk


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_methods_headers_and_bodies_arrive_as_they_were_given(method: str) -> None:
    """Method, target, headers in their order and case, and the body; and the response's likewise."""
    asked: list[Asked] = []
    answer = respond(b"hello", "X-Both: 1", "x-both: 2", "Set-Cookie: a=b", status="299 Good")
    with serving(noting(asked, answer)) as server:
        url = f"{server.url}/a%20b?c=d%2F&e"
        response = ask(method, url, content=b"sent", headers=[("X-One", "1"), ("x-ONE", "2")])
    (one,) = asked
    assert (one.line, one.body) == (f"{method} /a%20b?c=d%2F&e HTTP/1.1", b"sent")
    assert [pair for pair in one.headers if pair[0].lower() == "x-one"] == [("X-One", "1"), ("x-ONE", "2")]
    assert (one.header("host"), one.header("content-length")) == (f"127.0.0.1:{server.port}", "4")
    assert (response.status_code, response.content, response.http_version) == (299, b"hello", "HTTP/1.1")
    names = [(b"Content-Length", b"5"), (b"X-Both", b"1"), (b"x-both", b"2"), (b"Set-Cookie", b"a=b")]
    assert response.headers.raw == names


def test_a_response_to_head_has_no_body_and_leaves_the_connection_usable() -> None:
    """Whatever its Content-Length or coding says (RFC 9112 §6.3); the connection goes on with the next one."""
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", respond(b"first")]
    answers += [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", respond(), respond(b"last")]
    with serving(each(*answers)) as server:

        async def run(client: httpx.AsyncClient) -> list[bytes]:
            return [
                (await client.request(method, server.url)).content for method in ("HEAD", "GET", "HEAD", "HEAD", "GET")
            ]

        assert with_client(run) == [b"", b"first", b"", b"", b"last"]
        assert len(server.peers) == 1


@pytest.mark.parametrize("length", [None, 700_006])
def test_a_streamed_body_is_sent_in_chunks_or_with_its_length(length: int | None) -> None:
    """Empty parts end nothing, and large ones arrive whole; what is sent is what was given."""
    asked: list[Asked] = []
    headers = {} if length is None else {"Content-Length": str(length)}
    body = Parts(b"abc", b"", b"x" * 700_000, b"def")
    with serving(noting(asked)) as server:
        ask("POST", server.url, content=body, headers=headers)
    assert asked[0].body == b"abc" + b"x" * 700_000 + b"def"
    assert asked[0].header("transfer-encoding") == ("chunked" if length is None else None)


@pytest.mark.parametrize(("sent", "what"), [(b"four", "shorter"), (b"sixsix", "longer")])
def test_a_body_of_another_length_than_said_fails_and_ends_the_connection(sent: bytes, what: str) -> None:
    """The server would take what is missing from the next request, or what is too much for one."""
    seen: list[bytes] = []

    def talk(peer: Peer) -> None:
        asked = peer.ask()
        seen.append(asked.body if asked else b"")
        peer.wait_gone()

    with serving(talk) as server, pytest.raises(httpx.LocalProtocolError, match=what):
        ask("POST", server.url, content=Parts(sent), headers={"Content-Length": "5"})
    assert len(seen[0]) < 5
    assert server.peers[0].gone.is_set()


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "close", "1.0"])
def test_bodies_arrive_whole_however_they_are_framed(size: int, framing: str) -> None:
    """By length, in chunks, or up to the end of the connection (RFC 9112 §6.3)."""
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    pieces = [body[at : at + 9999] for at in range(0, size, 9999)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    answer = {
        "length": respond(body),
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n",
        "close": b"HTTP/1.1 200 OK\r\n\r\n" + body,
        "1.0": b"HTTP/1.0 200 OK\r\n\r\n" + body,
    }[framing]

    def talk(peer: Peer) -> None:
        if peer.ask() is not None:
            peer.send(answer)
            if framing in ("close", "1.0"):
                peer.close()
            peer.wait_gone()

    with serving(talk) as server:
        response = ask("GET", server.url)
    assert response.content == body
    assert response.http_version == ("HTTP/1.0" if framing == "1.0" else "HTTP/1.1")


def test_a_large_body_takes_little_memory() -> None:
    """Whoever reads slowly holds the server back; no more than a read or two are in memory."""

    def talk(peer: Peer) -> None:
        peer.ask()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (32 << 20))
        for _ in range(32):
            peer.send(bytes(1 << 20))
        peer.wait_gone()

    async def run(client: httpx.AsyncClient) -> int:
        async with client.stream("GET", server.url) as response:
            tracemalloc.start()
            received = [len(piece) async for piece in response.aiter_raw()]
            return sum(received)

    with serving(talk) as server:
        assert with_client(run) == 32 << 20
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 << 20  # the server's own pieces are of 1 MiB


def test_connections_are_kept_unless_one_side_says_close() -> None:
    """One connection for requests one after the other; after `Connection: close` of either side another one."""
    closing = each(respond(b"a"), respond(b"b"), respond(b"c", "Connection: close"))
    with serving(closing, always(), always(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy")) as server:

        async def run(client: httpx.AsyncClient) -> list[int]:
            numbers = []
            for option in ["keep-alive"] * 5 + ["close"] + ["keep-alive"] * 2:
                await client.get(server.url, headers={"Connection": option})
                numbers.append(len(server.peers))
            return numbers

        # The last two answers have a byte too many behind them, so that nothing good can follow.
        assert with_client(run) == [1, 1, 1, 2, 2, 2, 3, 4]


def test_an_idle_connection_is_not_used_after_its_time() -> None:
    """`idle_s` is how long one is kept."""
    with serving(always()) as server:

        async def run(client: httpx.AsyncClient) -> None:
            await client.get(server.url)
            await client.get(server.url)

        with_client(run, idle_s=0)
        assert len(server.peers) == 2


def test_an_answer_before_the_whole_body_is_taken_for_the_answer() -> None:
    """A server that wants no more says so and closes; the status is worth more than the broken pipe."""

    def talk(peer: Peer) -> None:
        peer.connection.recv(1000)
        peer.send(respond(b"too large", "Connection: close", status="413 Content Too Large"))
        peer.close()
        peer.connection.recv(1 << 20)

    with serving(talk) as server:
        response = ask("POST", server.url, content=Parts(*[b"x" * 100_000] * 400))
    assert (response.status_code, response.content) == (413, b"too large")


def test_what_a_body_raises_is_not_taken_for_the_connections_fault() -> None:
    """A body that comes from another connection may break with the same error; it is the caller's."""
    body = Parts(b"x", trio.BrokenResourceError("mine"))
    with serving(each(respond())) as server, pytest.raises(trio.BrokenResourceError, match="mine"):
        ask("POST", server.url, content=body)
    assert server.peers[0].gone.is_set()


def test_interim_responses_are_passed_over() -> None:
    """100, 102 and 103 come before the answer, and are none."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    with serving(each(interim + respond(b"it"))) as server:
        assert ask("POST", server.url, content=b"x", headers={"Expect": "100-continue"}).content == b"it"


def test_the_projects_own_origin_is_served() -> None:
    """A hundred files at a time over few connections: each gets its own."""
    with start_origin(OriginSettings(files=100, size=3000, size_spread=1.0, latency_s=0.001)) as origin:

        async def run(client: httpx.AsyncClient) -> dict[str, int]:
            sizes = {}

            async def get(url: str) -> None:
                response = await client.get(url)
                sizes[url] = len(response.raise_for_status().content)

            async with trio.open_nursery() as nursery:
                for entry in origin.entries():
                    nursery.start_soon(get, entry.url)
            return sizes

        assert with_client(run, per_origin_max=7) == {entry.url: entry.size for entry in origin.entries()}


UNSUPPORTED: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "ftp://127.0.0.1/", {}),
    ("GET", "ws://127.0.0.1/", {}),
    ("CONNECT", "http://127.0.0.1/", {}),
    ("GET", "http://127.0.0.1/", {"headers": {"Upgrade": "websocket", "Connection": "Upgrade"}}),
    ("GET", "https://127.0.0.1/", {"extensions": {"sni_hostname": "example.org"}}),
]


@pytest.mark.parametrize(("method", "url", "options"), UNSUPPORTED)
def test_what_is_not_spoken_is_refused_or_goes_to_the_fallback(method: str, url: str, options: dict[str, Any]) -> None:
    """Never in another way than was asked for, and to another transport only if it was given."""
    with pytest.raises(httpx.UnsupportedProtocol, match="give the transport a fallback"):
        ask(method, url, **options)
    fallback = httpx.MockTransport(lambda request: httpx.Response(218, text=request.method))
    response = ask(method, url, transport={"fallback": fallback}, **options)
    assert (response.status_code, response.text) == (218, method)


def test_the_fallback_gets_nothing_that_can_be_spoken() -> None:
    """Not even what fails."""
    fallback = httpx.MockTransport(lambda _: httpx.Response(218))
    with serving(always()) as server:
        assert ask("GET", server.url, transport={"fallback": fallback}).status_code == 200
    with pytest.raises(httpx.ConnectError):
        ask("GET", server.url, transport={"fallback": fallback})


def test_the_fallback_is_closed_with_the_transport() -> None:
    """Once."""
    closed: list[int] = []

    class Fallback(httpx.AsyncBaseTransport):
        async def aclose(self) -> None:
            closed.append(1)

    async def run(client: httpx.AsyncClient) -> None:
        assert not closed

    with_client(run, fallback=Fallback())
    assert closed == [1]


def test_under_asyncio_it_says_what_to_do() -> None:
    """Most users of httpx are there."""

    async def run() -> None:
        async with httpx.AsyncClient(transport=Transport()) as client:
            await client.get("http://127.0.0.1:1/")

    with pytest.raises(UsageError, match=r"under trio only: .*httpx\.AsyncHTTPTransport\(\)"):
        asyncio.run(run())


def test_one_transport_may_serve_several_trio_runs() -> None:
    """As long as they come one after the other: connections are kept from one to the next."""
    transport = Transport()

    async def run(url: str) -> bytes:
        response = await transport.handle_async_request(httpx.Request("GET", url))
        return await response.aread()

    with serving(always()) as server:
        assert [trio.run(run, server.url) for _ in range(3)] == [b"hello"] * 3
        assert len(server.peers) == 1
        trio.run(transport.aclose)


FAULTY = [b"", b"HTTP/1.1 200 OK\r\n", respond()[:-9], b"hush", b"HTTP/1.1 101 X\r\n\r\n"]


@pytest.mark.parametrize("answer", FAULTY)
def test_no_error_tells_a_secret(answer: bytes) -> None:
    """Credentials of the URL, its query, and header values are in no message."""

    def talk(peer: Peer) -> None:
        peer.ask()
        peer.send(answer)

    headers = {"Authorization": f"Bearer {SECRET}", "Cookie": SECRET}
    with serving(talk) as server:
        for port in (server.port, 1):
            url = f"http://user:{SECRET}@127.0.0.1:{port}/?key={SECRET}"
            with pytest.raises(httpx.TransportError) as raised:
                ask("GET", url, headers=headers)
            problem: BaseException | None = raised.value
            while problem is not None:
                assert SECRET not in f"{problem} {problem.args}"
                problem = problem.__cause__ or problem.__context__
