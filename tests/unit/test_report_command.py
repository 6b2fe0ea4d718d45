"""`eventflow report`: pages, pictures, sweeps."""

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from analysis.material import asked_runs
from eventflow.cli.main import app
from eventflow.errors import EventflowError, StoreError, UnknownRun, UsageError
from eventflow.log.runs import list_runs
from eventflow.sweep import Sweep, sweep_path
from tests.synthetic_log import START_NS, write_run

SWEEP = "20261123-120000-5eed"
OTHER = "20261123-120001-5eee"


def report(store: Path, *arguments: str) -> Result:
    """What the command does."""
    return CliRunner().invoke(app, ["report", "--store", str(store), *arguments])


@pytest.fixture
def swept(store: Path) -> Path:
    """A store with the runs of a sweep, its warm-up, and a run that is not of it."""
    labels = {"sweep": SWEEP, "repeat": "1"}
    for place, size in enumerate((2, 20)):
        plan = {"requests": size, "start_ns": START_NS + place * 10**10, "labels": labels | {"requests": f"{size}"}}
        write_run(store, "loop", failure_share=0.0, **plan)
    write_run(store, "threads", requests=20, start_ns=START_NS + 10**12, labels=labels | {"warm-up": "yes"})
    write_run(store, "serial", requests=20, start_ns=START_NS + 2 * 10**12)
    write_plan(store)
    return store


def write_plan(store: Path, name: str = SWEEP) -> None:
    """The plan of a sweep, under a name that is known."""
    store.mkdir(exist_ok=True)
    plan = Sweep(name=name, stages=("serial", "threads", "loop"), sizes=(2, 20), repeat=1)
    sweep_path(store, name).write_bytes(msgspec.json.encode(plan))


@pytest.mark.parametrize("name", [SWEEP, SWEEP[:12], "5eed"])
def test_a_sweep_by_its_name(swept: Path, tmp_path: Path, name: str) -> None:
    """The report of a sweep is on its runs, without the warm-ups and the store's other runs."""
    done = report(swept, name, "-o", str(tmp_path / "a.html"))
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'a.html'}\n")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert f"eventflow · sweep {SWEEP} · 2 runs" in page
    assert "Speed against number of requests" in page
    assert ">threads</th>" not in page
    assert ">serial</th>" not in page


def test_the_newest_runs_without_warm_ups(swept: Path, tmp_path: Path) -> None:
    """Without a name the report is on the newest runs; what only warmed a sweep up is none of them."""
    assert report(swept, "-o", str(tmp_path / "a.html")).exit_code == 0
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "eventflow · 3 runs" in page
    assert ">threads</th>" not in page
    assert ">serial</th>" in page


def test_a_sweep_without_a_run(store: Path, tmp_path: Path) -> None:
    """A sweep that has no run yet is explained, and nothing is written."""
    write_plan(store)
    done = report(store, SWEEP, "-o", str(tmp_path / "a.html"))
    assert done.exit_code != 0
    assert "has no run yet" in str(done.exception or done.output)
    assert not (tmp_path / "a.html").exists()


def test_runs_and_sweeps_are_named_together(swept: Path) -> None:
    """Several of each, every run once; only a sweep that is named alone gives the page its name."""
    first, second, _, serial = (folder.run for folder in list_runs(swept))
    labels = {"sweep": OTHER, "repeat": "1", "requests": "2"}
    other = write_run(swept, "serial", requests=2, start_ns=START_NS + 3 * 10**12, labels=labels).run
    write_plan(swept, OTHER)
    assert asked_runs(swept, [SWEEP]) == ([first, second], SWEEP)
    assert asked_runs(swept, [SWEEP, SWEEP]) == ([first, second], "")
    assert asked_runs(swept, [SWEEP, OTHER]) == ([first, second, other], "")
    assert asked_runs(swept, ["latest-sweep"]) == ([other], OTHER)
    assert asked_runs(swept, ["latest-sweep", serial, "latest"]) == ([other, serial], "")
    assert asked_runs(swept, [second, "5eed"]) == ([second, first], "")


@pytest.mark.parametrize("command", [["report"], ["compare"]])
def test_a_name_of_a_sweep_and_runs_is_ambiguous(swept: Path, command: list[str]) -> None:
    """The same in each command: nothing is chosen silently, and `latest-sweep` without a sweep is no run's name."""

    def refused(name: str) -> EventflowError:
        done = CliRunner().invoke(app, [*command, name, "--store", str(swept)])
        assert isinstance(done.exception, EventflowError)
        return done.exception

    problem = refused("2026")
    assert isinstance(problem, UnknownRun)
    assert problem.matches == (SWEEP, *(folder.run for folder in list_runs(swept)))
    assert isinstance(refused("nothing"), UnknownRun)
    sweep_path(swept, SWEEP).write_text("{")
    assert isinstance(refused(SWEEP), StoreError)
    sweep_path(swept, SWEEP).unlink()
    assert isinstance(refused("latest-sweep"), UsageError)


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("svg", b"<svg")])
def test_each_chart_as_a_picture(swept: Path, tmp_path: Path, form: str, start: bytes) -> None:
    """With --format every chart of the page is a file in a folder, by its name; their paths are printed."""
    done = report(swept, SWEEP, "--format", form, "-o", str(tmp_path / "charts"))
    assert done.exit_code == 0
    written = sorted((tmp_path / "charts").iterdir())
    assert sorted(map(Path, done.stdout.splitlines())) == written
    assert {"speed", "memory", "explore", "gantt", "requests_over_time"} <= {path.stem for path in written}
    assert all(path.read_bytes().startswith(start) for path in written)


def test_where_it_cannot_be_written(swept: Path, tmp_path: Path) -> None:
    """A place that cannot be written is named, and what to do about it."""
    (tmp_path / "taken").write_text("")
    done = report(swept, SWEEP, "--format", "svg", "-o", str(tmp_path / "taken"))
    assert done.exit_code != 0
    assert "cannot be written" in str(done.exception or done.output)
