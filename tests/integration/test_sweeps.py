"""Sweeps as people have them: killed, stopped, gone on with, over lists of their own, on a terminal."""

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

from eventflow.disk import Disk
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.segment import LogWriter
from eventflow.log.sql import query
from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings
from eventflow.sweep import Cell, Sweep, cells, create_sweep, find_sweep, labels_of, sweep_path, sweep_runs
from tests.on_terminal import OnTerminal

TINY = ("--stages", "serial,loop", "--requests", "1,3", "--repeat", "2", "--latency", "1ms", "--size", "100")
DEADLINE_SECONDS = 90


class Desk:
    """A working folder with a store, and a folder for temporary files of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.temporary = folder, folder / ".eventflow", folder / "tmp"
        self.temporary.mkdir()
        self.environment = {name: value for name, value in os.environ.items() if name != "EVENTFLOW_STORE"}
        self.environment["TMPDIR"] = str(self.temporary)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """`eventflow sweep ARGUMENTS`, going on."""
        return subprocess.Popen(
            [sys.executable, "-m", "eventflow", "sweep", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """The same, when it has ended: status, standard output, standard error."""
        with self.start(*arguments) as process:
            out, errors = process.communicate(timeout=DEADLINE_SECONDS)
        return process.returncode, out, errors

    def sweep(self) -> Sweep:
        """The newest one."""
        found = find_sweep(self.store, "latest-sweep")
        assert found
        return found

    def completed(self) -> "Counter[Cell]":
        """How many completed runs each cell has."""
        done = {run for run, state in query(self.store, "SELECT run, state FROM runs") if state == "completed"}
        return Counter(run.cell for run in sweep_runs(self.store, self.sweep()) if run.run in done)

    def wait_live_run(self, after: int) -> None:
        """Return when a run of the sweep is going on and has begun, and so many others are there."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            runs = sweep_runs(self.store, self.sweep()) if find_sweep(self.store, "latest-sweep") else []
            newest = RunFolder(self.store / runs[-1].run) if len(runs) > after else None
            if newest and newest.is_live() and any(event.type == "run.started" for event in read_events(newest.log)):
                return
            time.sleep(0.01)
        raise AssertionError("no run came")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A working folder."""
    return Desk(tmp_path)


@pytest.fixture
def urls(desk: Desk) -> Iterator[Path]:
    """A list of five URLs, of which one in the middle is not there, with a comment and blank lines."""
    with start_origin(OriginSettings(files=5, size=100)) as origin:
        lines = [entry.url for entry in origin.entries()]
        lines[2] = f"{origin.url}/files/nothing"
        path = desk.folder / "urls.txt"
        path.write_text("# mine\n\n" + "\n".join(lines))
        yield path


def test_a_sweep_that_is_killed_goes_on_where_it_was(desk: Desk) -> None:
    """Killed with -9 in the middle of a run, and gone on with: each cell has exactly as many completed runs as asked.

    The run that was going on dies with it and does not count. Nothing is left of the files.
    """
    with desk.start(*TINY[:-4], "--latency", "300ms") as process:
        desk.wait_live_run(after=2)
        process.kill()
        process.communicate()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(RunFolder(desk.store / run.run).is_live() for run in sweep_runs(desk.store, desk.sweep())):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before = desk.completed()
    assert 0 < before.total() < len(cells(desk.sweep()))
    status, out, errors = desk.run("--resume", "--json")
    assert status == 0, errors
    assert desk.completed() == Counter(dict.fromkeys(cells(desk.sweep()), 1))
    assert f"{before.total()} of 8 runs are there" in errors
    result = json.loads(out)
    assert (result["complete"], result["missing"]) == (True, [])
    assert {(row["stage"], row["requests"], row["runs"], row["failed"]) for row in result["rows"]} == {
        (stage, size, 2, 0) for stage in ("serial", "loop") for size in (1, 3)
    }
    assert sum(row["unfinished"] for row in result["rows"]) == 1
    assert list(desk.temporary.iterdir()) == []
    status, _, errors = desk.run("--resume", desk.sweep().name[-4:])
    assert (status, "all 8 runs are there already" in errors) == (0, True)


def test_a_sweep_stops_in_order_and_goes_on(desk: Desk) -> None:
    """SIGTERM as Ctrl-C: the run ends in order, status 130, and what is said leads on; the warm-up is not counted."""
    with desk.start(*TINY[:-4], "--latency", "300ms") as process:
        desk.wait_live_run(after=0)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130
    assert "of 8 runs are done\nmissing: " in errors
    assert f"sweep --resume {desk.sweep().name}\n" in errors
    states = Counter(state for (state,) in query(desk.store, "SELECT state FROM runs"))
    assert set(states) <= {"completed", "interrupted"}
    assert desk.completed().total() < 8
    assert list(desk.temporary.iterdir()) == []
    status, out, errors = desk.run("--resume")
    assert status == 0, errors
    assert set(desk.completed().values()) == {1}
    assert out.startswith("median time\t1\t3\nserial\t")
    assert f"  python -m eventflow compare {desk.sweep().name}" in out.replace(Path(sys.executable).name, "python")


def test_a_sweep_that_is_stopped_before_its_first_run_is_not_done(desk: Desk) -> None:
    """Ctrl-C while it waits for a run that an earlier sitting has left: status 130, and all that is missing is said."""
    made = create_sweep(desk.store, Sweep(stages=("loop",), sizes=(1,), repeat=2))
    run = create_run(desk.store, stage="loop", labels=labels_of(made, Cell("loop", 1, 1)))
    writer = LogWriter(run.log, run.run, "w")
    with desk.start("--resume") as process:
        assert process.stderr
        assert process.stderr.readline() == f"waiting for {run.run}, which an earlier sitting has left\n"
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=DEADLINE_SECONDS)
    writer.close()
    assert (process.returncode, out) == (130, "")
    assert errors.startswith("interrupted: 0 of 2 runs are done\nmissing: loop with 1 request (2 runs)\ngo on with: ")


def test_the_result_says_what_a_stage_costs(desk: Desk) -> None:
    """Median, lowest and highest of each measure; the runs have the labels by which SQL finds them."""
    status, out, errors = desk.run(*TINY, "--json")
    assert status == 0, errors
    result = json.loads(out)
    assert (result["sweep"], result["requests"], result["repeat"]) == (desk.sweep().name, [1, 3], 2)
    for row in result["rows"]:
        for measure in ("seconds", "requests_per_second", "peak_memory_bytes", "cpu_seconds", "energy_joules"):
            assert 0 < row[measure]["lowest"] <= row[measure]["median"] <= row[measure]["highest"]
    statement = (
        "SELECT count(*), count(DISTINCT stage), min(requests), max(completed) FROM runs "
        f"WHERE labels['sweep'] = '{desk.sweep().name}' AND labels['warm-up'] IS NULL"
    )
    assert list(query(desk.store, statement)) == [(8, 2, 1, 3)]
    lines = [line for line in errors.splitlines() if " of 8: " in line]
    assert len(lines) == 8
    assert lines[0].startswith("1 of 8: ")
    assert lines[-1].count("requests/s") == 1


def test_your_own_list_is_used_and_its_failures_are_said(desk: Desk, urls: Path) -> None:
    """A cell of n requests has the first n URLs; what fails is said at once, in the end, and by status 1."""
    status, out, errors = desk.run("--stages", "loop", "--requests", "2,5", "--repeat", "1", "--input", str(urls))
    assert status == 1
    assert "1 FAILED" in errors
    assert "failed requests: loop with 5: 1" in out
    assert dict(query(desk.store, "SELECT requests, failed FROM runs WHERE labels['warm-up'] IS NULL")) == {2: 0, 5: 1}
    urls.write_text("http://127.0.0.1:1/\n")
    status, _, errors = desk.run("--resume")
    assert (status, "has changed since the sweep began" in errors) == (2, True)


def test_a_budget_ends_a_sweep(desk: Desk) -> None:
    """It stops in time and says what is missing; a run that is going on when the time is over does not count."""
    begun = time.monotonic()
    status, out, errors = desk.run("--stages", "serial", "--requests", "1000", "--budget", "5s", "--latency", "50ms")
    assert status == 130
    assert time.monotonic() - begun < 40
    assert "the budget is used up: 0 of 3 runs are done\nmissing: serial with 1 000 requests (3 runs)\n" in errors
    assert out == ""
    assert not desk.completed()


def test_two_sittings_of_a_sweep_never_run_at_once(desk: Desk) -> None:
    """The second one says so and changes nothing."""
    made = create_sweep(desk.store, Sweep(stages=("loop",), sizes=(1,), repeat=1, file_size_bytes=10))
    disk = Disk()
    lock = disk.lock(sweep_path(desk.store, made.name))
    status, _, errors = desk.run("--resume")
    disk.unlock(lock)
    assert status == 2
    assert errors == f"eventflow: the sweep {made.name} is going on in another process: wait for it, or stop it\n"


def test_runs_that_fail_are_said_and_done_again(desk: Desk) -> None:
    """The program of `subprocess` is missing: the other stage's runs are made, status 3; then all is mended."""
    path, desk.environment["PATH"] = desk.environment["PATH"], str(desk.folder)
    made = create_sweep(desk.store, Sweep(stages=("serial", "subprocess"), sizes=(1, 2), repeat=1, file_size_bytes=10))
    status, out, errors = desk.run("--resume")
    assert status == 3
    assert errors.count("the run failed: ") == 3
    assert "some runs failed: 2 of 4 runs are done\nmissing: subprocess with " in errors
    assert "\nsubprocess\t–\t–\n" in out
    assert {cell.stage for cell in desk.completed()} == {"serial"}
    desk.environment["PATH"] = path
    assert desk.run("--resume", made.name)[0] == 0
    assert desk.completed() == Counter(cells(made))


