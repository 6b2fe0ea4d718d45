"""Large bodies that go from a real socket through a pipe into the file: the same answers as through buffers."""

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import trio

from eventflow.director import lanes as lanes_module
from eventflow.director.bodies import ArrivingBody
from eventflow.director.lanes import Lanes, LargeBody, can_splice
from eventflow.errors import ShortBody
from eventflow.folder import Folder
from eventflow.folder_disk import FolderDisk
from eventflow.http.wire import PlainWire
from eventflow.part import Part
from tests.faulty_disk import FaultyDisk

BODY = Random(5).randbytes(3_000_000)

pytestmark = pytest.mark.skipif(not can_splice(), reason="this system cannot splice: only Linux can")


class Bench:
    """A request, its folder, and a connection whose other side a thread writes to."""

    def __init__(self, path: Path) -> None:
        self.disk = FaultyDisk()
        self.folder = Folder.open(path, disk=self.disk)
        self.lanes = Lanes()
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.wire = PlainWire(self.ours)
        self._threads: list[threading.Thread] = []

    def open_part(self) -> Part:
        return self.folder.begin("a", tag="run")

    async def into_task(self) -> None: ...

    async def on_progress(self, body: ArrivingBody) -> None: ...

    def on_bytes(self) -> None: ...

    def body(self, large: LargeBody | None = None) -> ArrivingBody:
        """A body of this request."""
        return ArrivingBody(self, self.lanes, "http://h/a", None, large)

    def send(self, data: bytes, *, piece: int = 1 << 20, then_end: bool = True, pause_s: float = 0.0) -> None:
        """Send it in pieces, and end the connection."""

        def write() -> None:
            for start in range(0, len(data), piece):
                try:
                    self.theirs.sendall(data[start : start + piece])
                except OSError:
                    return
                time.sleep(pause_s)
            if then_end:
                self.theirs.shutdown(socket.SHUT_WR)

        self._threads.append(threading.Thread(target=write))
        self._threads[-1].start()

    def close(self) -> None:
        """End everything."""
        self.lanes.close()
        self.ours.close()
        self.theirs.close()
        for thread in self._threads:
            thread.join()


def descriptors() -> int:
    """How many are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """It leaves no descriptor open."""
    before = descriptors()
    made = Bench(tmp_path / "files")
    yield made
    made.close()
    del made.folder
    assert descriptors() <= before + 1  # the folder, until it is collected


def check(body: ArrivingBody, wanted: bytes) -> None:
    """The part holds these bytes, and its digest is theirs."""
    assert body.large is not None
    part = body.large.part
    assert (part.bytes, part.sha256()) == (len(wanted), hashlib.sha256(wanted).hexdigest())
    assert (part.folder.path / part.temporary).read_bytes() == wanted
    part.discard()


@pytest.mark.parametrize("piece", [1 << 20, 1448, 5000])
def test_all_of_it_is_written_and_digested(bench: Bench, piece: int) -> None:
    """In large pieces, and in such small ones that they fill a pipe before it has many bytes."""

    async def receive() -> None:
        bench.send(BODY, piece=piece)
        body = bench.body()
        await body.receive_rest(bench.wire, len(BODY))
        assert await body.finish() is None
        assert body.received == len(BODY)
        check(body, BODY)

    trio.run(receive)


def test_nothing_goes_through_buffers(bench: Bench) -> None:
    """That is what pipes are for."""

    async def receive() -> None:
        bench.send(BODY)
        body = bench.body()
        await body.receive_rest(bench.wire, len(BODY))
        await body.finish()
        assert bench.disk.count("write_all") == 0
        assert bench.disk.count("splice_all") > 0
        check(body, BODY)

    trio.run(receive)


def test_what_stands_behind_it_stays_in_the_connection(bench: Bench) -> None:
    """No more is taken than the body has."""

    async def receive() -> None:
        bench.send(BODY + b"behind", then_end=False)
        body = bench.body()
        await body.receive_rest(bench.wire, len(BODY))
        await body.finish()
        check(body, BODY)
        assert await bench.wire.receive(100) == b"behind"

    trio.run(receive)


def test_it_goes_on_from_a_part_and_after_pieces_from_memory(bench: Bench) -> None:
    """The digest is that of the whole, whoever read which bytes of it."""

    async def receive() -> None:
        part = bench.folder.begin("a", tag="run")
        part.write(BODY[:600_001])
        part.keep()
        (kept,) = [path.name for path in bench.folder.path.iterdir()]
        part = bench.folder.reopen("a", kept)
        assert part.matches(600_001, hashlib.sha256(BODY[:600_001]).hexdigest())
        body = bench.body(LargeBody(part, bench.lanes, trio.lowlevel.current_trio_token()))
        body.add(BODY[600_001:600_013])
        bench.send(BODY[600_013:])
        await body.receive_rest(bench.wire, len(BODY) - 600_013)
        assert await body.finish() is None
        check(body, BODY)

    trio.run(receive)


def test_what_came_before_the_end_is_kept(bench: Bench) -> None:
    """Down to the last byte."""

    async def receive() -> None:
        bench.send(BODY[:1_234_567])
        body = bench.body()
        with pytest.raises(ShortBody):
            await body.receive_rest(bench.wire, len(BODY))
        assert body.large is not None
        assert (await body.large.settle()).bytes == body.received == 1_234_567
        check(body, BODY[:1_234_567])

    trio.run(receive)


def test_what_came_before_a_cancellation_is_kept(bench: Bench) -> None:
    """Also the little that was in a pipe."""

    async def receive() -> None:
        bench.send(BODY[:300_007], then_end=False)
        body = bench.body()
        with trio.move_on_after(0.3):
            await body.receive_rest(bench.wire, len(BODY))
        assert body.large is not None
        assert (await body.large.settle()).bytes == 300_007
        check(body, BODY[:300_007])

    trio.run(receive)


def test_a_slow_disk_is_written_by_the_lane(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, and each piece is digested after it is written."""
    monkeypatch.setattr(lanes_module, "_QUICK_NS", 0)

    async def receive() -> None:
        bench.send(BODY, piece=200_000)
        body = bench.body()
        await body.receive_rest(bench.wire, len(BODY))
        assert await body.finish() is None
        check(body, BODY)

    trio.run(receive)


