"""Charts that look into runs: what they draw is what the log says."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from analysis import gantt, in_flight, latency_phases, memory_per_process, requests_over_time
from analysis.picture import Picture
from analysis.program import draw
from analysis.timed import keep
from eventflow.log.sql import connect
from tests.asking import ask, one
from tests.directed_log import write_directed_run
from tests.synthetic_log import resume_run, write_run

REQUESTS = 900


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run of many requests."""
    made = tmp_path_factory.mktemp("runs") / "store"
    write_run(made, "processes", requests=REQUESTS, failure_share=0.05)
    return made


def picture(store: Path, module: Any) -> Picture:
    """A chart of all runs of a store."""
    with closing(connect(store)) as connection:
        made: Picture | None = module.picture(connection)
    assert made is not None
    return made


def data(store: Path, module: Any) -> Iterator[list[dict[str, Any]]]:
    """The sets of rows that a chart embeds."""
    yield from picture(store, module).specification()["datasets"].values()


def test_what_was_in_flight_adds_up(store: Path) -> None:
    """The area below the line of requests in flight is the time that all requests took together."""
    (rows,) = data(store, in_flight)
    width = rows[1]["seconds"] - rows[0]["seconds"]
    total = one(store, "SELECT sum(epoch_us(ended_at) - epoch_us(started_at)) / 1e6 FROM requests")
    assert sum(row["in_flight"] for row in rows) * width == pytest.approx(total, rel=0.01)
    assert max(row["in_flight"] for row in rows) <= one(store, "SELECT workers FROM runs") + 0.01


def test_the_limit_is_a_line_of_its_own(tmp_path: Path) -> None:
    """Where the director changed its limit, the sum over all origins is drawn, to the end of the run."""
    write_directed_run(tmp_path / "store")
    limits = next(rows for rows in data(tmp_path / "store", in_flight) if "most" in rows[0])
    of_origins = """
        SELECT sum(most) FROM (
            SELECT arg_max((data->>'limit')::BIGINT, time_ns) AS most FROM events WHERE type = 'limit.changed'
            GROUP BY data->>'origin'
        )
    """
    assert limits[-1]["most"] == one(tmp_path / "store", of_origins)
    assert [row["seconds"] for row in limits] == sorted(row["seconds"] for row in limits)


def test_bars_of_requests(store: Path) -> None:
    """Each set has at most 200 requests, one has the slowest, and the steps of a request are in order."""
    rows = [row for rows in data(store, gantt) for row in rows]
    sets: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        sets[row["part"]].add(row["number"])
        assert row["queued"] <= row["begun"] <= row["connected"] <= row["answered"] <= row["read"] <= row["over"] + 1e-6
    assert {name: len(numbers) for name, numbers in sets.items()} == dict.fromkeys(gantt.SETS, 200)
    assert one(store, "SELECT arg_max(number, seconds) FROM requests") in sets["the slowest"]
    assert max(sets["from all of the run"]) - min(sets["from all of the run"]) > REQUESTS * 0.9
    failed = {number for (number,) in ask(store, "SELECT number FROM requests WHERE state = 'failed'")}
    assert {row["number"] for row in rows if row["state"] == "failed"} == failed & set().union(*sets.values())


def test_bars_of_requests_that_were_cut_off(tmp_path: Path) -> None:
    """What a cancelled request was doing when it was cut off goes on to its end: it was not processed meanwhile."""
    store = tmp_path / "store"
    write_run(store, "threads", failure_share=0.0, stop_seconds=0.2)
    rows = {row["number"]: row for rows in data(store, gantt) for row in rows if row["state"] == "cancelled"}
    unfinished = "SELECT number, response_seconds FROM attempts WHERE state = 'unfinished' AND body_seconds IS NULL"
    cut = ask(store, unfinished)
    assert {number for number, _ in cut} <= rows.keys()
    for number, response_seconds in cut:
        row = rows[number]
        assert row["read"] == row["over"]
        assert (row["answered"] < row["over"]) == (response_seconds is not None), number
    assert len(cut) > 3


