"""Every stage through the real collector into the real Jaeger: what Jaeger shows is what the log says, whole trees."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings
from tests.support.collector import Collector
from tests.support.exporting import Exporter, assert_all_are_there_once
from tests.support.jaeger import Jaeger
from tests.support.trees import render_trees

pytestmark = pytest.mark.part("otelcol", "jaeger")
STAGES = ("serial", "threads", "processes", "subprocess", "loop", "director", "lineage")
FILES = 10

ONE_REQUEST = """\
request {url.full=ORIGIN/files/000000.bin} -> other:run/stage
  queue
  GET (client) {http.response.status_code=200 url.full=ORIGIN/files/000000.bin} -> request/queue
    body
  verify -> request/GET
  store -> request/verify
run
  stage"""


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """Files of which some fail once, and are asked for again by the stages that do that."""
    with start_origin(
        OriginSettings(files=FILES, size=2_000, faults={"503": 0.2, "reset": 0.1}, retry_after_s=0)
    ) as made:
        yield made


@pytest.mark.parametrize("stage", STAGES)
def test_jaeger_shows_what_the_log_says(
    stage: str, origin: Origin, collector: Collector, jaeger: Jaeger, tmp_path: Path
) -> None:
    """A trace for each request, one for the run and one for each process; every span, parent, state and link.

    Among the requests is one that fails for good.
    """
    exporter = Exporter(tmp_path, collector.http, f"stage {stage}")
    urls = exporter.write_list(origin, f"{origin.url}/files/nothing")
    ended = exporter.run("run", stage, "--input", urls, "--otlp")
    assert ended.status == 1  # of the requests that failed
    assert "eventflow:" not in ended.errors
    assert_all_are_there_once(exporter, jaeger)
    spans = jaeger.spans(exporter.service)
    roots = Counter(span.name for span in spans if not span.parent_id)
    assert roots["request"] == ended.result["requests"] == FILES + 1
    assert len({span.trace_id for span in spans}) == roots.total()
    assert roots["run"] == 1
    failed = [span for span in spans if span.name == "request" and span.status == "error"]
    assert len(failed) == ended.result["failed"]
    assert {span.resource["eventflow.run.id"] for span in spans} == {exporter.newest.run}
    assert {span.resource["eventflow.stage"] for span in spans} == {stage}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_one_request_is_this_trace(protocol: str, collector: Collector, jaeger: Jaeger, tmp_path: Path) -> None:
    """The steps of a request, each with its link to the one before it, over either protocol."""
    endpoint = collector.grpc if protocol == "grpc" else collector.http
    exporter = Exporter(tmp_path, endpoint, f"one over {protocol}", OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    with start_origin(OriginSettings(files=1, size=2_000)) as origin:
        assert exporter.run("run", "serial", "--input", exporter.write_list(origin), "--otlp").status == 0
    spans = jaeger.wait_spans(exporter.service, 8)
    assert render_trees(spans) == ONE_REQUEST.replace("ORIGIN", origin.url)


def test_a_run_is_exported_later_and_again(
    origin: Origin, collector: Collector, jaeger: Jaeger, tmp_path: Path
) -> None:
    """A run without export is sent when it is over, three times: Jaeger shows everything once."""
    exporter = Exporter(tmp_path, collector.http, "later")
    assert exporter.run("run", "loop", "--input", exporter.write_list(origin), "--no-otlp").status in {0, 1}
    for _ in range(3):
        assert exporter.run("export", "latest", "--to", "otlp").status == 0
    assert_all_are_there_once(exporter, jaeger)
