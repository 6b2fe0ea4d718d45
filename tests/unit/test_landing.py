"""Small files land together: each whole and durable under its name, or not there at all."""

import errno
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventflow.folder import Folder
from eventflow.landing import WAITING_MAX, Landing
from tests.faulty_disk import FaultyDisk, open_below

SECONDS_MAX = 30.0


class Ground:
    """A landing, and the loop's thread, which is the test's."""

    def __init__(self, path: Path) -> None:
        self.path, self.disk = path, FaultyDisk()
        self.folder = Folder.open(path, disk=self.disk)
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.landing = Landing(self.folder, "run", self.calls.put)
        self.told: dict[str, OSError | None] = {}

    def land(self, *names: str, body: bytes = b"new") -> None:
        """Hand files over."""
        for name in names:
            self.landing.land(name, body, self._done(name))

    def wait(self, count: int) -> dict[str, OSError | None]:
        """Be the loop until that many files were told of."""
        while len(self.told) < count:
            self.calls.get(timeout=SECONDS_MAX)()
        return self.told

    def close(self) -> None:
        """As the loop does it: while a thread waits for the end, it goes on."""
        closer = threading.Thread(target=self.landing.close)
        closer.start()
        while closer.is_alive():
            try:
                self.calls.get(timeout=0.01)()
            except queue.Empty:
                continue
        while not self.calls.empty():
            self.calls.get()()

    def files(self) -> list[str]:
        """Everything below the folder, hidden files too."""
        return sorted(str(file.relative_to(self.path)) for file in self.path.rglob("*") if not file.is_dir())

    def _done(self, name: str) -> Callable[[OSError | None, float], None]:
        def done(problem: OSError | None, seconds: float) -> None:
            assert name not in self.told, "told twice"
            assert seconds >= 0
            if problem is None:
                path = self.path / name
                assert path.stat().st_ino not in self.disk.unsafe_bytes
                assert path.name not in self.disk.unsafe_names.get(path.parent.stat().st_ino, ())
            self.told[name] = problem

        return done


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """An empty folder to land in."""
    made = Ground(tmp_path / "files")
    if not made.landing.works:
        pytest.skip("no unnamed files, or no syncfs that tells of errors, on this system")
    yield made
    made.close()
    assert not [path for path in open_below(made.path) if path != str(made.path)]


def failures(told: dict[str, OSError | None]) -> dict[str, int | None]:
    """The error numbers."""
    return {name: problem.errno if problem is not None else None for name, problem in told.items()}


def test_files_are_whole_and_durable_when_they_are_told_of(ground: Ground) -> None:
    """In folders or not, empty or not; the check that everything is durable is in `done`."""
    ground.land("a", "b/c", "b/d/e")
    ground.land("empty", body=b"")
    assert set(ground.wait(4).values()) == {None}
    assert ground.files() == ["a", "b/c", "b/d/e", "empty"]
    assert (ground.path / "b/d/e").read_bytes() == b"new"
    assert (ground.path / "empty").read_bytes() == b""


def test_no_name_before_the_bytes_are_durable(ground: Ground) -> None:
    """The order that makes a power cut harmless: all bytes, then names, then the folder."""
    ground.disk.calls.clear()
    ground.land("a", "b")
    ground.wait(2)
    calls = ground.disk.calls
    assert calls.index("sync_file_system") < calls.index("link_in")
    assert calls.index("sync_open_folder") > max(place for place, call in enumerate(calls) if call == "link_in")


def test_many_files_share_the_syncs(ground: Ground) -> None:
    """A hundred files that come together cost a few syncs, not a hundred."""
    ground.land(*(f"{number}" for number in range(100)))
    assert set(ground.wait(100).values()) == {None}
    assert ground.disk.count("sync_file_system") <= 5
    assert ground.disk.count("sync_open_folder") <= 6


def test_a_name_that_is_taken_is_replaced(ground: Ground) -> None:
    """By one rename: the old file or the new one, and no temporary file after it."""
    (ground.path / "a").write_bytes(b"old")
    ground.land("a")
    assert ground.wait(1) == {"a": None}
    assert (ground.path / "a").read_bytes() == b"new"
    assert ground.files() == ["a"]
    assert ground.disk.count("rename_in") == 1


def test_a_symbolic_link_in_the_place_of_a_file_is_replaced_not_followed(ground: Ground, tmp_path: Path) -> None:
    """What it leads to stays as it is."""
    (tmp_path / "precious").write_bytes(b"old")
    (ground.path / "a").symlink_to(tmp_path / "precious")
    ground.land("a")
    assert ground.wait(1) == {"a": None}
    assert (tmp_path / "precious").read_bytes() == b"old"
    assert not (ground.path / "a").is_symlink()


def test_a_folder_in_the_place_of_a_file_fails_that_file_alone(ground: Ground) -> None:
    """And leaves no temporary file."""
    (ground.path / "a").mkdir()
    ground.land("a", "b")
    told = ground.wait(2)
    assert isinstance(told["a"], IsADirectoryError)
    assert told["b"] is None
    assert ground.files() == ["b"]


def test_a_sync_that_fails_fails_its_batch_and_is_not_tried_again(ground: Ground) -> None:
    """Nothing of the batch gets a name: nobody knows what is on the disk."""
    ground.disk.failing["sync_file_system"] = errno.EIO
    ground.land("a", "b")
    assert failures(ground.wait(2)) == {"a": errno.EIO, "b": errno.EIO}
    assert ground.disk.count("sync_file_system") == 1
    assert ground.disk.count("link_in") == 0
    ground.disk.failing.clear()
    ground.land("c")
    assert ground.wait(3)["c"] is None
    assert ground.files() == ["c"]


