"""The fold of events to spans: held against the SQL view of spans, in any order of the writers, killed and resumed."""

import os
import random
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventflow.event import Payload, StoredEvent
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run, list_runs
from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings
from eventflow.recorder import Recorder
from eventflow.sources import SeededSources
from eventflow.vocabulary import RequestCompleted, RequestQueued, RequestStarted, RunStarted
from instrumentation.traces import FinishedSpan, read_spans
from instrumentation.traces.attributes import ATTRIBUTES, PUTTERS, attribute_table
from instrumentation.traces.fold import SpanFold
from tests.asking import ask
from tests.directed_log import write_directed_run
from tests.synthetic_log import START_NS, resume_run, write_run

STAGES = ("serial", "threads", "processes", "subprocess", "loop", "director", "lineage")


class FenceBuilt(Payload, frozen=True, kw_only=True):
    """An event of one's own."""

    TYPE: ClassVar[str] = "fence.built"
    metres: int


class FencePainted(Payload, frozen=True, kw_only=True):
    """Another."""

    TYPE: ClassVar[str] = "fence.painted"
    colour: str


@pytest.fixture(scope="module")
def real_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """A run of each stage, carried out as a user does, with a few faults."""
    place = tmp_path_factory.mktemp("runs")
    origin = start_origin(OriginSettings(files=12, size=3_000, latency_s=0.001, faults={}, seed=3))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EVENTFLOW_", "OTEL_"))}
    with origin as running:
        manifest = place / "urls.txt"
        manifest.write_text("".join(f"{running.url}/files/{n:06d}.bin\n" for n in range(12)) + f"{running.url}/none\n")
        for stage in STAGES:
            command = [sys.executable, "-m", "eventflow", "run", stage, "--input", str(manifest), "--quiet"]
            command += ["--out", str(place / stage), "--store", str(place / "store")]
            subprocess.run(command, check=False, env=environment, timeout=60)
    return {run.info().stage: run for run in list_runs(place / "store")}


def feed(run: str, events: list[StoredEvent]) -> list[FinishedSpan]:
    """All spans of these events, fed in this order."""
    fold = SpanFold(run)
    return [span for event in events for span in fold.feed(event)] + fold.finish()


def in_order(spans: list[FinishedSpan]) -> list[FinishedSpan]:
    """The same spans, sorted."""
    return sorted(spans, key=lambda span: (span.trace_id, span.span_id))


