"""The transport when things go wrong: dead connections, timeouts, cancelling, closing; and nothing is left open."""

import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import trio

from eventflow.http import Transport
from tests.raw_server import Peer, Talk, always, each, respond, serving
from tests.transporting import ask, open_sockets, with_client

LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nsome"


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Whatever a test does, as many sockets are open behind it as before it."""
    before = open_sockets()
    yield
    assert open_sockets() == before


def dying(answered: int, last: bytes = b"") -> Talk:
    """A conversation that takes one request more than it answers, and closes or says `last` before."""

    def talk(peer: Peer) -> None:
        for _ in range(answered):
            peer.ask()
            peer.send(respond(b"old"))
        peer.ask()
        peer.send(last)

    return talk


def twice(method: str, url: str, **options: Any) -> tuple[bytes, bytes]:
    """A good request and then another one, over the same connection if it can be."""

    async def run(client: httpx.AsyncClient) -> tuple[bytes, bytes]:
        return (await client.get(url)).content, (await client.request(method, url, **options)).content

    return with_client(run)


@pytest.mark.parametrize(("method", "options"), [("GET", {}), ("PUT", {"content": b"at hand"}), ("DELETE", {})])
def test_a_dead_kept_connection_is_replaced(method: str, options: dict[str, Any]) -> None:
    """A request that is idempotent, that got not one byte of an answer, and whose body is at hand is sent once more."""
    with serving(dying(1), each(respond(b"new"))) as server:
        assert twice(method, server.url, **options) == (b"old", b"new")
        assert len(server.peers) == 2


async def _stream() -> AsyncIterator[bytes]:
    yield b"gone"


@pytest.mark.parametrize(
    ("method", "options"), [("POST", {"content": b"x"}), ("PATCH", {}), ("PUT", {"content": _stream})]
)
def test_what_is_not_safe_to_repeat_is_sent_once(method: str, options: dict[str, Any]) -> None:
    """It may have been carried out, though no answer came; and a body that streams is gone (RFC 9110 §9.2.2)."""
    options = {name: value() if callable(value) else value for name, value in options.items()}
    with serving(dying(1), each(respond(b"new"))) as server:
        with pytest.raises(httpx.RemoteProtocolError, match="without an answer"):
            twice(method, server.url, **options)
        assert len(server.peers) == 1


def test_a_new_connection_is_not_replaced() -> None:
    """A server that answers nobody is asked once more, not for ever."""
    with serving(dying(1), dying(0), each(respond(b"never"))) as server:
        with pytest.raises(httpx.RemoteProtocolError, match="without an answer"):
            twice("GET", server.url)
        assert len(server.peers) == 2


def test_an_answer_that_began_is_not_asked_for_again() -> None:
    """One byte is enough: the request was understood."""
    with serving(dying(1, b"H"), each(respond(b"never"))) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            twice("GET", server.url)
        assert len(server.peers) == 1


def test_a_kept_connection_that_is_known_to_be_closed_takes_no_request() -> None:
    """So that a POST goes well after the server has ended an idle connection."""
    closed = threading.Event()

    def talk(peer: Peer) -> None:
        peer.ask()
        peer.send(respond(b"old"))
        peer.connection.close()
        closed.set()

    async def run(client: httpx.AsyncClient) -> bytes:
        await client.get(server.url)
        closed.wait(5)
        await trio.sleep(0.01)
        return (await client.post(server.url)).content

    with serving(talk, each(respond(b"new"))) as server:
        assert with_client(run) == b"new"


def _silent(peer: Peer) -> None:
    peer.ask()
    peer.wait_gone()


def _stalling(peer: Peer) -> None:
    peer.ask()
    peer.send(LONG)
    peer.wait_gone()


def _deaf(peer: Peer) -> None:
    peer.connection.recv(10)
    threading.Event().wait(0.5)  # reads nothing meanwhile


TIMEOUTS: list[tuple[type[httpx.TimeoutException], Talk, str, dict[str, Any]]] = [
    (httpx.ReadTimeout, _silent, "read", {}),
    (httpx.ReadTimeout, _stalling, "read", {}),
    (httpx.WriteTimeout, _deaf, "write", {"content": bytes(32 << 20)}),
    (httpx.ConnectTimeout, _deaf, "connect", {}),
]


@pytest.mark.parametrize(("kind", "talk", "phase", "options"), TIMEOUTS)
def test_each_timeout_is_httpx_s_own(
    kind: type[httpx.TimeoutException], talk: Talk, phase: str, options: dict[str, Any]
) -> None:
    """The phase that took too long is told by the class, and the connection is closed."""
    timeout = httpx.Timeout(5, **{phase: 0.1})
    with serving(talk) as server:
        # A server that says nothing to a TLS greeting is one that cannot be connected to.
        url = server.url.replace("http:", "https:") if phase == "connect" else server.url
        with pytest.raises(kind) as raised:
            ask("POST" if options else "GET", url, timeout=timeout, **options)
        assert raised.value.request.url == url


def test_waiting_for_a_connection_has_its_own_timeout() -> None:
    """PoolTimeout, and the slot that came too late is nobody's: the next one gets it."""

    async def run(client: httpx.AsyncClient) -> bytes:
        async with client.stream("GET", server.url) as response:
            with pytest.raises(httpx.PoolTimeout):
                await client.get(server.url, timeout=httpx.Timeout(5, pool=0.05))
            await response.aread()
        return (await client.get(server.url)).content

    slow = respond(b"x" * 200_000)
    with serving(always(slow)) as server:
        assert with_client(run, per_origin_max=1) == b"x" * 200_000
        assert len(server.peers) == 1


