"""`eventflow top` and `run --live` on a terminal: what a person sees, and how the terminal is left."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventflow.log.layout import segment_paths
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings
from tests.on_terminal import ENTER, LEAVE, OnTerminal
from tests.synthetic_log import write_run

Start = Callable[..., OnTerminal]
DEADLINE_SECONDS = 30
FEW = 16


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A server that takes its time."""
    with start_origin(OriginSettings(files=200, size=2_000, latency_s=0.1, seed=3)) as running:
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command on a terminal."""
    with contextlib.ExitStack() as stack:

        def start_one(*arguments: str, **options: Any) -> OnTerminal:
            return stack.enter_context(contextlib.closing(OnTerminal(arguments, tmp_path, **options)))

        yield start_one


@pytest.fixture
def many(tmp_path: Path, origin: Origin) -> str:
    """A list that nobody waits for."""
    (tmp_path / "many.tsv").write_text("".join(f"{entry.url}\t{entry.name}\n" for entry in origin.entries()))
    return "many.tsv"


@pytest.fixture
def few(tmp_path: Path, many: str) -> str:
    """A list that is soon done."""
    (tmp_path / "few.tsv").write_text("".join((tmp_path / many).read_text().splitlines(keepends=True)[:FEW]))
    return "few.tsv"


def test_a_run_is_followed_from_another_terminal_to_its_end(start: Start, few: str, tmp_path: Path) -> None:
    """It moves on while the run does, stays at the end with what it did, and goes with `q`."""
    run = start("run", "director", "--input", few, "--concurrency", "4", "--quiet")
    segment = None
    while segment is None or b"attempt.sent" not in segment.read_bytes():
        segment = next((tmp_path / ".eventflow").glob("*/log/*/*.ndjson"), None)
    run.process.send_signal(signal.SIGSTOP)
    top = start("top", "--interval", "100ms")
    top.wait_for("● running")
    top.wait_for("awaiting answer")
    run.process.send_signal(signal.SIGCONT)
    top.wait_for("oldest first")
    top.type("o")
    top.wait_for("longest in their state first")
    assert run.wait_for_end() == 0
    top.wait_for("● completed")
    top.wait_for(f"{FEW} of {FEW}  100 %")
    top.wait_for("q  leave")
    assert not top.is_restored
    top.type("q")
    assert top.wait_for_end() == 0
    assert top.is_restored


def test_it_fits_a_terminal_that_changes_its_size(start: Start, tmp_path: Path) -> None:
    """At once, and no line is ever wider."""
    write_run(tmp_path / ".eventflow", "threads", requests=100, failure_share=0.3)
    top = start("top", "--interval", "1h", size=(80, 24))
    top.wait_for("q  leave")
    assert len(top.frame()) == 24
    assert max(map(len, top.frame())) <= 80
    top.resize(40, 12)
    top.wait_for("q  leave")
    assert len(top.frame()) == 12
    assert max(map(len, top.frame())) <= 40
    top.type("q")
    assert top.wait_for_end() == 0


@pytest.mark.parametrize(
    ("leave", "status"),
    [
        (lambda top: top.type("\x03"), 130),
        (lambda top: top.process.send_signal(signal.SIGTERM), 143),
        (lambda top: top.process.send_signal(signal.SIGHUP), 129),
    ],
    ids=["ctrl-c", "sigterm", "sighup"],
)
def test_the_terminal_is_left_as_it_was(
    start: Start, tmp_path: Path, leave: Callable[[OnTerminal], None], status: int
) -> None:
    """Whoever ends it."""
    write_run(tmp_path / ".eventflow", "serial", requests=10)
    top = start("top")
    top.wait_for("q  leave")
    leave(top)
    assert top.wait_for_end() == status
    assert top.is_restored


def test_a_stopped_view_gives_the_terminal_back_until_it_goes_on(start: Start, tmp_path: Path) -> None:
    """Ctrl-Z and `fg`. Here nobody is there to be given it, so the system has it go on at once."""
    write_run(tmp_path / ".eventflow", "serial", requests=10)
    top = start("top", "--interval", "1h")
    top.wait_for("q  leave")
    top.type("\x1a")
    top.wait_for("q  leave")
    assert top.raw.count(ENTER) == 2
    top.type("q")
    assert top.wait_for_end() == 0
    assert top.is_restored


def test_in_the_background_it_touches_nothing_until_fg(start: Start, tmp_path: Path) -> None:
    """Ctrl-Z, `bg` and `fg` of a shell: a job that set the terminal's modes from the background would be stopped."""
    write_run(tmp_path / ".eventflow", "serial", requests=10)
    shell = start("--norc", "--noprofile", "-i", program=("/bin/bash",))
    shell.type(f"PS1='ready> '; stty -a > before; {sys.executable} -m eventflow top --interval 1s\r")
    shell.wait_for("q  leave")
    shell.type("\x1a")
    shell.wait_for("Stopped")
    shell.type("bg\r")
    shell.wait_for("eventflow top --interval 1s &")
    shell.type("sleep 0.1; jobs; stty -a | diff - before && echo as it was\r")
    shell.wait_for("Running")
    shell.wait_for("\nas it was")
    shell.type("fg\r")
    shell.wait_for("q  leave")
    shell.type("q")
    shell.wait_for("ready>")
    shell.type("exit\r")
    assert shell.wait_for_end() == 0


