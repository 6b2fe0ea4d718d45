"""The embedded origin: everything follows from the seed, the faults are real, and HTTP is spoken correctly."""

import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from eventflow.errors import UsageError
from eventflow.origin.content import checksum, content, pieces
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import Fault, OriginSettings, decide, even_faults, file_size, parse_faults


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A good server."""
    with start_origin(OriginSettings(files=20, size=30_000, size_spread=0.5, seed=4)) as running:
        yield running


def outcome(url: str) -> str:
    """What happens to one request, as a word."""
    try:
        response = httpx.get(url, timeout=0.6)
    except httpx.HTTPError as error:
        return type(error).__name__
    return f"{response.status_code} {len(response.content)} {hash(response.content)}"


def raw(origin: Origin, request: bytes, expected_end: bytes | None = None) -> bytes:
    """Everything that the server says to some bytes until it closes, or until it has said `expected_end`."""
    with socket.create_connection(("127.0.0.1", origin.port), timeout=5) as connection:
        connection.sendall(request)
        said = b""
        while piece := connection.recv(65_536):
            said += piece
            if expected_end is not None and said.endswith(expected_end):
                break
        return said


def test_content_follows_from_seed_and_number_alone() -> None:
    """Sizes, bytes and digests repeat; another seed or file has others; any beginning gives the same tail."""
    one, other = (
        OriginSettings(size=5_000, size_spread=0.5, seed=1),
        OriginSettings(size=5_000, size_spread=0.5, seed=2),
    )
    assert content(one, 3) == content(one, 3)
    assert len(content(one, 3)) == file_size(one, 3)
    assert len({checksum(one, 3), checksum(one, 4), checksum(other, 3)}) == 3
    for start in (0, 1, 40, 45, 4_000):
        assert b"".join(pieces(one, 3, start)) == content(one, 3)[start:]
    assert content(OriginSettings(size=0), 0) == b""
    large = OriginSettings(size=3_000_000)
    assert len(content(large, 7)) == 3_000_000


def test_sizes_and_latencies_have_their_medians() -> None:
    """Log-normal around the median, the same for each where there is no spread."""
    settings = OriginSettings(size=1_000, size_spread=0.5, latency_s=0.02, latency_spread=0.5)
    assert statistics.median(file_size(settings, number) for number in range(2_000)) == pytest.approx(1_000, rel=0.1)
    latencies = [decide(settings, number, 0).latency_s for number in range(2_000)]
    assert statistics.median(latencies) == pytest.approx(0.02, rel=0.1)
    assert {decide(OriginSettings(latency_s=0.5), number, 0).latency_s for number in range(9)} == {0.5}


def test_faults_come_at_their_rates_each_try_for_itself() -> None:
    """Two percent is two percent; a retry may succeed, unless nothing listens there at all."""
    settings = OriginSettings(faults=even_faults(0.16))
    faults = [decide(settings, number, 0).fault for number in range(20_000)]
    for fault in Fault:
        assert faults.count(fault) / 20_000 == pytest.approx(0.02, abs=0.006)
    failed = [number for number in range(20_000) if decide(settings, number, 0).fault not in (None, Fault.REFUSE)]
    assert sum(decide(settings, number, 1).fault is None for number in failed) > 0.8 * len(failed)


def test_the_manifest_is_what_is_served(origin: Origin) -> None:
    """URL, name and SHA-256 of every file, from the server and without asking it."""
    lines = httpx.get(origin.manifest_url).text.splitlines()
    entries = list(origin.entries())
    assert lines == [f"{entry.url}\t{entry.name}\t{entry.sha256}" for entry in entries]
    for number, entry in enumerate(entries):
        assert httpx.get(entry.url).content == content(origin.settings, number)
        assert checksum(origin.settings, number) == entry.sha256


def test_any_order_and_concurrency_meets_the_same_faults() -> None:
    """The outcome of each file's first try, and after a reset again."""
    settings = OriginSettings(files=40, size=2_000, faults=even_faults(0.5), stall_s=2.0, seed=9)
    with start_origin(settings) as origin:
        urls = [entry.url for entry in origin.entries()]
        with ThreadPoolExecutor(8) as pool:
            first = list(pool.map(outcome, urls))
        origin.reset()
        order = list(range(40))
        random.Random(1).shuffle(order)
        with ThreadPoolExecutor(16) as pool:
            shuffled = dict(zip(order, pool.map(outcome, [urls[number] for number in order]), strict=True))
    assert [shuffled[number] for number in range(40)] == first
    assert len(set(first)) > 30


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.REFUSE, httpx.ConnectError),
        (Fault.RESET, httpx.ReadError),
        (Fault.STALL, httpx.ReadTimeout),
        (Fault.SHORT_BODY, httpx.RemoteProtocolError),
        (Fault.WRONG_LENGTH, httpx.RemoteProtocolError),
    ],
)
def test_a_broken_exchange_is_broken_in_its_own_way(fault: Fault, error: type[Exception]) -> None:
    """Refused is refused by the system, a reset is a RST, a stall is silence after the headers."""
    settings = OriginSettings(files=1, size=10_000, faults={fault: 1.0}, stall_s=5.0)
    with start_origin(settings) as origin, pytest.raises(error):
        httpx.get(next(origin.entries()).url, timeout=0.5)


