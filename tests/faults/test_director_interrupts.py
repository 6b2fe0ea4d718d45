"""Ctrl-C, SIGTERM and deadlines, whatever the director waits for: it ends at once, leaves nobody, and can go on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from eventflow.event import Payload
from eventflow.log.reader import read_events
from eventflow.log.runs import list_runs
from eventflow.log.verify import verify_run
from eventflow.naming import PART_SUFFIX
from eventflow.origin.content import content
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings
from eventflow.story import Interrupted
from eventflow.vocabulary import (
    AttemptBody,
    AttemptResponse,
    AttemptSent,
    AttemptStarted,
    PartKept,
    RequestCompleted,
    RequestDelayed,
    RequestFailed,
    RunInterrupted,
    decode_payload,
)
from stages.director import direct
from tests.directing import Sitting as Directed

TIMEOUT = 60
SOON = 5.0  # two seconds, on a machine that is not busy
LARGE = OriginSettings(files=4, size=3_000_000, bandwidth=1_500_000, seed=7)
MIXED = OriginSettings(files=60, size=60_000, size_spread=2.0, latency_s=0.02, bandwidth=3_000_000, seed=8)

# The operating system as it may be: names that nobody answers for, and a disk that takes its time.
PROGRAM = """if True:
    import os, socket, sys, time
    kind, seconds = sys.argv[1], float(sys.argv[2])
    look_up, sync_all, sync_one = socket.getaddrinfo, None, os.fdatasync
    def hang(host, port, family=0, type=0, proto=0, flags=0):
        if "never" in str(host) and not flags & socket.AI_NUMERICHOST:
            time.sleep(seconds)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return look_up(host, port, family, type, proto, flags)
    if kind == "names":
        socket.getaddrinfo = hang
    if kind == "disk":
        from eventflow.folder_disk import FolderDisk
        sync_all = FolderDisk.sync_file_system
        FolderDisk.sync_file_system = lambda self, folder: (time.sleep(seconds), sync_all(self, folder))[1]
    from eventflow.cli.main import main
    sys.argv = ["eventflow", *sys.argv[3:]]
    main()