def test_processes_add_up(store: Path) -> None:
    """The areas of the processes together are the memory of the run at that moment."""
    (rows,) = data(store, memory_per_process)
    sums: dict[float, float] = defaultdict(float)
    for row in rows:
        sums[row["seconds"]] += row["mib"]
    measured = dict(ask(store, "SELECT round(elapsed_seconds, 6), memory_bytes / 1048576 FROM samples"))
    assert 20 < len(sums) <= memory_per_process.POINTS_MAX
    assert all(total == pytest.approx(measured[seconds], rel=0.01) for seconds, total in sums.items())
    assert len({row["process"] for row in rows}) == 5


def test_the_overview_counts_all_requests(store: Path) -> None:
    """The bars count every request; below them are all that failed, the slowest, and some of the others."""
    bars, dots = data(store, requests_over_time)
    assert sum(bar["requests"] for bar in bars) == REQUESTS
    failed = "SELECT count(*) FROM requests WHERE state = 'failed'"
    assert sum(bar["requests"] for bar in bars if bar["outcome"] == "failed") == one(store, failed)
    assert sum(dot["outcome"] == "failed" for dot in dots) == one(store, failed)
    assert one(store, "SELECT arg_max(number, seconds) FROM requests") in {dot["number"] for dot in dots}
    assert all(bar["moment"] < bar["until"] for bar in bars)


def test_cancelled_is_no_failure(tmp_path: Path) -> None:
    """A request that was cancelled in flight is drawn as that and not as failed."""
    write_run(tmp_path / "store", "threads", failure_share=0.0, stop_seconds=0.2)
    bars, dots = data(tmp_path / "store", requests_over_time)
    cancelled = one(tmp_path / "store", "SELECT cancelled FROM runs")
    assert sum(bar["requests"] for bar in bars if bar["outcome"] == "cancelled") == cancelled > 0
    assert {row["outcome"] for rows in (bars, dots) for row in rows} == {"completed", "cancelled"}


def test_phases_are_those_of_the_view(store: Path) -> None:
    """Each phase that was measured has its percentiles, in the order in which a request goes through them."""
    (rows,) = data(store, latency_phases)
    told = ask(store, "SELECT phase, p50_seconds, p99_seconds FROM latencies")
    assert [(row["phase"], row["p50"], row["p99"]) for row in rows] == [
        (phase, pytest.approx(half), pytest.approx(most)) for phase, half, most in told
    ]


def test_a_pause_is_in_no_chart(tmp_path: Path) -> None:
    """The hour between a run and its resume is on no time axis."""
    resume_run(write_run(tmp_path / "store", "threads", stop_seconds=0.2))
    seconds = one(tmp_path / "store", "SELECT seconds FROM runs")
    for module, field in ((in_flight, "seconds"), (gantt, "over"), (requests_over_time, "moment")):
        rows = [row for rows in data(tmp_path / "store", module) for row in rows]
        assert max(row[field] for row in rows) == pytest.approx(seconds, rel=0.1)


@pytest.mark.parametrize("module", [in_flight, gantt, memory_per_process, requests_over_time, latency_phases])
def test_what_is_kept_is_what_was_computed(store: Path, module: Any) -> None:
    """A chart is the same whether the views are computed for it or were kept for all."""
    with closing(connect(store)) as connection:
        keep(connection)
        kept = module.picture(connection)
    assert kept.specification() == picture(store, module).specification()


@pytest.mark.parametrize("module", [gantt, memory_per_process, requests_over_time])
def test_a_picture_of_one_run_says_which(tmp_path: Path, module: Any) -> None:
    """Where one run of several is shown, a drawing says which, since there it cannot be chosen."""
    runs = [write_run(tmp_path / "store", "loop", requests=20, seed=seed).run for seed in (1, 2)]
    draw(module, tmp_path / "store", runs, tmp_path / "chart.svg")
    label = f"loop {min(runs).rpartition('-')[2]}"
    assert f"{module.TITLE}: {label}" in (tmp_path / "chart.svg").read_text(encoding="utf-8")
