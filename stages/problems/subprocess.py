"""The problems of the stage subprocess: what a program leaves, blocks, hides and shows."""

import secrets
import stat
import time
from pathlib import Path

from eventflow.origin.settings import OriginSettings
from eventflow.quantities import format_count, format_duration
from eventflow.vocabulary import ProcessExited, ProcessStarted, decode_payload
from stages.problems import proc
from stages.problems.scene import Scene
from stages.problems.shown import Shown
from stages.problems.stage_runs import Ran, RunningStage

_NO_PROC = "This system has no /proc, so what ps would show is not shown here."
_PATIENCE_S = 1.0

_NOT_WAITING = """\
import subprocess, time

programs = [subprocess.Popen(["true"]) for _ in range(20)]
time.sleep(60)  # busy with something else, and nobody calls wait()
"""

_WAITING = """\
import subprocess, sys

program = subprocess.Popen(["seq", sys.argv[1]], stdout=subprocess.PIPE)
program.wait()
print(len(program.stdout.read()), "bytes")
"""

_ASKING = """\
import signal, subprocess

print(subprocess.call(["false"]))
print(subprocess.call("false | cat", shell=True))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a well-known remedy for zombies
print(subprocess.call(["false"]))
"""

_KILLING = """\
import subprocess

program = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"])
try:
    program.wait(timeout=0.3)
except subprocess.TimeoutExpired:
    program.kill()
    program.wait()
"""

_TELLING = """\
import subprocess, sys

subprocess.run(["sh", "-c", "sleep 60; true", "upload", "--token=" + sys.argv[1]])
"""


def zombies(scene: Scene) -> Shown:
    """Twenty programs that have ended, and a parent that does not ask."""
    running = scene.start_program(_NOT_WAITING)

    def count() -> int:
        return sum(proc.state(pid) == "Z" for pid in proc.children(running.pid))

    running.wait_until(lambda: count() == 20, limit_s=5 if proc.has_proc() else 0.5)
    found = count()
    running.end()
    ran = _run(scene, "true", files=20)
    exits = [event for event in _programs(ran) if isinstance(event, ProcessExited)]
    return Shown(
        program=_NOT_WAITING,
        facts={"programs": 20, "zombies": found, "stage_programs": 20, "stage_exits": len(exits)},
        seen=(
            (
                f"All 20 programs have ended, and {found} of them are still there: state Z in ps, <defunct>. Each "
                "keeps a process id and its exit status."
            ),
        ),
        why="A process that has ended stays until its parent asks how. A parent that lives long and never asks runs "
        "out of process ids.",
        next="The stage subprocess waits for every program in the thread that started it, and its end is an event.",
        seen_next=(f"eventflow run subprocess --exec true: 20 files, {len(exits)} times process.exited in the log.",),
        missing="" if proc.has_proc() else _NO_PROC,
    )


def full_pipe(scene: Scene) -> Shown:
    """A parent that waits before it reads, and a child that cannot write on."""
    small = scene.program(_WAITING, "1000", limit_s=5)
    running = scene.start_program(_WAITING, "100000")
    running.wait_until(lambda: False, limit_s=_PATIENCE_S)
    held = proc.waiting_bytes(running.pid)
    large = running.end()
    ran = _run(scene, "sh -c 'seq 100000; seq 100000 >&2'")
    state = "had ended" if large.status is not None else "was still there, both processes asleep. We killed them"
    return Shown(
        program=_WAITING,
        facts={
            "small_output": small.out.strip(),
            "large_ended": large.status is not None,
            "waited_seconds": large.seconds,
            "pipe_bytes": held,
            "stage_completed": ran.summary.completed,
            "stage_seconds": ran.summary.seconds,
        },
        seen=(
            f"With 1000 numbers it printed {small.out.strip()!r}.",
            f"With 100 000 numbers it {state} after {format_duration(large.seconds)}"
            + (f", with {format_count(held)} bytes in the pipe that nobody reads." if held else "."),
        ),
        why="A pipe holds 64 KiB. The child waits for room in it, the parent waits for the child: each is right, and "
        "neither moves. Tests with little output pass.",
        next="The stage subprocess has no pipe that could fill: what a program writes goes nowhere, its errors to a "
        "temporary file, of which the last line is kept.",
        seen_next=(
            (
                f"eventflow run subprocess --exec, with as much to write: {ran.summary.completed} of "
                f"{ran.summary.requests} completed in {format_duration(ran.summary.seconds)}."
            ),
        ),
        missing="" if proc.has_proc() else "How full the pipe is cannot be read: this system has no /proc.",
    )


def lost_status(scene: Scene) -> Shown:
    """`false` always ends with status 1; not everybody is told."""
    naive = scene.program(_ASKING, limit_s=5)
    plain, piped, ignored = (int(line) for line in naive.out.split())
    ran = _run(scene, "false", files=3)
    message = ran.summary.failures[0].message if ran.summary.failures else "none"
    return Shown(
        program=_ASKING,
        facts={
            "status": plain,
            "status_through_pipe": piped,
            "status_with_sigchld_ignored": ignored,
            "stage_failed": ran.summary.failed,
            "stage_exit_status": ran.status,
        },
        seen=(
            (
                f"false ends with status 1, always. Asked plainly, subprocess says {plain}; through a shell's pipe "
                f"{piped}; with SIGCHLD ignored {ignored}."
            ),
        ),
        why="A pipe's status is that of its last program. And who ignores SIGCHLD, or inherits that, has the kernel "
        "forget every status: Python then says 0.",
        next="The stage subprocess starts programs without a shell, takes SIGCHLD back from whoever ignored it, and a "
        "status that is not 0 is a failed request.",
        seen_next=(
            (
                f"eventflow run subprocess --exec false: {ran.summary.failed} of {ran.summary.requests} failed, exit "
                f"status {ran.status}."
            ),
            f"{message.partition(': ')[2]}.",
        ),
    )


