"""Every recipe's answer is computed a second time, by plain Python over the events, and must be the same."""

import itertools
import re
import runpy
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import msgspec
import pytest

from eventflow.log.cookbook import RECIPES, Recipe
from eventflow.log.format import encode_events
from eventflow.log.layout import segment_paths
from eventflow.log.reader import read_events
from eventflow.log.runs import create_run, list_runs
from eventflow.log.segment import LogWriter
from eventflow.log.sql import connect, query
from eventflow.recorder import Recorder
from eventflow.sources import SeededSources
from eventflow.vocabulary import RecorderDropped
from tests.retelling import AttemptFacts, RunFacts
from tests.synthetic_log import START_NS, resume_run, write_run

DOCUMENT = Path(__file__).parents[2] / "docs" / "cookbook.md"
Row = dict[str, Any]


def hosts(number: int) -> str:
    """Requests go to three hosts in turn."""
    return f"https://{'abc'[number % 3]}.example.org/set/{number}.bin"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs: one of a worker, one stopped and resumed, one killed, and two to compare, the last of 3 seconds."""
    store = tmp_path_factory.mktemp("cookbook") / "store"
    minute = 60_000_000_000
    write_run(store, "serial", requests=40, failure_share=0.3, urls=hosts)
    resumed = write_run(store, "threads", failure_share=0.4, stop_seconds=0.2, start_ns=START_NS + minute, urls=hosts)
    resume_run(resumed, failure_share=0.3, start_ns=START_NS + 2 * minute, urls=hosts)
    killed = {"stop_seconds": 0.2, "killed": True}
    write_run(store, "threads", seed=2, start_ns=START_NS + 3 * minute, urls=hosts, **killed)
    write_run(store, "loop", requests=60, failure_share=0.2, start_ns=START_NS + 4 * minute, urls=hosts)
    write_run(store, "threads", seed=4, requests=1000, start_ns=START_NS + 5 * minute, urls=hosts)
    return store


@pytest.fixture(scope="module")
def facts(store: Path) -> list[RunFacts]:
    """What the events of each run say, the newest last."""
    return [RunFacts(folder) for folder in list_runs(store)]


@pytest.fixture(scope="module")
def connection(store: Path) -> duckdb.DuckDBPyConnection:
    """One connection to the store for all recipes."""
    return connect(store)


Cook = Callable[[str], list[Row]]


@pytest.fixture(scope="module")
def cook(connection: duckdb.DuckDBPyConnection) -> Cook:
    """The rows that a recipe gives."""
    statements = {recipe.name: recipe.statement for recipe in RECIPES}

    def rows(name: str) -> list[Row]:
        answer = query(connection, statements[name])
        return [dict(zip(answer.columns, row, strict=True)) for row in answer]

    return rows


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies, between the two nearest in proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below, rest = int(place), place % 1
    return ordered[below] + rest * (ordered[min(below + 1, len(ordered) - 1)] - ordered[below])


def in_seconds(moment: datetime) -> int:
    """Whole seconds since 1970."""
    return int(moment.timestamp())


class TestRecipes:
    def test_slowest_hosts(self, cook: Cook, facts: list[RunFacts]) -> None:
        """For each host the percentiles of the time to the first byte, and its failures, slowest first."""
        answers: dict[str, list[float]] = defaultdict(list)
        failed: Counter[str] = Counter()
        for attempt in (attempt for run in facts for attempt in run.attempts()):
            failed[attempt.host] += attempt.state == "failed"
            if attempt.response is not None:
                answers[attempt.host].append(attempt.response)
        expected = [
            (host, len(took), median(took), quantile(took, 0.95), max(took), failed[host])
            for host, took in sorted(answers.items(), key=lambda item: -quantile(item[1], 0.95))
        ]
        assert [tuple(row.values()) for row in cook("slowest-hosts")] == [
            pytest.approx(row, abs=6e-5) for row in expected
        ]

    def test_slowest_requests(self, cook: Cook, facts: list[RunFacts]) -> None:
        """The ten requests with the most seconds, and the parts of their last attempt."""
        found = []
        for run in facts:
            for number, request in run.requests.items():
                if "seconds" in request.data:
                    last = max(request.attempts.values(), key=lambda attempt: attempt.started_ns)
                    parts = (last.response, last.body)
                    other = request.data["seconds"] - sum(part or 0 for part in parts)
                    found.append((request.data["seconds"], run.run, number, request.state, *parts, other))
        expected = sorted(found, key=lambda row: -row[0])[:10]
        columns = ("seconds", "run", "number", "state", "response_seconds", "body_seconds", "other_seconds")
        rows = [tuple(row[name] for name in columns) for row in cook("slowest-requests")]
        assert rows == [pytest.approx(row) for row in expected]

    def test_first_byte(self, cook: Cook, facts: list[RunFacts]) -> None:
        """Percentiles of the time to the first byte of each run."""
        expected = []
        for run in facts:
            took = [attempt.response for attempt in run.attempts() if attempt.response is not None]
            shares = (quantile(took, share) for share in (0.5, 0.9, 0.99, 0.999))
            expected.append((run.run, run.stage, len(took), *shares, max(took)))
        assert [tuple(row.values()) for row in cook("first-byte")] == [pytest.approx(row) for row in expected]

    def test_where_time_goes(self, cook: Cook, facts: list[RunFacts]) -> None:
        """The sums of what the requests of each run waited for, and the rest."""
        rows = cook("where-time-goes")
        for run, row in zip(facts, rows, strict=True):
            response = sum(attempt.response or 0 for attempt in run.attempts())
            body = sum(attempt.body or 0 for attempt in run.attempts())
            worked = sum(request.data.get("seconds", 0) for request in run.requests.values())
            queued = sum(request.wait or 0 for request in run.requests.values())
            expected = [queued, response, body, max(0, worked - response - body)]
            assert (row["run"], row["stage"]) == (run.run, run.stage)
            assert list(row.values())[2:] == pytest.approx(expected)

    def test_critical_path(self, cook: Cook, facts: list[RunFacts]) -> None:
        """The chain of latest causes of the slowest request of the newest run, each with the time since its cause."""
        run = facts[-1]
        slowest = max(
            (number for number, request in run.requests.items() if request.state == "completed"),
            key=lambda number: run.requests[number].data["seconds"],
        )
        story = {event.id: event for event in run.events if event.stream == f"request-{slowest}"}
        path = [max(story.values(), key=lambda event: event.version)]
        while causes := [story[link.id] for link in path[0].links if link.id in story]:
            path.insert(0, max(causes, key=lambda event: event.version))
        rows = cook("critical-path")
        assert [row["type"] for row in rows] == [event.type for event in path]
        assert [row["at_seconds"] for row in rows] == [(event.time - path[0].time) / 1e9 for event in path]
        waits = [(after.time - before.time) / 1e9 for before, after in itertools.pairwise(path)]
        assert [row["waited_seconds"] for row in rows] == [None, *waits]
        assert [row["waited_since"] for row in rows] == [None, *(event.type for event in path[:-1])]
        assert len(path) == 9

    def test_error_causes(self, cook: Cook, facts: list[RunFacts]) -> None:
        """How many requests of each stage failed for which cause, the most frequent first."""
        counts: Counter[tuple[str, str]] = Counter()
        examples: dict[tuple[str, str], list[str]] = defaultdict(list)
        for run in facts:
            for request in run.requests.values():
                if request.state == "failed":
                    counts[run.stage, request.data["error"]] += 1
                    examples[run.stage, request.data["error"]].append(request.data["message"])
        failures = Counter(stage for stage, _ in counts.elements())
        expected = sorted(
            (
                (stage, error, count, round(100 * count / failures[stage], 1), min(examples[stage, error]))
                for (stage, error), count in counts.items()
            ),
            key=lambda row: (row[0], -row[2], row[1]),
        )
        assert [tuple(row.values()) for row in cook("error-causes")] == expected
        assert len(expected) > 5

    def test_retries_per_host(self, cook: Cook, facts: list[RunFacts]) -> None:
        """Every attempt after the first of a request is a retry of its host."""
        tried: dict[str, list[list[AttemptFacts]]] = defaultdict(list)
        for request in (request for run in facts for request in run.requests.values() if request.attempts):
            attempts = list(request.attempts.values())
            tried[attempts[0].host].append(attempts)
        expected: list[Row] = []
        for host, requests in tried.items():
            succeeded = [any(attempt.state == "completed" for attempt in attempts) for attempts in requests]
            expected.append(
                {
                    "host": host,
                    "requests": len(requests),
                    "retries": sum(len(attempts) - 1 for attempts in requests),
                    "most_attempts": max(map(len, requests)),
                    "rescued": sum(ok for ok, attempts in zip(succeeded, requests, strict=True) if len(attempts) > 1),
                    "never_succeeded": succeeded.count(False),
                }
            )
        assert cook("retries-per-host") == sorted(expected, key=lambda row: (-row["retries"], row["host"]))
        assert min(row["rescued"] for row in expected) > 0

    def test_in_flight(self, cook: Cook, facts: list[RunFacts]) -> None:
        """At the end of each second, the requests that had begun and not ended, counted one by one."""
        times = [request.times for request in facts[-1].requests.values()]
        rows = cook("in-flight")
        assert [in_seconds(row["second"]) for row in rows] == sorted(
            {time[kind] // 10**9 for time in times for kind in ("started", "ended")}
        )
        assert len(rows) > 2
        for row in rows:
            end = (in_seconds(row["second"]) + 1) * 10**9
            assert row["in_flight"] == sum(time["started"] < end <= time["ended"] for time in times)
            assert row["begun"] == sum(end - 10**9 <= time["started"] < end for time in times)
            assert row["ended"] == sum(end - 10**9 <= time["ended"] < end for time in times)

    def test_throughput(self, cook: Cook, facts: list[RunFacts]) -> None:
        """The files and bytes that were finished in each second of the newest run."""
        requests: Counter[int] = Counter()
        sizes: Counter[int] = Counter()
        for request in facts[-1].completed():
            requests[request.times["ended"] // 10**9] += 1
            sizes[request.times["ended"] // 10**9] += request.data["bytes"]
        rows = [(in_seconds(row["second"]), row["completed"], row["bytes_per_second"]) for row in cook("throughput")]
        assert rows == [(second, requests[second], sizes[second]) for second in sorted(requests)]

    def test_memory_peak(self, cook: Cook, facts: list[RunFacts]) -> None:
        """The requests that had begun and not ended when the largest sample of their run was taken."""
        expected = set()
        for run in facts:
            peak = max(memory for _, memory in run.samples)
            (time,) = (time for time, memory in run.samples if memory == peak)
            expected |= {
                (run.run, peak, number)
                for number, request in run.requests.items()
                if request.times.get("started", time) < time < request.times.get("ended", time + 1)
            }
        rows = cook("memory-peak")
        assert {(row["run"], row["memory_bytes"], row["number"]) for row in rows} == expected
        assert len(rows) == len(expected) > 20
        for row in rows:
            (run,) = (run for run in facts if run.run == row["run"])
            begun = run.requests[row["number"]].times["started"]
            assert row["running_seconds"] == pytest.approx(row["peaked_at"].timestamp() - begun / 1e9, abs=2e-6)

    def test_still_running(self, cook: Cook, facts: list[RunFacts]) -> None:
        """What was in flight when a run was killed, and for how long."""
        (killed,) = (run for run in facts if run.state == "unfinished")
        until = max(time for request in killed.requests.values() for time in request.times.values())
        expected = {
            number: (until - request.times["started"]) / 1e9
            for number, request in killed.requests.items()
            if request.state == "started"
        }
        rows = cook("still-running")
        assert {row["run"] for row in rows} == {killed.run}
        assert {row["number"]: row["running_seconds"] for row in rows} == pytest.approx(expected, abs=2e-6)
        assert len(expected) == 16

    def test_who_caused_this_file(self, cook: Cook, facts: list[RunFacts]) -> None:
        """Following every link back from the last file of the newest run gives the same events, the start included."""
        run = facts[-1]
        by_id = {event.id: event for event in run.events}
        stored = [event for event in run.events if event.type == "file.stored"]
        waiting = [max(stored, key=lambda event: event.time)]
        found = set()
        while waiting:
            event = waiting.pop()
            found.add((event.stream, event.version, event.type))
            waiting += [by_id[link.id] for link in event.links]
        rows = cook("who-caused-this-file")
        assert {(row["stream"], row["version"], row["type"]) for row in rows} == found
        assert (len(rows), rows[-1]["type"]) == (len(found), "run.started")
        assert [row["time"] for row in rows] == sorted((row["time"] for row in rows), reverse=True)

    def test_compare_two_runs(self, cook: Cook, facts: list[RunFacts]) -> None:
        """The measures of the newest run and the one before it, and how many times as much."""
        measures = []
        for run in facts[-2:]:
            took = [request.data["seconds"] for request in run.completed()]
            times = [event.time for event in run.events]
            failed = sum(request.state == "failed" for request in run.requests.values())
            end = msgspec.json.decode(next(event.data for event in run.events if event.type == "run.completed"))
            size = sum(request.data["bytes"] for request in run.completed())
            assert end["seconds"] == pytest.approx((max(times) - min(times)) / 1e9, rel=0.001)
            measures.append(
                [
                    len(took), failed, end["seconds"], len(took) / end["seconds"], median(took), quantile(took, 0.99),
                    size, max(memory for _, memory in run.samples), sum(run.cpu_by_writer.values()),
                ]
            )  # fmt: skip
        rows = cook("compare-two-runs")
        assert [row["earlier"] for row in rows] == pytest.approx(measures[0])
        assert [row["later"] for row in rows] == pytest.approx(measures[1])
        assert [row["ratio"] for row in rows] == pytest.approx([b / a for a, b in zip(*measures, strict=True)])

    def test_cost_per_stage(self, cook: Cook, facts: list[RunFacts]) -> None:
        """What the runs of each stage took, divided by what they completed."""
        rows = {row["stage"]: row for row in cook("cost-per-stage")}
        assert set(rows) == {run.stage for run in facts}
        for stage, row in rows.items():
            runs = [run for run in facts if run.stage == stage]
            completed = sum(len(run.completed()) for run in runs)
            cpu = sum(sum(run.cpu_by_writer.values()) for run in runs)
            assert (row["runs"], row["completed"]) == (len(runs), completed)
            assert row["cpu_seconds_each"] == pytest.approx(cpu / completed)
            assert row["peak_memory_bytes"] == max(memory for run in runs for _, memory in run.samples)
        (serial,) = (run for run in facts if run.stage == "serial")
        seconds = max(event.time for event in serial.events) - min(event.time for event in serial.events)
        assert rows["serial"]["seconds_each"] * len(serial.completed()) == pytest.approx(seconds / 1e9, rel=0.001)
        peak = max(memory for _, memory in serial.samples)
        assert rows["serial"]["byte_seconds_each"] == pytest.approx(rows["serial"]["seconds_each"] * peak)


class TestEventsLost:
    def test_nothing_is_lost(self, cook: Cook, facts: list[RunFacts]) -> None:
        """The log is counted whole: no place is missing."""
        expected = [
            {
                "run": run.run,
                "writers": len({event.writer for event in run.events}),
                "events": len(run.events),
                "stories": len({event.stream for event in run.events}),
                "missing_in_writers": 0,
                "missing_in_stories": 0,
                "dropped": 0,
            }
            for run in facts
        ]
        assert cook("events-lost") == expected

    def test_what_is_missing_is_counted(self, tmp_path: Path) -> None:
        """Events that are not there, in a story or a writer's log, and those that a recorder gave up are counted."""
        store = tmp_path / "store"
        folder = write_run(store, "serial", requests=3)
        events = list(read_events(folder.log))
        (segment,) = segment_paths(folder.log)
        segment.unlink()
        kept = [event for event in events if event.seq not in {7, 8, 20}]
        writer = LogWriter(folder.log, folder.run, "b")
        writer.append(encode_events(kept), len(kept))  # type: ignore[arg-type]
        writer.close()
        with Recorder(create_run(store, stage="x", sources=SeededSources(5, START_NS * 2)).log, "x") as recorder:
            span = recorder.open_stream("run")
            for count in (3, 4):
                span.record(RecorderDropped(count=count))
        (statement,) = (recipe.statement for recipe in RECIPES if recipe.name == "events-lost")
        rows = [row[4:] for row in query(store, statement)]
        assert rows == [(3, 3, 0), (0, 0, 7)]