"""


class Sitting:
    """`eventflow run director …` in a session of its own."""

    def __init__(self, folder: Path, *arguments: str, system: tuple[str, str] | None = None) -> None:
        self.store, self.out = folder / "store", folder / "files"
        program = ["-c", PROGRAM, *system] if system else ["-m", "eventflow"]
        places = ["--out", str(self.out), "--store", str(self.store), "--json"]
        command = [sys.executable, *program, "run", "lineage", *arguments, *places]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def events(self, *kinds: type[Payload]) -> list[Any]:
        """What the log says now, of these types."""
        return [
            decode_payload(event)
            for run in list_runs(self.store)
            for event in read_events(run.log, types=[kind.TYPE for kind in kinds])
        ]

    def wait_for(self, kind: type[Payload], count: int = 1) -> None:
        """Wait until the log has so many events of that type."""
        self.wait_until(lambda: len(self.events(kind)) >= count)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait until it is so, while the run goes on."""
        deadline = time.monotonic() + TIMEOUT
        while not (list_runs(self.store) and is_so()):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self, status: int = 130, state: str = "interrupted") -> dict[str, Any]:
        """It has ended soon, as it should, and no process is left. Gives the summary."""
        out, err = self.process.communicate(timeout=SOON)
        assert (self.process.returncode, err) == (status, ""), (out, err)
        self.check_nobody_left()
        summary: dict[str, Any] = json.loads(out)
        assert summary["state"] == state
        return summary

    def check_nobody_left(self) -> None:
        """Of its session."""
        deadline = time.monotonic() + SOON
        while found := _session(self.process.pid):
            assert time.monotonic() < deadline, [process.cmdline() for process in found]
            time.sleep(0.02)

    def workers(self) -> list[psutil.Process]:
        """Its two worker processes."""
        found = [child for child in _session(self.process.pid) if "spawn_main" in " ".join(child.cmdline())]
        assert len(found) == 2
        return found

    def resume(self, status: int = 0) -> dict[str, Any]:
        """`eventflow resume`, to its end."""
        command = [sys.executable, "-m", "eventflow", "resume", "latest", "--store", str(self.store), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert (done.returncode, done.stderr) == (status, ""), done.stdout
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    def check_whole(self, settings: OriginSettings) -> None:
        """Every file is right and was completed once; the log verifies; no litter."""
        assert len(self.events(RequestCompleted)) == settings.files
        for number in range(settings.files):
            assert (self.out / f"{number:06}.bin").read_bytes() == content(settings, number)
        assert not list(self.out.rglob(f"*{PART_SUFFIX}"))
        (run,) = list_runs(self.store)
        assert not [report.damage for report in verify_run(run.log, run.run) if report.damage]


def _session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.fixture(scope="module")
def large() -> Iterator[Origin]:
    """Files that take some seconds each."""
    with start_origin(LARGE) as running:
        yield running


@pytest.fixture(scope="module")
def mixed() -> Iterator[Origin]:
    """Small files and large ones."""
    with start_origin(MIXED) as running:
        yield running


def listed(origin: Origin, folder: Path) -> str:
    """The path of its list."""
    path = folder / "urls.tsv"
    path.write_text("".join(f"{entry.url}\t{entry.name}\t{entry.sha256}\n" for entry in origin.entries()))
    return str(path)


def check_gone_on(sitting: Sitting, settings: OriginSettings) -> None:
    """Each part that was kept last was gone on with, and only the rest was sent."""
    kept: dict[str, PartKept] = {}
    (run,) = list_runs(sitting.store)
    starts: dict[str, int] = {}
    rests = Counter[str]()
    for event in read_events(run.log, types=[PartKept.TYPE, AttemptSent.TYPE, AttemptBody.TYPE]):
        payload = decode_payload(event)
        if isinstance(payload, PartKept):
            kept[event.stream] = payload
        elif isinstance(payload, AttemptSent) and event.stream in kept:
            assert payload.range_start == kept[event.stream].bytes
            starts[event.stream] = payload.range_start
        elif isinstance(payload, AttemptBody) and event.stream in starts:
            rests[event.stream] = payload.bytes
    assert starts
    assert {stream: starts[stream] + rest for stream, rest in rests.items()} == dict.fromkeys(starts, settings.size)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_keeps_the_parts(number: signal.Signals, workers: str, large: Origin, tmp_path: Path) -> None:
    """What is in flight is cancelled, its parts are kept, and the resume asks for the rest of each, no more."""
    sitting = Sitting(tmp_path, "-i", listed(large, tmp_path), "-w", workers)
    sitting.wait_for(AttemptResponse, LARGE.files)
    time.sleep(0.4)
    if number == signal.SIGINT:
        os.killpg(sitting.process.pid, number)  # as a terminal does
    else:
        sitting.process.send_signal(number)
    summary = sitting.end()
    assert (summary["completed"], summary["cancelled"], summary["failed"]) == (0, LARGE.files, 0)
    assert [event.signal for event in sitting.events(RunInterrupted)] == [number.name]
    parts = sorted(path.name for path in sitting.out.iterdir())
    assert parts == sorted(part.name for part in sitting.events(PartKept))
    assert len(parts) == LARGE.files
    started = len(sitting.events(AttemptStarted))
    assert sitting.resume()["completed"] == LARGE.files
    assert len(sitting.events(AttemptStarted)) == started + LARGE.files
    check_gone_on(sitting, LARGE)
    sitting.check_whole(LARGE)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_small_and_large_in_the_middle(workers: str, mixed: Origin, tmp_path: Path) -> None:
    """What is completed is not fetched again."""
    sitting = Sitting(tmp_path, "-i", listed(mixed, tmp_path), "-w", workers, "--concurrency", "6")
    sitting.wait_for(RequestCompleted, 10)
    os.killpg(sitting.process.pid, signal.SIGINT)
    summary = sitting.end()
    assert 10 <= summary["completed"] < MIXED.files
    assert len(sitting.events(RequestCompleted)) == summary["completed"]
    assert sitting.resume()["completed"] == MIXED.files
    sitting.check_whole(MIXED)


def test_two_signals_end_it_at_once(tmp_path: Path) -> None:
    """Even while a disk makes it wait; what it had acknowledged is there, and it goes on in a resume."""
    settings = OriginSettings(files=8, size=100)
    with start_origin(settings) as origin:
        sitting = Sitting(tmp_path, "-i", listed(origin, tmp_path), system=("disk", "30"))
        sitting.wait_for(AttemptBody, settings.files)
        sitting.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert sitting.process.poll() is None
        sitting.process.send_signal(signal.SIGINT)
        sitting.process.communicate(timeout=SOON)
        assert sitting.process.returncode == 130
        sitting.check_nobody_left()
        assert sitting.resume()["completed"] == settings.files
    sitting.check_whole(settings)


def test_two_signals_end_processes_that_do_not_react(large: Origin, tmp_path: Path) -> None:
    """One Ctrl-C waits for them for some seconds, the second kills them."""
    sitting = Sitting(tmp_path, "-i", listed(large, tmp_path), "-w", "2")
    sitting.wait_for(PartKept, LARGE.files)
    for child in sitting.workers():
        child.suspend()
    os.killpg(sitting.process.pid, signal.SIGINT)
    time.sleep(0.3)
    assert sitting.process.poll() is None
    os.killpg(sitting.process.pid, signal.SIGINT)
    sitting.process.communicate(timeout=1.5)
    assert sitting.process.returncode == 130
    sitting.check_nobody_left()
    assert sitting.resume()["completed"] == LARGE.files
    sitting.check_whole(LARGE)


def test_a_slow_disk_is_waited_for(tmp_path: Path) -> None:
    """What was received is made durable before the end, and is completed, not fetched again."""
    settings = OriginSettings(files=20, size=100)
    with start_origin(settings) as origin:
        sitting = Sitting(tmp_path, "-i", listed(origin, tmp_path), system=("disk", "0.7"))
        sitting.wait_for(AttemptBody, settings.files)
        sitting.process.send_signal(signal.SIGINT)
        summary = sitting.end()
        assert summary["completed"] == settings.files
        assert sitting.resume()["completed"] == settings.files
    sitting.check_whole(settings)


def test_while_names_are_looked_up(tmp_path: Path) -> None:
    """More names than there are threads hang for longer than anybody waits: the end does not wait for them."""
    (tmp_path / "urls.txt").write_text("".join(f"http://never-{number}.test/a\n" for number in range(90)))
    system = ("names", "30")
    sitting = Sitting(tmp_path, "-i", str(tmp_path / "urls.txt"), "--timeout", "0.5s", "--retries", "9", system=system)
    sitting.wait_for(RequestDelayed, 60)
    sitting.process.send_signal(signal.SIGINT)
    summary = sitting.end()
    assert summary["failed"] + summary["cancelled"] == 90


@pytest.mark.parametrize("workers", ["1", "2"])
def test_while_everything_waits_for_its_next_try(workers: str, tmp_path: Path) -> None:
    """Requests that wait for a minute end at once as cancelled, and go on in a resume."""
    settings = OriginSettings(files=10, size=100, faults={"503": 1.0}, retry_after_s=60)
    with start_origin(settings) as origin:
        sitting = Sitting(tmp_path, "-i", listed(origin, tmp_path), "-w", workers)
        sitting.wait_for(RequestDelayed, settings.files)
        os.killpg(sitting.process.pid, signal.SIGINT)
        summary = sitting.end()
        assert (summary["cancelled"], summary["failed"]) == (settings.files, 0)


def test_while_the_input_is_awaited(tmp_path: Path) -> None:
    """Nobody has written a line yet, or not the next one."""
    settings = OriginSettings(files=1, size=100)
    with start_origin(settings) as origin:
        sitting = Sitting(tmp_path, "-i", "-")
        assert sitting.process.stdin is not None
        sitting.process.stdin.write(f"{next(origin.entries()).url}\n")
        sitting.process.stdin.flush()
        sitting.wait_for(RequestCompleted)
        sitting.process.send_signal(signal.SIGINT)
        assert sitting.end()["completed"] == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_deadline_of_the_run(workers: str, large: Origin, tmp_path: Path) -> None:
    """Does what one Ctrl-C does; each sitting has as long again, and comes further."""
    sitting = Sitting(tmp_path, "-i", listed(large, tmp_path), "-w", workers, "--deadline", "1s")
    sitting.wait_for(AttemptResponse, LARGE.files)
    summary = sitting.end()
    assert summary["cancelled"] == LARGE.files
    assert [event.signal for event in sitting.events(RunInterrupted)] == ["deadline"]
    for _ in range(5):
        (run,) = list_runs(sitting.store)
        before = sum(path.stat().st_size for path in sitting.out.iterdir())
        command = [sys.executable, "-m", "eventflow", "resume", run.run, "--store", str(sitting.store), "-q"]
        status = subprocess.run(command, timeout=TIMEOUT, check=False).returncode
        assert status in (0, 130)
        if status == 0:  # all bytes may be there before, and not be checked yet
            break
        assert sum(path.stat().st_size for path in sitting.out.iterdir()) > before
    sitting.check_whole(LARGE)


def test_the_deadline_of_a_request(tmp_path: Path) -> None:
    """It fails by name, whatever it waits for; the others are not concerned."""
    with start_origin(OriginSettings(files=2, size=100, faults={"stall": 1.0}, stall_s=60.0)) as stalled:
        lines = [entry.url for entry in stalled.entries()]
        sitting = Sitting(tmp_path, *lines, "--request-deadline", "1s")
        summary = sitting.end(1, "completed")
    assert summary["failed"] == 2
    assert {event.error for event in sitting.events(RequestFailed)} == {"DeadlinePassed"}


def test_the_deadline_of_a_request_that_waits_for_its_next_try(tmp_path: Path) -> None:
    """There is no use in waiting for longer than the request has: it fails when that is known."""
    settings = OriginSettings(files=2, size=100, faults={"503": 1.0}, retry_after_s=30)
    with start_origin(settings) as unavailable:
        lines = [entry.url for entry in unavailable.entries()]
        sitting = Sitting(tmp_path, *lines, "--request-deadline", "1s")
        summary = sitting.end(1, "completed")
    assert summary["failed"] == 2


def test_a_process_that_is_killed_ends_the_run_in_order(large: Origin, tmp_path: Path) -> None:
    """As the kernel does when memory runs out: status 3, nobody left, and a resume completes it."""
    sitting = Sitting(tmp_path, "-i", listed(large, tmp_path), "-w", "2")
    sitting.wait_for(AttemptResponse, LARGE.files)
    sitting.workers()[0].kill()
    summary = sitting.end(3, "failed")
    assert "a worker process died" in summary["problem"]
    assert sitting.resume()["completed"] == LARGE.files
    sitting.check_whole(LARGE)


def test_nobody_outlives_the_process_of_the_run(large: Origin, tmp_path: Path) -> None:
    """SIGKILL to it alone: its processes end too, and a resume at once does not meet them."""
    sitting = Sitting(tmp_path, "-i", listed(large, tmp_path), "-w", "2")
    sitting.wait_for(PartKept, LARGE.files)
    sitting.process.kill()
    sitting.process.communicate()
    sitting.check_nobody_left()
    assert sitting.resume()["completed"] == LARGE.files
    check_gone_on(sitting, LARGE)
    sitting.check_whole(LARGE)


def test_a_signal_that_came_before_the_director_began_is_heeded(tmp_path: Path) -> None:
    """Nothing is started, and no exception is thrown into the middle of trio."""
    sitting = Directed(tmp_path, ["http://127.0.0.1:9/a"])
    sitting.work.cancel("SIGINT")
    with pytest.raises(Interrupted):
        direct(sitting.work)
    assert sitting.work.heeds_signals
    sitting.work.close()
    sitting.recorder.close()
    assert not sitting.events(AttemptStarted)
