"""A future that has its result means a file that survives; whatever fails or is killed leaves a whole file or none."""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_futures
from pathlib import Path

import pytest

from eventflow.sources import SeededSources
from eventflow.storing import BATCH_PARTS_MAX, WAITING_PARTS_MAX, FileStore, Folder, Part
from tests.faulty_disk import FaultyDisk, open_below

SECONDS_MAX = 30


class SlowDisk(FaultyDisk):
    """A disk whose fsync of a file waits until it is let go on."""

    def __init__(self, **failing: int) -> None:
        super().__init__(**failing)
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def sync(self, descriptor: int) -> None:
        self.reached.set()
        assert self.go_on.wait(SECONDS_MAX)
        super().sync(descriptor)


@pytest.fixture
def store() -> Iterator[FileStore]:
    """A file store."""
    store = FileStore()
    yield store
    store.close()


def write(folder: Folder, name: str, data: bytes = b"whole") -> Part:
    """A part that is written and not yet submitted."""
    part = folder.begin(name, tag="run")
    part.write(data)
    return part


def files(path: Path) -> list[str]:
    """The files below, hidden ones too."""
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir())


def test_a_file_is_stored_whole(tmp_path: Path, store: FileStore) -> None:
    """The file has its final name and all its bytes, there is no temporary file, and no descriptor stays open."""
    folder = Folder.open(tmp_path)
    assert store.submit(write(folder, "a/b/c.txt", b"x" * 100_000)).result(SECONDS_MAX) > 0
    assert files(tmp_path) == ["a/b/c.txt"]
    assert (tmp_path / "a/b/c.txt").read_bytes() == b"x" * 100_000
    assert folder.has("a/b/c.txt", 100_000)
    assert open_below(tmp_path) == [str(tmp_path)]


def test_the_result_is_the_time_it_took(tmp_path: Path) -> None:
    """Seconds from `submit` to durable, by the clock that was given: here each look at it takes one microsecond."""
    store = FileStore(sources=SeededSources(1))
    assert store.submit(write(Folder.open(tmp_path), "a")).result(SECONDS_MAX) == pytest.approx(1e-6)
    store.close()


def test_a_power_cut_takes_nothing_that_was_reported(tmp_path: Path, store: FileStore) -> None:
    """When a result is there, bytes, names and the names of new folders are durable, at that very moment."""
    disk = FaultyDisk()
    folder = Folder.open(tmp_path, disk=disk)
    safe: list[bool] = []
    names = ("a", "b", "x/a", "x/b", "x/y/z/a", "x/y/b", "v/w/a", "a")
    for name in names:
        future = store.submit(write(folder, name))
        future.add_done_callback(lambda _: safe.append(disk.is_all_durable()))
        future.result(SECONDS_MAX)
        assert disk.is_all_durable()
    store.close()
    assert safe == [True] * len(names)


