import functools
import importlib
import itertools
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from analysis.appearance import LADDER, LIGHT
from analysis.labels import ROWS_MAX, label_runs
from analysis.logarithmic import log_ticks
from analysis.picture import TABLE_ROWS_MAX, Picture
from analysis.program import main
from analysis.report import BY_SIZE, CHARTS
from eventflow.log.runs import create_run, list_runs
from eventflow.log.sql import connect
from eventflow.measuring_events import ProcessSampled
from eventflow.recorder import Recorder
from eventflow.sources import SeededSources
from eventflow.vocabulary import RunStarted
from tests.asking import ask, one
from tests.synthetic_log import MIB, PROFILES, START_NS, resume_run, write_ladder, write_run

HOSTILE = "https://h/{}</script><script>alert(1)</script><!--&\u2028'\""
UNITS = re.compile(r"seconds|MiB|requests|exponent|joules")
CHOSEN = {"speed", "explore"}  # their axes are named by what a person chooses
OF_PARTS = {"gantt", "memory_per_process", "requests_over_time"}  # their colours are not those of stages
SIZES = (1, 4, 16, 64)

each_chart = pytest.mark.parametrize("name", CHARTS)


@functools.cache
def picture(store: Path, name: str) -> Picture | None:
    """A chart over all runs of a store, with its words."""
    with closing(connect(store)) as connection:
        made: Picture | None = importlib.import_module(f"analysis.{name}").picture(connection)
    return made


def specification(store: Path, name: str) -> dict[str, Any] | None:
    """The Vega-Lite specification of a chart; Altair has checked it against the schema."""
    made = picture(store, name)
    return None if made is None else made.specification()


def rows(store: Path, name: str) -> list[dict[str, Any]]:
    """The rows that a chart embeds, one after the other if there are several sets of them."""
    found = specification(store, name)
    assert found is not None
    return [row for values in found["datasets"].values() for row in values if "label" in row]


def nodes(value: Any) -> list[dict[str, Any]]:
    """Every object in a specification."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [*([value] if isinstance(value, dict) else []), *itertools.chain.from_iterable(map(nodes, inner))]


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run of each stage."""
    store = tmp_path_factory.mktemp("ladder") / "store"
    write_ladder(store)
    return store


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two runs of each stage and size."""
    store = tmp_path_factory.mktemp("sweep") / "store"
    moments = itertools.count(START_NS, 10**10)
    for size, seed, stage in itertools.product(SIZES, (1, 2), PROFILES):
        write_run(store, stage, requests=size, seed=seed, failure_share=0.0, start_ns=next(moments))
    return store


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of many requests and samples, and small ones beside it."""
    store = tmp_path_factory.mktemp("large") / "store"
    for seed, requests in enumerate((4000, 300, 300, 300)):
        write_run(store, "serial", requests=requests, seed=seed, failure_share=0.1)
    return store


