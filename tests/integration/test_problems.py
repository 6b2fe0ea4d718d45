"""Every problem of the ladder is really seen, and nothing of its scenario stays."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from eventflow.errors import StoreError
from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings
from stages.problems import proc, programs
from stages.problems import subprocess as program_problems
from stages.problems.cgroup import MemoryCgroup, memory_cgroup
from stages.problems.processes import oom_kill
from stages.problems.programs import MARK, end_marked
from stages.problems.registry import PROBLEMS
from stages.problems.scene import Scene
from stages.problems.shown import Shown
from stages.registry import STAGES


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Scenes make their folders here; after each test nothing of one is left: no file, process, thread, cgroup."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    yield folder
    assert not list(folder.iterdir())
    assert not psutil.Process().children(recursive=True)
    assert not marked(folder)
    assert not [thread for thread in threading.enumerate() if thread.name == "silent-servers"]
    assert not cgroups_left()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


def marked(temporary: Path) -> list[int]:
    """The processes that carry the mark of a scene of this test; other tests may run beside it."""
    found = []
    for pid in proc.pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if f"\0{MARK}=".encode() in environment and f"TMPDIR={temporary}\0".encode() in environment:
            found.append(pid)
    return found


def cgroups_left() -> list[Path]:
    """The cgroups of scenes of this process, or of processes that have ended."""
    found = Path("/sys/fs/cgroup").glob("**/eventflow-problem-*")
    owners = {path: int(path.name.split("-")[2]) for path in found}
    return [path for path, owner in owners.items() if owner == os.getpid() or not psutil.pid_exists(owner)]


def facts(name: str) -> dict[str, Any]:
    """What a scenario shows, checked for what all of them have."""
    shown = PROBLEMS[name].show()
    assert all((shown.facts, shown.seen, shown.why, shown.next))
    return dict(shown.facts)


def eventflow(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command line, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "eventflow", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_serial_takes_the_sum_of_the_waits() -> None:
    """Twenty waits of 50 ms are a second; threads wait for all at the same time."""
    seen = facts("sum-of-waits")
    assert seen["waits_seconds"] == 1.0
    assert seen["serial_seconds"] > 1.0
    assert seen["times_faster"] > 2
    assert seen["serial_idle_share"] > 0.4


def test_threads_keep_one_processor_busy_and_processes_more() -> None:
    """The interpreter's lock is a hard bound; what processes gain depends on who else is at work."""
    shown = PROBLEMS["one-lock"].show()
    seen: dict[str, Any] = shown.facts
    assert shown.missing or seen["processes_busy_processors"] > 1.2 * seen["threads_busy_processors"]
    assert "without the lock" in shown.missing or seen["threads_busy_processors"] < 1.2
    assert seen["processes_peak_bytes"] > 1.2 * seen["threads_peak_bytes"] > 0


def test_an_error_in_a_future_that_nobody_awaits_is_lost() -> None:
    """Status 0 and nothing said, with files missing; the stage names each."""
    seen = facts("lost-error")
    assert (seen["exit_status"], seen["error_lines"]) == (0, 0)
    assert seen["files_there"] == seen["files"] - seen["stage_failed"] < seen["files"]
    assert (seen["stage_completed"] + seen["stage_failed"], seen["stage_exit_status"]) == (seen["files"], 1)


def test_a_thread_that_blocks_keeps_the_program_from_ending() -> None:
    """It says that it leaves and stays; the stage leaves, and says what became of every request."""
    seen = facts("hanging-exit")
    assert seen["ended_by_itself"] is False
    assert seen["waited_seconds"] > 1
    assert seen["stage_left_after_seconds"] < 8
    assert (seen["stage_state"], seen["stage_cancelled"], seen["stage_exit_status"]) == ("interrupted", 4, 130)


