"""What is left of a bad day: the page says what is missing, and shows the rest."""

import json
import re
import shutil
from pathlib import Path

import pytest

from analysis.report import write_pictures, write_report
from eventflow.errors import UsageError
from eventflow.event import Link
from eventflow.log.format import FORMAT
from eventflow.log.runs import RunFolder, create_run, list_runs
from eventflow.recorder import Recorder
from eventflow.sources import SeededSources
from eventflow.vocabulary import RequestCompleted, RequestQueued, RunCompleted, RunStarted
from tests.synthetic_log import START_NS, write_run

FIXTURES = Path(__file__).parents[1] / "fixtures" / "format-1"


def report(store: Path, out: Path) -> str:
    """The page on all runs of the store."""
    return write_report(store, [run.run for run in list_runs(store)], out).read_text(encoding="utf-8")


def bare_run(store: Path, requests: int, stage: str = "mine") -> RunFolder:
    """A run that completes and has events for nothing but its requests: no attempts, no samples, no processes."""
    sources = SeededSources(7, START_NS + 10**12)
    folder = create_run(store, stage=stage, sources=sources)
    with Recorder(folder.log, folder.run, sources=sources, batch_seconds_max=None) as recorder:
        root = recorder.open_stream("run")
        cause: Link = root.record(RunStarted(stage=stage, workers=1))
        for number in range(requests):
            span = recorder.open_stream(f"request-{number}")
            span.record(RequestQueued(number=number, url=f"https://h/{number}", name=f"{number}"), cause)
            span.record(RequestCompleted(name=f"{number}", bytes=1, seconds=0.25))
        counts = {"requests": requests, "completed": requests, "failed": 0, "cancelled": 0, "bytes": requests}
        root.record(RunCompleted(**counts, seconds=0.5))
    return folder


@pytest.fixture
def good(store: Path) -> Path:
    """A store with one run that is as it should be."""
    write_run(store, "loop", requests=40)
    return store


def test_an_empty_run(good: Path, tmp_path: Path) -> None:
    """A run without a request has a row in the table, and a page of its own says that there is nothing to draw."""
    empty = bare_run(good, 0)
    both = report(good, tmp_path / "a.html")
    assert ">mine</th>" in both
    assert ">loop</th>" in both
    alone = write_report(good, [empty.run], tmp_path / "b.html").read_text(encoding="utf-8")
    assert "mine completed 0 requests" in alone
    assert "No request has begun." in alone
    assert "No request is completed." in alone


def test_one_request(store: Path, tmp_path: Path) -> None:
    """Of a run of one request every chart that has something to show is there."""
    write_run(store, "loop", requests=1, failure_share=0.0)
    page = report(store, tmp_path / "a.html")
    assert "loop completed 1 request in" in page
    assert page.count('role="img"') >= 8


def test_a_run_without_samples(good: Path, tmp_path: Path) -> None:
    """The page says that nothing was measured in one run, and shows the memory of the other."""
    bare = bare_run(good, 40)
    both = report(good, tmp_path / "a.html")
    assert "Memory and CPU were not measured in mine." in both
    assert f"memory, CPU and energy of mine ({bare.run})" in both
    assert "It took at most" in both
    alone = write_report(good, [bare.run], tmp_path / "b.html").read_text(encoding="utf-8")
    assert "No run has measured its memory." in alone


@pytest.mark.parametrize("killed", [False, True])
def test_an_interrupted_run(good: Path, tmp_path: Path, killed: bool) -> None:
    """A run that was stopped or killed is shown with its state, beside one that completed."""
    write_run(good, "threads", requests=40, stop_seconds=0.1, killed=killed)
    page = report(good, tmp_path / "a.html")
    state = "unfinished" if killed else "interrupted"
    assert f"Did not come to its end: threads ({state})." in page
    assert page.count('role="img"') >= 10


def test_an_interrupted_run_among_sizes(store: Path, tmp_path: Path) -> None:
    """Among runs of several sizes, one that was stopped is named with its state, and is in no chart by size."""
    for seed, size in enumerate((5, 50)):
        write_run(store, "loop", requests=size, seed=seed, failure_share=0.0, start_ns=START_NS + seed * 10**10)
    stopped = write_run(store, "threads", requests=50, stop_seconds=0.1, start_ns=START_NS + 10**12)
    page = report(store, tmp_path / "a.html")
    named = f"threads {stopped.run} (interrupted)"
    assert f"1 run did not come to its end and is in no chart by size: {named}." in page
    assert "Speed against number of requests" in page
    assert "Inside the runs" in page


@pytest.mark.parametrize("failing", [5, 50])
def test_failures_among_sizes(store: Path, tmp_path: Path, failing: int) -> None:
    """Among runs of several sizes, failures are told of all runs, also where two of three had none."""
    for seed, (size, repeat) in enumerate((size, repeat) for size in (5, 50) for repeat in range(3)):
        share = 1.0 if (size, repeat) == (failing, 1) else 0.0
        write_run(store, "loop", requests=size, seed=seed, failure_share=share, start_ns=START_NS + seed * 10**10)
    page = report(store, tmp_path / "a.html")
    assert f"{failing} of 165 requests failed, most often with " in page
    assert ("worst run" in page) is (failing == 50)