class TestCharts:
    @each_chart
    def test_every_stage_is_shown(self, ladder: Path, sweep: Path, name: str) -> None:
        """Each chart shows every stage, in the order of the ladder and in the stage's colour."""
        store = sweep if name in BY_SIZE else ladder
        assert {row["label"] for row in rows(store, name)} == set(PROFILES)
        scales = [
            node["color"]["scale"] for node in nodes(specification(store, name)) if "scale" in node.get("color", {})
        ]
        if name not in OF_PARTS:
            assert scales[0] == {"domain": list(PROFILES), "range": [LIGHT[stage] for stage in PROFILES]}

    @each_chart
    def test_axes_have_units(self, ladder: Path, sweep: Path, name: str) -> None:
        """Every axis of amounts says what it counts, in which unit; where that is chosen, every choice does."""
        found = nodes(specification(sweep if name in BY_SIZE else ladder, name))
        axes = [node[axis] for node in found for axis in ("x", "y") if axis in node]
        titles = [axis.get("title") for axis in axes if isinstance(axis, dict) and axis.get("type") == "quantitative"]
        if name in CHOSEN:
            titles += [title for node in found if "bind" in node for title in node["bind"].get("options", [])]
        else:
            assert all(titles)
        assert titles
        assert all(UNITS.search(title) for title in titles if title not in {None, "workers"})

    @each_chart
    def test_it_is_said_in_words_and_numbers(self, ladder: Path, sweep: Path, name: str) -> None:
        """Beside each chart there is a sentence that names the stages, and a table of few rows with numbers in it."""
        made = picture(sweep if name in BY_SIZE else ladder, name)
        assert made is not None
        assert made.seen.endswith(".")
        assert "nan" not in made.seen
        text = " ".join([made.seen, *made.table.head, *(cell for row in made.table.rows for cell in row)])
        assert all(stage in text for stage in PROFILES)
        assert 0 < len(made.table.rows) <= TABLE_ROWS_MAX
        assert all(len(row) == len(made.table.head) for row in made.table.rows)

    @each_chart
    def test_little_is_embedded(self, large: Path, name: str) -> None:
        """However many requests, samples and runs there are, a chart embeds few rows."""
        made = picture(large, name)
        assert made is None or len(rows(large, name)) <= ROWS_MAX + 10

    @each_chart
    def test_nothing_to_show(self, store: Path, name: str) -> None:
        """Without a run there is no chart, and the module has a sentence to say so."""
        assert specification(store, name) is None
        assert importlib.import_module(f"analysis.{name}").NOTHING.endswith(".")

    def test_progress_counts_up(self, ladder: Path) -> None:
        """Progress begins with nothing at 0 s and ends with all that is completed, when that was."""
        found = rows(ladder, "progress_over_time")
        for stage, completed, seconds in ask(ladder, "SELECT stage, completed, seconds FROM runs"):
            line = [(row["seconds"], row["completed"]) for row in found if row["stage"] == stage]
            assert line == sorted(line)
            assert line[0] == (0, 0)
            assert line[-1][1] == completed
            assert line[-1][0] <= seconds + 1e-5

    def test_memory_keeps_the_peak(self, large: Path) -> None:
        """However many samples share a point, the highest of all is shown."""
        found = rows(large, "memory_over_time")
        assert one(large, "SELECT count(*) FROM samples") > 2 * len(found)
        assert max(row["mib"] for row in found) == one(large, "SELECT max(memory_bytes) / 1048576 FROM samples")

    def test_memory_keeps_a_peak_between_samples(self, store: Path) -> None:
        """What the kernel noted between two samples is shown, as in the table of runs."""
        sources = SeededSources(1, START_NS)
        folder = create_run(store, stage="loop", sources=sources)
        with Recorder(folder.log, folder.run, sources=sources, batch_seconds_max=None) as recorder:
            root = recorder.open_stream("run")
            root.record(RunStarted(stage="loop", workers=1))
            for peak in (2 * MIB, 9 * MIB, 3 * MIB):
                root.record(
                    ProcessSampled(
                        memory_bytes=MIB,
                        memory_kind="pss",
                        cpu_seconds=0.1,
                        processes=(),
                        sampling_seconds=0.001,
                        peak_bytes=peak,
                    )
                )
        assert max(row["mib"] for row in rows(store, "memory_over_time")) == 9

    def test_durations_are_a_distribution(self, ladder: Path) -> None:
        """The line of durations goes from the shortest request to the longest, through the median."""
        found = [row for row in rows(ladder, "request_durations") if row["stage"] == "loop"]
        assert [row["share"] for row in found] == sorted(row["share"] for row in found)
        assert [row["seconds"] for row in found] == sorted(row["seconds"] for row in found)
        columns = "min(seconds), quantile_disc(seconds, 0.5), max(seconds)"
        ((least, median, most),) = ask(
            ladder, f"SELECT {columns} FROM requests WHERE stage = 'loop' AND state = 'completed'"
        )
        assert (found[0]["seconds"], found[-1]["seconds"]) == (least, most)
        near = min(found, key=lambda row: abs(row["share"] - 0.5))
        assert near["seconds"] == pytest.approx(median, rel=0.05)

    def test_failures_add_up(self, ladder: Path) -> None:
        """The pieces of the bars together are the requests that failed."""
        found = rows(ladder, "failures_by_cause")
        assert sum(row["requests"] for row in found) == one(ladder, "SELECT sum(failed) FROM runs")

    def test_a_pause_is_no_progress(self, store: Path) -> None:
        """The hour between a run and its resume is on no time axis."""
        resume_run(write_run(store, "threads", stop_seconds=0.2))
        seconds = one(store, "SELECT seconds FROM runs")
        assert seconds < 2
        for name in ("progress_over_time", "memory_over_time"):
            assert max(row["seconds"] for row in rows(store, name)) == pytest.approx(seconds, rel=0.05)

    def test_unfinished_runs_say_so(self, store: Path) -> None:
        """The bar of a run that did not come to its end says what became of it."""
        write_run(store, "threads", stop_seconds=0.2)
        (row,) = rows(store, "time_per_stage")
        assert row["text"].endswith(" s · interrupted")

    @pytest.mark.parametrize(("low", "high"), [(0.015, 0.3), (1e-6, 1e3), (0.0101, 0.0102), (5.0, 5.0)])
    def test_a_logarithmic_axis_has_labels(self, low: float, high: float) -> None:
        """There is at least one label, and all are on the axis."""
        ticks = log_ticks(low, high)
        assert ticks
        assert all(low * 0.99 <= tick <= high * 1.01 for tick in ticks)


