"""Real runs of every stage in every format: what was recorded is what is exported."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from eventflow.log.reader import read_events
from eventflow.log.runs import find_run
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings
from instrumentation.traces import read_spans
from tests.support.perfetto_trace import Trace

STAGES = ("serial", "threads", "processes", "subprocess", "loop", "director", "lineage")
FILES = 12


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A server on which one file in four fails."""
    with start_origin(OriginSettings(files=FILES, size=2_000, faults={"500": 0.25}, seed=3)) as running:
        yield running


def eventflow(folder: Path, *arguments: str) -> bytes:
    """Standard output of a command."""
    command = [sys.executable, "-m", "eventflow", *arguments, "--store", str(folder / "store")]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=100)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_of_the_stage(origin: Origin, tmp_path: Path, stage: str) -> None:
    """Spans, slices, events and rows are as many as the log has; requests and their states are the same everywhere."""
    origin.reset()
    lines = [f"{entry.url}\t{entry.name}\t{entry.sha256}\n" for entry in origin.entries()]
    (tmp_path / "urls.tsv").write_text("".join(lines))
    eventflow(tmp_path, "run", stage, "--input", "urls.tsv", "--out", "files", "--quiet")
    folder = find_run(tmp_path / "store", "latest")
    events, spans = list(read_events(folder.log)), list(read_spans(folder))
    states = Counter(span.state for span in spans if span.step == "request")
    assert states.total() == FILES

    traces = json.loads(eventflow(tmp_path, "export", "latest", "--to", "otlp-json", "-o", "-"))
    exported = [one for each in traces["resourceSpans"] for one in each["scopeSpans"][0]["spans"]]
    assert {one["spanId"] for one in exported} == {span.span_id for span in spans}
    assert len({one["traceId"] for one in exported if one["name"] == "request"}) == FILES
    pids = [
        {one["value"]["intValue"] for one in each["resource"]["attributes"] if one["key"] == "process.pid"}
        for each in traces["resourceSpans"]
    ]
    assert all(len(found) == 1 for found in pids)

    trace = Trace(eventflow(tmp_path, "export", "latest", "--to", "perfetto", "-o", "-"))
    requests = [one for one in trace.slices if one.category == "request"]
    assert Counter(one.said["state"] for one in requests) == states
    slices = [one for one in trace.slices if one.category != "connection"]
    assert len(slices) == sum(span.step != "queue" for span in spans)
    ended = {name.rpartition("/")[2]: values[-1][1] for name, values in trace.counters.items()}
    assert (ended["in flight"], ended["waiting"], ended["completed"]) == (0, 0, states["completed"])
    assert ended["memory (pss)"] > 10 << 20
    connections = {one.said["eventflow.connection.id"] for one in trace.slices if one.category == "connection"}
    assert bool(connections) == (stage in {"director", "lineage"})

    lines = eventflow(tmp_path, "export", "latest", "--to", "cloudevents", "-o", "-").decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [event.id for event in events]
    path = eventflow(tmp_path, "export", "latest", "--to", "parquet").decode().strip()
    ((count,),) = duckdb.execute("SELECT count(DISTINCT id) FROM read_parquet($path)", {"path": path}).fetchall()
    assert count == len(events)


@pytest.mark.parametrize("stage", ["subprocess", "director"])
def test_no_secret_of_a_run_is_exported(origin: Origin, tmp_path: Path, stage: str) -> None:
    """Credentials and tokens in the list, of requests that are completed and that fail: in no byte of any format."""
    origin.reset()
    lines = [
        f"{entry.url.replace('http://', 'http://me:hunter2@')}?token=s3cr3t&Signature=s3cr3t#s3cr3t\t{entry.name}\n"
        for entry in origin.entries()
    ]
    lines.append("http://me:hunter2@127.0.0.1:1/none?api_key=s3cr3t\tnone\n")
    (tmp_path / "urls.tsv").write_text("".join(lines))
    label = ["--label", "list=https://me:hunter2@example.org/?token=s3cr3t"]
    eventflow(tmp_path, "run", stage, "--input", "urls.tsv", "--out", "files", "--quiet", *label)
    for to in ("otlp-json", "perfetto", "cloudevents", "parquet"):
        data = eventflow(tmp_path, "export", "latest", "--to", to, "-o", "-")
        if to == "parquet":
            (tmp_path / "file").write_bytes(data)
            asked = "SELECT COLUMNS(*)::VARCHAR FROM read_parquet($path)"
            data = str(duckdb.execute(asked, {"path": str(tmp_path / "file")}).fetchall()).encode()
        assert b"REDACTED" in data
        assert not [secret for secret in (b"hunter2", b"s3cr3t") if secret in data]
