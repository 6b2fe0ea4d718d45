"""T18: folders with odd names, links, no rights or no descriptors; reads and calls that are cut short."""

import errno
import io
import os
import pathlib
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from eventflow.disk import Disk
from eventflow.errors import EventflowError, LogDamaged, LogWriteFailed, StoreError, UsageError
from eventflow.log.appending import Appender
from eventflow.log.following import Subscription
from eventflow.log.layout import segment_paths, writer_folders
from eventflow.log.reader import read_events
from eventflow.log.recovery import recover_run
from eventflow.log.runs import RunFolder, create_run, find_run, list_runs
from eventflow.log.seal import seal_run
from eventflow.log.verify import verify_run
from tests.faults.filled import everything, fill, ids
from tests.scripted_log import Script

ODD_NAMES = [b"\xff\n'\"", b"with  spaces ", b"*?[a]{b}", b"\x1b[31mred", b"-rf", "é😀%20#&$(x)".encode(), b"\\x\t;--"]
PROGRAM = Path(__file__)
NOBODY = 65534


@pytest.mark.parametrize("name", ODD_NAMES, ids=repr)
def test_a_store_may_have_any_name(name: bytes, tmp_path: Path) -> None:
    """Making, writing, reading, subscribing, sealing, verifying: a path is bytes, whatever they mean to others."""
    store = tmp_path / os.fsdecode(name) / "store"
    run = create_run(store, stage="serial")
    wanted = fill(run)
    assert ids(run) == wanted
    assert find_run(store, run.run).path == run.path
    with Subscription(run.path, "billing") as subscription:
        assert [event.id for event in subscription.poll()] == wanted
    with Subscription(run.path, "billing") as subscription:
        assert not list(subscription.poll())
    if b"\xff" in name:  # DuckDB's paths are UTF-8
        with pytest.raises(StoreError, match="rename that folder"):
            list(seal_run(run))
    else:
        assert len(list(seal_run(run))) == len(segment_paths(run.log)) > 1
        assert {path.suffix for path in segment_paths(run.log)} == {".parquet"}
    assert ids(run) == wanted
    assert not [report for report in verify_run(run.log, run.run) if report.damage]
    assert [path.name for path in tmp_path.iterdir()] == [os.fsdecode(name)]


@pytest.mark.parametrize("name", ODD_NAMES, ids=repr)
def test_an_error_names_any_path_in_one_line(name: bytes, tmp_path: Path) -> None:
    """A message can be printed anywhere, and no file name can write a second line, or move the cursor."""
    run = create_run(tmp_path / os.fsdecode(name), stage="serial")
    fill(run)
    path = segment_paths(run.log)[0]
    path.write_bytes(path.read_bytes().replace(b'"seq":0', b'"seq":1', 1))
    errors: list[EventflowError] = []
    for act in (
        lambda: ids(run),
        lambda: Appender(run.log, "w", disk=Refusing(errno.EIO, "open")),
        lambda: create_run(tmp_path / os.fsdecode(name), stage="x", disk=Refusing(errno.EROFS, "create_folder")),
        lambda: find_run(tmp_path / os.fsdecode(name), "nothing"),
    ):
        with pytest.raises(EventflowError) as raised:
            act()
        errors.append(raised.value)
    for error in errors:
        text = str(error)
        assert text.isprintable(), ascii(text)
        text.encode()


class Refusing(Disk):
    """A disk that refuses some calls."""

    def __init__(self, code: int, *calls: str) -> None:
        for call in calls:
            setattr(self, call, self._refuse)
        self._code = code

    def _refuse(self, *_arguments: object) -> int:
        raise OSError(self._code, os.strerror(self._code))


WRITING = ("create_folder", "create", "open", "lock", "rename", "remove")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_store_that_may_not_be_written_can_be_read(code: int, tmp_path: Path) -> None:
    """All that writes says so, in our own errors; all that reads works; nothing is changed."""
    run = create_run(tmp_path / "store", stage="serial")
    wanted = fill(run)
    before = everything(tmp_path)
    check_not_written(run, Refusing(code, *WRITING), os.strerror(code))
    assert ids(run) == wanted
    assert not [report for report in verify_run(run.log, run.run) if report.damage]
    assert everything(tmp_path) == before


