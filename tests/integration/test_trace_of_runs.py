"""`eventflow trace` of runs that really ran, in every stage: everything that is in the log is in the waterfall."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventflow.log.runs import RunFolder, list_runs
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import Fault, OriginSettings
from instrumentation.traces import read_spans
from stages.registry import STAGES

FILES = 12
SETTINGS = OriginSettings(
    files=FILES,
    size=300_000,
    latency_s=0.005,
    faults={Fault.UNAVAILABLE: 0.2, Fault.SHORT_BODY: 0.2, Fault.REFUSE: 0.1},
    seed=3,
)


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """Where some requests fail once and some always."""
    with start_origin(SETTINGS) as started:
        yield started


def eventflow(*arguments: str, folder: Path) -> str:
    """What the command prints. A run may have failed requests."""
    done = subprocess.run(
        [sys.executable, "-m", "eventflow", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def run_in(stage: str, origin: Origin, folder: Path) -> RunFolder:
    """A run of all files in one stage."""
    (folder / "urls.tsv").write_text("".join(f"{each.url}\t{each.name}\n" for each in origin.entries()))
    eventflow("run", stage, "--input", "urls.tsv", "--quiet", folder=folder)
    (run,) = list_runs(folder / ".eventflow")
    return run


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_can_be_seen(stage: str, origin: Origin, tmp_path: Path) -> None:
    """A request has all its spans, whatever its stage and its end, and the critical path takes its whole time."""
    run = run_in(stage, origin, tmp_path)
    spans: dict[str, set[str]] = {}
    for span in read_spans(run):
        spans.setdefault(span.stream, set()).add(span.span_id)
    told: dict[str, Any] = json.loads(eventflow("trace", "latest", "--json", folder=tmp_path))
    assert len(told["requests"]) >= 5
    for request in told["requests"]:
        assert {each["span_id"] for each in request["spans"]} == spans[request["stream"]]
        (part,) = request["parts"]
        assert not part["goes_on"]
        assert sum(part["critical_path"].values()) == pytest.approx(part["seconds"])
    assert {trace["stream"] for trace in told["traces"]} == {
        each for each in spans if each.startswith(("run", "process"))
    }
    overview = eventflow("trace", "latest", folder=tmp_path)
    assert f"{FILES} requests: " in overview.splitlines()[0]
    assert "of " in overview
    assert "critical path" in overview


def test_a_retry_over_a_kept_connection_shows_its_cause(origin: Origin, tmp_path: Path) -> None:
    """The wait between the attempts has a row, and whose connection it was has a name."""
    run_in("lineage", origin, tmp_path)
    query = "SELECT number FROM requests WHERE attempts > 1 AND state = 'completed' ORDER BY attempts DESC, number"
    numbers = eventflow("sql", query, folder=tmp_path).splitlines()[1:]
    pictures = [eventflow("trace", "latest", "--request", number, folder=tmp_path) for number in numbers[:3]]
    assert pictures
    assert all("╴wait" in picture and "attempt 2" in picture for picture in pictures)
    assert any("← request-" in picture for picture in pictures)
