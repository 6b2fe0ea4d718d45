"""A run goes on in the trace of whoever started it, and the programs that it starts go on in its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from eventflow.event import StoredEvent
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, list_runs
from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings
from instrumentation.traces.read import read_spans

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = {"TRACEPARENT": f"00-{TRACE}-{SPAN}-01", "TRACESTATE": "vendor=1", "BAGGAGE": "user=alice"}

# A program that traces with OpenTelemetry's SDK and knows nothing of eventflow. What it saw goes into a file.
TRACING = """
import json, os, sys
from opentelemetry import baggage, propagate, trace
from opentelemetry.propagators._envcarrier import EnvironmentGetter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
context = propagate.extract(os.environ, getter=EnvironmentGetter())
with provider.get_tracer("child").start_as_current_span("in the child", context):
    pass
(span,) = exporter.get_finished_spans()
said = json.loads(span.to_json()) | {"baggage": dict(baggage.get_all(context)), "home": os.environ.get("HOME")}
open(sys.argv[1], "w").write(json.dumps(said))
"""


# A user's program: httpx instrumented as the package of that name does it, and eventflow within the same process.
INSTRUMENTED = """
import sys
import httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
said = open(sys.argv.pop(1), "w")
formatter = lambda span: span.to_json(indent=None) + chr(10)
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=said, formatter=formatter)))
tracer = provider.get_tracer("httpx")
send, send_async = httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request
def handle_request(self, request):
    with tracer.start_as_current_span("GET", kind=trace.SpanKind.CLIENT):
        return send(self, request)
async def handle_async_request(self, request):
    with tracer.start_as_current_span("GET", kind=trace.SpanKind.CLIENT):
        return await send_async(self, request)
httpx.HTTPTransport.handle_request = handle_request
httpx.AsyncHTTPTransport.handle_async_request = handle_async_request
from eventflow.cli.main import main
main()
"""


def started(store: Path, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
    """Eventflow, with an environment of a certain kind."""
    command = [sys.executable, "-m", "eventflow", *arguments, "--store", str(store)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environ
    )


def ended(process: "subprocess.Popen[str]", status: int = 0) -> str:
    """What it said to its standard error, when it has ended as it should."""
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    return said


def of_run(run: RunFolder) -> list[StoredEvent]:
    """The events of the run's own story."""
    return [event for event in read_events(run.log) if event.stream == "run"]