def check_not_written(run: RunFolder, disk: Disk, said: str) -> None:
    """Every way to write fails with our own error, which says why."""
    acts: list[Callable[[], Any]] = [
        lambda: Appender(run.log, "w", disk=disk),
        lambda: Appender(run.log, "new", disk=disk),
        lambda: Subscription(run.path, "billing", disk=disk),
        lambda: recover_run(run.log, disk),
        lambda: list(seal_run(run, disk=disk)),
        lambda: create_run(run.path.parent, stage="serial", disk=disk),
    ]
    for act in acts:
        with pytest.raises((LogWriteFailed, UsageError), match=said):
            act()


def test_rights_that_were_lost_are_told_and_may_come_back() -> None:
    """The real thing, in a process without root's rights: a writer goes on when it may write again."""
    with tempfile.TemporaryDirectory() as name:  # the folders of pytest are closed to others
        folder = Path(name)
        run = create_run(folder / "store", stage="serial")
        fill(run)
        if os.geteuid() == 0:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, NOBODY, NOBODY)
        before = everything(folder)
        folders = [path for path in [run.path, *run.path.rglob("*")] if path.is_dir()]
        for path in folders:
            path.chmod(0o500)
        done = run_here("try_without_rights", str(run.path), user=NOBODY if os.geteuid() == 0 else None)
        assert done.splitlines() == ["LogWriteFailed", "LogWriteFailed", "6"]
        assert everything(folder) == before
        for path in folders:
            path.chmod(0o700)
        with Appender(run.log, "w") as appender:
            appender.append([Script(run.run, "w").event(6)], 5)


def try_without_rights(path: str) -> None:
    """Run as nobody: try to write, then read."""
    run = RunFolder(Path(path))
    for act in (lambda: Appender(run.log, "new"), lambda: Subscription(run.path, "billing")):
        with pytest.raises(LogWriteFailed, match="Permission denied") as failure:
            act()
        say(failure.type.__name__)
    say(len(ids(run)))


def say(*words: object) -> None:
    """Tell the process that started this one."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def run_here(function: str, *arguments: str, user: int | None = None) -> str:
    """Call a function of this module in another process; gives what it prints."""
    demote = f"import os; os.setgid({user}); os.setuid({user}); " if user is not None else ""
    code = f"import sys; from tests.faults import test_odd_folders; {demote}test_odd_folders.{function}(*sys.argv[1:])"
    command = [sys.executable, "-c", code, *arguments]
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_descriptors_nothing_is_lost(tmp_path: Path) -> None:
    """EMFILE at each call that needs one: told as our own error, and the log goes on when there are some again."""
    store = tmp_path / "store"
    told = run_here("try_without_descriptors", str(store)).split()
    assert set(told) == {"LogWriteFailed", "appended"}
    (run,) = list_runs(store)
    script = Script(run.run, "w")
    assert ids(run) == [script.id_of(number) for number in range(told.count("appended"))]
    assert not [report for report in verify_run(run.log, run.run) if report.damage or report.torn_bytes]


def try_without_descriptors(store: str) -> None:
    """Open a log and append with so many descriptors left, and with one more, until there are enough."""
    run = create_run(Path(store), stage="serial")
    script, number = Script(run.run, "w"), 0
    list(read_events(run.log))  # all modules are loaded
    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(8):
        resource.setrlimit(resource.RLIMIT_NOFILE, (used - 1 + spare, hard))
        try:
            with Appender(run.log, "w", segment_bytes_max=1) as appender:
                for _ in range(2):
                    appender.append([script.event(number)], number - 1)
                    number += 1
                    say("appended")
        except LogWriteFailed as failure:
            say("LogWriteFailed" if "Too many open files" in str(failure) else failure)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with Appender(run.log, "w") as appender:
            assert appender._writer.seq == number - 1


def test_signals_interrupt_no_call(tmp_path: Path) -> None:
    """EINTR: a timer's signal every half millisecond, in the middle of write, fsync and flock (PEP 475)."""
    store = tmp_path / "store"
    signals, events = map(int, run_here("append_among_signals", str(store)).split())
    assert signals > 50
    (run,) = list_runs(store)
    assert ids(run) == [Script(run.run, "w").id_of(number) for number in range(events)]
    assert not [report for report in verify_run(run.log, run.run) if report.damage or report.torn_bytes]