def test_what_is_damaged_is_told_when_it_is_left(start: Start, tmp_path: Path) -> None:
    """It is shown up to the damage; the place is told on the usual screen."""
    (segment,) = segment_paths(write_run(tmp_path / ".eventflow", "serial", requests=20).log)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    top = start("top")
    top.wait_for("● damaged")
    top.type("q")
    assert top.wait_for_end() == 3
    assert "00000000.ndjson" in top.raw.rpartition(LEAVE)[2]


def test_programs_get_a_line_each_time_until_the_run_ends(start: Start, few: str, tmp_path: Path) -> None:
    """The last one is of the whole run."""
    run = start("run", "director", "--input", few, "--concurrency", "4", "--quiet")
    while not list((tmp_path / ".eventflow").glob("*/log/*/*.ndjson")):
        time.sleep(0.01)
    command = [sys.executable, "-m", "eventflow", "top", "--json", "--interval", "100ms"]
    out = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, check=True, timeout=DEADLINE_SECONDS).stdout
    shown = [json.loads(line) for line in out.splitlines()]
    assert [(shown[-1]["state"], shown[-1]["completed"], shown[-1]["total"])] == [("completed", FEW, FEW)]
    assert [line["events"] for line in shown] == sorted(line["events"] for line in shown)
    assert run.wait_for_end() == 0


# ---------------------------------------------------------------------------------------------------------- run --live


def live(start: Start, many: str) -> OnTerminal:
    """A run that shows itself, when its view is there."""
    run = start("run", "director", "--input", many, "--concurrency", "2", "--live")
    run.wait_for("● running")
    run.wait_for("q  leave")
    return run


def view_of(run: OnTerminal) -> int:
    """The process that draws: it is the other one of the terminal's job, and none of the run's children."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                pid, command = int(entry.name), (entry / "cmdline").read_bytes()
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == run.process.pid != pid and b"\0-m\0eventflow\0top\0" in command[:200]:
                    assert int(fields[1]) != run.process.pid or command.startswith(b"/bin/sh"), (
                        "it is a child of the run"
                    )
                    if not command.startswith(b"/bin/sh"):
                        return pid
    raise AssertionError("nobody draws")


def has_ended(pid: int) -> bool:
    """Whether a process ends within some time. Whether init has taken note of it does not matter."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_a_live_run_ends_with_its_summary_on_the_usual_screen(start: Start, few: str) -> None:
    """The view is there while the run goes on, and nothing of it afterwards."""
    run = start("run", "director", "--input", few, "--live")
    drawing = view_of(run)
    run.process.send_signal(signal.SIGSTOP)
    run.wait_for("● running")
    run.process.send_signal(signal.SIGCONT)
    assert run.wait_for_end() == 0
    assert run.is_restored
    assert f"{FEW} of {FEW} completed" in run.raw.rpartition("\x1b[?1049l")[2]
    assert has_ended(drawing)


def test_ctrl_c_ends_a_live_run_as_any_other(start: Start, many: str) -> None:
    """The view goes, the run says how to go on, and the terminal is as it was."""
    run = live(start, many)
    drawing = view_of(run)
    run.type("\x03")
    assert run.wait_for_end() == 130
    assert run.is_restored
    assert "go on with: eventflow resume" in run.raw.rpartition("\x1b[?1049l")[2].replace("\r\n", " ")
    assert has_ended(drawing)


def test_q_goes_back_to_a_line_of_progress(start: Start, many: str) -> None:
    """The run goes on."""
    run = live(start, many)
    run.type("q")
    run.wait_for("━")
    run.wait_for(" done")
    assert run.process.poll() is None
    run.type("\x03")
    assert run.wait_for_end() == 130
    assert run.is_restored


def test_a_run_that_is_killed_takes_its_view_along(start: Start, many: str) -> None:
    """Nobody is left who has the terminal."""
    run = live(start, many)
    drawing = view_of(run)
    run.process.kill()
    assert has_ended(drawing)
    assert run.wait_for_end() == -signal.SIGKILL
    assert run.is_restored


def test_a_view_that_is_killed_leaves_the_run_alone(start: Start, many: str) -> None:
    """The run mends the terminal and shows its line of progress."""
    run = live(start, many)
    os.kill(view_of(run), signal.SIGKILL)
    run.wait_for(" done")
    run.type("\x03")
    assert run.wait_for_end() == 130
    assert run.is_restored


def test_a_list_that_is_typed_needs_the_keys(start: Start) -> None:
    """Then nobody can tell what a key is for."""
    run = start("run", "director", "--live", "--input", "-")
    assert run.wait_for_end() == 2
    assert "--live takes the keys that the list is typed with" in run.raw