@pytest.mark.parametrize("name", ["closed", "killed", "sealed", "segments", "unknown"])
def test_a_run_of_an_older_format(good: Path, tmp_path: Path, name: str) -> None:
    """A run that an old version wrote is shown beside a new one, with what it has."""
    for run in (FIXTURES / name).iterdir():
        shutil.copytree(run, good / run.name)
    page = report(good, tmp_path / "a.html")
    assert ">loop</th>" in page
    named = re.findall(r"nothing is recorded of it yet: (.*)\.<", page)
    assert page.count("</svg>") >= 4 or named == [run.name for run in (FIXTURES / name).iterdir()]
    assert "cannot be read" not in page


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": FORMAT + 1}, f"format {FORMAT + 1}"),
        ({"run": 7}, "cannot be read"),
        ({"stage": None}, "cannot be read"),
    ],
)
def test_a_description_that_cannot_be_read(good: Path, tmp_path: Path, change: dict[str, object], why: str) -> None:
    """A run.json that is broken, or of a newer version, hides that run alone, and the page says why."""
    bad = write_run(good, "threads", requests=40)
    path = bad.path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    page = report(good, tmp_path / "a.html")
    assert f"Not shown, since it cannot be read: {bad.run} (" in page
    assert why in page
    assert "loop completed" in page
    with pytest.raises(UsageError, match=bad.run):
        write_report(good, [bad.run], tmp_path / "b.html")
    assert not (tmp_path / "b.html").exists()


def test_a_log_that_is_damaged(good: Path, tmp_path: Path) -> None:
    """A run whose log has a byte changed is named with the reason, and the others are shown."""
    bad = write_run(good, "threads", requests=40)
    (segment,) = bad.log.glob("*/*.ndjson")
    lines = segment.read_bytes().split(b"\n")
    segment.write_bytes(b"\n".join([lines[0], lines[1][:20] + b"#" + lines[1][21:], b"{" + lines[2], *lines[3:]]))
    page = report(good, tmp_path / "a.html")
    assert f"Not shown, since it cannot be read: {bad.run} (" in page
    assert "loop completed" in page


def test_a_run_with_an_odd_time(good: Path, tmp_path: Path) -> None:
    """A time in run.json that is none is not shown; nothing else is lost."""
    (folder,) = list_runs(good)
    path = folder.path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"created": "yesterday"}))
    assert "eventflow · one run</p>" in report(good, tmp_path / "a.html")


def test_many_runs_of_one_size(store: Path, tmp_path: Path) -> None:
    """Where each stage was run several times, stages are compared by their medians, and one run of each is shown."""
    for place, stage in enumerate(("serial", "threads") * 3):
        write_run(store, stage, requests=10, seed=place, failure_share=0.0, start_ns=START_NS + place * 10**10)
    page = report(store, tmp_path / "a.html")
    assert "The table has the medians of 3 runs of each stage with 10 requests." in page
    assert re.findall(r"</svg>(\w+)</th>", page) == ["serial", "threads"]
    assert "Any figure against any other" in page
    assert "Speed against number of requests" not in page
    assert "each was run 3 times" in page


@pytest.mark.parametrize(
    ("change", "as_one"),
    [({"workers": 2}, False), ({"source": "b.txt", "source_size": 7, "source_mtime_ns": 7, "out": "b"}, True)],
)
@pytest.mark.parametrize("sizes", [(10, 10, 10, 10, 10, 10), (10, 10, 10, 10, 20, 40)])
def test_runs_with_other_settings(
    store: Path, tmp_path: Path, sizes: tuple[int, ...], change: dict[str, object], as_one: bool
) -> None:
    """Runs of a stage stand for one another only if they were done alike, whatever they read and wherever it went."""
    for place, size in enumerate(sizes):
        start_ns = START_NS + place * 10**10
        write_run(store, ("serial", "threads")[place % 2], requests=size, seed=place, start_ns=start_ns)
    path = list_runs(store)[-1].path / "run.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"settings": info["settings"] | change}))
    page = report(store, tmp_path / "a.html")
    assert ("The table has the medians of" in page) is as_one
    assert len(re.findall(r"</svg>[^<]+</th>", page)) == (2 if as_one else 6)
    assert ("Speed, memory and energy" in page) is as_one
    assert ("each was run 3 times" in page) is (as_one and len(set(sizes)) == 1)


@pytest.mark.parametrize("names", [{"serial"}, {"serial", "threads"}])
def test_runs_with_other_servers(store: Path, tmp_path: Path, names: set[str]) -> None:
    """Runs whose lists name other servers are no repeats of one another, whatever else is the same."""
    for place, stage in enumerate(("serial", "threads") * 3):
        server = "https://b.example:8443" if stage in names and place > 3 else "https://a.example"
        start_ns = START_NS + place * 10**10
        write_run(store, stage, requests=10, seed=place, start_ns=start_ns, urls=f"{server}/{{}}.bin".format)
    page = report(store, tmp_path / "a.html")
    assert "The table has the medians of" not in page
    assert len(re.findall(r"</svg>[^<]+</th>", page)) == 6
    assert "each was run 1 to 3 times" in page if len(names) == 1 else "each was run 1 to 2 times" in page


def test_runs_of_a_sweep_stand_for_one_another(store: Path, tmp_path: Path) -> None:
    """Runs of one sweep are compared by size; with those of another one, which may have had another origin, by run."""
    for place, (name, size) in enumerate((("a", 5), ("a", 50), ("b", 50))):
        made = {"requests": size, "seed": place, "start_ns": START_NS + place * 10**10, "labels": {"sweep": name}}
        write_run(store, "loop", **made)
        page = report(store, tmp_path / "a.html")
        assert ("Speed against number of requests" in page) is (place == 1)


def test_pictures_of_what_there_is(good: Path, tmp_path: Path) -> None:
    """As pictures, only charts that have something to show are written."""
    bare = bare_run(good, 3)
    names = [path.name for path in write_pictures(good, [bare.run], tmp_path / "charts", "svg")]
    assert names == sorted(names, key=names.index)
    assert "time_per_stage.svg" in names
    assert "memory_per_stage.svg" not in names
    assert {path.name for path in (tmp_path / "charts").iterdir()} == set(names)