def orphan(scene: Scene) -> Shown:
    """A script is killed; the program that it started goes on."""
    running = scene.start_program(_KILLING)
    running.wait_until(lambda: not running.is_running(), limit_s=5)
    survivor = int(running.said() or 0)
    alive, parent = _is_alive(survivor), proc.parent(survivor)
    running.end()
    stage = _start(scene, "sh -c 'sleep 60 & wait'", files=3)
    stage.wait_events("process.started", 1 + 3)
    ran = stage.stop()
    groups = {event.pid for event in _programs(ran) if isinstance(event, ProcessStarted) and event.role == "program"}
    left = sum(proc.group(pid) in groups and proc.state(pid) != "Z" for pid in proc.pids())
    return Shown(
        program=_KILLING,
        facts={
            "survived": alive,
            "survivor_parent": parent,
            "stage_programs": len(groups),
            "stage_survivors": left,
            "stage_state": ran.summary.state,
        },
        seen=(
            f"The script was killed. The sleep that it had started {'lives' if alive else 'is gone'}"
            + (f", and its parent is process {parent} now. We killed it." if parent else "."),
        ),
        why="kill() ends one process. What that one has started becomes an orphan, which keeps its memory, files and "
        "ports, and nobody knows it any more.",
        next="The stage subprocess gives each program a process group of its own, and ends the whole group: when the "
        "run is stopped, and when the program ends.",
        seen_next=(
            (
                f"eventflow run subprocess with {len(groups)} such scripts, then SIGTERM: {ran.summary.state}, {left} "
                "processes of their groups left."
            ),
        ),
        missing="" if proc.has_proc() else _NO_PROC,
    )


def secret_in_ps(scene: Scene) -> Shown:
    """A token, made up, on a command line; then the same through the environment of the real stage."""
    token = f"made-up-{secrets.token_hex(4)}"
    running = scene.start_program(_TELLING, token)
    running.wait_until(
        lambda: any(token in _shown(pid) for pid in proc.children(running.pid)), limit_s=5 if proc.has_proc() else 0.5
    )
    pid = next(iter(proc.children(running.pid)), 0)
    line, public, environment = _shown(pid), _others_may_read(pid, "cmdline"), _others_may_read(pid, "environ")
    running.end()
    scene.environment["UPLOAD_TOKEN"] = token
    stage = _start(scene, "sh -c 'test -n \"$UPLOAD_TOKEN\" && sleep 0.5'")
    stage.wait_events("process.started", 1 + 2)
    lines = [_shown(other) for other in proc.pids()]
    ran = stage.wait()
    recorded = [
        event.program for event in _programs(ran) if isinstance(event, ProcessStarted) and event.role == "program"
    ]
    held = sum(token.encode() in path.read_bytes() for path in stage.store.rglob("*") if path.is_file())
    return Shown(
        program=_TELLING,
        facts={
            "seen_in_ps": token in line,
            "arguments_readable_by_all": public,
            "environment_readable_by_all": environment,
            "stage_completed": ran.summary.completed,
            "stage_seen_in_ps": any(token in other for other in lines),
            "stage_recorded": ",".join(sorted(set(recorded))),
            "stage_files_with_token": held,
        },
        seen=(
            f"What ps shows to every user of the machine: {line or 'nothing here'}",
            f"/proc/PID/cmdline can be read by everybody: {_yes(public)}. /proc/PID/environ: {_yes(environment)}.",
        ),
        why="Arguments are public while the program runs, and often longer: in the shell's history, in logs, in error "
        "reports.",
        next="Give secrets by the environment or a file. Of a program eventflow's events have the name, its process id "
        "and its end, never its arguments; run.json keeps --exec without what looks secret.",
        seen_next=(
            (
                f"eventflow run subprocess, the token in the environment: {ran.summary.completed} of "
                f"{ran.summary.requests} completed; in ps: {_yes(any(token in other for other in lines))}; files of "
                f"the run with it: {held}; recorded: {', '.join(sorted(set(recorded)))}."
            ),
        ),
        missing="" if proc.has_proc() else _NO_PROC,
    )


def _start(scene: Scene, command: str, *, files: int = 2) -> RunningStage:
    source = scene.list_of(scene.origin(OriginSettings(files=files, size=10_000)))
    return scene.start_stage("subprocess", source, "--exec", command)


def _run(scene: Scene, command: str, *, files: int = 2) -> Ran:
    return _start(scene, command, files=files).wait()


def _programs(ran: Ran) -> list[ProcessStarted | ProcessExited]:
    payloads = [decode_payload(event) for event in ran.events if event.type.startswith("process.")]
    return [payload for payload in payloads if isinstance(payload, ProcessStarted | ProcessExited)]


def _is_alive(pid: int) -> bool:
    """Not a zombie: where nobody is there to ask how it ended, an orphan that has ended stays one."""
    for _ in range(20):  # a moment, in which a kill would have reached it
        if not pid or proc.state(pid) in ("", "Z"):
            return False
        time.sleep(0.005)
    return True


def _shown(pid: int) -> str:
    return " ".join(proc.command_line(pid))


def _others_may_read(pid: int, name: str) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/{name}").stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"