def test_where_every_run_fails_the_sweep_ends(desk: Desk) -> None:
    """After three, since it is not one stage's fault then; nothing is shown as measured."""
    desk.environment["PATH"] = str(desk.folder)
    status, out, errors = desk.run("--stages", "subprocess", "--requests", "1,2,3,4", "--size", "10")
    assert (status, out) == (3, "")
    assert errors.count("the run failed: ") == 3
    assert "three runs failed one after the other: 0 of 12 runs are done" in errors


def test_a_sweep_without_its_origin_stops(desk: Desk) -> None:
    """The embedded origin was killed: the sweep says so, status 3, and goes on with another."""
    with desk.start(*TINY[:-4], "--latency", "300ms") as process:
        desk.wait_live_run(after=0)
        (origin,) = [one for one in psutil.Process(process.pid).children() if "eventflow.origin" in one.cmdline()]
        origin.kill()
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 3
    assert "the embedded origin is gone" in errors
    assert "sweep --resume" in errors
    assert desk.run("--resume")[0] in (0, 1)
    assert set(desk.completed().values()) == {1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--stages", "rocket"), "no stage 'rocket'"),
        (("--stages", "loop,loop"), "a stage is named twice"),
        (("--requests", "10,1"), "do not grow"),
        (("--requests", "0"), "is no number of requests"),
        (("--repeat", "0"), "--repeat 0: give 1 to"),
        (("--latency", "soon"), "is not a duration"),
        (("--size", "big"), "is not a size"),
        (("--budget", "long"), "is not a duration"),
        (("--input", "nowhere.txt"), "there is no file 'nowhere.txt'"),
        (("--input", "-"), "give it as a file"),
        (("--input", "."), "is a folder"),
        (("--input", "short.txt"), "has 2 URLs, too few for 100 requests"),
        (("--input", "short.txt", "--latency", "1ms"), "are the embedded origin's"),
        (("name",), "is named with --resume only"),
        (("--resume",), "there is no sweep in"),
        (("--resume", "name"), "there is no sweep 'name' in"),
        (("--resume", "--repeat", "3"), "--repeat does not go with --resume"),
        (("--resume", "--input", "short.txt"), "--input does not go with --resume"),
    ],
)
def test_a_wrong_command_is_explained_in_one_line(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    """Status 2, and nothing is made."""
    (desk.folder / "short.txt").write_text("http://127.0.0.1:1/a\n# none\n\nhttp://127.0.0.1:1/b")
    status, out, errors = desk.run(*arguments)
    assert (status, out, len(errors.splitlines())) == (2, "", 1), errors
    assert said in errors
    assert not desk.store.exists()


def test_a_terminal_gets_a_bar_and_ctrl_c_ends_it_in_order(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is going on, and the time left; then Ctrl-C at the terminal ends the run in order."""
    monkeypatch.setenv("TMPDIR", str(desk.temporary))
    shown = OnTerminal(["sweep", "--stages", "serial", "--requests", "1,200", "--latency", "50ms"], desk.folder)
    try:
        shown.wait_for("1 of 6: serial, 1 request")
        shown.wait_for("left")
        shown.wait_for("2 of 6: serial, 200 requests")
        desk.wait_live_run(after=1)
        shown.type("\x03")
        shown.wait_for("interrupted: 1 of 6 runs are done")
        shown.wait_for("sweep --resume")
        assert shown.wait_for_end() == 130
    finally:
        shown.close()
    rows: list[Any] = list(query(desk.store, "SELECT state, requests FROM runs ORDER BY run"))
    assert [state for state, _ in rows] == ["completed", "completed", "interrupted"]