class TestLabels:
    def test_stages_in_the_order_of_the_ladder(self) -> None:
        """Known stages come in the ladder's order, unknown ones after them."""
        runs = [(f"r-{stage}", stage) for stage in sorted({*LADDER, "mine", "an own one"})]
        assert [label.text for label in label_runs(runs)] == [*LADDER, "an own one", "mine"]

    def test_runs_of_one_stage_are_told_apart(self) -> None:
        """Runs of one stage have labels and dashes of their own, even if their names end alike."""
        names = ("20260101-000000-aaaa", "20260101-000001-bbbb", "20260102-000000-aaaa", "20260102-000009-aaaa")
        found = label_runs((name, "loop") for name in names)
        assert [label.text for label in found] == [
            "loop 20260101-000000-aaaa",
            "loop bbbb",
            "loop 20260102-000000-aaaa",
            "loop 000009-aaaa",
        ]
        assert len({label.dash for label in found}) == 4


class TestProgram:
    @pytest.mark.parametrize(
        ("ending", "start"), [(".html", b"<!DOCTYPE html>"), (".png", b"\x89PNG"), (".svg", b"<svg")]
    )
    def test_it_writes_what_the_name_says(self, ladder: Path, tmp_path: Path, ending: str, start: bytes) -> None:
        """A chart's module writes a page, a picture or a drawing."""
        out = tmp_path / f"chart{ending}"
        module = importlib.import_module("analysis.failures_by_cause")
        main(module, [*(run.run for run in list_runs(ladder)), "--store", str(ladder), "-o", str(out)])
        assert out.read_bytes().startswith(start)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["latest", "-o", "a.gif"], "'.gif'"),
            (["nobody"], "no run 'nobody'"),
            (["latest", "-o", "nowhere/a.html"], "nowhere"),
            (["latest", "--store", "none"], "no run"),
            (["latest", "--store", "damaged"], "the log is damaged"),
        ],
    )
    def test_mistakes_are_explained(
        self, ladder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        arguments: list[str], message: str,
    ) -> None:  # fmt: skip
        """What cannot be done ends with status 2 and one line on standard error."""
        monkeypatch.chdir(tmp_path)
        for segment in write_run(tmp_path / "damaged").log.glob("*/*.ndjson"):
            segment.write_bytes(segment.read_bytes().replace(b'":', b'";', 9))
        with pytest.raises(SystemExit) as ended:
            main(importlib.import_module("analysis.time_per_stage"), ["--store", str(ladder), *arguments])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