@pytest.mark.parametrize("talk", [_silent, _stalling])
def test_cancelling_closes_the_connection(talk: Talk) -> None:
    """Before the answer and within it; the slot is free again."""

    async def run(client: httpx.AsyncClient) -> bytes:
        with trio.move_on_after(0.05) as scope:
            await client.get(server.url)
        assert scope.cancelled_caught
        return (await client.get(server.url)).content

    with serving(talk, each(respond(b"next"))) as server:
        assert with_client(run, per_origin_max=1, connections_max=1) == b"next"
        assert server.peers[0].gone.wait(5)


def test_a_response_that_is_left_early_closes_its_connection() -> None:
    """Nobody reads a large rest only to keep a connection."""

    async def run(url: str) -> None:
        async with Transport() as transport:
            response = await transport.handle_async_request(httpx.Request("GET", url))
            assert isinstance(response.stream, httpx.AsyncByteStream)
            assert await anext(aiter(response.stream)) == b"some"
            await response.aclose()
            assert await trio.to_thread.run_sync(server.peers[0].gone.wait, 5)

    with serving(_stalling) as server:
        trio.run(run, server.url)


def test_a_body_that_was_closed_is_not_taken_for_a_whole_one() -> None:
    """Who goes on to read gets an error, not an end, also when the rest had arrived already."""

    async def run(url: str) -> None:
        async with Transport() as transport:
            response = await transport.handle_async_request(httpx.Request("GET", url))
            assert isinstance(response.stream, httpx.AsyncByteStream)
            body = aiter(response.stream)
            await response.stream.aclose()
            for _ in range(2):
                with pytest.raises(httpx.ReadError, match="closed before its end"):
                    await anext(body)

    for talk in (_stalling, each(respond(b"whole"))):
        with serving(talk) as server:
            trio.run(run, server.url)


def test_a_body_that_fails_gives_everything_back_at_once() -> None:
    """Also if nobody closes the response; who reads on gets no end of it."""

    async def run(url: str) -> None:
        transport = Transport(connections_max=1)
        request = httpx.Request("GET", url, extensions={"timeout": {"read": 0.05, "pool": 0.05}})
        for _ in range(2):  # the second one has a slot
            response = await transport.handle_async_request(request)
            assert isinstance(response.stream, httpx.AsyncByteStream)
            body = aiter(response.stream)
            assert await anext(body) == b"some"
            for kind in (httpx.ReadTimeout, httpx.ReadError):
                with pytest.raises(kind):
                    await anext(body)

    with serving(_stalling) as server:
        trio.run(run, server.url)


async def _head(client: httpx.AsyncClient, url: str) -> None:
    await client.get(url)


async def _between(client: httpx.AsyncClient, url: str) -> None:
    async with client.stream("GET", url) as response:
        pieces = response.aiter_raw()
        await anext(pieces)
        await trio.sleep(0.1)  # closed meanwhile, while nobody reads
        await anext(pieces)