def test_bad_answers_are_whole_answers() -> None:
    """500, 503 with Retry-After, and the right number of the wrong bytes; the connection stays usable."""
    for fault, status in ((Fault.ERROR, 500), (Fault.UNAVAILABLE, 503), (Fault.WRONG_BYTES, 200)):
        settings = OriginSettings(files=1, size=10_000, faults={fault: 1.0}, retry_after_s=7)
        with start_origin(settings) as origin, httpx.Client() as client:
            entry = next(origin.entries())
            for _ in range(2):
                response = client.get(entry.url)
                assert response.status_code == status
                assert response.headers.get("retry-after") == ("7" if status == 503 else None)
                if status == 200:
                    assert len(response.content) == 10_000
                    assert response.content != content(settings, 0)


def test_ranges_are_served_by_the_rules(origin: Origin) -> None:
    """RFC 9110 §14: a single range; If-Range guards the entity; what cannot be satisfied says how long the file is."""
    url, whole = next(origin.entries()).url, content(origin.settings, 0)
    size = len(whole)
    etag = httpx.head(url).headers["etag"]
    for wanted, start, end in (("bytes=0-99", 0, 100), ("bytes=500-", 500, size), ("bytes=-10", size - 10, size)):
        response = httpx.get(url, headers={"Range": wanted, "If-Range": etag})
        assert response.status_code == 206
        assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert response.content == whole[start:end]
    assert httpx.get(url, headers={"Range": "bytes=5-9", "If-Range": '"other"'}).content == whole
    for unknown in ("bytes=1-2,4-5", "lines=1-2", "bytes=x-y"):
        assert httpx.get(url, headers={"Range": unknown}).status_code == 200
    beyond = httpx.get(url, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")


def test_http_is_spoken_correctly(origin: Origin) -> None:
    """HEAD has no body, unknown paths are 404, nonsense is 400, pipelined requests are answered in order."""
    url = next(origin.entries()).url
    head = httpx.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == file_size(origin.settings, 0)
    for path in ("/nothing", "/files/000099.bin", "/files/x.bin", "/files/../etc/passwd"):
        assert httpx.get(origin.url + path).status_code == 404
    assert raw(origin, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    requests = b"".join(b"GET /files/%06d.bin HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in (3, 1, 2))
    last = content(origin.settings, 2)
    said = raw(origin, requests, expected_end=last)
    places = [said.index(content(origin.settings, number)) for number in (3, 1, 2)]
    assert places == sorted(places)
    assert said.count(b"HTTP/1.1 200 OK") == 3


def test_pipelined_requests_are_answered_in_order_also_with_latency() -> None:
    """A slow answer holds back the ones behind it."""
    with start_origin(OriginSettings(files=5, size=500, latency_s=0.03)) as origin:
        requests = b"".join(b"GET /files/%06d.bin HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in (4, 0, 2))
        begun = time.monotonic()
        said = raw(origin, requests, expected_end=content(origin.settings, 2))
        assert time.monotonic() - begun > 0.08
        places = [said.index(content(origin.settings, number)) for number in (4, 0, 2)]
        assert places == sorted(places)


def test_bandwidth_is_limited_for_each_connection() -> None:
    """A hundred kilobytes at 200 kB/s take half a second, for two connections at once too."""
    with start_origin(OriginSettings(files=2, size=100_000, bandwidth=200_000)) as origin:
        urls = [entry.url for entry in origin.entries()]
        begun = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            bodies = list(pool.map(lambda url: httpx.get(url).content, urls))
        seconds = time.monotonic() - begun
    assert bodies == [content(origin.settings, number) for number in range(2)]
    assert 0.4 < seconds < 2


def test_a_large_file_to_a_slow_reader_stays_out_of_memory() -> None:
    """Forty megabytes to somebody who does not read: the server holds a few of them at most."""
    with start_origin(OriginSettings(files=1, size=40 << 20)) as origin:
        server = psutil.Process(origin.pid)
        with socket.create_connection(("127.0.0.1", origin.port), timeout=20) as connection:
            before = server.memory_info().rss
            connection.sendall(b"GET /files/000000.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.3)
            assert server.memory_info().rss - before < 12 << 20
            received = len(connection.recv(1 << 20))
            while received < 40 << 20:
                received += len(connection.recv(1 << 20))


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Also after kill -9."""
    code = (
        "import sys, time; from eventflow.origin.launch import start_origin\n"
        "from eventflow.origin.settings import OriginSettings\n"
        "with start_origin(OriginSettings()) as origin: print(origin.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_settings_that_cannot_be_served_say_so() -> None:
    """Before anything is started."""
    for settings in (
        OriginSettings(files=0),
        OriginSettings(latency_s=-1),
        OriginSettings(faults={"500": 0.7, "stall": 0.4}),
    ):
        with pytest.raises(UsageError), start_origin(settings):
            pass


@pytest.mark.parametrize("text", ["moon=1%", "500=101%", "lots", "500"])
def test_fault_rates_are_checked(text: str) -> None:
    """The names there are, and shares of at most all."""
    with pytest.raises(UsageError):
        parse_faults(text)


def test_the_command_says_where_it_listens_and_writes_the_list(tmp_path: Path) -> None:
    """One line; Ctrl-C ends it with 0; a port in use is an error of one line."""
    command = [sys.executable, "-m", "eventflow", "origin", "--files", "3", "--manifest", str(tmp_path / "urls.tsv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        urls = [text.split("\t")[0] for text in (tmp_path / "urls.tsv").read_text().splitlines()]
        assert len(urls) == 3
        assert httpx.get(urls[0]).status_code == 200
        port = line.split("/")[2].split(":")[1]
        again = subprocess.run([*command[:4], "--port", port], capture_output=True, text=True, check=False, timeout=30)
        assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
        assert "choose another with --port" in again.stderr
        os.kill(server.pid, signal.SIGINT)
        _, err = server.communicate(timeout=10)
    assert (server.returncode, err) == (0, "")
    assert "serves 3 files" in line
