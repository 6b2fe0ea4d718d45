"""A process that is killed, forked or simply ends while it stores: each file is whole under its name, or not there.

Every program here runs in a process of its own, which is killed from outside, at a known step or at any moment.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventflow.storing import Folder

SECONDS_MAX = 30


def files(path: Path) -> list[str]:
    """The files below, hidden ones too."""
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir())


def run(program: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a Python program in a process of its own."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


LEAVES_WITHOUT_CLOSING = """if True:
    import sys
    from pathlib import Path
    from eventflow.storing import FileStore, Folder
    part = Folder.open(Path(sys.argv[1])).begin("a")
    part.write(b"whole")
    FileStore().submit(part)
"""


def test_a_process_that_ends_stores_what_waits(tmp_path: Path) -> None:
    """A program that forgets `close` still stores its last file, and ends."""
    with run(LEAVES_WITHOUT_CLOSING, str(tmp_path)) as process:
        assert process.wait(SECONDS_MAX) == 0
    assert files(tmp_path) == ["a"]


FORKS = """if True:
    import os, sys
    from pathlib import Path
    from eventflow.storing import FileStore, Folder
    folder, store = Folder.open(Path(sys.argv[1])), FileStore()
    def store_one(name):
        part = folder.begin(name)
        part.write(b"whole")
        return store.submit(part)
    store_one("a").result(30)
    waiting = store_one("b")
    child = os.fork()
    store_one("child" if child == 0 else "parent").result(30)
    store.close()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    waiting.result(30)
"""


def test_a_forked_child_has_a_store_of_its_own(tmp_path: Path) -> None:
    """After a fork parent and child each store what is theirs, once, and neither hangs."""
    with run(FORKS, str(tmp_path)) as process:
        assert process.wait(SECONDS_MAX) == 0
    assert files(tmp_path) == ["a", "b", "child", "parent"]


STOPS = """if True:
    import sys, threading
    from pathlib import Path
    from eventflow.storing import FileStore, Folder, FolderDisk
    def stop(*_arguments):
        print("here", flush=True)
        threading.Event().wait()
    disk = FolderDisk()
    setattr(disk, sys.argv[2], stop)
    part = Folder.open(Path(sys.argv[1]), disk=disk).begin("a/b", tag="run")
    part.write(b"new" * 30_000)
    FileStore().submit(part).result()
"""


@pytest.mark.parametrize("old", [None, b"old"], ids=["new file", "old file"])
@pytest.mark.parametrize("call", ["write_all", "sync", "rename_in", "sync_open_folder"])
def test_a_killed_process_leaves_a_whole_file_or_none(tmp_path: Path, call: str, old: bytes | None) -> None:
    """SIGKILL before any step leaves the old file, the new one, or none; `sweep` removes the rest."""
    (tmp_path / "a").mkdir()
    if old:
        (tmp_path / "a" / "b").write_bytes(old)
    with run(STOPS, str(tmp_path), call) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    left = (tmp_path / "a" / "b").read_bytes() if (tmp_path / "a" / "b").exists() else None
    assert left == (b"new" * 30_000 if call == "sync_open_folder" else old)
    assert Folder.open(tmp_path).sweep("run") == (0 if call == "sync_open_folder" else 1)
    assert files(tmp_path) == ([] if left is None else ["a/b"])


STORES_FOR_EVER = """if True:
    import sys, threading
    from itertools import count
    from pathlib import Path
    from eventflow.storing import FileStore, Folder
    folder, store = Folder.open(Path(sys.argv[1])), FileStore()
    def store_files(worker):
        for number in count():
            part = folder.begin(f"{number % 3}/{worker}-{number}", tag="run")
            for _ in range(5):
                part.write(f"{worker}-{number} ".encode() * 1000)
            store.submit(part).result()
            sys.stdout.write(f"{number % 3}/{worker}-{number}\\n")
            sys.stdout.flush()
    for worker in range(6):
        threading.Thread(target=store_files, args=(worker,)).start()
"""


@pytest.mark.parametrize("lines", [1, 20, 100])
def test_a_killed_process_has_stored_what_it_said(tmp_path: Path, lines: int) -> None:
    """Whenever it is killed: every file under a final name is whole, and all that were reported are there."""
    with run(STORES_FOR_EVER, str(tmp_path)) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    Folder.open(tmp_path).sweep("run")
    names = files(tmp_path)
    assert {line.strip() for line in said if line.endswith("\n")} <= set(names)
    for name in names:
        assert (tmp_path / name).read_text() == f"{Path(name).name} " * 5000