@pytest.mark.parametrize(
    ("talk", "run"), [(_silent, _head), (dying(1), _head), (_stalling, _head), (_stalling, _between)]
)
def test_who_reads_while_the_transport_is_closed_gets_a_read_error(talk: Talk, run: Callable[..., Any]) -> None:
    """And nothing is asked for again, over no new connection."""
    kept = talk not in (_silent, _stalling)

    def hold(peer: Peer) -> None:
        if kept:
            peer.ask()
            peer.send(respond(b"old"))
        (_silent if kept else talk)(peer)

    async def main() -> None:
        transport = Transport()
        async with httpx.AsyncClient(transport=transport) as client, trio.open_nursery() as nursery:
            if kept:
                await client.get(server.url)

            async def expect() -> None:
                with pytest.raises(httpx.ReadError):
                    await run(client, server.url)

            nursery.start_soon(expect)
            await trio.sleep(0.05)
            await transport.aclose()

    with serving(hold) as server:
        trio.run(main)
        assert len(server.peers) == 1


def test_who_waits_or_dials_while_the_transport_is_closed_gets_a_connect_error() -> None:
    """Also who comes later. Nobody is left waiting for a slot that a response holds that nobody reads."""

    async def main(url: str, tls_url: str) -> None:
        transport = Transport(per_origin_max=1)
        held = await transport.handle_async_request(httpx.Request("GET", url))

        async def expect(place: str) -> None:
            with pytest.raises(httpx.ConnectError, match="the transport is closed"):
                await transport.handle_async_request(httpx.Request("GET", place))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, url)
            nursery.start_soon(expect, url)
            nursery.start_soon(expect, tls_url)
            await trio.sleep(0.05)
            await transport.aclose()
            await expect(url)
        await held.aclose()

    def unready(peer: Peer) -> None:
        peer.wait_gone()

    with serving(_stalling) as server, serving(unready) as tls:
        trio.run(main, server.url, tls.url.replace("http:", "https:"))
        assert len(server.peers) == 1


def _reset(peer: Peer) -> None:
    peer.ask()
    peer.send(LONG)
    peer.reset()


def test_nothing_is_left_open_behind_many_requests_that_end_in_all_ways() -> None:
    """Good ones, broken ones, cancelled ones and refused ones, all at once; then the slots are all free again."""
    with ExitStack() as stack:
        talks = [always(), _stalling, _silent, _reset, dying(0), dying(1), each(b"nonsense\r\n\r\n")]
        urls = [stack.enter_context(serving(talk)).url for talk in talks] + ["http://127.0.0.1:1"]
        before = open_sockets()
        ends: list[str] = []

        async def one(client: httpx.AsyncClient, url: str, number: int) -> None:
            with trio.move_on_after(0.05 + number % 7 * 0.02):
                try:
                    await client.request(("GET", "POST", "HEAD")[number % 3], url, content=b"x" * (number % 2))
                    ends.append("good")
                except httpx.TransportError as problem:
                    ends.append(type(problem).__name__)

        async def main() -> None:
            transport = Transport(connections_max=20, per_origin_max=6, idle_s=60)
            async with httpx.AsyncClient(transport=transport) as client:
                async with trio.open_nursery() as nursery:
                    for number in range(160):
                        nursery.start_soon(one, client, urls[number % len(urls)], number)
                assert trio.lowlevel.current_statistics().tasks_living <= 3
                await client.get(urls[0])
                assert open_sockets() - before >= 1  # the kept ones, and the servers' sides of them

        trio.run(main)
        assert {"good", "ReadError", "ConnectError", "RemoteProtocolError"} <= set(ends)


def test_a_port_of_zero_is_not_the_default_one() -> None:
    """What is asked for is asked for."""
    with pytest.raises(httpx.ConnectError):
        ask("GET", "http://127.0.0.1:0/")


def test_a_connection_that_is_reset_at_once_is_an_error_of_httpx() -> None:
    """Whenever it shows: while connecting, sending or reading."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            for _ in range(30):
                Peer(listener.accept()[0], 0).reset()

        thread = threading.Thread(target=accept)
        thread.start()
        for _ in range(30):
            with pytest.raises(httpx.TransportError):
                ask("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()
