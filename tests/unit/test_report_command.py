"""`eventflow report`: pages, pictures, sweeps."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from eventflow.cli.main import app
from tests.synthetic_log import START_NS, write_run

SWEEP = "20261123-120000-5eed"


def report(store: Path, *arguments: str) -> Result:
    """What the command does."""
    return CliRunner().invoke(app, ["report", "--store", str(store), *arguments])


@pytest.fixture
def swept(store: Path) -> Path:
    """A store with the runs of a sweep, its warm-up, and a run that is not of it."""
    labels = {"sweep": SWEEP, "repeat": "1"}
    for place, size in enumerate((2, 20)):
        plan = {"requests": size, "start_ns": START_NS + place * 10**10, "labels": labels | {"size": f"{size}"}}
        write_run(store, "loop", failure_share=0.0, **plan)
    write_run(store, "threads", requests=20, start_ns=START_NS + 10**12, labels=labels | {"warm-up": "yes"})
    write_run(store, "serial", requests=20, start_ns=START_NS + 2 * 10**12)
    (store / f"{SWEEP}.sweep.json").write_text("{}")
    return store


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
    store.mkdir(exist_ok=True)
    (store / f"{SWEEP}.sweep.json").write_text("{}")
    done = report(store, SWEEP, "-o", str(tmp_path / "a.html"))
    assert done.exit_code != 0
    assert "has no run yet" in str(done.exception or done.output)
    assert not (tmp_path / "a.html").exists()


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
