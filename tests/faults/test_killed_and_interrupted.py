"""A run that is killed or interrupted loses nothing that was acknowledged, and goes on without repeating anything.

Each stage runs as a user runs it. What counts is what a person can check afterwards with `verify`, `runs`, `resume` and
the files.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from eventflow.event import StoredEvent
from eventflow.log.format import decode_event
from eventflow.log.reader import RunTail, read_events
from eventflow.log.runs import RunFolder, list_runs
from eventflow.log.verify import verify_run
from eventflow.naming import PART_SUFFIX
from eventflow.origin.content import content
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings
from stages.registry import STAGES

SETTINGS = OriginSettings(files=80, size=60_000, latency_s=0.03, seed=5)
TIMEOUT = 60


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A server slow enough to be in the middle of things."""
    with start_origin(SETTINGS) as running:
        yield running


class Attempted:
    """A run in a process of its own, and what can be seen of it from outside."""

    def __init__(self, stage: str, origin: Origin, folder: Path, *options: str) -> None:
        self.store, self.out = folder / "store", folder / "files"
        self.list = folder / "urls.tsv"
        self.list.write_text("".join(f"{entry.url}\t{entry.name}\t{entry.sha256}\n" for entry in origin.entries()))
        command = [
            sys.executable,
            "-m",
            "eventflow",
            "run",
            stage,
            "--input",
            str(self.list),
            "--out",
            str(self.out),
            "--store",
            str(self.store),
            "--json",
            *options,
        ]
        if STAGES[stage].workers > 4 and not options:
            command += ["--workers", "4"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    @property
    def run(self) -> RunFolder:
        """The run's folder."""
        (run,) = list_runs(self.store)
        return run

    def wait_completed(self, count: int) -> None:
        """Wait until that many requests are durably completed."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(self.process.communicate())
            if list_runs(self.store) and len(completed(self.run)) >= count:
                return
            time.sleep(0.005)
        raise AssertionError("the run never came that far")

    def wait_gone(self) -> None:
        """Wait until no process of the run's session is left."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if not _session(self.process.pid):
                return
            time.sleep(0.02)
        raise AssertionError([process.cmdline() for process in _session(self.process.pid)])

    def resume(self) -> dict[str, Any]:
        """`eventflow resume`."""
        command = [sys.executable, "-m", "eventflow", "resume", self.run.run, "--store", str(self.store), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary


def _session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def completed(run: RunFolder) -> dict[str, str]:
    """The streams that the log says are completed, and the name of each one's file."""
    events = (decode_event(line) for lines in RunTail(run.log).poll() for line in lines)
    return {
        event.stream: json.loads(bytes(event.data))["name"] for event in events if event.type == "request.completed"
    }


def events_of(run: RunFolder, type_name: str) -> list[StoredEvent]:
    """The events of one type."""
    return [event for event in read_events(run.log) if event.type == type_name]


def check_whole(attempted: Attempted, summary: dict[str, Any]) -> None:
    """After a resume.

    Every file is there, each was completed once, every story is gapless, the log verifies, no litter.
    """
    assert (summary["requests"], summary["completed"], summary["failed"], summary["state"]) == (80, 80, 0, "completed")
    for number in range(80):
        assert (attempted.out / f"{number:06}.bin").read_bytes() == content(SETTINGS, number)
    assert not list(attempted.out.rglob(f"*{PART_SUFFIX}"))
    versions: dict[str, list[int]] = {}
    ends = Counter[str]()
    for event in read_events(attempted.run.log):
        versions.setdefault(event.stream, []).append(event.version)
        ends[event.stream] += event.type == "request.completed"
    assert all(sorted(found) == list(range(len(found))) for found in versions.values())
    assert all(ends[f"request-{number}"] == 1 for number in range(80))
    assert all(report.damage is None for report in verify_run(attempted.run.log, attempted.run.run))


@pytest.mark.parametrize("stage", list(STAGES))
def test_kill_9_in_the_middle_loses_nothing_acknowledged(stage: str, origin: Origin, tmp_path: Path) -> None:
    """What the log says is completed is on disk; the resume does not fetch it again; no process is left behind."""
    attempted = Attempted(stage, origin, tmp_path)
    attempted.wait_completed(15)
    attempted.process.kill()
    attempted.process.communicate()
    attempted.wait_gone()
    acknowledged = completed(attempted.run)
    assert 15 <= len(acknowledged) < 80
    for stream, name in acknowledged.items():
        assert (attempted.out / name).read_bytes() == content(SETTINGS, int(stream.removeprefix("request-")))
    assert all(report.damage is None for report in verify_run(attempted.run.log, attempted.run.run))
    check_whole(attempted, attempted.resume())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", list(STAGES))
def test_an_interrupt_keeps_what_is_done_and_leaves_no_litter(
    stage: str, number: signal.Signals, origin: Origin, tmp_path: Path
) -> None:
    """Exit 130 at once; in flight is cancelled, done is kept; no temporary file, no process; it can be resumed."""
    attempted = Attempted(stage, origin, tmp_path)
    attempted.wait_completed(15)
    begun = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(attempted.process.pid, number)  # as a terminal does: every process of it gets Ctrl-C
    else:
        attempted.process.send_signal(number)
    out, err = attempted.process.communicate(timeout=TIMEOUT)
    assert time.monotonic() - begun < 5
    assert (attempted.process.returncode, err) == (130, "")
    summary = json.loads(out)
    assert summary["state"] == "interrupted"
    assert summary["completed"] + summary["cancelled"] < 80
    assert summary["completed"] + summary["cancelled"] <= summary["requests"] <= 80
    if not STAGES[stage].keeps_tally:  # the director reads some requests ahead
        assert summary["requests"] < 80
    assert summary["failed"] == 0
    attempted.wait_gone()
    names = sorted(path.name for path in attempted.out.iterdir())
    stored = [json.loads(bytes(event.data))["name"] for event in events_of(attempted.run, "file.stored")]
    assert names == sorted(stored)
    if stage != "subprocess":  # where a file may be stored and its program cut short
        assert names == sorted(completed(attempted.run).values())
    ends = events_of(attempted.run, "run.interrupted")
    assert [json.loads(bytes(event.data))["signal"] for event in ends] == [number.name]
    check_whole(attempted, attempted.resume())


@pytest.mark.parametrize("stage", ["processes", "director", "lineage"])
def test_a_worker_process_that_is_being_started_leaves_ctrl_c_to_the_run(
    stage: str, origin: Origin, tmp_path: Path
) -> None:
    """As many as can be sent, to the workers alone, from before each can say what to do with it: nothing happens."""
    attempted = Attempted(stage, origin, tmp_path, "--workers", "3")
    run, reached = psutil.Process(attempted.process.pid), set[int]()
    while len(reached) < 4 or not (list_runs(attempted.store) and completed(attempted.run)):  # with multiprocessing's
        for child in run.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGINT)
                reached.add(child.pid)
        time.sleep(0.001)
        assert attempted.process.poll() is None, attempted.process.communicate()
    out, err = attempted.process.communicate(timeout=TIMEOUT)
    assert (attempted.process.returncode, err) == (0, "")
    check_whole(attempted, json.loads(out))


@pytest.mark.parametrize("stage", list(STAGES))
def test_an_interrupt_reaches_a_request_that_is_stalled(stage: str, tmp_path: Path) -> None:
    """A server that says nothing more does not delay Ctrl-C beyond the grace time."""
    settings = OriginSettings(files=4, faults={"stall": 1.0}, stall_s=60.0)
    with start_origin(settings) as origin:
        attempted = Attempted(stage, origin, tmp_path)
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            runs = list_runs(attempted.store)
            if runs and any(event.type == "attempt.response" for event in read_events(runs[0].log)):
                break
            time.sleep(0.01)
        begun = time.monotonic()
        attempted.process.send_signal(signal.SIGINT)
        out, err = attempted.process.communicate(timeout=TIMEOUT)
    assert time.monotonic() - begun < 5
    assert (attempted.process.returncode, err) == (130, "")
    assert json.loads(out)["cancelled"] >= 1
    assert list(attempted.out.iterdir()) == []
    attempted.wait_gone()


def test_a_resume_fetches_again_what_is_gone_from_the_disk(origin: Origin, tmp_path: Path) -> None:
    """Completed in the log and missing, or of another size, on disk: fetched again, its story going on.

    The rest is left alone.
    """
    attempted = Attempted("threads", origin, tmp_path)
    attempted.process.communicate(timeout=TIMEOUT)
    (attempted.out / "000007.bin").unlink()
    (attempted.out / "000008.bin").write_bytes(b"short")
    untouched = (attempted.out / "000009.bin").stat().st_mtime_ns
    summary = attempted.resume()
    assert summary["completed"] == 80
    assert (attempted.out / "000007.bin").read_bytes() == content(SETTINGS, 7)
    assert (attempted.out / "000008.bin").read_bytes() == content(SETTINGS, 8)
    assert (attempted.out / "000009.bin").stat().st_mtime_ns == untouched
    stories = Counter(event.stream for event in read_events(attempted.run.log) if event.type == "request.completed")
    assert [stories[f"request-{number}"] for number in (6, 7, 8, 9)] == [1, 2, 2, 1]


def test_a_run_that_goes_on_cannot_be_resumed(origin: Origin, tmp_path: Path) -> None:
    """Two processes never work on one run."""
    attempted = Attempted("serial", origin, tmp_path)
    attempted.wait_completed(3)
    command = [sys.executable, "-m", "eventflow", "resume", "latest", "--store", str(attempted.store)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 2
    assert "is still going on" in done.stderr
    attempted.process.kill()
    attempted.process.communicate()


def test_a_changed_list_is_refused_on_resume(origin: Origin, tmp_path: Path) -> None:
    """Request n must be request n."""
    attempted = Attempted("serial", origin, tmp_path)
    attempted.wait_completed(3)
    attempted.process.kill()
    attempted.process.communicate()
    attempted.list.write_text("http://127.0.0.1:1/other\n" + attempted.list.read_text())
    command = [sys.executable, "-m", "eventflow", "resume", "latest", "--store", str(attempted.store)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 2
    assert "has changed since the run began: start a new run" in done.stderr


def test_a_worker_that_is_killed_stops_the_run_in_order(origin: Origin, tmp_path: Path) -> None:
    """As the kernel does when memory runs out: status 3, what to do, no process left; a resume completes it."""
    attempted = Attempted("processes", origin, tmp_path)
    attempted.wait_completed(15)
    workers = [json.loads(bytes(event.data)) for event in events_of(attempted.run, "process.started")]
    os.kill(next(worker["pid"] for worker in workers if worker["role"] == "worker"), signal.SIGKILL)
    out, err = attempted.process.communicate(timeout=TIMEOUT)
    summary = json.loads(out)
    assert (attempted.process.returncode, err, summary["state"]) == (3, "", "failed")
    assert "a worker process died" in summary["problem"]
    assert "then resume" in summary["problem"]
    attempted.wait_gone()
    assert [json.loads(bytes(event.data))["error"] for event in events_of(attempted.run, "run.failed")] == [
        "WorkerDied"
    ]
    check_whole(attempted, attempted.resume())