def test_a_worker_process_costs_an_interpreter() -> None:
    """Some MiB and CPU time for each worker, and not less time; the loop does with one process."""
    seen = facts("cost-of-workers")
    assert seen["bytes_per_worker_process"] > 5 << 20
    assert seen["processes_cpu_seconds"] > 2 * seen["threads_cpu_seconds"]
    assert seen["processes_seconds"] > seen["threads_seconds"]
    assert seen["loop_peak_bytes"] < seen["processes_peak_bytes"]


def test_an_exception_that_cannot_be_unpickled_breaks_the_pool() -> None:
    """One error takes the results of others with it and its own message too; ours cross."""
    seen = facts("unpicklable-error")
    assert seen["errors_raised"] == seen["stage_failed"] == 1
    assert seen["broken"] > seen["errors_raised"]
    assert seen["says_503"] is False
    assert seen["own_error_crosses"] is True
    assert seen["stage_completed"] == 7


def check_oom(seen: dict[str, Any]) -> None:
    """The pool has no word for it, the stage has, and its resume loses nothing."""
    assert seen["broken"] >= 1
    assert (seen["stage_state"], seen["stage_exit_status"], seen["worker_exit_code"]) == ("failed", 3, -signal.SIGKILL)
    assert seen["stage_says_worker_died"] is True
    assert 0 < seen["completed_before"] < seen["completed_after"] == seen["files"]
    assert seen["stored_twice"] == 0


def test_the_oom_killer_takes_a_worker_and_the_run_goes_on() -> None:
    """By the kernel where a memory cgroup can be made, and the facts say which it was."""
    with memory_cgroup(f"eventflow-problem-{os.getpid()}-test") as made:
        real = made is not None
    seen = facts("oom-kill")
    check_oom(seen)
    assert seen["real_oom"] is real
    assert seen["kills"] == (2 if real else 0)


def test_without_a_cgroup_a_worker_is_killed_as_the_oom_killer_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a plain user in a container: SIGKILL to the largest, and it is said that it was we."""
    monkeypatch.setattr("stages.problems.cgroup._places", lambda: iter(()))
    with Scene() as scene:
        shown = oom_kill(scene)
    check_oom(dict(shown.facts))
    assert (shown.facts["real_oom"], shown.facts["kills"]) == (False, 0)
    assert "No memory cgroup can be made here" in " ".join(shown.seen)


def test_programs_that_nobody_waits_for_are_zombies() -> None:
    """All twenty; the stage has an end for each."""
    seen = facts("zombies")
    assert seen["zombies"] == seen["programs"] == seen["stage_exits"] == 20


def test_a_full_pipe_stops_both_for_ever() -> None:
    """64 KiB in the pipe; little output works, and so does the stage."""
    seen = facts("full-pipe")
    assert seen["small_output"] == "3893 bytes"
    assert (seen["large_ended"], seen["pipe_bytes"]) == (False, 65_536)
    assert seen["stage_completed"] == 2


def test_an_exit_status_gets_lost_in_two_ways() -> None:
    """Through a shell's pipe, and with SIGCHLD ignored; the stage has it."""
    seen = facts("lost-status")
    assert (seen["status"], seen["status_through_pipe"], seen["status_with_sigchld_ignored"]) == (1, 0, 0)
    assert (seen["stage_failed"], seen["stage_exit_status"]) == (3, 1)


def test_an_ignored_sigchld_that_is_inherited_hides_no_failure(tmp_path: Path) -> None:
    """Whoever starts eventflow may ignore it: the kernel forgets statuses then, and `false` would have succeeded."""
    with start_origin(OriginSettings(files=2, size=100)) as origin:
        urls = [entry.url for entry in origin.entries()]
        done = subprocess.run(
            [sys.executable, "-m", "eventflow", "run", "subprocess", "--exec", "false", "--json", *urls],
            cwd=tmp_path,
            preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, json.loads(done.stdout)["failed"]) == (1, 2)