def test_a_sync_that_fails_fails_what_was_written_meanwhile_too(ground: Ground) -> None:
    """The system tells of a lost page once, so the next sync would not know of it."""
    arrived, go_on = threading.Event(), threading.Event()
    sync = ground.disk.sync_file_system

    def fail_slowly(folder: int) -> None:
        arrived.set()
        assert go_on.wait(SECONDS_MAX)
        ground.disk.sync_file_system = sync  # type: ignore[method-assign]
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    ground.disk.sync_file_system = fail_slowly  # type: ignore[method-assign]
    ground.land("a")
    assert arrived.wait(SECONDS_MAX)
    ground.land("b")
    go_on.set()
    assert failures(ground.wait(2)) == {"a": errno.EIO, "b": errno.EIO}
    ground.land("c")
    assert ground.wait(3)["c"] is None
    assert ground.files() == ["c"]


def test_a_folder_that_cannot_be_synced_fails_the_files_in_it(ground: Ground) -> None:
    """Their names may be gone after a power cut, so they are not stored."""
    ground.disk.failing["sync_open_folder"] = errno.EIO
    ground.land("a", "b/c")
    assert failures(ground.wait(2)) == {"a": errno.EIO, "b/c": errno.EIO}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["create_unnamed", "write_all"])
def test_a_disk_that_takes_no_bytes_refuses_the_file_at_once(ground: Ground, call: str, number: int) -> None:
    """Nothing is left of it, and the next one lands if there is room again."""
    ground.disk.failing[call] = number
    with pytest.raises(OSError, match=os.strerror(number)):
        ground.land("a")
    ground.disk.failing.clear()
    ground.land("b")
    assert ground.wait(1) == {"b": None}
    assert ground.files() == ["b"]


@pytest.mark.parametrize("call", ["link_in", "rename_in", "make_folder"])
def test_a_name_that_cannot_be_given_fails_that_file_alone(ground: Ground, call: str) -> None:
    """Whichever step fails; no temporary file is left."""
    (ground.path / "taken").write_bytes(b"old")
    ground.disk.failing[call] = errno.ENOSPC
    name = {"link_in": "a", "rename_in": "taken", "make_folder": "b/c"}[call]
    ground.land(name)
    assert failures(ground.wait(1)) == {name: errno.ENOSPC}
    assert ground.files() == ["taken"]
    assert (ground.path / "taken").read_bytes() == b"old"


def test_it_says_when_it_is_full(ground: Ground) -> None:
    """So that memory and descriptors are bounded; and all that was taken lands."""
    arrived, go_on = threading.Event(), threading.Event()
    sync = ground.disk.sync_file_system

    def sync_slowly(folder: int) -> None:
        arrived.set()
        assert go_on.wait(SECONDS_MAX)
        sync(folder)

    ground.disk.sync_file_system = sync_slowly  # type: ignore[method-assign]
    ground.land("first")
    assert arrived.wait(SECONDS_MAX)
    names = [f"{number}" for number in range(WAITING_MAX)]
    ground.land(*names[:-1])
    assert not ground.landing.is_full
    ground.land(names[-1])
    assert ground.landing.is_full
    go_on.set()
    assert set(ground.wait(WAITING_MAX + 1).values()) == {None}
    assert not ground.landing.is_full
    assert ground.files() == sorted([*names, "first"])


def test_the_end_lands_what_waits(ground: Ground) -> None:
    """`close` at once after `land` loses nothing, leaves no thread, and may come twice."""
    ground.land("a", "b")
    ground.close()
    ground.close()
    assert ground.told == {"a": None, "b": None}
    assert "eventflow-landing" not in {thread.name for thread in threading.enumerate()}


def test_it_goes_on_after_a_pause(ground: Ground) -> None:
    """The thread ends when it has had nothing to do, and the next file begins another."""
    ground.land("a")
    ground.wait(1)
    for thread in threading.enumerate():
        if thread.name == "eventflow-landing":
            thread.join(SECONDS_MAX)
    ground.land("b")
    assert ground.wait(2) == {"a": None, "b": None}


STOPS = """if True:
    import queue, sys, threading
    from pathlib import Path
    from eventflow.folder import Folder
    from eventflow.folder_disk import FolderDisk
    from eventflow.landing import Landing
    def stop(*_arguments):
        print("here", flush=True)
        threading.Event().wait()
    disk, calls = FolderDisk(), queue.SimpleQueue()
    landing = Landing(Folder.open(Path(sys.argv[1]), disk=disk), "run", calls.put)
    setattr(disk, sys.argv[2], stop)
    for number in range(5):
        landing.land(f"a/{number}", b"new" * 1000, lambda *told: None)
    while True:
        calls.get()()
"""


@pytest.mark.parametrize("call", ["sync_file_system", "link_in", "rename_in", "sync_open_folder"])
def test_a_killed_process_leaves_whole_files_or_none(tmp_path: Path, call: str) -> None:
    """SIGKILL before any step: old or new, each whole; a temporary file at most in a rename, and `sweep` knows it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "3").write_bytes(b"old")
    command = [sys.executable, "-c", STOPS, str(tmp_path), call]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert Folder.open(tmp_path).sweep("run") == (call == "rename_in")
    left = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert left.pop("3") == (b"new" * 1000 if call == "sync_open_folder" else b"old")
    assert set(left.values()) <= {b"new" * 1000}
    named = {"sync_file_system": 0, "link_in": 0, "rename_in": 3, "sync_open_folder": 4}[call]
    assert len(left) == named