@pytest.mark.parametrize("stage", STAGES)
def test_spans_are_those_of_the_sql_view(real_runs: dict[str, RunFolder], stage: str) -> None:
    """The same spans, parents, steps and states as the view `spans`, which is written in another language."""
    folder = real_runs[stage]
    rows = ask(folder.path.parent, "SELECT span_id, trace_id, parent_span_id, name, state FROM spans", [folder.run])
    spans = list(read_spans(folder))
    assert len({span.span_id for span in spans}) == len(spans)
    words = {"redirected": "completed"}
    assert sorted((s.span_id, s.trace_id, str(s.parent_span_id), s.step, s.state) for s in spans) == sorted(
        (span_id, trace_id, str(parent), name, words.get(state, state))
        for span_id, trace_id, parent, name, state in rows
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_request_is_a_tree_in_time(real_runs: dict[str, RunFolder], stage: str) -> None:
    """Every trace has one root, and every span lies within its parent, but for what the clocks do not tell."""
    traces: dict[str, list[FinishedSpan]] = defaultdict(list)
    for span in read_spans(real_runs[stage]):
        traces[span.trace_id].append(span)
    assert sum(spans[-1].step == "request" for spans in traces.values()) == 13
    for spans in traces.values():
        by_id = {span.span_id: span for span in spans}
        assert sum(span.parent_span_id is None for span in spans) == 1
        for span in spans:
            if span.parent_span_id is not None:
                parent = by_id[span.parent_span_id]
                assert parent.start_ns - 2_000_000 <= span.start_ns <= span.end_ns <= parent.end_ns + 2_000_000


def test_each_step_links_to_the_one_before_it(real_runs: dict[str, RunFolder]) -> None:
    """In the lineage stage the chain goes from the stored file back to the run's stage."""
    spans = {span.span_id: span for span in read_spans(real_runs["lineage"])}
    done = [span for span in spans.values() if span.step == "request" and span.state == "completed"]
    assert len(done) == 12
    for root in done:
        steps = {span.step: span for span in spans.values() if span.trace_id == root.trace_id}
        before = {step: [spans[link.span_id].step for link in span.links] for step, span in steps.items()}
        assert before["request"] == ["stage"]
        assert before["queue"] == []
        assert before["attempt"][0] == "queue"
        assert before["verify"] == ["attempt"]
        assert before["store"] == ["verify"]
    kept = [span for span in spans.values() if "eventflow.connection.requests" in span.attributes]
    assert kept
    for attempt in kept:
        others = [spans[link.span_id] for link in attempt.links if link.trace_id != attempt.trace_id]
        assert [other.step for other in others] == ["attempt"]


def test_every_attribute_is_documented(real_runs: dict[str, RunFolder], tmp_path: Path) -> None:
    """No span has an attribute that the table does not have, and the table has none that no span ever has."""
    spans = [span for folder in real_runs.values() for span in read_spans(folder)]
    spans += read_spans(write_directed_run(tmp_path / "directed"))
    seen = {(name, span.step) for span in spans for name in span.attributes}
    known = {(known.name, step) for known in ATTRIBUTES for step in known.steps.split(", ")}
    assert seen <= known
    rare = {"eventflow.file.decoded", "eventflow.attempt.range_start", "eventflow.run.resumed", "tls.protocol.version"}
    rare |= {"eventflow.state"}
    assert {name for name, _ in known} - {name for name, _ in seen} <= rare
    assert attribute_table().count("\n") == len(ATTRIBUTES) + 1
    assert PUTTERS.keys() >= {"attempt.failed", "run.failed"}


@pytest.mark.parametrize("plan", [{}, {"stop_seconds": 0.5}, {"stop_seconds": 0.5, "killed": True}], ids=str)
def test_no_span_is_given_twice_or_not_at_all(store: Path, plan: dict[str, object]) -> None:
    """Whether a run ends well, is interrupted or killed, and then is resumed: each span once, each tree whole."""
    folder = write_run(store, "processes", requests=80, **plan)
    before = in_order(list(read_spans(folder)))
    if plan:
        resume_run(folder, requests=80)
    after = in_order(list(read_spans(folder)))
    assert len({span.span_id for span in after}) == len(after)
    assert {span.span_id for span in before} <= {span.span_id for span in after}
    by_id = {span.span_id: span for span in after}
    changed = [span for span in before if by_id[span.span_id] != span]
    assert changed == []
    roots = Counter(span.stream for span in after if span.step == "request" and span.parent_span_id is None)
    assert set(roots.values()) == {1}
    assert sum(span.step == "run" for span in after) == (2 if plan else 1)


def test_what_was_killed_is_interrupted_and_goes_on_below_it(store: Path) -> None:
    """A killed request's spans end as errors where it was seen last; its second part is a child that links to it."""
    folder = write_run(store, "threads", requests=60, stop_seconds=0.2, killed=True)
    resume_run(folder, requests=60)
    spans = list(read_spans(folder))
    killed = [span for span in spans if span.step == "request" and span.state == "interrupted"]
    assert killed
    for root in killed:
        assert root.is_error
        (again,) = (span for span in spans if span.step == "request" and span.parent_span_id == root.span_id)
        assert again.trace_id == root.trace_id
        assert again.start_ns >= root.end_ns
        assert again.links[0].trace_id == root.trace_id
        assert again.span_id != root.span_id
        below = [span for span in spans if span.parent_span_id == again.span_id]
        assert {span.step for span in below} >= {"queue", "attempt"}


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_the_order_between_writers_does_not_matter(seed: int) -> None:
    """Each writer's events in their order, mixed in any way: the same spans in every field."""
    events = _mixed()
    chance = random.Random(seed)
    queues = defaultdict(list)
    for event in reversed(events):
        queues[event.writer].append(event)
    mixed = []
    while queues:
        writer = chance.choice(list(queues))
        mixed.append(queues[writer].pop())
        if not queues[writer]:
            del queues[writer]
    assert in_order(feed("r", mixed)) == in_order(feed("r", events))


_cache: list[StoredEvent] = []


def _mixed() -> list[StoredEvent]:
    """Events of a run with several writers, stories handed over, killed in the middle and resumed."""
    if not _cache:
        with tempfile.TemporaryDirectory() as place:
            folder = write_run(Path(place), "processes", requests=25, stop_seconds=0.5, killed=True)
            resume_run(folder, requests=25)
            _hand_over(folder)
            _cache.extend(read_events(folder.log))
    return _cache


def _hand_over(folder: RunFolder) -> None:
    """A story that begins in one process, and goes on and ends in another."""
    with (
        Recorder(folder.log, folder.run, sources=SeededSources(71, START_NS + 10**13)) as one,
        Recorder(folder.log, folder.run, sources=SeededSources(72, START_NS + 10**13)) as two,
    ):
        for number in range(100, 110):
            root = one.open_stream(f"request-{number}")
            root.record(RequestQueued(number=number, url="https://h/x", name="x"))
            here = two.adopt(root.handoff())
            here.child().record(RequestStarted(wait_seconds=0.5))
            if number % 2:
                here.record(RequestCompleted(name="x", bytes=3, seconds=1.0))


def test_a_request_that_nobody_took_up_has_no_span(store: Path) -> None:
    """It was read from the list, and its run was killed; when a resume takes it up, its story begins then."""
    folder = create_run(store, stage="serial")
    queued = RequestQueued(number=0, url="https://h/x", name="x")
    with Recorder(folder.log, folder.run) as recorder:
        root = recorder.open_stream("request-0")
        root.record(queued)
        handoff = root.handoff()
    assert list(read_spans(folder)) == []
    with Recorder(folder.log, folder.run) as recorder:
        again = recorder.adopt(handoff)
        again.record(queued)
        again.child().record(RequestStarted(wait_seconds=0.0))
        again.record(RequestCompleted(name="x", bytes=3, seconds=0.1))
    queue, request = read_spans(folder)
    assert (request.step, request.state, request.parent_span_id) == ("request", "completed", None)
    assert (request.span_id, queue.parent_span_id) == (handoff.span_id, handoff.span_id)
    assert request.start_ns >= max(event.time for event in read_events(folder.log) if event.version == 1)


def test_a_gap_that_a_repair_left_hides_nothing(store: Path) -> None:
    """Where events were given up, what came after them is told all the same."""
    folder = write_run(store, "serial", requests=10)
    events = [event for event in read_events(folder.log) if not (event.stream == "request-3" and event.version == 2)]
    spans = [span for span in feed(folder.run, events) if span.stream == "request-3"]
    assert "request" in {span.step for span in spans}


def test_events_of_ones_own_are_spans(store: Path) -> None:
    """A stream of one's own: its first event's word is the step, its fields are attributes, later events moments."""
    folder = create_run(store, stage="serial")
    with Recorder(folder.log, folder.run) as recorder:
        recorder.open_stream("run").record(RunStarted(stage="serial", workers=1))
        fence = recorder.open_stream("fence-1")
        fence.record(FenceBuilt(metres=12))
        fence.record(FencePainted(colour="green"))
    (span,) = read_spans(folder, stream="fence-1")
    assert (span.step, span.name, span.state) == ("fence", "fence", "completed")
    assert span.attributes == {"eventflow.fence.metres": 12}
    assert [(event.name, event.attributes) for event in span.events] == [
        ("fence.painted", {"eventflow.fence.colour": "green"})
    ]