def test_a_grandchild_survives_and_the_stage_leaves_none() -> None:
    """Its parent was killed; the stage ends whole groups."""
    seen = facts("orphan")
    assert seen["survived"] is True
    assert (seen["stage_programs"], seen["stage_survivors"], seen["stage_state"]) == (3, 0, "interrupted")


def test_arguments_are_public_and_eventflow_records_none() -> None:
    """Everybody may read them; the environment is the owner's, and the log has the program's name only."""
    seen = facts("secret-in-ps")
    assert (seen["seen_in_ps"], seen["arguments_readable_by_all"]) == (True, True)
    assert (seen["environment_readable_by_all"], seen["stage_seen_in_ps"]) == (False, False)
    assert (seen["stage_completed"], seen["stage_recorded"], seen["stage_files_with_token"]) == (2, "sh", 0)


def test_in_a_loop_errors_and_cancellation_arrive() -> None:
    """One error ends all eight tasks in order; a signal ends all requests at once."""
    seen = facts("error-arrives")
    assert (seen["exit_status"], seen["says_the_error"], seen["tidied_up"]) == (1, True, 8)
    assert seen["seconds"] < 10
    assert (seen["stage_cancelled"], seen["stage_state"]) == (20, "interrupted")


def test_one_slow_piece_stops_a_loop() -> None:
    """The pause is as long as the piece; with a thread it is a fraction of it."""
    seen = facts("one-slow-piece")
    assert seen["pause_seconds"] > 0.1
    assert seen["times"] > 2


def test_the_loop_is_blind_where_the_director_sees() -> None:
    """Four requests that hang in four states: two for the loop, four for the director."""
    seen = facts("blind")
    assert seen["loop_last"].split(",") == ["attempt.started"] * 3 + ["attempt.response"]
    assert seen["director_last"].split(",")[:3] == ["attempt.started", "attempt.sent", "attempt.answering"]
    assert seen["director_states"] == seen["hanging"] == 4


def test_the_director_has_no_links_and_lineage_has() -> None:
    """The same list, with retries: none of its events says what caused it; in lineage every one of a request does."""
    seen = facts("no-cause")
    assert seen["retried"] > 0
    assert (seen["director_events"] > 50, seen["director_links"]) == (True, 0)
    assert seen["lineage_request_events_with_cause"] == seen["lineage_request_events"] > 50


def test_the_links_lead_from_the_file_to_the_line_and_the_run() -> None:
    """Over tries and the connections of others, back to the first event."""
    seen = facts("whole-chain")
    assert seen["first_event"] == "run.started"
    assert seen["line_is_the_request"] is True
    assert seen["tries"] == 3
    assert seen["other_requests_before"] > 0


def test_every_stage_has_a_problem_and_every_problem_a_scenario() -> None:
    """The registry is in the order of the ladder and names functions that are there, each with a docstring."""
    assert list(dict.fromkeys(problem.stage for problem in PROBLEMS.values())) == list(STAGES)
    for problem in PROBLEMS.values():
        module = importlib.import_module(f"stages.problems.{problem.stage}")
        assert getattr(module, problem.name.replace("-", "_")).__doc__


def test_the_command_lists_and_shows_for_people_and_for_programs() -> None:
    """All names; the program that was run, what was seen, why, what is next; JSON with the same facts."""
    listed = eventflow("demo", "problem")
    assert [line.split("\t")[1] for line in listed.stdout.splitlines()[1:]] == list(PROBLEMS)
    assert [each["name"] for each in json.loads(eventflow("demo", "problem", "--json").stdout)] == list(PROBLEMS)
    people = eventflow("demo", "problem", "lost-status")
    assert people.returncode == 0
    assert "    print(subprocess.call(" in people.stdout
    assert all(f"\n{label} " in people.stdout for label in ("Seen", "Why", "Next"))
    assert max(map(len, people.stdout.splitlines())) <= 100
    answer = json.loads(eventflow("demo", "problem", "lost-status", "--json").stdout)
    assert answer["name"] == "lost-status"
    assert answer["shown"]["facts"]["status_through_pipe"] == 0


