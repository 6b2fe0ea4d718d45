"""The server over real sockets: HTTP/1.1 as clients rely on it, with bounded memory whatever they do."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import psutil
import pytest

from eventflow.origin.content import checksum, content
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings, file_size
from tests.unit.origin.talking import get, has_body, talk


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A good server."""
    with start_origin(OriginSettings(files=20, size=30_000, size_spread=0.5, seed=4)) as running:
        yield running


@pytest.fixture(scope="module")
def large() -> Iterator[Origin]:
    """A server of two large files."""
    with start_origin(OriginSettings(files=2, size=40 << 20)) as running:
        yield running


def test_the_list_is_what_is_served(origin: Origin) -> None:
    """URL, name and SHA-256 of every file, from the server and without asking it; and with sizes, as JSON."""
    entries = list(origin.entries())
    lines = httpx.get(origin.manifest_url).text.splitlines()
    assert lines == [f"{entry.url}\t{entry.name}\t{entry.sha256}" for entry in entries]
    objects = httpx.get(f"{origin.url}/manifest.jsonl").text.splitlines()
    assert [msgspec.json.decode(line, type=type(entries[0])) for line in objects] == entries
    with httpx.Client() as client:
        for number, entry in enumerate(entries):
            assert client.get(entry.url).content == content(origin.settings, number)
            assert (entry.sha256, entry.size) == (checksum(origin.settings, number), file_size(origin.settings, number))


def test_the_list_has_an_end_that_a_client_can_see(origin: Origin) -> None:
    """In chunks for HTTP/1.1, on a connection that is kept; until it is closed for HTTP/1.0."""
    request = b"GET /manifest.tsv HTTP/1.1\r\nHost: x\r\n\r\n"
    said = talk(origin.port, request, enough=lambda data: data.endswith(b"0\r\n\r\n"))
    assert (said.fields["transfer-encoding"], said.end) == ("chunked", "open")
    said = talk(origin.port, b"GET /manifest.tsv HTTP/1.0\r\n\r\n")
    assert said.end == "closed"
    assert said.body == b"".join(entry.tsv() for entry in origin.entries())
    assert talk(origin.port, b"HEAD /manifest.tsv HTTP/1.1\r\nConnection: close\r\n\r\n").body == b""


def test_a_connection_is_kept_as_long_as_the_client_wants(origin: Origin) -> None:
    """HTTP/1.1 keeps it unless told otherwise, HTTP/1.0 does not (RFC 9112 §9.3)."""
    whole = content(origin.settings, 0)
    assert talk(origin.port, get(0), enough=has_body(len(whole))).end == "open"
    old = b"GET /files/000000.bin HTTP/1.0\r\n"
    for request in (get(0, "Connection: close\r\n"), old + b"\r\n", old + b"Connection: keep-alive\r\n\r\n"):
        said = talk(origin.port, request)
        assert (said.end, said.body, said.fields["connection"]) == ("closed", whole, "close")


def test_what_is_not_there_says_so(origin: Origin) -> None:
    """404 for paths, 405 for methods, and neither is counted as a try of a file."""
    for path in ("/nothing", "/files/000099.bin", "/files/x.bin"):
        assert httpx.get(origin.url + path).status_code == 404
    for path in ("/files/000000.bin", "/manifest.tsv"):
        answer = httpx.post(origin.url + path, content=b"x" * 100)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_what_is_no_http_is_answered_in_its_turn(origin: Origin) -> None:
    """400 after the answers that are due, then the end."""
    assert talk(origin.port, b"nonsense\r\n\r\n").status == 400
    said = talk(origin.port, get(1) + b"nonsense\r\n\r\n")
    assert (said.status, said.end) == (200, "closed")
    assert said.body.startswith(content(origin.settings, 1) + b"HTTP/1.1 400 ")


def test_a_request_without_end_is_not_collected(origin: Origin) -> None:
    """More than 64 KiB of header are none; the server holds no more of it."""
    endless = b"GET / HTTP/1.1\r\n" + b"X-Long: %b\r\n" % (b"y" * 1_000) * 200
    assert talk(origin.port, endless).status == 400


