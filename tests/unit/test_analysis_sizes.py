"""Charts and words about runs of several sizes."""

import itertools
import random
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from analysis import explore, memory, scaling, speed, tradeoff
from analysis.about_sizes import about_sizes
from analysis.fitting import Interval, fit
from analysis.pareto import front
from analysis.placing import PLACES, WIDTHS, Dot, _box, place_names
from analysis.sizes import largest_common, representatives, sized, typical
from eventflow.log.sql import connect
from tests.synthetic_log import START_NS, write_run

SIZES = (1, 4, 16, 64)
STAGES = ("serial", "threads", "loop")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of three stages with four sizes, one of which was interrupted; serial was not run with the largest."""
    store = tmp_path_factory.mktemp("sweep") / "store"
    moments = itertools.count(START_NS, 10**10)
    for size, seed, stage in itertools.product(SIZES, (1, 2, 3), STAGES):
        if (size, stage) != (64, "serial"):
            write_run(store, stage, requests=size, seed=seed, failure_share=0.0, start_ns=next(moments))
    write_run(store, "loop", requests=64, seed=9, stop_seconds=0.08, start_ns=next(moments))
    return store


def row(stage: str, size: int, seconds: float, run: str = "r") -> dict[str, Any]:
    """A row as `sized` gives it."""
    return {"run": run, "label": stage, "stage": stage, "size": size, "seconds": seconds}


def ends(interval: Interval) -> tuple[float, float]:
    """The ends of an interval that has some."""
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


class TestSizes:
    def test_only_whole_runs_count(self, sweep: Path) -> None:
        """A run that was interrupted is in no chart by size; every other run is, as a dot of its stage."""
        with closing(connect(sweep)) as connection:
            labels, rows = sized(connection)
            made = speed.picture(connection)
        assert [label.text for label in labels] == list(STAGES)
        assert len(rows) == len(SIZES) * 9 - 3
        assert made is not None
        dots = next(values for values in made.specification()["datasets"].values() if len(values) > 1)
        assert len(dots) == len(rows)

    def test_the_table_of_sizes(self, sweep: Path) -> None:
        """Beside the chart, a row for each size has the median of each stage and from where to where it goes."""
        with closing(connect(sweep)) as connection:
            made, peaks = speed.picture(connection), memory.picture(connection)
            of_runs = "requests_per_second FROM runs WHERE stage = 'threads' AND requests = 16 AND state = 'completed'"
            rates = sorted(rate for (rate,) in connection.sql(f"SELECT {of_runs}").fetchall())
        assert made is not None
        assert peaks is not None
        assert made.table.head == ("requests / requests per second", *STAGES)
        assert [line[0] for line in made.table.rows] == ["1", "4", "16", "64"]
        assert made.table.rows[2][2] == f"{rates[1]:.0f} ({rates[0]:.0f}–{rates[2]:.0f})"
        assert made.table.rows[3][1] == "–"
        assert "medians at 16 requests: serial" in peaks.seen

    def test_stages_are_compared_at_the_largest_common_size(self) -> None:
        """The common size is the largest that the most stages have."""
        rows = [row("serial", 1, 1), row("loop", 1, 1), row("serial", 10, 9), row("loop", 10, 2), row("loop", 99, 3)]
        assert {stage: there[0]["size"] for stage, there in largest_common(rows).items()} == {"serial": 10, "loop": 10}
        assert largest_common([]) == {}

    def test_the_run_that_stands_for_a_stage(self) -> None:
        """Of each stage, of its largest size, the run in the middle by time; of two, the faster one."""
        rows = [row("loop", 9, seconds, run) for seconds, run in ((3, "c"), (1, "a"), (2, "b"))]
        rows += [row("loop", 1, 0.5, "small"), row("serial", 3, 8, "y"), row("serial", 3, 7, "x")]
        assert representatives(rows) == ["x", "b"]

    def test_typical_rows_are_like_those_of_runs(self, sweep: Path) -> None:
        """The rows of the table are medians, with the columns of a run's row, whole where those are whole."""
        with closing(connect(sweep)) as connection:
            found = typical(sized(connection)[1])
        assert [(made["label"], made["requests"], made["runs"]) for made in found] == [
            ("serial", 16, 3), ("threads", 16, 3), ("loop", 16, 3)
        ]  # fmt: skip
        assert all(isinstance(made["completed"], int) and made["memory"] > 0 for made in found)

    def test_what_is_said(self) -> None:
        """The words name the size of the table, what is missing, which stage was fastest where, and unfinished runs."""
        rows = [row("serial", 1, 1.0), row("loop", 1, 2.0), row("serial", 10, 9.0), row("loop", 10, 2.0)]
        begun = [{"state": "completed", "requests": 1}] * 4 + [
            {"stage": "loop", "run": "r-5", "state": "interrupted", "requests": 5}
        ]
        assert about_sizes([*rows, row("threads", 1, 3.0)], [*begun, {"state": "completed", "requests": 0}]) == [
            "The table has the medians of 1 run of each stage with 1 request.",
            "serial was fastest with few requests, loop from 10 on.",
            "1 run did not come to its end and is in no chart by size: loop r-5 (interrupted).",
            "1 run had no request to carry out.",
        ]
        many = [{"stage": "loop", "run": f"r-{n}", "state": "unfinished", "requests": 5} for n in range(6)]
        assert any(
            said.startswith("6 runs did not come to their end and are in no chart by size: loop r-0 (unfinished), ")
            and said.endswith(", loop r-3 (unfinished) and 2 more.")
            for said in about_sizes(rows, many)
        )
        assert about_sizes(rows[2:], begun[:4]) == [
            "The table has the medians of 1 run of each stage with 10 requests."
        ]
        assert "Not run with 10 requests: mine." in about_sizes([*rows, row("mine", 1, 3.0)][2:], begun[:4])