def test_the_document_shows_every_problem_as_it_is() -> None:
    """docs/problems.md, made by docs/make_problems.py: each heading, title and program, in the order of the ladder."""
    text = (Path(__file__).parents[2] / "docs" / "problems.md").read_text(encoding="utf-8")
    assert re.findall(r"^### `(.+)`$", text, re.MULTILINE) == list(PROBLEMS)
    for problem in PROBLEMS.values():
        assert f"\n{problem.name} ({problem.stage}): {problem.title}\n" in text
    modules = [importlib.import_module(f"stages.problems.{stage}") for stage in STAGES]
    shown = [
        value for module in modules for value in vars(module).values() if str(value).startswith(("import", "from"))
    ]
    assert len(shown) > 10
    assert not [program for program in shown if textwrap.indent(program, "    ") not in text]


def test_an_unknown_problem_is_a_usage_error_with_the_names() -> None:
    """Status 2, one line."""
    wrong = eventflow("demo", "problem", "no-such-problem")
    assert (wrong.returncode, wrong.stdout, len(wrong.stderr.splitlines())) == (2, "", 1)
    assert all(name in wrong.stderr for name in PROBLEMS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("name", ["hanging-exit", "oom-kill"])
def test_a_signal_in_its_middle_leaves_nothing_behind(name: str, number: signal.Signals, temporary: Path) -> None:
    """Status 130 within seconds, and the checks of `temporary` hold at once. A second signal changes nothing."""
    command = [sys.executable, "-m", "eventflow", "demo", "problem", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while not list(temporary.glob("*/program.py")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(number)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_stage_that_fails_in_a_scenario_says_why(temporary: Path) -> None:
    """One line with what the stage said, for whoever maintains the scenario."""
    with Scene() as scene:
        empty = scene.folder / "empty.txt"
        empty.touch()
        with pytest.raises(StoreError, match="ended with status 2: eventflow: there is no URL"):
            scene.run_stage("serial", empty)


def test_what_made_a_session_of_its_own_is_found_by_its_mark(temporary: Path) -> None:
    """An orphan, in another session, with nothing that leads to it but its environment."""
    with Scene() as scene:
        ended = scene.program(
            """
            import subprocess
            print(subprocess.Popen(["sleep", "60"], start_new_session=True).pid)
            """,
            limit_s=10,
        )
        orphan = int(ended.out)
        assert proc.state(orphan) not in ("", "Z")
        assert marked(temporary) == [orphan]
    assert proc.state(orphan) in ("", "Z")
    assert end_marked(scene.mark) == 0


def test_without_proc_it_says_what_cannot_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on other systems: no error, no invention."""
    monkeypatch.setattr(proc, "PROC", tmp_path / "no-proc")
    for scenario in (program_problems.zombies, program_problems.secret_in_ps):
        with Scene() as scene:
            shown: Shown = scenario(scene)
        assert "no /proc" in shown.missing


def test_a_cgroup_with_the_interface_of_version_2_is_used_by_its_file_names(tmp_path: Path) -> None:
    """Limit without swap, processes, and the kernel's count of kills; where there is no swap file, none is needed."""
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 3\noom_group_kill 0\n")
    group = MemoryCgroup(tmp_path, "v2")
    group.limit(4096)
    group.add(os.getpid())
    assert group.kills() == 3
    assert {path.name: path.read_text() for path in tmp_path.glob("[cm]*.[mps]*")}["memory.max"] == "4096"
    assert (tmp_path / "cgroup.procs").read_text() == str(os.getpid())


def test_a_program_that_ended_is_asked_once(temporary: Path) -> None:
    """`end` again gives the same, and kills nobody."""
    with Scene() as scene:
        running = scene.start_program("print(1)")
        first = running.end(10)
        assert (first.status, first.out, running.end(), running.is_running()) == (0, "1\n", first, False)
    assert programs.MARK not in os.environ
