"""User code sees the current span, through the recorder and through OpenTelemetry's API, wherever it runs."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from eventflow.engines.processes import run_in_processes
from eventflow.engines.threads import run_in_threads
from eventflow.engines.worker import workplace
from eventflow.errors import NoActiveSpan
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.mirror import mirrored_by
from eventflow.recorder import Recorder, Span, current_span
from eventflow.request import Request
from eventflow.story import QueuedRequest
from eventflow.vocabulary import StageStarted
from eventflow.work import Delivery, Settings, Work, Workplace
from instrumentation.context import OpenTelemetryContext

REQUESTS = 12


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run."""
    return create_run(tmp_path / "store", stage="threads")


@pytest.fixture
def work(run: RunFolder, tmp_path: Path) -> Iterator[Work]:
    """The work of a run whose spans OpenTelemetry is shown."""
    settings = Settings(stage="threads", workers=3, out=str(tmp_path / "out"))
    with mirrored_by(OpenTelemetryContext()), Recorder(run.log, run.run) as recorder:
        root = recorder.open_stream("run")
        cause = root.record(StageStarted(stage="threads", workers=3))
        items = (Request(number, f"http://127.0.0.1:1/{number}", f"{number}.bin") for number in range(REQUESTS))
        made = Work(settings, recorder, run.log, root, cause, items)
        yield made
        made.close()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Where the spans of user code go."""
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> trace.Tracer:
    """A tracer of the real SDK, as user code has one."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


def shown() -> tuple[str, str] | None:
    """The ids of the span that OpenTelemetry's API takes for the current one."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


def ids(span: Span) -> tuple[str, str]:
    """Of one of our spans."""
    return span.stream.trace_id, span.span_id


def parents(spans: tuple[ReadableSpan, ...], name: str) -> set[tuple[str, str]]:
    """Below which spans those of that name are."""
    return {
        (trace.format_trace_id(span.parent.trace_id), trace.format_span_id(span.parent.span_id))
        for span in spans
        if span.name == name and span.parent is not None
    }


def attempts(run: RunFolder, type_name: str = "attempt.started") -> set[tuple[str, str]]:
    """The spans that have such an event, by the log."""
    return {(event.trace_id, event.span_id) for event in read_events(run.log) if event.type == type_name}


def carry_out(place: Workplace, queued: QueuedRequest, tracer: trace.Tracer) -> None:
    """A request of user code that is instrumented: it makes a span within the request, and two within its attempt."""
    with place.story(queued) as story:
        assert current_span() is story.root
        with tracer.start_as_current_span("within the request"):
            pass
        with story.attempt() as attempt:
            assert current_span() is not story.root
            with tracer.start_as_current_span("within the attempt"), tracer.start_as_current_span("deeper"):
                attempt.response(200, {})
                attempt.write(b"body")
        assert shown() == ids(current_span()) == ids(story.root)
        story.store()


def check(run: RunFolder, spans: tuple[ReadableSpan, ...]) -> None:
    """Each is in the trace of its request, below its span; all are sampled."""
    assert len(spans) == 3 * REQUESTS
    assert parents(spans, "within the request") == attempts(run, "request.queued")
    assert parents(spans, "within the attempt") == attempts(run)
    assert len(attempts(run)) == REQUESTS
    assert all(span.context.trace_flags.sampled for span in spans if span.context is not None)


def test_in_threads(work: Work, run: RunFolder, tracer: trace.Tracer, exporter: InMemorySpanExporter) -> None:
    """Each thread has a current span of its own."""

    def body() -> None:
        for queued in work.requests():
            carry_out(work, queued, tracer)
        assert shown() is None

    run_in_threads(work, body)
    work.recorder.flush()
    check(run, exporter.get_finished_spans())


def test_in_tasks(work: Work, run: RunFolder, tracer: trace.Tracer, exporter: InMemorySpanExporter) -> None:
    """Each task has, though they take turns within their requests."""

    async def body(queued: QueuedRequest) -> None:
        with work.story(queued) as story:
            with tracer.start_as_current_span("within the request"):
                await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            with story.attempt() as attempt:
                await trio.lowlevel.checkpoint()
                with tracer.start_as_current_span("within the attempt"):
                    await trio.lowlevel.checkpoint()
                    with tracer.start_as_current_span("deeper"):
                        attempt.response(200, {})
                await trio.lowlevel.checkpoint()
                attempt.write(b"body")
            assert shown() == ids(story.root)
            await trio.to_thread.run_sync(story.store)

    async def bodies() -> None:
        async with trio.open_nursery() as nursery:
            for queued in work.requests():
                nursery.start_soon(body, queued)

    trio.run(bodies)
    assert shown() is None
    work.recorder.flush()
    check(run, exporter.get_finished_spans())


def carry_out_in_process(delivery: Delivery) -> None:
    """In a worker process: what its spans were is written beside the output folder."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    place = workplace()
    carry_out(place, place.unpack(delivery), provider.get_tracer("test"))
    said: list[Any] = [json.loads(span.to_json()) for span in exporter.get_finished_spans()]
    Path(f"{place.settings.out}-{delivery.request.number}.json").write_text(json.dumps([os.getpid(), said]))


def test_in_worker_processes(work: Work, run: RunFolder, tmp_path: Path) -> None:
    """What shows the spans goes with the work to each of them."""
    run_in_processes(work, carry_out_in_process)
    work.recorder.flush()
    said = [json.loads(path.read_text()) for path in tmp_path.glob("out-*.json")]
    assert os.getpid() not in {pid for pid, _ in said}
    spans = [span for _, of_process in said for span in of_process]
    assert len(spans) == 3 * REQUESTS
    for name, kind in (("within the request", "request.queued"), ("within the attempt", "attempt.started")):
        found = [(span["context"]["trace_id"][2:], span["parent_id"][2:]) for span in spans if span["name"] == name]
        assert sorted(found) == sorted(attempts(run, kind))


def test_a_story_that_is_abandoned_from_another_thread(work: Work) -> None:
    """Its worker comes to its own end later: nothing fails, and nothing is current there any more."""
    queued = work.next()
    assert queued is not None
    with work.story(queued):
        ending = threading.Thread(target=work.abandon_in_flight)
        ending.start()
        ending.join()
        assert shown() == ids(queued.root)
    assert shown() is None
    with pytest.raises(NoActiveSpan):
        current_span()


def test_a_span_that_is_left_in_another_thread_changes_nothing_there(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """As a generator does that is closed by whoever drops it last."""
    span, other, found = work.recorder.open_stream("request-0"), work.recorder.open_stream("request-1"), list[Any]()

    def leave() -> None:
        with other:
            span.__exit__()
            found.append((current_span(), shown()))

    for target in (span.__enter__, leave):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert found == [(other, ids(other))]
    assert not caplog.records


def test_what_fails_in_the_api_does_not_reach_the_work(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request goes on without its span being shown."""
    monkeypatch.setattr(trace, "SpanContext", None)
    with work.recorder.open_stream("request-0") as span:
        assert current_span() is span
        assert shown() is None


def test_a_process_without_opentelemetry_does_not_load_it() -> None:
    """Nor does showing a span to nobody fail where it is not installed."""
    code = (
        "import sys; from instrumentation.context import OpenTelemetryContext as C; "
        "assert C().show('1' * 32, '2' * 16) is None; print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