@pytest.mark.parametrize("is_slow", [False, True], ids=["quick disk", "slow disk"])
def test_a_full_disk_is_an_error_not_a_hole(bench: Bench, is_slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes; what counts as kept is what was written and digested before."""
    if is_slow:
        monkeypatch.setattr(lanes_module, "_QUICK_NS", 0)

    async def receive() -> None:
        body = bench.body()
        bench.send(BODY[:500_000], then_end=False)
        with trio.move_on_after(0.3):
            await body.receive_rest(bench.wire, len(BODY))
        bench.disk.failing["splice_all"] = errno.ENOSPC
        bench.send(BODY[500_000:])

        async def receive_the_rest() -> None:
            await body.receive_rest(bench.wire, len(BODY) - 500_000)
            await body.finish()

        with pytest.raises(OSError, match="No space left"):
            await receive_the_rest()
        assert body.large is not None
        with contextlib.suppress(OSError):  # only what a lane could not write is told again
            await body.large.settle()
        assert body.large.checkpoint.sha256 == hashlib.sha256(BODY[: body.large.checkpoint.bytes]).hexdigest()
        body.large.part.discard()

    trio.run(receive)


def test_many_bodies_share_the_lanes_and_their_pipes(bench: Bench) -> None:
    """Their pieces are not mixed up, and few pipes are kept."""
    bodies = [Random(number).randbytes(1_500_000) for number in range(12)]

    async def receive(number: int) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        writer = threading.Thread(target=theirs.sendall, args=(bodies[number],))
        writer.start()
        body = bench.body()
        await body.receive_rest(PlainWire(ours), 1_500_000)
        assert await body.finish() is None
        check(body, bodies[number])
        writer.join()
        ours.close()
        theirs.close()

    async def receive_all() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(receive, number)

    trio.run(receive_all)


@pytest.mark.parametrize("where", ["pipe2", "fcntl"])
def test_without_a_pipe_buffers_will_do(bench: Bench, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many descriptors, or a user's pipes have taken all the memory that they may."""

    def refuse(*_arguments: object) -> int:
        raise OSError(errno.EMFILE, "no more")

    monkeypatch.setattr(os if where == "pipe2" else fcntl, where, refuse)

    async def receive() -> None:
        bench.send(BODY)
        body = bench.body()
        await body.receive_rest(bench.wire, len(BODY))
        assert await body.finish() is None
        assert bench.disk.count("splice_all") == 0
        check(body, BODY)

    trio.run(receive)


def test_a_disk_that_cannot_splice_is_written_all_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems refuse it."""
    splice = os.splice

    def refuse(source: int, target: int, size: int, **options: int) -> int:
        if stat.S_ISREG(os.fstat(target).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return splice(source, target, size, **options)

    monkeypatch.setattr(os, "splice", refuse)

    async def receive() -> None:
        bench.send(BODY)
        body = bench.body()
        await body.receive_rest(bench.wire, len(BODY))
        assert await body.finish() is None
        assert bench.disk.count("write_all") > 0
        check(body, BODY)

    trio.run(receive)


def test_a_pipe_that_lost_bytes_is_an_error(tmp_path: Path) -> None:
    """No loop without an end."""
    reading, writing = os.pipe()
    os.write(writing, b"abc")
    os.close(writing)
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="less than was put"):
        FolderDisk().splice_all(reading, file.fileno(), 4)
    os.close(reading)


def test_a_file_that_got_shorter_is_an_error(bench: Bench) -> None:
    """Somebody cut it while it was written: its digest would be of something else."""

    async def receive() -> None:
        bench.send(BODY[:500_000], then_end=False)
        body = bench.body()
        with trio.move_on_after(0.3):
            await body.receive_rest(bench.wire, len(BODY))
        assert body.large is not None
        part = body.large.part
        os.truncate(part.folder.path / part.temporary, 0)
        with pytest.raises(OSError, match="shorter"):
            part.absorb_written(1, bytearray(10))
        part.discard()

    trio.run(receive)