def test_folders_that_were_there_are_made_durable_once(tmp_path: Path, store: FileStore) -> None:
    """A folder may be left by a process that was killed before its fsync: so its entry is synced too, but only once."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    disk = FaultyDisk()
    folder = Folder.open(tmp_path, disk=disk)
    for count in (3, 4, 5):
        store.submit(write(folder, f"a/b/{count}")).result(SECONDS_MAX)
        assert disk.count("sync_open_folder") == count


def test_bytes_come_before_the_name(tmp_path: Path, store: FileStore) -> None:
    """First the bytes are durable, then the file gets its name, then the name is durable: so a crash shows no part."""
    disk = FaultyDisk()
    store.submit(write(Folder.open(tmp_path, disk=disk), "a")).result(SECONDS_MAX)
    assert disk.calls == ["create_in", "write_all", "sync", "rename_in", "sync_open_folder"]


def test_requests_share_fsyncs(tmp_path: Path, store: FileStore) -> None:
    """What waits while the disk is busy is one batch: each folder is synced once for all of it."""
    disk = SlowDisk()
    folder = Folder.open(tmp_path, disk=disk)
    futures = [store.submit(write(folder, "first"))]
    assert disk.reached.wait(SECONDS_MAX)
    futures += [store.submit(write(folder, f"{number % 2}/{number}")) for number in range(20)]
    disk.go_on.set()
    assert not wait_futures(futures, SECONDS_MAX).not_done
    assert disk.count("sync") == 21
    # One for `first`; one for each of the two folders, and one for each of their entries in the folder above.
    assert disk.count("sync_open_folder") == 1 + 2 + 2
    assert disk.is_all_durable()


def test_a_batch_is_bounded(tmp_path: Path, store: FileStore) -> None:
    """At most 64 parts are one batch, so that the first does not wait for ever."""
    disk = SlowDisk()
    folder = Folder.open(tmp_path, disk=disk)
    futures = [store.submit(write(folder, "first"))]
    assert disk.reached.wait(SECONDS_MAX)
    futures += [store.submit(write(folder, str(number))) for number in range(2 * BATCH_PARTS_MAX + 1)]
    disk.go_on.set()
    assert not wait_futures(futures, SECONDS_MAX).not_done
    assert disk.count("sync_open_folder") == 4


def test_submitting_waits_for_room(tmp_path: Path, store: FileStore) -> None:
    """At most 256 parts wait: who submits more than the disk can take is slowed down, and loses nothing."""
    disk = SlowDisk()
    folder = Folder.open(tmp_path, disk=disk)
    futures = [store.submit(write(folder, "first"))]
    assert disk.reached.wait(SECONDS_MAX)
    futures += [store.submit(write(folder, str(number))) for number in range(WAITING_PARTS_MAX)]
    thread = threading.Thread(target=lambda: futures.append(store.submit(write(folder, "last"))))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    disk.go_on.set()
    thread.join(SECONDS_MAX)
    assert not wait_futures(futures, SECONDS_MAX).not_done
    assert len(files(tmp_path)) == WAITING_PARTS_MAX + 2


def test_many_threads_store_at_once(tmp_path: Path, store: FileStore) -> None:
    """Every file of every thread is there, whole."""
    folder = Folder.open(tmp_path)

    def store_some(worker: int) -> None:
        for number in range(10):
            store.submit(write(folder, f"{number}/{worker}", bytes([worker]) * 1000)).result(SECONDS_MAX)

    threads = [threading.Thread(target=store_some, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files(tmp_path)) == 80
    assert all((tmp_path / name).read_bytes() == bytes([int(name[2:])]) * 1000 for name in files(tmp_path))


@pytest.mark.parametrize("old", [None, b"old"], ids=["new file", "old file"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["sync", "rename_in"])
def test_a_file_that_cannot_be_stored_leaves_what_was_there(
    tmp_path: Path, store: FileStore, call: str, code: int, old: bytes | None
) -> None:
    """If fsync or rename fails the future says so with the number, and there is the old file or none."""
    if old:
        (tmp_path / "a").write_bytes(old)
    disk = FaultyDisk(**{call: code})
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        store.submit(write(Folder.open(tmp_path, disk=disk), "a")).result(SECONDS_MAX)
    assert caught.value.errno == code
    assert disk.count(call) == 1  # after a failed fsync another one may lie (fsyncgate)
    assert files(tmp_path) == (["a"] if old else [])
    assert not old or (tmp_path / "a").read_bytes() == old


def test_a_name_that_is_not_durable_is_not_reported(tmp_path: Path, store: FileStore) -> None:
    """If the folder's fsync fails, so does each part of that folder, with an error of its own; the files are whole."""
    disk = SlowDisk(sync_open_folder=errno.EIO)
    folder = Folder.open(tmp_path, disk=disk)
    futures = [store.submit(write(folder, name)) for name in ("a", "b", "c")]
    disk.go_on.set()
    errors = [future.exception(SECONDS_MAX) for future in futures]
    assert all(isinstance(error, OSError) and error.errno == errno.EIO for error in errors)
    assert len({id(error) for error in errors}) == 3
    assert all((tmp_path / name).read_bytes() == b"whole" for name in files(tmp_path))


def test_a_part_that_fails_harms_no_other(tmp_path: Path, store: FileStore) -> None:
    """In one batch each part has its own outcome."""
    disk = SlowDisk()
    folder = Folder.open(tmp_path, disk=disk)
    futures = [store.submit(write(folder, "first"))]
    assert disk.reached.wait(SECONDS_MAX)
    (tmp_path / "b").mkdir()  # a folder where a file is to be
    futures += [store.submit(write(folder, name)) for name in ("a", "b", "c")]
    disk.go_on.set()
    outcomes = [type(future.exception(SECONDS_MAX)) for future in futures]
    assert outcomes == [type(None), type(None), IsADirectoryError, type(None)]
    assert files(tmp_path) == ["a", "c", "first"]


def test_a_fault_of_ours_fails_requests_and_hangs_none(tmp_path: Path, store: FileStore) -> None:
    """An error that nobody expected reaches the futures, and the thread goes on with the next part."""

    class Broken(FaultyDisk):
        def rename_in(self, folder: int, old: str, new: str) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.submit(write(Folder.open(tmp_path, disk=Broken()), "a")).result(SECONDS_MAX)
    store.submit(write(Folder.open(tmp_path), "b")).result(SECONDS_MAX)
    assert files(tmp_path) == ["b"]


def test_a_link_under_the_final_name_is_replaced(tmp_path: Path, store: FileStore) -> None:
    """A symbolic link is never written through: the file takes its place, what it led to stays."""
    (tmp_path / "target").write_bytes(b"precious")
    folder = Folder.open(tmp_path / "out")
    (folder.path / "a").symlink_to(tmp_path / "target")
    store.submit(write(folder, "a")).result(SECONDS_MAX)
    assert not (folder.path / "a").is_symlink()
    assert (folder.path / "a").read_bytes() == b"whole"
    assert (tmp_path / "target").read_bytes() == b"precious"