def test_an_offer_of_another_protocol_is_passed_over(origin: Origin) -> None:
    """As `curl --http2` makes it; the next request on the connection is answered too (RFC 9110 §7.8)."""
    offer = get(0, "Connection: Upgrade\r\nUpgrade: h2c\r\n") + get(1, "Connection: close\r\n")
    said = talk(origin.port, offer)
    assert said.data.count(b"HTTP/1.1 200 OK") == 2
    assert said.data.endswith(content(origin.settings, 1))


def test_pipelined_requests_are_answered_in_order(origin: Origin) -> None:
    """Bodies in the order of the requests, many more of them than are held at once."""
    numbers = [3, 1, 2, *range(20), *[0] * 200]
    said = talk(origin.port, b"".join(map(get, numbers)) + get(5, "Connection: close\r\n"))
    rest = said.data
    for number in [*numbers, 5]:
        head, _, rest = rest.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        whole = content(origin.settings, number)
        assert rest.startswith(whole)
        rest = rest[len(whole) :]
    assert rest == b""


def test_a_slow_answer_holds_back_the_ones_behind_it() -> None:
    """Each waits for its own latency after the one before; one connection does not hold back another."""
    with start_origin(OriginSettings(files=5, size=500, latency_s=0.1)) as origin:
        begun = time.monotonic()
        said = talk(origin.port, get(4) + get(0) + get(2, "Connection: close\r\n"))
        assert time.monotonic() - begun >= 0.3
        places = [said.data.index(content(origin.settings, number)) for number in (4, 0, 2)]
        assert places == sorted(places)
        begun = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: talk(origin.port, get(number % 5, "Connection: close\r\n")), range(16)))
        assert time.monotonic() - begun < 16 * 0.1


def test_bandwidth_is_limited_for_each_connection() -> None:
    """A hundred kilobytes at 400 kB/s take a quarter of a second, for two connections at once too."""
    with start_origin(OriginSettings(files=2, size=100_000, bandwidth=400_000)) as origin:
        begun = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(lambda number: talk(origin.port, get(number, "Connection: close\r\n")), range(2)))
        seconds = time.monotonic() - begun
    assert [one.body for one in said] == [content(origin.settings, number) for number in range(2)]
    assert 0.24 < seconds < 2


def test_a_large_file_to_a_slow_reader_stays_out_of_memory(large: Origin) -> None:
    """Forty megabytes to somebody who does not read: the server holds a few of them at most, and serves others."""
    server = psutil.Process(large.pid)
    with socket.create_connection(("127.0.0.1", large.port), timeout=20) as connection:
        before = server.memory_info().rss
        connection.sendall(get(0, "Connection: close\r\n"))
        with httpx.Client() as other:
            for _ in range(100):  # in each turn of these, a server that does not wait would take another 256 KiB
                assert other.head(f"{large.url}/files/000001.bin").status_code == 200
        assert server.memory_info().rss - before < 12 << 20
        with connection.makefile("rb") as answer:
            assert answer.read().endswith(content(large.settings, 0))


def test_a_client_that_asks_and_never_reads_stays_out_of_memory(origin: Origin) -> None:
    """Neither its requests nor their answers pile up: in the end the client cannot send any more."""
    server = psutil.Process(origin.pid)
    before = server.memory_info().rss
    with socket.create_connection(("127.0.0.1", origin.port), timeout=0.5) as connection:
        requests = b"".join(get(number) for number in range(20)) * 100
        with pytest.raises(TimeoutError):
            connection.sendall(requests * 1_000)  # 80 MB of requests for 60 GB of answers
    assert server.memory_info().rss - before < 12 << 20


def test_a_part_of_a_huge_file_costs_that_part() -> None:
    """The first megabyte of a terabyte comes at once, and the server is free for the next."""
    with start_origin(OriginSettings(files=1, size=1 << 40)) as origin:
        for start in (0, (1 << 40) - (1 << 20)):
            said = talk(origin.port, get(0, f"Range: bytes={start}-{start + (1 << 20) - 1}\r\nConnection: close\r\n"))
            assert (said.status, len(said.body), said.end) == (206, 1 << 20, "closed")