class TestTradeoff:
    def test_the_front(self) -> None:
        """On the front is what nothing beats: as good in all fields and better in one. Equals are both on it."""
        points = [
            dict(zip("abc", values, strict=True)) for values in ((1, 9, 5), (2, 2, 9), (2, 3, 9), (3, 3, 1), (2, 2, 9))
        ]
        assert front(points, "abc") == [points[0], points[1], points[3], points[4]]
        assert front(points, "ab") == [points[0], points[1], points[4]]
        assert front([{"a": 1, "b": None}, {"a": 2, "b": 1}], "ab") == [{"a": 1, "b": None}]

    def test_dots_and_words(self, sweep: Path) -> None:
        """There is a dot for each stage, with its energy and how that was had; the sentence names the front."""
        with closing(connect(sweep)) as connection:
            made = tradeoff.picture(connection)
        assert made is not None
        assert [line[0] for line in made.table.rows] == list(STAGES)
        assert made.table.head[5:7] == ("energy (J)", "energy is")
        assert {line[6] for line in made.table.rows} == {"modelled"}
        assert "Not beaten: " in made.seen
        assert {line[7] for line in made.table.rows} <= {"nothing beats it", "beaten by another"}

    def test_names_keep_apart(self) -> None:
        """Names of dots near one another do not cover each other, on a narrow page and on a wide one."""
        dots = [
            Dot("director", 0.9, 0.1),
            Dot("lineage", 0.92, 0.12),
            Dot("serial", 0.88, 0.15),
            Dot("loop", 0.02, 0.9),
        ]
        places = place_names(dots, 320)
        for width in WIDTHS:
            boxes = [_box(dot, places[dot.name], width, 320) for dot in dots]
            for one, other in itertools.combinations(boxes, 2):
                assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert places["loop"].side == "right"
        assert set(places.values()) <= set(PLACES)