def test_a_link_put_in_the_way_leads_nowhere(tmp_path: Path, store: FileStore) -> None:
    """A parent that becomes a link while the file is written changes nothing: the file goes where it was begun."""
    (tmp_path / "outside").mkdir()
    folder = Folder.open(tmp_path / "out")
    part = write(folder, "a/b")
    (folder.path / "a").rename(folder.path / "moved")
    (folder.path / "a").symlink_to(tmp_path / "outside")
    store.submit(part).result(SECONDS_MAX)
    assert files(tmp_path / "outside") == []
    assert (folder.path / "moved" / "b").read_bytes() == b"whole"


def test_a_part_that_waits_can_be_discarded(tmp_path: Path, store: FileStore) -> None:
    """Discarding before its turn fails the future and leaves nothing; during its turn it is too late."""
    disk = SlowDisk()
    folder = Folder.open(tmp_path, disk=disk)
    storing, waiting = write(folder, "storing"), write(folder, "waiting")
    stored, discarded = store.submit(storing), store.submit(waiting)
    assert disk.reached.wait(SECONDS_MAX)
    second = store.submit(third := write(folder, "third"))
    third.discard()
    storing.discard()
    disk.go_on.set()
    stored.result(SECONDS_MAX)
    discarded.result(SECONDS_MAX)
    with pytest.raises(OSError, match="discarded") as caught:
        second.result(SECONDS_MAX)
    assert caught.value.errno == errno.ECANCELED
    assert files(tmp_path) == ["storing", "waiting"]


def test_a_future_can_be_cancelled_before_its_turn(tmp_path: Path, store: FileStore) -> None:
    """Cancelling a future that waits discards its part; one that is on its way cannot be cancelled."""
    disk = SlowDisk()
    folder = Folder.open(tmp_path, disk=disk)
    first = store.submit(write(folder, "first"))
    assert disk.reached.wait(SECONDS_MAX)
    second = store.submit(write(folder, "second"))
    assert second.cancel()
    assert not first.cancel()
    disk.go_on.set()
    first.result(SECONDS_MAX)
    with pytest.raises(CancelledError):
        second.result(SECONDS_MAX)
    store.close()
    assert files(tmp_path) == ["first"]


def test_a_part_is_submitted_once_and_whole(tmp_path: Path, store: FileStore) -> None:
    """A part that was submitted, was discarded or has a failed write is refused; no write comes after `submit`."""
    disk = FaultyDisk()
    folder = Folder.open(tmp_path, disk=disk)
    part = write(folder, "a")
    future = store.submit(part)
    with pytest.raises(OSError, match="the temporary file is"):
        store.submit(part)
    with pytest.raises(OSError, match="not open any more"):
        part.write(b"more")
    future.result(SECONDS_MAX)
    discarded = write(folder, "b")
    discarded.discard()
    broken = write(folder, "c")
    disk.failing["write_all"] = errno.ENOSPC
    with contextlib.suppress(OSError):
        broken.write(b"more")
    for refused in (discarded, broken):
        with pytest.raises(OSError, match="the temporary file is"):
            store.submit(refused)
        refused.discard()
    assert files(tmp_path) == ["a"]


def test_closing_stores_what_waits(tmp_path: Path) -> None:
    """`close` returns when all that was submitted has its outcome. Idempotent; what comes later is refused."""
    store, folder = FileStore(), Folder.open(tmp_path)
    futures = [store.submit(write(folder, str(number))) for number in range(100)]
    store.close()
    store.close()
    assert all(future.done() for future in futures)
    assert len(files(tmp_path)) == 100
    with pytest.raises(OSError, match="the file store is closed"):
        store.submit(write(folder, "late"))
    assert len(files(tmp_path)) == 100
    FileStore().close()


def test_the_thread_ends_when_there_is_nothing_to_do(tmp_path: Path, store: FileStore) -> None:
    """An idle store has no thread, and starts one again with the next part."""
    folder = Folder.open(tmp_path)
    for name in ("a", "b"):
        store.submit(write(folder, name)).result(SECONDS_MAX)
        deadline = time.monotonic() + SECONDS_MAX
        while any(thread.name == "eventflow-store" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert files(tmp_path) == ["a", "b"]


def test_futures_are_ordinary_ones(tmp_path: Path, store: FileStore) -> None:
    """A callback is called with the future, so that an event loop can wait for it; a bad callback harms nothing."""
    called: list[Future[float]] = []
    done = threading.Event()
    future = store.submit(write(Folder.open(tmp_path), "a"))
    future.add_done_callback(called.append)
    future.add_done_callback(lambda _: done.set())
    assert done.wait(SECONDS_MAX)
    assert called == [future]
