"""Every stage tells the origins that were named which span asks them, and no other one, also after redirects."""

import contextlib
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eventflow.event import StoredEvent
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, list_runs
from stages.registry import STAGES

FILES = 6
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = {"TRACEPARENT": f"00-{TRACE}-{SPAN}-01", "TRACESTATE": "vendor=1", "BAGGAGE": "user=alice"}
CONTEXT = ("traceparent", "tracestate", "baggage", "b3")
WAYS = [*((stage, ()) for stage in STAGES), ("director", ("--workers", "2"))]


class Server(ThreadingHTTPServer):
    """One of two origins. `/file/N` is there, `/away/N` is at the other one, `/round/N` leads there and back again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.other = ""
        self.asked: dict[str, list[dict[str, str]]] = defaultdict(list)


class Handler(BaseHTTPRequestHandler):
    """Notes what the headers of each request say of a context."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer with a file or a redirect."""
        _, kind, number = self.path.split("/")
        self.server.asked[self.path].append({name: self.headers[name] for name in CONTEXT if name in self.headers})
        if kind == "file":
            self.send_response(200)
        else:
            self.send_response(302)
            there = {"away": "file", "round": "back", "back": "file"}[kind]
            self.send_header("Location", f"{self.server.other}/{there}/{number}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def two_origins() -> Iterator[tuple[Server, Server]]:
    """Each knows the other."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Server()) for _ in range(2)]
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        servers[0].other, servers[1].other = servers[1].url, servers[0].url
        yield servers[0], servers[1]


def fetched(stage: str, folder: Path, lines: list[str], *options: str, **environ: str) -> RunFolder:
    """A run of that stage, as a user starts it."""
    (folder / "urls.txt").write_text("".join(f"{line}\tname-{number}\n" for number, line in enumerate(lines)))
    places = ["--out", str(folder / "files"), "--store", str(folder / "store"), "--input", str(folder / "urls.txt")]
    command = [sys.executable, "-m", "eventflow", "run", stage, *places, "--quiet", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | environ)
    assert (done.returncode, done.stderr) == (0, "")
    return list_runs(folder / "store")[-1]


def attempts(run: RunFolder, number: int) -> list[StoredEvent]:
    """The tries of a request, in their order."""
    started = read_events(run.log, types=["attempt.started"])
    return [event for event in started if event.stream == f"request-{number}"]


def parent(event: StoredEvent) -> str:
    """The traceparent that names its span."""
    return f"00-{event.trace_id}-{event.span_id}-01"


@pytest.mark.parametrize(("stage", "options"), WAYS, ids=lambda value: "-".join(value).replace("---", "-") or "one")
def test_an_origin_that_was_named_learns_the_attempt(stage: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """Its span in traceparent, with what eventflow was started with; the other one, which redirects lead to, nothing.

    A redirect is an attempt of its own where the stage sees it; where the HTTP library hides it, it is the same one.
    """
    with two_origins() as (named, other):
        lines = [f"{named.url}/{kind}/{number}" for number, kind in enumerate(["file", "away", "round"] * (FILES // 3))]
        lines += [f"{other.url}/file/{FILES}", f"{other.url}/away/{FILES + 1}"]
        run = fetched(stage, tmp_path, lines, "--propagate", f"{named.url}/", *options, **CALLER)
    for path, asked in other.asked.items():
        assert asked == [{}], path
    assert set(other.asked) == {"/file/1", "/back/2", "/file/4", "/back/5", "/file/6", "/away/7"}
    for path, asked in named.asked.items():
        number = int(path.rpartition("/")[2])
        tried = attempts(run, number)
        which = -1 if path in ("/file/2", "/file/5", "/file/7") else 0
        assert asked == [{"traceparent": parent(tried[which]), "tracestate": "vendor=1", "baggage": "user=alice"}], path
        assert tried[which].trace_id != TRACE
    assert len(named.asked) == FILES + 3


@pytest.mark.parametrize("stage", ["serial", "loop", "director"])
def test_no_origin_learns_anything_unless_it_was_named(stage: str, tmp_path: Path) -> None:
    """Whatever eventflow was started with."""
    with two_origins() as (one, _):
        fetched(stage, tmp_path, [f"{one.url}/file/0"], **CALLER)
        fetched(stage, tmp_path, [f"{one.url}/file/1"], "--propagate", "https://127.0.0.1", **CALLER)
        fetched(stage, tmp_path, [f"{one.url}/file/2"], "--propagate", "all", OTEL_PROPAGATORS="none", **CALLER)
    assert dict(one.asked) == {f"/file/{number}": [{}] for number in range(3)}


@pytest.mark.parametrize("stage", ["threads", "loop", "director"])
def test_all_origins_and_another_form(stage: str, tmp_path: Path) -> None:
    """`all` is every origin, and OTEL_PROPAGATORS says in which form."""
    with two_origins() as (one, other):
        lines = [f"{one.url}/file/0", f"{other.url}/file/1"]
        run = fetched(stage, tmp_path, lines, "--propagate", "all", OTEL_PROPAGATORS="b3", **CALLER)
    for server, number in ((one, 0), (other, 1)):
        (event,) = attempts(run, number)
        assert server.asked[f"/file/{number}"] == [{"b3": f"{event.trace_id}-{event.span_id}-1"}]