class TestScaling:
    @pytest.mark.parametrize(("start", "slope", "k"), [(0.3, 0.01, 1.0), (0.0, 0.002, 1.3), (2.0, 0.05, 0.7)])
    def test_what_was_put_in_comes_out(self, start: float, slope: float, k: float) -> None:
        """From times with 3 % noise, the exponent, the start-up and the slope are found, each within its interval."""
        noise = random.Random(4)
        sizes = [size for size in (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000) for _ in range(5)]
        found = fit([(n, (start + slope * n**k) * noise.gauss(1, 0.03)) for n in sizes])
        assert found is not None
        assert found.k.value == pytest.approx(k, abs=0.02)
        low, high = ends(found.k)
        assert low <= found.k.value <= high < low + 0.1
        low, high = ends(found.start_seconds)
        assert low - 0.01 <= start <= high + 0.01
        assert found.slope_seconds.value == pytest.approx(slope * k * 10_000 ** (k - 1), rel=0.1)
        assert (found.runs, found.sizes) == (45, 9)

    def test_more_noise_is_a_wider_interval(self) -> None:
        """The interval says how sure the fit is; the same runs give the same interval."""

        def width(share: float) -> float:
            noise = random.Random(1)
            sizes = [size for size in (1, 10, 100, 1000) for _ in range(3)]
            points = [(size, (0.1 + 0.01 * size) * (1 + noise.uniform(-share, share))) for size in sizes]
            found, again = fit(points), fit(points)
            assert found is not None
            assert found == again
            low, high = ends(found.k)
            return high - low

        assert width(0.3) > 2 * width(0.05)

    @pytest.mark.parametrize("sizes", [(), (10,), (1, 10, 100), (10, 11, 12, 13)])
    def test_too_little_to_tell(self, sizes: tuple[int, ...]) -> None:
        """With fewer than four sizes, or all near one another, nothing is fitted."""
        assert fit([(size, 1.0 + size) for size in sizes]) is None

    @pytest.mark.parametrize("twice", [(), (1, 10, 100)])
    def test_a_size_that_was_run_once(self, twice: tuple[int, ...]) -> None:
        """Where a size was run once, nothing tells how sure the fit is, and no interval is given."""
        points = [(1, 0.07), (10, 0.12), (100, 0.35), (1000, 2.9), *((size, 0.05 + size / 300) for size in twice)]
        found = fit(points)
        assert found is not None
        for interval in (found.k, found.start_seconds, found.slope_seconds):
            assert (interval.low, interval.high) == (None, None)

    @pytest.mark.parametrize("seconds", [(0.072, 0.071, 0.0705, 0.07), (0.07, 0.07, 0.07, 0.07)])
    def test_what_does_not_grow(self, seconds: tuple[float, ...]) -> None:
        """A time that does not grow with the number of requests has no exponent."""
        found = fit(list(zip((1, 3, 10, 30), seconds, strict=True)))
        assert found is not None
        assert not found.grows
        assert found.slope_seconds.value == 0
        made = scaling._row(found)
        assert (made["k"], made["exponent k"]) == (None, "does not grow")
        assert made["said"].endswith(" s, does not grow")
        assert scaling._domain([made]) == pytest.approx([0.95, 1.05])

    @pytest.mark.parametrize(("k", "said"), [(4, "3 or more"), (0.01, "0.1 or less")])
    def test_an_exponent_beyond_what_is_searched(self, k: float, said: str) -> None:
        """An exponent at the end of what is searched is said to be perhaps beyond it."""
        found = fit([(size, size**k) for size in (1, 3, 10, 30)])
        assert found is not None
        assert scaling._exponent(found) == said

    def test_a_sweep_is_fitted_quickly(self) -> None:
        """Seven stages of nine sizes and five repeats, with their intervals, take a few seconds at most."""
        points = [(size, 0.2 + 0.01 * size + repeat / 1000) for size in (1, 3, 10, 30, 100, 300, 1000, 3000, 9999)
                  for repeat in range(5)]  # fmt: skip
        begun = time.process_time()
        for _ in range(7):
            fit(points)
        assert time.process_time() - begun < 8

    def test_the_chart(self, sweep: Path) -> None:
        """There is a line for each stage with enough sizes; the table has the figures with their intervals."""
        with closing(connect(sweep)) as connection:
            made = scaling.picture(connection)
        assert made is not None
        assert [line[0] for line in made.table.rows] == ["threads", "loop"]
        assert "(–)" not in str(made.table.rows)
        assert made.table.head == (
            "stage", "exponent k", "start-up a (s)", "one more request (ms)", "at requests", "runs", "sizes"
        )  # fmt: skip
        assert all("–" in cell for line in made.table.rows for cell in line[1:4])


def test_explore_offers_what_is_known(sweep: Path) -> None:
    """Both axes offer every figure that a run has; one that no run has is not offered."""
    with closing(connect(sweep)) as connection:
        made = explore.picture(connection)
    assert made is not None
    specification = made.specification()
    binds = {one["name"]: one["bind"] for one in specification["params"] if "bind" in one}
    assert binds["across"]["options"] == binds["up"]["options"]
    assert {"requests per second", "peak memory (MiB)", "energy (joules)", "CPU time (seconds)"} <= set(
        binds["up"]["options"]
    )
    assert {"log_across", "log_up"} <= set(binds)
