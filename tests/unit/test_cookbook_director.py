"""The recipes about what only the director sees, each answered a second time by plain Python over the events."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any

import msgspec
import pytest

from eventflow.event import StoredEvent
from eventflow.log.cookbook import RECIPES
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder
from eventflow.log.sql import query
from tests.directed_log import write_directed_run
from tests.synthetic_log import START_NS, write_run

Row = dict[str, Any]


@pytest.fixture(scope="module")
def directed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of the director, and a newer one of a stage that sees no connections."""
    store = tmp_path_factory.mktemp("directed") / "store"
    folder = write_directed_run(store)
    write_run(store, "serial", requests=5, start_ns=START_NS + 60_000_000_000)
    return folder


def serve(directed: RunFolder, name: str) -> list[tuple[Any, ...]]:
    """The rows that a recipe gives over the store of that run."""
    (statement,) = (recipe.statement for recipe in RECIPES if recipe.name == name)
    return list(query(directed.path.parent, statement))


def retold(folder: RunFolder) -> Iterator[list[tuple[StoredEvent, Row]]]:
    """The stories of a run, each in order."""
    stories: dict[str, list[tuple[StoredEvent, Row]]] = defaultdict(list)
    for event in sorted(read_events(folder.log), key=lambda event: event.version):
        stories[event.stream].append((event, msgspec.json.decode(event.data)))
    yield from stories.values()


class TestRecipes:
    def test_why_retried(self, directed: RunFolder) -> None:
        """Each failure that another attempt followed, by host and cause; redirects are none."""
        found: dict[tuple[Any, ...], list[tuple[int, float, bool, str]]] = defaultdict(list)
        for number, story in enumerate(retold(directed)):
            host, failed = "", None
            is_completed = story[-1][0].type == "request.completed"
            for event, data in story:
                if event.type == "attempt.started":
                    host = data["server_address"]
                    if failed is not None:
                        cause, message, ended = failed
                        found[cause].append((number, (event.time - ended) / 1e9, is_completed, message))
                    failed = None
                elif event.type == "attempt.failed":
                    failed = (host, data["error"], data.get("status")), data["message"], event.time
        expected = [
            (
                *cause,
                len(retries),
                pytest.approx(median(waited for _, waited, _, _ in retries), abs=2e-6),
                len({number for number, *_ in retries}),
                len({number for number, _, is_completed, _ in retries if is_completed}),
                min(message for *_, message in retries),
            )
            for cause, retries in sorted(found.items(), key=lambda item: (-len(item[1]), str(item[0])))
        ]
        rows = serve(directed, "why-retried")
        assert rows == expected
        assert len(rows) == 5

    def test_slow_connections(self, directed: RunFolder) -> None:
        """The medians of each step, how many were opened and kept; last the hosts that no connection was made to."""
        steps: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        kept: Counter[str] = Counter()
        refused = 0
        for story in retold(directed):
            host = ""
            for event, data in story:
                host = data.get("server_address", host)
                kept[host] += event.type == "connection.taken"
                refused += data.get("error") == "ConnectRefused"
                if event.type == "connection.opened":
                    steps[host].append((data["dns_seconds"], data["connect_seconds"], data["tls_seconds"]))
        expected = [
            (host, 443, len(took), kept[host], *map(median, zip(*took, strict=True)), max(map(sum, took)), 0)
            for host, took in sorted(steps.items(), key=lambda item: -median(map(sum, item[1])))
        ]
        rows = serve(directed, "slow-connections")
        assert rows[:2] == [pytest.approx(row, abs=6e-5) for row in expected]
        assert rows[2:] == [("c.example.org", 443, 0, 0, None, None, None, None, refused)]
        assert [row[0] for row in rows[:2]] == ["b.example.org", "a.example.org"]

    def test_limit_moves(self, directed: RunFolder) -> None:
        """Each change of each process's limit, of the newest run that has limits, from the first one on."""
        changes = []
        for story in retold(directed):
            before = 0
            for event, data in story:
                if event.type == "limit.changed":
                    changes.append((event.time, data, data["limit"] - before))
                    before = data["limit"]
        began = min(time for time, _, _ in changes)
        expected = [
            (
                data["origin"],
                pytest.approx((time - began) / 1e9, abs=2e-6),
                change,
                data["limit"],
                1,
                data["latency_seconds"],
            )
            for time, data, change in sorted(changes, key=lambda item: (item[1]["origin"], item[0]))
        ]
        rows = serve(directed, "limit-moves")
        assert len(rows) == 40
        assert rows == expected


def test_redirects_are_no_retries(directed: RunFolder) -> None:
    """Of a host count the attempts that were to bring the file; one that only sends on is never asked again."""
    tried: dict[tuple[str, int], list[str]] = defaultdict(list)
    for number, story in enumerate(retold(directed)):
        hosts = {event.span_id: data["server_address"] for event, data in story if event.type == "attempt.started"}
        for event, _ in story:
            if event.type in ("attempt.completed", "attempt.failed"):
                tried[hosts[event.span_id], number].append(event.type)
    retries: Counter[str] = Counter()
    for (host, _), ends in tried.items():
        retries[host] += len(ends) - 1
    rows = serve(directed, "retries-per-host")
    assert {row[0]: row[2] for row in rows if row[0] in retries} == retries
