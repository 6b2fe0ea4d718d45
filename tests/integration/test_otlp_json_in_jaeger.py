"""OTLP as JSON, opened by the real Jaeger: as its page opens a file, and as an endpoint takes it."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from eventflow.cli.main import app
from eventflow.log.runs import RunFolder
from instrumentation.traces import FinishedSpan, read_spans
from tests.conftest import require_part
from tests.directed_log import write_directed_run
from tests.support.collector import Collector
from tests.support.jaeger import Jaeger
from tests.support.trees import TreeSpan, of_finished, render_trees
from tests.synthetic_log import START_NS, resume_run, write_run

pytestmark = pytest.mark.part("jaeger", "otelcol")


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """One for all tests."""
    with Jaeger(require_part("jaeger"), tmp_path_factory.mktemp("jaeger")) as running:
        yield running


def exported(folder: RunFolder, path: Path) -> bytes:
    """What the command writes."""
    arguments = ["export", folder.run, "--to", "otlp-json", "-o", str(path), "--store", str(folder.path.parent)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return path.read_bytes()


def post(url: str, body: bytes) -> Any:
    """The answer to some JSON."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def runs(store: Path) -> list[RunFolder]:
    """Failures; retries, redirects and connections; a run that was killed and went on."""
    killed = write_run(store, "threads", requests=40, stop_seconds=0.06, killed=True, start_ns=START_NS + 10**12)
    resume_run(killed)
    return [write_run(store, "loop", requests=60, failure_share=0.3), write_directed_run(store), killed]


class Seen(NamedTuple):
    """What Jaeger's page shows of a span. Times are in microseconds; a link is a reference beside the parent."""

    trace_id: str
    span_id: str
    name: str
    parent: str
    links: frozenset[tuple[str, str]]
    start_us: int
    is_error: bool
    message: str
    logs: int

    @classmethod
    def on_the_page(cls, span: dict[str, Any]) -> "Seen":
        """As Jaeger's page has it."""
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        references = [(kind["refType"], kind["traceID"], kind["spanID"]) for kind in span["references"]]
        return cls(
            span["traceID"],
            span["spanID"],
            span["operationName"],
            "".join(one for kind, _, one in references if kind == "CHILD_OF"),
            frozenset((trace, one) for kind, trace, one in references if kind == "FOLLOWS_FROM"),
            span["startTime"],
            tags.get("error", False),
            tags.get("otel.status_description", ""),
            len(span["logs"]),
        )

    @classmethod
    def told(cls, span: FinishedSpan) -> "Seen":
        """As the log tells it. A parent that is also a link is shown as a link only; the tree is the same."""
        links = frozenset((link.trace_id, link.span_id) for link in span.links)
        parent = "" if (span.trace_id, span.parent_span_id) in links else span.parent_span_id or ""
        message = span.status_message
        return cls(
            span.trace_id,
            span.span_id,
            span.name,
            parent,
            links,
            span.start_ns // 1000,
            span.is_error,
            message if span.is_error else "",
            len(span.events),
        )


def test_the_page_opens_the_file(jaeger: Jaeger, store: Path, tmp_path: Path) -> None:
    """The tab "JSON File" sends the file to /api/transform: every span with its links, state and moments."""
    for folder in runs(store):
        answer = post(f"{jaeger.url}/api/transform", exported(folder, tmp_path / "traces.json"))
        assert not answer["errors"]
        shown = [Seen.on_the_page(span) for trace in answer["data"] for span in trace["spans"]]
        told = [Seen.told(span) for span in read_spans(folder)]
        assert len(told) > 100
        assert sorted(shown, key=repr) == sorted(told, key=repr)
        services = {one["serviceName"] for trace in answer["data"] for one in trace["processes"].values()}
        assert services == {"eventflow"}


def test_an_endpoint_takes_the_file(jaeger: Jaeger, store: Path, tmp_path: Path) -> None:
    """Sent to a collector as it is, the trees that Jaeger has then are those of the log, attributes included."""
    spans = []
    with Collector(require_part("otelcol"), tmp_path / "collector", jaeger=jaeger.otlp) as collector:
        for folder in runs(store):
            assert post(f"{collector.http}/v1/traces", exported(folder, tmp_path / "traces.json")) == {
                "partialSuccess": {}
            }
            spans += [of_finished(span) for span in read_spans(folder)]
        found = jaeger.wait_spans("eventflow", len(spans))
    names = sorted({name for span in spans for name in span.attributes})
    assert render_trees(_sorted(found), shown=names) == render_trees(_sorted(spans), shown=names)


def _sorted(spans: list[TreeSpan]) -> list[TreeSpan]:
    """Jaeger keeps the moments of a span in an order of its own."""
    return [span._replace(events=tuple(sorted(span.events))) for span in spans]
