"""How many connections the transport has, and in which order requests get them; TLS."""

import ssl
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import trio
import trio.lowlevel

from eventflow.http import Transport
from tests.raw_server import Peer, always, respond, serving
from tests.transporting import ask, certificate, with_client


class Crowded:
    """A conversation that knows how many connections are open, and how many there were at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0
        self.order: list[str] = []

    def __call__(self, peer: Peer) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        while (asked := peer.ask()) is not None:
            self.order.append(asked.line.split()[1])
            threading.Event().wait(0.002)
            peer.send(respond(b"x"))
        with self._lock:
            self.now -= 1


async def _get_all(client: httpx.AsyncClient, urls: list[str]) -> None:
    async with trio.open_nursery() as nursery:
        for url in urls:
            nursery.start_soon(client.get, url)


def test_no_origin_gets_more_connections_than_it_may() -> None:
    """The limit of one origin, which does not hold up another."""
    first, second = Crowded(), Crowded()
    with serving(first) as one, serving(second) as two:

        async def run(client: httpx.AsyncClient) -> None:
            await _get_all(client, [f"{one.url}/{number}" for number in range(30)] + [f"{two.url}/"] * 3)

        with_client(run, per_origin_max=4)
        assert (first.most, len(one.peers)) == (4, 4)
        assert second.most == 3


def test_there_are_never_more_connections_in_all_than_there_may_be() -> None:
    """Idle ones count: they make room for an origin that has none."""
    crowds = [Crowded() for _ in range(6)]
    counts: list[int] = []

    async def main(urls: list[str]) -> None:
        transport = Transport(connections_max=4, per_origin_max=3)
        async with httpx.AsyncClient(transport=transport) as client, trio.open_nursery() as nursery:

            async def watch() -> None:
                while True:
                    # Seen from inside, since a server hears of a closed connection only later.
                    leases = transport._slots._leases
                    using = sum(lease._connection is not None or lease.making is not None for lease in leases)
                    counts.append(len(transport._pool) + using)
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(watch)
            await _get_all(client, [urls[number % 6] for number in range(90)])
            await _get_all(client, [urls[number // 15] for number in range(90)])
            nursery.cancel_scope.cancel()

    with ExitStack() as stack:
        trio.run(main, [stack.enter_context(serving(crowd)).url for crowd in crowds])
    assert sum(len(crowd.order) for crowd in crowds) == 180
    assert max(counts) == 4


def test_who_asks_first_is_served_first() -> None:
    """In the order of asking, although some give up while they wait."""
    crowd = Crowded()
    with serving(crowd) as server:

        async def run(client: httpx.AsyncClient) -> None:
            async with trio.open_nursery() as nursery, trio.open_nursery() as impatient:
                for number in range(20):
                    (impatient if number % 4 == 3 else nursery).start_soon(client.get, f"{server.url}/{number}")
                    await trio.testing.wait_all_tasks_blocked()
                impatient.cancel_scope.cancel()
            assert (await client.get(f"{server.url}/last")).status_code == 200

        with_client(run, per_origin_max=1)
    numbers = [int(path[1:]) for path in crowd.order if path != "/last"]
    assert numbers == sorted(numbers)
    assert {number for number in range(20) if number % 4 != 3} <= set(numbers)


@pytest.mark.part("openssl")
def test_tls_with_a_certificate_that_checks(tmp_path: Path) -> None:
    """For the address that was asked for, by an authority that is trusted; HTTP/1.1 is what is agreed on."""
    context, trusting = certificate(tmp_path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    trusting.set_alpn_protocols(["h2"])  # as whoever shares this context may have done
    agreed: list[str | None] = []

    def talk(peer: Peer) -> None:
        assert isinstance(peer.connection, ssl.SSLSocket)
        agreed.append(peer.connection.selected_alpn_protocol())
        always(respond(b"safe" * 100_000))(peer)

    with serving(talk, tls=context) as server:
        assert ask("GET", server.url, transport={"tls": trusting}).content == b"safe" * 100_000
    assert agreed == ["http/1.1"]


@pytest.mark.part("openssl")
@pytest.mark.parametrize(
    ("names", "is_trusted", "what"),
    [("subjectAltName=DNS:example.org", True, "mismatch"), ("subjectAltName=IP:127.0.0.1", False, "self-signed")],
)
def test_tls_with_a_certificate_that_does_not_check(tmp_path: Path, names: str, is_trusted: bool, what: str) -> None:
    """Nothing is sent to a server whose certificate is another's, or of nobody's making."""
    context, trusting = certificate(tmp_path, names)
    with serving(always(), tls=context) as server, pytest.raises(httpx.ConnectError, match=what):
        ask("GET", server.url, transport={"tls": trusting if is_trusted else None})
    assert not server.peers


@pytest.mark.part("openssl")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_tls_session_is_gone_on_with(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """Another connection to the same origin saves a round trip, or the certificates."""
    context, trusting = certificate(tmp_path)
    context.maximum_version = version

    async def run(client: httpx.AsyncClient) -> None:
        for _ in range(3):
            await client.get(server.url)

    with serving(always(), tls=context) as server:
        with_client(run, tls=trusting, idle_s=0)
        assert [peer.tls_reused for peer in server.peers] == [False, True, True]


@pytest.mark.part("openssl")
def test_a_tls_connection_that_is_cut_is_no_end_of_a_body(tmp_path: Path) -> None:
    """Where only the end of the connection ends a body, TLS must say so too (RFC 9112 §9.8)."""
    context, trusting = certificate(tmp_path)

    def cut(peer: Peer) -> None:
        peer.ask()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        peer.connection.close()

    def end(peer: Peer) -> None:
        assert isinstance(peer.connection, ssl.SSLSocket)
        peer.ask()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nwhole")
        peer.connection.unwrap()

    with serving(cut, tls=context) as server, pytest.raises(httpx.ReadError):
        ask("GET", server.url, transport={"tls": trusting})
    with serving(end, tls=context) as server:
        assert ask("GET", server.url, transport={"tls": trusting}).content == b"whole"


def test_plain_http_where_tls_is_asked_for_is_an_error_of_the_connection() -> None:
    """And the other way round, of the protocol."""

    def talk(peer: Peer) -> None:
        peer.connection.recv(10_000)
        peer.send(respond(b"plain"))

    with serving(talk) as server, pytest.raises(httpx.ConnectError, match="TLS failed"):
        ask("GET", server.url.replace("http:", "https:"))


def test_authorities_that_cannot_be_read_are_an_error_of_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which variable to look at; nothing is connected to before."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for path in (tmp_path / "absent", wrong):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with serving(always()) as server, pytest.raises(httpx.ConnectError, match="SSL_CERT_FILE"):
            ask("GET", server.url.replace("http:", "https:"))
        assert not server.peers
