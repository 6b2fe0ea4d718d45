"""Every stage gives the same answer: the same files, the same outcome for each request, the same story of events.

The stages differ in what they cost and in nothing else. Each runs as a user runs it, `python -m eventflow run`, against
the embedded origin with every kind of fault.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from eventflow.event import StoredEvent
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, list_runs
from eventflow.log.verify import verify_run
from eventflow.origin.content import content
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import Fault, OriginSettings, decide
from eventflow.vocabulary import FileVerified, RequestFailed, decode_payload
from stages.registry import STAGES

FILES = 60
SETTINGS = OriginSettings(
    files=FILES, size=20_000, size_spread=0.5, latency_s=0.002, faults=dict.fromkeys(Fault, 0.04), stall_s=20.0, seed=1
)
ERRORS = {
    Fault.REFUSE: "ConnectRefused",
    Fault.RESET: "ConnectionLost",
    Fault.ERROR: "ServerStatus",
    Fault.UNAVAILABLE: "ServerStatus",
    Fault.STALL: "TimedOut",
    Fault.SHORT_BODY: "ShortBody",
    Fault.WRONG_LENGTH: "ShortBody",
    Fault.WRONG_BYTES: "ChecksumMismatch",
}
BEGIN = ["request.queued", "request.started", "attempt.started"]
GOOD = [
    *BEGIN,
    "attempt.response",
    "attempt.body",
    "attempt.completed",
    "file.verified",
    "file.stored",
    "request.completed",
]
STORIES = {
    None: GOOD,
    Fault.REFUSE: [*BEGIN, "attempt.failed", "request.failed"],
    Fault.RESET: [*BEGIN, "attempt.failed", "request.failed"],
    Fault.ERROR: [*BEGIN, "attempt.response", "attempt.failed", "request.failed"],
    Fault.UNAVAILABLE: [*BEGIN, "attempt.response", "attempt.failed", "request.failed"],
    Fault.STALL: [*BEGIN, "attempt.response", "attempt.failed", "request.failed"],
    Fault.SHORT_BODY: [*BEGIN, "attempt.response", "attempt.failed", "request.failed"],
    Fault.WRONG_LENGTH: [*BEGIN, "attempt.response", "attempt.failed", "request.failed"],
    Fault.WRONG_BYTES: [*GOOD[:6], "request.failed"],
}
# What the director adds, where there was a connection: it sees every state.
DIRECTED = ("director", "lineage")
CONNECTED = ("connection.opened", "connection.taken")
# The span that each event belongs to, as a path from the root.
PLACES = {
    "request.queued": (),
    "request.started": ("queue",),
    "attempt.started": ("attempt",),
    "connection.opened": ("attempt", "connect"),
    "connection.taken": ("attempt",),
    "attempt.sent": ("attempt",),
    "attempt.answering": ("attempt",),
    "attempt.response": ("attempt",),
    "attempt.body": ("attempt", "body"),
    "attempt.completed": ("attempt",),
    "attempt.failed": ("attempt",),
    "file.verified": ("verify",),
    "file.stored": ("store",),
    "process.started": ("program",),
    "process.exited": ("program",),
    "request.completed": (),
    "request.failed": (),
    "request.cancelled": (),
}


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """One server for all stages."""
    with start_origin(SETTINGS) as running:
        yield running


class Result:
    """What a stage left behind."""

    def __init__(self, stage: str, summary: dict[str, Any], status: int, run: RunFolder, out: Path) -> None:
        self.stage, self.summary, self.status, self.run, self.out = stage, summary, status, run, out
        self.stories: dict[str, list[StoredEvent]] = defaultdict(list)
        for event in sorted(read_events(run.log), key=lambda event: event.version):
            self.stories[event.stream].append(event)

    def fault_of(self, number: int) -> Fault | None:
        """What the origin did to the try that counted.

        A kept connection that is reset before a byte of an answer may have been stale: the director sends the request
        once more over a new one.
        """
        fault = fault_of(number)
        types = [event.type for event in self.stories[f"request-{number}"]]
        again = fault is Fault.RESET and self.stage in DIRECTED and "connection.taken" in types
        return decide(SETTINGS, number, 1).fault if again else fault


@pytest.fixture(scope="module", params=list(STAGES))
def result(request: pytest.FixtureRequest, origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One run of one stage."""
    stage = request.param
    folder = tmp_path_factory.mktemp(stage)
    lines = [f"{entry.url}\t{entry.name}\t{entry.sha256}" for entry in origin.entries()]
    lines += ["# a comment", "", f"{origin.url}/nothing-here", "ftp://127.0.0.1/x", "http://no-such-host.invalid/y"]
    (folder / "urls.tsv").write_text("\n".join(lines) + "\n")
    origin.reset()
    command = [
        sys.executable,
        "-m",
        "eventflow",
        "run",
        stage,
        "--input",
        str(folder / "urls.tsv"),
        "--out",
        str(folder / "files"),
        "--store",
        str(folder / "store"),
        "--timeout",
        "1s",
        "--json",
        *(["--retries", "0"] if stage in DIRECTED else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.stderr == ""
    (run,) = list_runs(folder / "store")
    return Result(stage, json.loads(done.stdout), done.returncode, run, folder / "files")


def fault_of(number: int) -> Fault | None:
    """What the origin does to the first try of a file."""
    return decide(SETTINGS, number, 0).fault


def test_the_settings_bring_every_fault() -> None:
    """Otherwise this suite would prove less than it says."""
    assert {fault_of(number) for number in range(FILES)} == {None, *Fault}


def test_the_good_files_are_there_byte_for_byte_and_nothing_else(result: Result) -> None:
    """A file is whole under its name or absent; no temporary file is left."""
    good = [number for number in range(FILES) if result.fault_of(number) is None]
    assert sorted(path.name for path in result.out.rglob("*")) == [f"{number:06}.bin" for number in good]
    for number in good:
        assert (result.out / f"{number:06}.bin").read_bytes() == content(SETTINGS, number)


def test_each_request_has_its_outcome_and_its_own_error(result: Result) -> None:
    """Each cause its own error type, with the URL, what happened and what to do."""
    expected = {number: ERRORS[fault] for number in range(FILES) if (fault := result.fault_of(number))}
    expected |= {FILES: "ClientStatus", FILES + 1: "InvalidRequest", FILES + 2: "NameNotResolved"}
    found = {}
    for number in range(FILES + 3):
        last = decode_payload(result.stories[f"request-{number}"][-1])
        if isinstance(last, RequestFailed):
            found[number] = last.error
            assert "\n" not in last.message
            assert last.message.count(": ") >= 2
    assert found == expected


def test_the_summary_counts_what_happened(result: Result) -> None:
    """As `run --json` promises; exit status 1 because some failed; memory and CPU are measured; no event was lost."""
    summary = result.summary
    good = sum(result.fault_of(number) is None for number in range(FILES))
    assert (summary["requests"], summary["completed"], summary["failed"], summary["cancelled"]) == (
        FILES + 3,
        good,
        FILES + 3 - good,
        0,
    )
    assert summary["bytes"] == sum(
        len(content(SETTINGS, number)) for number in range(FILES) if result.fault_of(number) is None
    )
    assert (result.status, summary["stage"], summary["run"], summary["events_lost"]) == (
        1,
        result.stage,
        result.run.run,
        0,
    )
    assert summary["peak_memory_bytes"] > 20 << 20
    assert summary["cpu_seconds"] > 0.05
    assert summary["events"] == sum(map(len, result.stories.values()))
    assert summary["requests_per_second"] == pytest.approx(good / summary["seconds"])


def test_each_request_tells_the_same_story(result: Result) -> None:
    """The events of a request, in the order of their versions, up to what the stage adds (docs/events.md)."""
    for number in range(FILES):
        events = result.stories[f"request-{number}"]
        expected = list(STORIES[result.fault_of(number)])
        if result.stage == "subprocess" and result.fault_of(number) is None:
            expected[-1:-1] = ["process.started", "process.exited"]
        types = [event.type for event in events]
        if result.stage in DIRECTED:
            types = check_connection(types)
        assert types == expected, number
        assert [event.version for event in events] == list(range(len(events)))


def check_connection(types: list[str]) -> list[str]:
    """The story without what the director adds; a connection is taken or opened before anything is sent over it."""
    added = [kind for kind in types if kind in CONNECTED or kind in ("attempt.sent", "attempt.answering")]
    if "attempt.response" in types:
        sent = added.index("attempt.sent")
        assert set(added[:sent]) <= set(CONNECTED)
        assert added[:sent]
    return [kind for kind in types if kind not in added]


def test_each_story_is_one_trace_whose_spans_nest_and_whose_events_link_back(result: Result) -> None:
    """Each event has its place in the tree of spans and links to the event before it.

    The first to the stage's start.
    """
    (stage_started,) = [event for event in result.stories["run"] if event.type == "stage.started"]
    for number in range(FILES + 3):
        events = result.stories[f"request-{number}"]
        assert len({event.trace_id for event in events}) == 1
        if result.stage == "director":  # states, and no chain
            assert not any(event.links for event in events)
        else:
            assert events[0].links[0].id == stage_started.id
            for before, event in pairwise(events):
                links = event.links[:1] if event.type == "connection.taken" else event.links
                assert [(link.id, link.span_id) for link in links] == [(before.id, before.span_id)]
        root = events[0].span_id
        attempt = next((event.span_id for event in events if event.type == "attempt.started"), None)
        for event in events:
            place = PLACES[event.type]
            assert event.parent_span_id == (None if not place else attempt if len(place) == 2 else root)
        spans = {event.span_id: PLACES[event.type] for event in events}
        assert len(spans) == len(set(spans.values()))


def test_the_run_has_a_beginning_samples_and_an_end(result: Result) -> None:
    """The run's own story; every process of it is known."""
    types = [event.type for event in result.stories["run"]]
    assert types[:3] == ["run.started", "process.started", "stage.started"]
    assert types[-1] == "run.completed"
    assert types.count("stage.completed") == 1
    assert types.count("process.sampled") >= 2
    if result.stage == "processes":
        workers = types.count("process.exited")
        assert workers == STAGES["processes"].workers
        assert sum(stream.startswith("process-") for stream in result.stories) == workers


def test_what_was_verified_is_in_the_log(result: Result) -> None:
    """Size and digest of each good file, and against what they were checked."""
    for number in range(FILES):
        if result.fault_of(number) is None:
            (verified,) = [
                payload
                for event in result.stories[f"request-{number}"]
                if isinstance(payload := decode_payload(event), FileVerified)
            ]
            assert verified.bytes == len(content(SETTINGS, number))
            assert verified.checks == ("size", "sha256")


def test_the_log_is_whole(result: Result) -> None:
    """Each writer's chain holds; nothing is torn."""
    reports = list(verify_run(result.run.log, result.run.run))
    assert [(report.damage, report.torn_bytes) for report in reports] == [(None, 0)] * len(reports)
    assert len(reports) == (1 + STAGES["processes"].workers if result.stage == "processes" else 1)
