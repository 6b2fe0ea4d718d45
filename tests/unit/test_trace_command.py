"""`eventflow trace` as it is called: what it chooses from a run, what names a request, and what programs get."""

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from eventflow.cli.main import main
from eventflow.event import Payload
from eventflow.log.layout import segment_paths
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.seal import seal_run
from eventflow.recorder import Recorder
from eventflow.vocabulary import (
    AttemptStarted,
    RequestCompleted,
    RequestQueued,
    RequestStarted,
    RunStarted,
    StageStarted,
)
from instrumentation.traces import FinishedSpan, read_spans
from tests.directed_log import write_directed_run
from tests.on_terminal import OnTerminal
from tests.synthetic_log import resume_run, write_run


class Ran:
    """The command line, run inside this process, on one store."""

    def __init__(self, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self._capsys, self._monkeypatch = store, capsys, monkeypatch

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        self._monkeypatch.setattr(sys, "argv", ["eventflow", "trace", *arguments, "--store", str(self.store)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = self._capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, out, err

    def shown(self, *arguments: str) -> list[str]:
        """The lines that it prints; there is no error."""
        status, out, err = self(*arguments)
        assert (status, err) == (0, "")
        return out.splitlines()

    def told(self, *arguments: str) -> dict[str, Any]:
        """What it says to a program."""
        (line,) = self.shown("--json", *arguments)
        told: dict[str, Any] = json.loads(line)
        return told


@pytest.fixture
def ran(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ran:
    """The command, to be called."""
    monkeypatch.delenv("COLUMNS", raising=False)
    return Ran(tmp_path, capsys, monkeypatch)


def test_the_overview_shows_what_is_worth_a_look(ran: Ran) -> None:
    """The run, how many requests failed and which of them are shown, the slowest, one step by step, how to see more."""
    folder = write_run(ran.store, "threads", requests=200, failure_share=0.1)
    lines = ran.shown("latest")
    failed = ran.told("latest")["requests_by_state"]["failed"]
    assert f"200 requests: {200 - failed} completed, {failed} failed" in lines[0]
    assert lines[1].startswith("trace ")
    assert f"failed: 5 of {failed}" in lines
    assert "slowest: 5 of 200, without their wait in the queue" in lines
    assert any("one that failed  failed" in line for line in lines)
    assert lines[-1].endswith("--request NUMBER")
    assert len(lines) < 60
    assert max(map(cell_len, lines[:-1])) <= 100  # a command can be copied in one piece
    assert not any("\x1b" in line for line in lines)
    assert ran.shown(folder.run[-4:])[:-1] == lines[:-1]


def test_of_each_kind_of_failure_one_comes_first(ran: Ran) -> None:
    """Five of the same say less than one of each."""
    write_run(ran.store, "threads", requests=400, failure_share=0.2)
    told = ran.told("latest")
    errors = {
        each["spans"][-1]["attributes"].get("error.type") for each in told["requests"] if each["state"] == "failed"
    }
    assert len(errors) > 2


@pytest.mark.parametrize("form", ["live segments", "sealed"])
def test_whatever_names_a_request_finds_it(ran: Ran, form: str) -> None:
    """A number, its stream, its file, its URL, its trace id and the beginning of that."""
    folder = write_directed_run(ran.store, requests=30)
    if form == "sealed":
        seal_run(folder)
    expected = ran.shown("latest", "--request", "17")
    trace = next(read_spans(folder, stream="request-17")).trace_id
    assert expected[0].startswith("request-17  ")
    assert expected[1:3] == ["https://c.example.org/17", f"trace {trace}"]
    for name in ("request-17", "https://c.example.org/17", trace, trace[:10]):
        assert ran.shown("latest", "-r", name) == expected


def test_a_number_is_a_place_in_the_input_before_it_is_a_name(ran: Ran) -> None:
    """The files of this run are called by numbers, too; where no request has the number, the name counts."""
    folder = create_run(ran.store, stage="director")
    with Recorder(folder.log, folder.run) as recorder:
        for number, name in enumerate(("1", "7")):
            root = recorder.open_stream(f"request-{number}")
            root.record(RequestQueued(number=number, url=f"https://h.example/{number}", name=name))
    assert ran.shown("latest", "-r", "1")[0].startswith("request-1 ")
    assert ran.shown("latest", "-r", "7")[0].startswith("request-1 ")


def test_a_url_that_was_asked_for_twice_gives_a_list(ran: Ran) -> None:
    """Two requests with secrets that were different have the same URL in the log."""
    write_run(ran.store, requests=30, urls=lambda number: f"https://h.example/{number % 10}?token=REDACTED")
    lines = ran.shown("latest", "-r", "https://h.example/4?token=REDACTED")
    assert lines[0] == "3 requests are called that"
    assert [line.split()[0] for line in lines[3:6]] == ["request-4", "request-14", "request-24"]
    assert "--request request-4" in lines[-1]
    told = ran.told("latest", "-r", "https://h.example/4?token=REDACTED")
    assert [each["number"] for each in told["requests"]] == [4, 14, 24]


@pytest.mark.parametrize("name", ["31", "request-31", "nothing.bin", "", "'; DROP", "\x1b[31m"])
def test_what_names_nothing_is_a_line_that_says_what_fits(ran: Ran, name: str) -> None:
    """Exit status 2, and nothing on standard output."""
    write_run(ran.store, requests=30)
    status, out, err = ran("latest", "-r", name)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "there are 30, by number from 0" in err
    assert err.rstrip("\n").isprintable()


def test_what_comes_near_is_named(ran: Ran) -> None:
    """A part of a URL or name fits nothing by itself, since a program could not rely on it."""
    write_directed_run(ran.store, requests=30)
    status, _, err = ran("latest", "-r", "b.example.org")
    assert status == 2
    assert "10 have it in its URL or name: request-1, request-4, request-7, …" in err


def test_json_has_every_field_of_every_span(ran: Ran) -> None:
    """Those of `FinishedSpan`, and how long each was on the critical path; the same object each time."""
    folder = write_directed_run(ran.store, requests=30)
    told = ran.told("latest", "-r", "4")
    assert list(told) == ["run", "stage", "requests_by_state", "requests", "traces"]
    (request,) = told["requests"]
    assert (request["number"], request["stream"]) == (4, "request-4")
    spans = {span.span_id: span for span in read_spans(folder, stream="request-4")}
    more = {"seconds", "own_seconds", "critical_seconds", "on_critical_path", "part"}
    for each in request["spans"]:
        assert set(each) == {*FinishedSpan.__struct_fields__, *more}
        span = spans.pop(each["span_id"])
        assert (each["start_ns"], each["parent_span_id"], each["seconds"]) == (
            span.start_ns,
            span.parent_span_id,
            span.seconds,
        )
        assert 0 <= each["critical_seconds"] <= each["seconds"]
        assert each["on_critical_path"] == (each["critical_seconds"] > 0)
    assert not spans
    (part,) = request["parts"]
    assert sum(part["critical_path"].values()) == pytest.approx(part["seconds"])
    assert sum(each["critical_seconds"] for each in request["spans"]) == pytest.approx(part["seconds"])
    assert ran.told("latest", "-r", "4") == told


def test_a_killed_run_shows_what_it_was_at(ran: Ran) -> None:
    """The requests that were in flight, and one of them with its open steps closed as interrupted."""
    write_run(ran.store, "threads", requests=200, failure_share=0.0, stop_seconds=0.2, killed=True)
    lines = ran.shown("latest")
    assert any(line.startswith("not ended") for line in lines)
    assert any("one that has not ended  interrupted" in line for line in lines)
    assert not any(line.startswith("part ") for line in lines)
    state = {each["state"] for each in ran.told("latest", "-r", "0")["requests"][0]["spans"]}
    assert "completed" in state


def test_a_resumed_run_has_a_part_for_each_time(ran: Ran) -> None:
    """And so has a request that was cut off and goes on."""
    folder = write_run(ran.store, "threads", requests=200, stop_seconds=0.2, killed=True)
    cut_off = next(span.stream for span in read_spans(folder) if span.state == "interrupted" and span.step == "attempt")
    resume_run(folder, requests=200)
    overview = ran.shown("latest")
    assert {"part 1 of 2", "part 2 of 2"} <= set(overview)
    lines = ran.shown("latest", "-r", cut_off)
    assert "part 1 of 2: interrupted" in lines
    assert any(line.startswith("part 2 of 2, resumed ") and " min later: " in line for line in lines)


@pytest.fixture
def going_on(ran: Ran) -> Iterator[RunFolder]:
    """A run that is being written to: one request is at its first attempt, another waits."""
    folder = create_run(ran.store, stage="loop")
    with Recorder(folder.log, folder.run) as recorder:
        root = recorder.open_stream("run")
        root.record(RunStarted(stage="loop", workers=1))
        root.child().record(StageStarted(stage="loop", workers=1))
        for number in range(2):
            request = recorder.open_stream(f"request-{number}")
            request.record(RequestQueued(number=number, url=f"https://h.example/{number}", name=f"{number}.bin"))
            if number == 0:
                request.child().record(RequestStarted(wait_seconds=0.001))
                request.child().record(AttemptStarted(server_address="h.example", server_port=443))
        recorder.flush()
        yield folder


def test_a_run_that_goes_on_shows_what_has_ended(ran: Ran, going_on: RunFolder) -> None:
    """And says that the rest goes on."""
    assert going_on.is_live()
    overview = ran.shown("latest")
    assert "2 requests: 1 not ended, 1 queued, 0 completed" in overview[0] or "1 not ended" in overview[0]
    lines = ran.shown("latest", "-r", "0")
    assert lines[0].startswith("request-0  going on")
    assert any(line.rstrip().endswith("goes on") for line in lines)
    assert ran.shown("latest", "-r", "1")[0] == "request-1  nothing of it has ended yet"
    assert ran.told("latest", "-r", "0")["requests"][0]["parts"][0]["goes_on"] is True


def test_damage_is_named_after_what_stands_before_it(ran: Ran) -> None:
    """Of a request by its number everything before the damage is shown."""
    folder = create_run(ran.store, stage="serial")
    with Recorder(folder.log, folder.run) as recorder:
        for number in range(3):
            root = recorder.open_stream(f"request-{number}")
            root.record(RequestQueued(number=number, url=f"https://h.example/{number}", name=f"{number}.bin"))
            root.record(RequestCompleted(name=f"{number}.bin", bytes=1, seconds=0.001))
            recorder.flush()
    (segment,) = segment_paths(folder.log)
    content = segment.read_bytes()
    segment.write_bytes(content.replace(b"https://h.example/1", b"https://h.example/9"))
    status, out, err = ran("latest", "-r", "0")
    assert status == 3
    assert out.startswith("request-0  completed")
    assert err.count("\n") == 1
    assert segment.name in err
    assert ran("latest")[0] in (2, 3)


class Resized(Payload, frozen=True, kw_only=True):
    """An event of one's own."""

    TYPE = "image.resized"
    width: int


def test_a_run_without_requests_shows_its_stories(ran: Ran) -> None:
    """What a program of one's own tells is listed, the longest first, and each can be seen."""
    folder = create_run(ran.store, stage="thumbnails")
    assert "it has no requests and tells no other story" in ran.shown("latest")
    with Recorder(folder.log, folder.run) as recorder:
        for number in range(7):
            image = recorder.open_stream(f"image-{number}")
            image.record(Resized(width=800))
            image.record(Resized(width=80))
    lines = ran.shown("latest")
    assert "no requests" in lines[0]
    assert "the longest stories: 5 of 7" in lines
    assert any("width 800" in line for line in ran.shown("latest", "-r", "image-6"))
    assert [each["stream"] for each in ran.told("latest", "-r", "image-6")["traces"]] == ["image-6"]


@pytest.mark.parametrize("columns", [60, 160])
def test_a_terminal_gets_colours_and_its_own_width(ran: Ran, columns: int) -> None:
    """What failed is red, with NO_COLOR nothing is; no line is wider than the terminal, but for the command."""
    write_run(ran.store, "threads", requests=60, failure_share=0.2)
    command = ["trace", "latest", "--store", str(ran.store)]
    for settings, is_coloured in ([], True), (["NO_COLOR=1"], False):
        program = ["/usr/bin/env", *settings, sys.executable, "-m", "eventflow"]
        with contextlib.closing(OnTerminal(command, ran.store, (columns, 40), program)) as shown:
            assert shown.wait_for_end() == 0
            assert ("\x1b[1;31m" in shown.raw) == is_coloured
            lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.raw.splitlines()]
        assert columns / 2 < max(map(cell_len, lines[:-1])) <= columns


def test_a_narrow_pipe_gets_narrow_lines(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    """COLUMNS counts; without an encoding for more, everything is ASCII."""
    write_directed_run(ran.store, requests=30)
    monkeypatch.setenv("COLUMNS", "60")
    lines = ran.shown("latest")
    assert max(map(cell_len, lines[:-1])) <= 60
