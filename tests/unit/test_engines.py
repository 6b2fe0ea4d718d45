"""Where the work runs: external programs that leave nothing behind, threads whose errors are never lost."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from eventflow.engines.program import Programs, check_program
from eventflow.engines.threads import run_in_threads
from eventflow.errors import ProgramFailed, StoreError, UsageError
from eventflow.interrupts import Interrupts
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.recorder import Recorder, Span
from eventflow.request import Request
from eventflow.story import Interrupted
from eventflow.vocabulary import ProcessExited, StageStarted, decode_payload
from eventflow.work import Settings, Work, fill_in

URL = "http://127.0.0.1:1/x"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run."""
    return create_run(tmp_path / "store", stage="subprocess")


@pytest.fixture
def span(run: RunFolder) -> Iterator[Span]:
    """The root span of a request."""
    with Recorder(run.log, run.run) as recorder:
        yield recorder.open_stream("request-0")


def python(code: str) -> list[str]:
    """A program that runs some Python."""
    return [sys.executable, "-c", code]


def test_a_program_that_succeeds_is_recorded_with_its_end(run: RunFolder, span: Span) -> None:
    """Started and exited, in a span of its own; the arguments are nowhere in the log."""
    Programs().run([*python("pass"), "--password=hunter2"], span, URL)
    span.recorder.flush()
    started, exited = read_events(run.log)
    assert (started.type, exited.type) == ("process.started", "process.exited")
    assert started.span_id == exited.span_id != span.span_id == started.parent_span_id
    ended = decode_payload(exited)
    assert isinstance(ended, ProcessExited)
    assert ended.exit_code == 0
    assert b"hunter2" not in b"".join(path.read_bytes() for path in run.log.rglob("*.ndjson"))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit(3)", "ended with exit status 3"),
        ("import sys; sys.exit('first\\nno such thing')", r"ended with exit status 1 \(no such thing\)"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("import sys; sys.stderr.write('x' * 3_000_000); sys.exit(1)", r"exit status 1 \(x{200}\)"),
    ],
)
def test_a_program_that_fails_says_how(code: str, said: str, span: Span) -> None:
    """Status or signal, and the last line of what it said; three megabytes of it do not fill a pipe."""
    with pytest.raises(ProgramFailed, match=said):
        Programs().run(python(code), span, URL)


def test_a_program_that_is_not_there_fails_its_request_only(span: Span) -> None:
    """And before a run, it is a usage error."""
    with pytest.raises(ProgramFailed, match="'no-such-program' cannot be started"):
        Programs().run(["no-such-program"], span, URL)
    with pytest.raises(UsageError, match="'no-such-program' was not found"):
        check_program(("no-such-program",))
    with pytest.raises(UsageError, match="--exec is empty"):
        check_program(())
    check_program((sys.executable,))


def test_stopping_kills_programs_with_their_children_and_starts_no_more(span: Span) -> None:
    """A grandchild does not survive."""
    programs = Programs()
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    failures: list[ProgramFailed] = []

    def run_program() -> None:
        try:
            programs.run(python(code), span, URL)
        except ProgramFailed as failure:
            failures.append(failure)

    before = psutil.Process().children(recursive=True)  # of other tests: the tracker that multiprocessing keeps
    thread = threading.Thread(target=run_program)
    thread.start()
    deadline = time.monotonic() + 20
    descendants: list[psutil.Process] = []
    while len(descendants) < 2 and time.monotonic() < deadline:
        descendants = [child for child in psutil.Process().children(recursive=True) if child not in before]
    programs.stop()
    thread.join(20)
    assert [failure.what for failure in failures] == [f"{Path(sys.executable).name} ended with killed by SIGKILL"]
    _, alive = psutil.wait_procs(descendants, timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    with pytest.raises(ProgramFailed, match="was not started"):
        programs.run(python("pass"), span, URL)


def test_what_a_program_leaves_behind_ends_with_it(span: Span, tmp_path: Path) -> None:
    """A process that it started, and that was to go on in the background."""
    noted = tmp_path / "pid"
    code = f"import subprocess; open({str(noted)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid))"
    Programs().run(python(code), span, URL)
    with contextlib.suppress(psutil.NoSuchProcess):
        left = psutil.Process(int(noted.read_text()))
        psutil.wait_procs([left], timeout=0.5)
        assert left.status() == psutil.STATUS_ZOMBIE  # where nobody asks for the end of orphans


def test_placeholders_are_filled_in_once_and_nothing_else_is_touched() -> None:
    """A name that looks like a placeholder stays as it is; there is no shell to see its quotes."""
    program = ["do", "{path}", "--as={name}", "{url}{name}", "{other}", "$HOME; rm -rf /"]
    filled = fill_in(program, path="/o/{url}", name="a '{path}'", url="http://h/{name}")
    assert filled == ["do", "/o/{url}", "--as=a '{path}'", "http://h/{name}a '{path}'", "{other}", "$HOME; rm -rf /"]


@pytest.fixture
def work(run: RunFolder, tmp_path: Path) -> Iterator[Work]:
    """The work of a run of three requests."""
    settings = Settings(stage="threads", workers=3, out=str(tmp_path / "out"))
    with Recorder(run.log, run.run) as recorder:
        root = recorder.open_stream("run")
        cause = root.record(StageStarted(stage="threads", workers=3))
        items = (Request(number, URL, f"{number}.bin") for number in range(3))
        made = Work(settings, recorder, run.log, root, cause, items)
        yield made
        made.close()


def test_an_error_in_one_thread_stops_the_others_and_is_raised(work: Work) -> None:
    """A failing log is the run's end, not one thread's."""
    first = threading.Lock()

    def body() -> None:
        if first.acquire(blocking=False):
            raise StoreError("the disk is gone")
        while not work.cancelled.wait(0.01):
            pass

    with pytest.raises(StoreError, match="the disk is gone"):
        run_in_threads(work, body)
    assert work.next() is None


def test_threads_share_the_requests_out(work: Work) -> None:
    """Each request is given once."""
    given: list[int] = []

    def body() -> None:
        given.extend(queued.request.number for queued in work.requests())

    run_in_threads(work, body)
    assert sorted(given) == [0, 1, 2]


def record_until_interrupted(span: Span, timer: threading.Timer) -> None:
    """Record as fast as it goes."""
    with Interrupts(lambda: None, lambda: True):
        timer.start()
        while True:
            span.record(StageStarted(stage="s", workers=1))


def test_a_signal_is_never_raised_inside_the_recorder(run: RunFolder) -> None:
    """Interrupted at random moments while it records as fast as it can, the log has no gap and nothing twice."""
    interrupted = 0
    with Recorder(run.log, run.run) as recorder:
        span = recorder.open_stream("request-0")
        for _ in range(20):
            timer = threading.Timer(0.004, os.kill, (os.getpid(), signal.SIGINT))
            with pytest.raises(Interrupted):
                record_until_interrupted(span, timer)
            interrupted += 1
            timer.join()
    events = list(read_events(run.log))
    assert [event.seq for event in events] == list(range(len(events))) == [event.version for event in events]
    assert len(events) > interrupted == 20
