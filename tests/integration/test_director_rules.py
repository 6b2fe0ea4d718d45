"""The director on the wire, tried with a server that does as each test says: parts, retries, redirects, robots."""

import json
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from eventflow.event import Payload
from eventflow.log.reader import read_events
from eventflow.log.runs import list_runs
from eventflow.origin_events import BreakerClosed, BreakerOpened, RobotsRead
from eventflow.vocabulary import (
    AttemptRedirected,
    AttemptSent,
    PartDropped,
    PartKept,
    RequestCompleted,
    RequestDelayed,
    RequestFailed,
    decode_payload,
)

LARGE = Random(1).randbytes(900_000)
OTHER = Random(2).randbytes(700_000)
Headers = dict[str, str]
Answer = Callable[[Headers], tuple[bytes, bool]]  # what to send, and whether the connection stays


def answer(body: bytes, *headers: str, status: str = "200 OK", cut: int | None = None) -> Answer:
    """Always the same response; `cut`: only so many bytes of its body, then the connection ends."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode()
    return lambda _headers: (head + body[:cut], cut is None)


def rest(body: bytes, *headers: str) -> Answer:
    """What a range asks for."""

    def respond(asked: Headers) -> tuple[bytes, bool]:
        start = int(asked["range"].removeprefix("bytes=").rstrip("-"))
        place = f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}"
        return answer(body[start:], place, *headers, status="206 Partial Content")(asked)

    return respond


class Server:
    """Answers each path with its answers in turn, the last one for ever; remembers what was asked."""

    def __init__(self, answers: dict[str, list[Answer]]) -> None:
        self.answers = answers
        self.asked: dict[str, list[Headers]] = defaultdict(list)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            stays = True
            while stays:
                request = b""
                while b"\r\n\r\n" not in request:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    request += piece
                first, *lines = request.decode().split("\r\n")
                headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines) if key}
                path = first.split(" ")[1]
                turn = self.asked[path]
                turn.append(headers)
                answers = self.answers.get(path) or [answer(b"", status="404 Not Found")]
                data, stays = answers[min(len(turn), len(answers)) - 1](headers)
                connection.sendall(data)


@contextmanager
def serving(**answers: list[Answer]) -> Iterator[Server]:
    """A server; the keys are paths without their slash, `_` for `.`."""
    server = Server({f"/{name.replace('_', '.')}": given for name, given in answers.items()})
    try:
        yield server
    finally:
        server.close()


class Run:
    """A run of the command line, and its events."""

    def __init__(self, folder: Path, *arguments: str, stage: str = "lineage", given: str | None = None) -> None:
        command = [sys.executable, "-m", "eventflow", "run", stage, *arguments]
        places = ["--out", str(folder / "files"), "--store", str(folder / "store"), "--timeout", "2s", "--json"]
        done = subprocess.run([*command, *places], input=given, capture_output=True, text=True, check=False, timeout=60)
        assert done.stderr == ""
        self.status, self.summary = done.returncode, json.loads(done.stdout)
        (run,) = list_runs(folder / "store")
        self.events: list[Payload] = [decode_payload(event) for event in read_events(run.log)]

    def all(self, kind: type[Any]) -> list[Any]:
        """The events of a type, in their order."""
        return [event for event in self.events if isinstance(event, kind)]


def test_a_part_is_continued_by_range(tmp_path: Path) -> None:
    """Cut twice, asked for the rest twice with If-Range, put together byte for byte; nothing is fetched twice."""
    tag = 'ETag: "v1"'
    with serving(a=[answer(LARGE, tag, cut=500_000), rest(LARGE[:800_000] + LARGE[800_000:], tag)]) as server:
        run = Run(tmp_path, server.url("/a"))
        asked = server.asked["/a"]
    assert (tmp_path / "files" / "a").read_bytes() == LARGE
    (kept,) = run.all(PartKept)
    assert (kept.etag, kept.length, kept.bytes) == ('"v1"', len(LARGE), 500_000)
    assert (asked[1]["range"], asked[1]["if-range"]) == ("bytes=500000-", '"v1"')
    assert [sent.range_start for sent in run.all(AttemptSent)] == [None, 500_000]
    assert run.status == 0


def test_a_changed_entity_is_never_glued(tmp_path: Path) -> None:
    """200 in answer to a range: the part goes, the new entity comes whole."""
    with serving(a=[answer(LARGE, 'ETag: "v1"', cut=500_000), answer(OTHER, 'ETag: "v2"')]) as server:
        run = Run(tmp_path, server.url("/a"))
    assert (tmp_path / "files" / "a").read_bytes() == OTHER
    assert len(run.all(PartDropped)) == 1
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["a"]


def test_a_range_of_another_entity_is_refused(tmp_path: Path) -> None:
    """206 with another ETag: dropped, and asked for again without Range."""
    begin = answer(LARGE, 'ETag: "v1"', cut=500_000)
    with serving(a=[begin, rest(LARGE, 'ETag: "v2"'), answer(OTHER, 'ETag: "v2"')]) as server:
        run = Run(tmp_path, server.url("/a"))
        asked = server.asked["/a"]
    assert (tmp_path / "files" / "a").read_bytes() == OTHER
    assert ["range" in headers for headers in asked] == [False, True, False]
    assert len(run.all(PartDropped)) == 1


def test_a_part_that_is_whole_needs_no_more(tmp_path: Path) -> None:
    """416 with the complete length that we have."""
    whole = answer(b"", f"Content-Range: bytes */{len(LARGE)}", 'ETag: "v1"', status="416 Range Not Satisfiable")
    endless = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "v1"\r\n\r\n'
    begin: Answer = lambda _headers: (endless + b"%x\r\n%s\r\n" % (len(LARGE), LARGE), False)  # noqa: E731
    with serving(a=[begin, whole]) as server:
        run = Run(tmp_path, server.url("/a"))
    assert (tmp_path / "files" / "a").read_bytes() == LARGE
    assert run.status == 0


def test_without_a_strong_validator_nothing_is_kept(tmp_path: Path) -> None:
    """A weak ETag does not name the bytes."""
    with serving(a=[answer(LARGE, 'ETag: W/"v1"', cut=500_000), answer(LARGE)]) as server:
        run = Run(tmp_path, server.url("/a"))
        assert all("range" not in headers for headers in server.asked["/a"])
    assert run.all(PartKept) == []
    assert (tmp_path / "files" / "a").read_bytes() == LARGE


def test_retry_after_is_waited_for(tmp_path: Path) -> None:
    """503 with Retry-After, then the file: one delay of at least so long, and no failure."""
    busy = answer(b"busy", "Retry-After: 1", status="503 Service Unavailable")
    with serving(a=[busy, answer(b"fine")]) as server:
        run = Run(tmp_path, server.url("/a"))
    (delayed,) = run.all(RequestDelayed)
    assert delayed.seconds >= 1
    assert run.all(RequestFailed) == []


def test_a_redirect_to_another_origin_takes_no_credentials_along(tmp_path: Path) -> None:
    """They are for the origin that they were given for; the event names the place without secrets."""
    with serving(b=[answer(b"there")]) as other:
        leads = answer(b"", f"Location: {other.url('/b')}?token=s3cret", status="302 Found")
        with serving(a=[leads]) as server:
            run = Run(tmp_path, server.url("/a").replace("//", "//me:s3cret@"))
            assert server.asked["/a"][0]["authorization"].startswith("Basic ")
        assert [headers.get("authorization") for headers in other.asked["/b?token=s3cret"]] == [None]
    (redirected,) = run.all(AttemptRedirected)
    assert "s3cret" not in redirected.url
    assert (run.status, run.all(RequestFailed)[:1]) in ((0, []), (1, run.all(RequestFailed)[:1]))


def test_robots_are_heeded_when_asked(tmp_path: Path) -> None:
    """What robots.txt forbids is not fetched, and it is asked for once."""
    rules = answer(b"User-agent: *\nDisallow: /b\nCrawl-delay: 0.01\n")
    with serving(robots_txt=[rules], a=[answer(b"a")], b=[answer(b"b")]) as server:
        run = Run(tmp_path, "--robots", server.url("/a"), server.url("/b"))
        assert (len(server.asked["/robots.txt"]), len(server.asked["/b"])) == (1, 0)
    assert [event.status for event in run.all(RobotsRead)] == [200]
    assert [event.error for event in run.all(RequestFailed)] == ["RobotsDisallow"]


def test_robots_may_be_elsewhere_or_nowhere(tmp_path: Path) -> None:
    """Redirects are followed; no answer at all forbids everything (RFC 9309 §2.3.1)."""
    moved = answer(b"", "Location: /there", status="301 Moved Permanently")
    with serving(robots_txt=[moved], there=[answer(b"User-agent: *\nDisallow: /a\n")], a=[answer(b"a")]) as server:
        urls = [server.url("/a"), "http://127.0.0.1:9/x"]
        run = Run(tmp_path, "--robots", "--retries", "0", *urls)
    said = {event.error: event.message for event in run.all(RequestFailed)}
    assert set(said) == {"RobotsDisallow", "RobotsUnavailable"}
    assert "robots.txt could not be had (connection refused)" in said["RobotsUnavailable"]
    assert {event.status: event.problem for event in run.all(RobotsRead)} == {0: "connection refused", 200: None}


def test_a_breaker_opens_and_closes(tmp_path: Path) -> None:
    """An origin that fails again and again is left alone for a moment, then probed."""
    answers = [answer(b"no", status="500 Internal Server Error")] * 22 + [answer(b"yes")]
    with serving(a=answers) as server:
        lines = "".join(f"{server.url('/a')}\tfile-{number}\n" for number in range(25))
        run = Run(tmp_path, "--input", "-", "--concurrency", "2", "--rate", "200", given=lines)
    assert len(run.all(BreakerOpened)) >= 1
    assert len(run.all(BreakerClosed)) >= 1
    assert len(run.all(RequestCompleted)) == run.summary["completed"] > 0


def test_a_name_with_several_addresses_is_raced(tmp_path: Path) -> None:
    """`localhost` may be ::1 first, where nothing listens; the other address answers."""
    with serving(a=[answer(b"a")]) as server:
        run = Run(tmp_path, server.url("/a", host="localhost"), server.url("/a", host="localhost"), stage="director")
    assert run.status == 0


def test_deadlines(tmp_path: Path) -> None:
    """A request that takes longer than it was given fails, and is not tried again; so does the run, resumable."""
    slow: Answer = lambda _headers: ((threading.Event().wait(5) and b"") or b"", False)  # noqa: E731
    with serving(a=[slow], b=[answer(b"b")]) as server:
        run = Run(tmp_path, "--request-deadline", "300ms", server.url("/a"), server.url("/b"))
        assert [event.error for event in run.all(RequestFailed)] == ["DeadlinePassed"]
        (tmp_path / "second").mkdir()
        stopped = Run(tmp_path / "second", "--deadline", "300ms", server.url("/a"), server.url("/b"))
    assert (stopped.status, stopped.summary["state"], stopped.summary["cancelled"]) == (130, "interrupted", 1)
