"""SQL and OTLP give the same numbers of the same runs: real ones of several stages, and a resumed one.

OTLP is looked at as it is sent, encoded by the SDK; SQL as a user asks.
"""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, list_runs
from eventflow.log.sql import query
from eventflow.origin.launch import start_origin
from eventflow.origin.settings import Fault, OriginSettings
from instrumentation.measures.instruments import TABLE
from instrumentation.otlp.metric_settings import MetricSettings
from tests.otlp_numbers import Numbers, of, sent_numbers, value_of
from tests.synthetic_log import resume_run, write_run

SETTINGS = OriginSettings(
    files=40,
    size=20_000,
    size_spread=0.5,
    latency_s=0.002,
    faults=dict.fromkeys((Fault.RESET, Fault.UNAVAILABLE, Fault.SHORT_BODY, Fault.WRONG_BYTES), 0.05),
    seed=2,
)
STAGES = ("serial", "processes", "subprocess", "director", "resumed")
LEVELS = {instrument.name for instrument in TABLE if instrument.kind in {"gauge", "up_down_counter"}}
NEAR = 1e-9


class Both:
    """A run, as OTLP shows it in the end, and as SQL does."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.events = list(read_events(folder.log))
        self.numbers: Numbers = {}
        for sent in sent_numbers(folder.info(), self.events, MetricSettings(interval_seconds=0.5)):
            counted = {place: value for place, value in self.numbers.items() if place[1] not in LEVELS}
            self.numbers = counted | sent  # of a process that ended, what it counted

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """What SQL says."""
        answer = query(self.folder, statement)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows()]

    def row(self, view: str) -> dict[str, Any]:
        """The only row of a view."""
        (row,) = self.rows(f"FROM {view}")
        return row


@pytest.fixture(scope="module", params=STAGES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """One run of one stage, against a server with faults."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "resumed":
        run = write_run(folder / "store", "processes", stop_seconds=0.9, killed=True)
        resume_run(run)
        yield Both(run)
        return
    with start_origin(SETTINGS) as origin:
        (folder / "urls.tsv").write_text(
            "".join(f"{entry.url}\t{entry.name}\t{entry.sha256}\n" for entry in origin.entries())
        )
        command = [sys.executable, "-m", "eventflow", "run", request.param, "--input", str(folder / "urls.tsv")]
        command += ["--out", str(folder / "files"), "--store", str(folder / "store"), "--timeout", "5s", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1, done.stderr
    (run,) = list_runs(folder / "store")
    yield Both(run)


def test_the_run_is_the_same(both: Both) -> None:
    """View `runs`: requests by state, bytes, events, CPU time, the greatest memory, energy and where it is from."""
    run, numbers = both.row("runs"), both.numbers
    by_state = {key[0][1]: value for key, value in of(numbers, "eventflow.requests").items()}
    in_view = {row["state"]: row["n"] for row in both.rows("SELECT state, count(*) AS n FROM requests GROUP BY state")}
    assert {state: count for state, count in by_state.items() if count} == in_view
    assert sum(by_state.values()) == run["requests"]
    assert (by_state["completed"], by_state["failed"]) == (run["completed"], run["failed"])
    assert by_state["failed"] > 0
    assert value_of(numbers, "eventflow.files.size") == run["bytes"]
    assert value_of(numbers, "eventflow.events") == run["events"] == len(both.events)
    assert value_of(numbers, "eventflow.events.lost") == 0
    assert value_of(numbers, "eventflow.run.cpu.time") == pytest.approx(run["cpu_seconds"], rel=NEAR)
    assert value_of(numbers, "eventflow.run.memory.peak") == run["peak_memory_bytes"]
    assert value_of(numbers, "eventflow.run.energy", kind=run["energy_kind"]) == pytest.approx(
        run["energy_joules"], rel=NEAR
    )
    assert value_of(numbers, "eventflow.run.workers") == run["workers"]


def test_the_last_sample_is_the_same(both: Both) -> None:
    """View `samples`: memory, processes, threads and open files of the last one."""
    sample, numbers = both.rows("FROM samples ORDER BY time DESC LIMIT 1")[0], both.numbers
    assert value_of(numbers, "eventflow.run.memory.usage", kind=sample["memory_kind"]) == sample["memory_bytes"]
    for column, name in (("processes", "processes"), ("threads", "threads"), ("descriptors", "file_descriptors")):
        assert value_of(numbers, f"eventflow.run.{name}") == sample[column]


def test_the_usage_is_the_same(both: Both) -> None:
    """View `usage`: what the kernel accounted for, over all sittings."""
    usage, numbers = both.row("usage"), both.numbers
    expected = {
        ("cpu.accounted", "user"): "user_seconds",
        ("cpu.accounted", "system"): "system_seconds",
        ("context_switches", "voluntary"): "voluntary_switches",
        ("context_switches", "involuntary"): "involuntary_switches",
        ("paging.faults", "major"): "major_faults",
        ("disk.io", "read"): "disk_read_bytes",
        ("disk.io", "write"): "disk_written_bytes",
        ("network.io", "receive"): "network_received_bytes",
        ("network.io", "transmit"): "network_sent_bytes",
    }
    found = {place: value_of(numbers, f"eventflow.run.{place[0]}", kind=place[1]) for place in expected}
    assert found == {place: pytest.approx(usage[column], rel=NEAR) for place, column in expected.items()}
    assert value_of(numbers, "eventflow.run.sampling.time") == pytest.approx(usage["sampling_seconds"], rel=NEAR)


def test_the_measurements_are_the_same(both: Both) -> None:
    """View `metrics`, by process: the sums of counters and histograms, and the histograms' counts and buckets."""
    rows = both.rows("""
        SELECT writer, name, kind, attributes, sum(count) AS count, sum(sum) AS sum, list(buckets) AS buckets,
            any_value(boundaries) AS boundaries
        FROM metrics GROUP BY writer, name, kind, attributes
    """)
    assert rows
    for row in rows:
        place = (row["writer"], row["name"], tuple(sorted(dict(row["attributes"]).items())))
        if row["kind"] == "histogram":
            buckets = tuple(map(sum, zip(*row["buckets"], strict=True)))
            count, total, sent_buckets, boundaries = both.numbers[place]
            assert (count, sent_buckets, boundaries) == (row["count"], buckets, tuple(row["boundaries"]))
            assert total == pytest.approx(row["sum"], rel=NEAR)
        else:
            assert both.numbers[place] == pytest.approx(row["sum"], rel=NEAR)


def test_the_attempts_are_the_same(both: Both) -> None:
    """Views `attempts` and `origins`: outcomes, none in flight, retries, the last limit and openings of the breaker."""
    numbers = both.numbers
    states = {row["state"]: row["n"] for row in both.rows("SELECT state, count(*) AS n FROM attempts GROUP BY state")}
    for state in ("completed", "failed", "redirected"):
        assert value_of(numbers, "eventflow.attempts", outcome=state) == states.get(state, 0)
    (received,) = both.rows("SELECT coalesce(sum(bytes), 0) AS n FROM attempts")
    assert value_of(numbers, "eventflow.body.received") >= received["n"] > 0
    assert value_of(numbers, "http.client.active_requests") == 0
    for origin in both.rows("FROM origins"):
        named = {"address": origin["server_address"], "port": str(origin["server_port"])}
        assert value_of(numbers, "eventflow.origin.limit", **named) == (origin["limit_last"] or 0)
        assert value_of(numbers, "eventflow.origin.breaker.openings", **named) == origin["breaker_openings"]
    (retries,) = both.rows("""
        SELECT count(*) FILTER (before = 'failed' AND resend_count > 0) AS n
        FROM (SELECT resend_count, lag(state) OVER (PARTITION BY stream ORDER BY started_at, resend_count) AS before
            FROM attempts)
    """)
    assert value_of(numbers, "eventflow.retries") == retries["n"]
    if "resumed" not in str(both.folder.path):  # to go on with a request in another sitting is no retry here
        assert retries == both.rows("SELECT sum(retries)::BIGINT AS n FROM origins")[0]


def test_deltas_add_up_to_the_same(both: Both) -> None:
    """What is sent with delta is, summed up, what is sent cumulatively in the end: counters and histograms."""
    added: dict[Any, Any] = {}
    settings = MetricSettings(interval_seconds=0.1, temporality="delta")
    for sent in sent_numbers(both.folder.info(), both.events, settings):
        for place, value in sent.items():
            added[place] = added.get(place, 0) + (value[1] if isinstance(value, tuple) else value)
    counters = {instrument.name for instrument in TABLE if instrument.kind in {"counter", "histogram"}}
    expected = {
        place: value[1] if isinstance(value, tuple) else value
        for place, value in both.numbers.items()
        if place[1] in counters
    }
    assert {place: value for place, value in added.items() if place[1] in counters} == {
        place: pytest.approx(value, rel=1e-6) for place, value in expected.items()
    }


def test_every_instrument_is_in_the_table(both: Both) -> None:
    """Whatever a run of eventflow's own sends is documented."""
    names = {name for _, name, _ in both.numbers} - {"pages.made"}
    assert names <= {instrument.name for instrument in TABLE}
    assert len(names) > 20