class TestBook:
    def test_every_file_is_a_recipe(self) -> None:
        """Each file in `recipes/` is in the book, under its name, with a question and a comment on what to change."""
        names = {Path(entry.name).stem for entry in files("eventflow.log").joinpath("recipes").iterdir()}
        assert names == {recipe.name for recipe in RECIPES}
        assert len(names) >= 12
        for recipe in RECIPES:
            assert recipe.question.endswith("?")
            assert recipe.statement.startswith("-- ")
            assert not recipe.statement.endswith(";")

    def test_every_recipe_is_tested(self) -> None:
        """There is a test above for each recipe, or beside this file for what only the director sees."""
        beside = Path(__file__).with_name("test_cookbook_director.py").read_text(encoding="utf-8")
        names = [*dir(TestRecipes), *re.findall(r"^    def (test_\w+)", beside, re.MULTILINE)]
        tests = {name.removeprefix("test_").replace("_", "-") for name in names if name.startswith("test_")}
        assert tests | {"events-lost"} == {recipe.name for recipe in RECIPES}

    @pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
    def test_an_empty_store_gives_no_error(self, tmp_path: Path, recipe: Recipe) -> None:
        """A recipe may be asked of a store without runs."""
        rows = list(query(tmp_path, recipe.statement))
        assert rows == []

    def test_the_document_is_made_of_it(self) -> None:
        """docs/cookbook.md is what docs/make_pages.py makes; after a change, run it."""
        made = runpy.run_path(str(DOCUMENT.parent / "make_pages.py"))["pages"]()
        assert DOCUMENT.read_text(encoding="utf-8") == made[DOCUMENT]