def append_among_signals(store: str) -> None:
    """Append while a timer goes off, until it has a hundred times."""
    import signal

    seen = 0

    def count(_signal: int, _frame: object) -> None:
        nonlocal seen
        seen += 1

    run = create_run(Path(store), stage="serial")
    script, number = Script(run.run, "w"), 0
    signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    while seen < 100 and number < 3_000:
        with Appender(run.log, "w", segment_bytes_max=5_000) as appender:
            for _ in range(20):
                appender.append([script.event(number)])
                number += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    say(seen, number)


class FewBytes(io.FileIO):
    """A file that gives at most seven bytes at a time."""

    def readinto(self, buffer: Any) -> int | None:
        return super().readinto(memoryview(buffer)[:7])


def test_short_reads_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read may give less than was asked for, without the file's being at its end."""
    run = create_run(tmp_path / "store", stage="serial")
    wanted = fill(run)
    open_whole, opened = pathlib.Path.open, []

    def open_short(path: Path, mode: str = "r", buffering: int = -1, **more: Any) -> IO[Any] | FewBytes:
        if mode != "rb" or path.suffix != ".ndjson":
            return open_whole(path, mode, buffering, **more)
        opened.append(path)
        raw = FewBytes(path, "rb")
        return raw if buffering == 0 else io.BufferedReader(raw)

    monkeypatch.setattr(pathlib.Path, "open", open_short)
    assert ids(run) == wanted
    assert not [report for report in verify_run(run.log, run.run) if report.damage or report.torn_bytes]
    with Appender(run.log, "w") as appender:
        assert appender._writer.seq == 5
    assert opened


def test_bytes_that_are_no_text_are_told_as_our_own_errors(tmp_path: Path) -> None:
    """T4, T6: a sector of garbage is rarely UTF-8, wherever it is: in a tail, `run.json` or a checkpoint."""
    run = create_run(tmp_path / "store", stage="serial")
    fill(run)
    (path,) = segment_paths(run.log)[-1:]
    good = path.read_bytes()
    path.write_bytes(good + b'{"id":"\xff"}\n')
    with pytest.raises(LogDamaged, match="damaged at byte"):
        ids(run)
    with pytest.raises(LogDamaged, match="damaged at byte"):
        Appender(run.log, "w")
    assert [report.damage is None for report in verify_run(run.log, run.run)].count(False) == 1
    path.write_bytes(good)
    (run.path / "projections").mkdir()
    (run.path / "projections" / "billing.json").write_bytes(b'{"name":"\xff"}')
    with pytest.raises(StoreError, match=r"billing.json cannot be read .*: remove it"):
        Subscription(run.path, "billing")
    (run.path / "run.json").write_bytes(b'{"run":"\xff"}')
    with pytest.raises(StoreError, match=r"run.json cannot be read .*: restore it"):
        run.info()


def test_all_is_for_its_owner_only(tmp_path: Path) -> None:
    """Folders 0700, files 0600, whatever the umask leaves."""
    before = os.umask(0)
    try:
        run = create_run(tmp_path / "store", stage="serial")
        fill(run)
        with Subscription(run.path, "billing") as subscription:
            list(subscription.poll())
        list(seal_run(run))
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "store").rglob("*")
    }
    assert len(modes) > 5
    assert {name: oct(mode) for name, mode in modes.items() if mode not in (0o600, 0o700)} == {}
    assert writer_folders(run.log)