def test_a_run_goes_on_in_the_trace_that_it_was_started_in(tmp_path: Path) -> None:
    """Below the caller's span, in SQL and in the spans of the projection too; the requests have traces of their own."""
    with start_origin(OriginSettings(files=3, size=100)) as origin:
        urls = [entry.url for entry in origin.entries()]
        ended(started(tmp_path, "run", "threads", *urls, "-o", str(tmp_path / "files"), "--quiet", **CALLER))
    (run,) = list_runs(tmp_path)
    events = of_run(run)
    assert {event.trace_id for event in events} == {TRACE}
    root = events[0].span_id
    assert {event.parent_span_id for event in events if event.span_id == root} == {SPAN}
    spans = list(read_spans(run))
    assert [(span.trace_id, span.parent_span_id) for span in spans if span.step == "run"] == [(TRACE, SPAN)]
    assert [span.parent_span_id for span in spans if span.step == "stage"] == [root]
    requests = [span for span in spans if span.step == "request"]
    assert len({span.trace_id for span in requests} | {TRACE}) == 4
    assert {span.parent_span_id for span in requests} == {None}
    asked = subprocess.run(
        [sys.executable, "-m", "eventflow", "sql", "--store", str(tmp_path), "--format", "json",
         "SELECT trace_id, parent_span_id FROM spans WHERE name = 'run'"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(asked.stdout) == [{"trace_id": TRACE, "parent_span_id": SPAN}]


@pytest.mark.parametrize(
    "environ", [{}, CALLER | {"OTEL_PROPAGATORS": "none"}, {"TRACEPARENT": f"00-{'0' * 32}-{SPAN}-01"}]
)
def test_a_run_that_nobody_traces_has_a_trace_of_its_own(environ: dict[str, str], tmp_path: Path) -> None:
    """Also when it was told not to look, or what it was told is not valid."""
    with start_origin(OriginSettings(files=1, size=100)) as origin:
        url = next(origin.entries()).url
        ended(started(tmp_path, "run", "serial", url, "-o", str(tmp_path / "files"), "--quiet", **environ))
    (run,) = list_runs(tmp_path)
    root = of_run(run)[0]
    assert root.parent_span_id is None
    assert root.trace_id not in (TRACE, "0" * 32)


def test_a_resume_stays_where_the_run_began(tmp_path: Path) -> None:
    """In the trace and below the caller of its first sitting, whoever resumes it; it propagates as it did."""
    slow = OriginSettings(files=40, size=100, latency_s=0.1)
    with start_origin(slow) as origin:
        (tmp_path / "urls.txt").write_text("".join(f"{entry.url}\n" for entry in origin.entries()))
        places = ["-i", str(tmp_path / "urls.txt"), "-o", str(tmp_path / "files"), "--propagate", origin.url]
        process = started(tmp_path, "run", "loop", "-w", "4", *places, "--quiet", **CALLER)
        while not (runs := list_runs(tmp_path)) or not any(read_events(runs[0].log, types=["request.completed"])):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        ended(process, 130)
        other = CALLER | {"TRACEPARENT": f"00-{'1' * 32}-{'2' * 16}-01"}
        ended(started(tmp_path, "resume", "latest", "--quiet", **other))
    (run,) = list_runs(tmp_path)
    events = of_run(run)
    assert sum(event.type == "run.started" for event in events) == 2
    assert {event.trace_id for event in events} == {TRACE}
    roots = [event for event in events if event.type.startswith("run.")]
    assert {(event.span_id, event.parent_span_id) for event in roots} == {(events[0].span_id, SPAN)}
    assert run.info().settings["propagate"] == [origin.url]


def traced_child(tmp_path: Path, **environ: str) -> tuple[StoredEvent, dict[str, Any]]:
    """The start of a program that traces, by the log, and what that program saw."""
    (tmp_path / "child.py").write_text(TRACING)
    program = f"{sys.executable} {tmp_path}/child.py {tmp_path}/said"
    with start_origin(OriginSettings(files=1, size=100)) as origin:
        url = next(origin.entries()).url
        places = ["-o", str(tmp_path / "files"), "--exec", program, "--quiet"]
        ended(started(tmp_path / "store", "run", "subprocess", url, *places, **environ))
    (run,) = list_runs(tmp_path / "store")
    events = [event for event in read_events(run.log, types=["process.started"]) if event.stream == "request-0"]
    (start,) = events
    said: dict[str, Any] = json.loads((tmp_path / "said").read_text())
    return start, said


def test_the_spans_of_a_program_are_below_ours(tmp_path: Path) -> None:
    """With the real SDK: its parent is the program's span, its trace the request's; baggage and all else come along."""
    start, said = traced_child(tmp_path, HOME="/nowhere", **CALLER)
    assert said["context"]["trace_id"] == f"0x{start.trace_id}"
    assert said["parent_id"] == f"0x{start.span_id}"
    assert said["context"]["trace_state"] == "['{key=vendor, value=1}']"
    assert said["baggage"] == {"user": "alice"}
    assert said["home"] == "/nowhere"


def test_without_propagators_a_program_sees_what_eventflow_saw(tmp_path: Path) -> None:
    """It does not know of our span: by its own settings it reads nothing either."""
    start, said = traced_child(tmp_path, OTEL_PROPAGATORS="none", **CALLER)
    assert said["parent_id"] is None
    assert said["context"]["trace_id"] != f"0x{start.trace_id}"


@pytest.mark.parametrize("stage", ["serial", "threads", "subprocess", "loop"])
def test_an_instrumented_library_nests_below_the_attempts(stage: str, tmp_path: Path) -> None:
    """In a run as it is, with the real SDK: each of its spans is the child of the attempt that sent the request."""
    with start_origin(OriginSettings(files=8, size=100, latency_s=0.01)) as origin:
        urls = [entry.url for entry in origin.entries()]
        places = ["-o", str(tmp_path / "files"), "--store", str(tmp_path / "store"), "--quiet"]
        command = [sys.executable, "-c", INSTRUMENTED, str(tmp_path / "said"), "run", stage, *urls, *places]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = list_runs(tmp_path / "store")
    attempts = [(event.trace_id, event.span_id) for event in read_events(run.log) if event.type == "attempt.started"]
    spans = [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]
    found = [(span["context"]["trace_id"][2:], span["parent_id"][2:]) for span in spans]
    assert len(found) == 8
    assert sorted(found) == sorted(attempts)


@pytest.mark.parametrize(
    ("options", "environ", "expected"),
    [
        (
            ("--propagate", "all"),
            {"OTEL_PROPAGATORS": "xray"},
            "OTEL_PROPAGATORS has the unknown 'xray': give some of tracecontext, ",
        ),
        (("--propagate", "example.org"), {}, "'example.org' is no origin to propagate traces to: give https://host, "),
    ],
)
def test_what_is_not_known_is_refused_before_anything_is_done(
    options: tuple[str, ...], environ: dict[str, str], expected: str, tmp_path: Path
) -> None:
    """One line, exit status 2, no run."""
    places = ["-o", str(tmp_path / "files"), *options]
    said = ended(started(tmp_path / "store", "run", "serial", "http://127.0.0.1:1/a", *places, **environ), 2)
    assert expected in " ".join(said.split())
    assert not list_runs(tmp_path / "store")
