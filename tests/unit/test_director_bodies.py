"""Bodies on their way to the disk: order, bounds, checkpoints, limits, and what is left when they break off."""

import errno
import gzip
import hashlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from eventflow.director.bodies import SMALL_BYTES_MAX, ArrivingBody
from eventflow.director.lanes import BUFFER_BYTES, Lanes, LargeBody
from eventflow.errors import BadEncoding, BodyTooLarge, ExpandsTooMuch, ShortBody
from eventflow.folder import Folder
from eventflow.http.decoding import DecodingLimits, decoder
from eventflow.part import Part
from tests.faulty_disk import FaultyDisk

URL = "http://h/a"
BODY = Random(3).randbytes(1_500_000)


class Given:
    """A wire that has these pieces; then the connection ends, breaks, or hangs."""

    def __init__(self, *pieces: bytes, then: Exception | None = None, hangs: bool = False) -> None:
        self._pieces, self._then, self._hangs = list(pieces), then, hangs

    async def receive_into(self, buffer: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        if not self._pieces:
            if self._hangs:
                await trio.sleep_forever()
            if self._then is not None:
                raise self._then
            return 0
        piece = self._pieces.pop(0)
        taken = piece[: len(buffer)]
        if piece[len(taken) :]:
            self._pieces.insert(0, piece[len(taken) :])
        buffer[: len(taken)] = taken
        return len(taken)

    async def receive(self, size: int) -> bytes:
        raise NotImplementedError

    async def send(self, data: bytes) -> None:
        raise NotImplementedError

    def is_quiet(self) -> bool:
        return True

    def close(self) -> None: ...


class Owner:
    """A request."""

    def __init__(self, path: Path, disk: FaultyDisk | None = None) -> None:
        self.path = path
        self.folder = Folder.open(path, disk=disk or FaultyDisk())
        self.lanes = Lanes()
        self.looks = self.parts = 0

    def open_part(self) -> Part:
        self.parts += 1
        return self.folder.begin("a", tag="run")

    async def into_task(self) -> None: ...

    async def on_progress(self, body: ArrivingBody) -> None:
        self.looks += 1

    def on_bytes(self) -> None: ...

    def body(self, bytes_max: int | None = None, coding: str = "", large: LargeBody | None = None) -> ArrivingBody:
        """A body of this request."""
        limits = DecodingLimits()
        return ArrivingBody(self, self.lanes, URL, bytes_max, large, decoder(coding, limits, URL) if coding else None)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """A request whose lanes end with the test."""
    made = Owner(tmp_path / "files")
    yield made
    made.lanes.close()


def run(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """In a trio run of its own."""
    return trio.run(function)


def check_part(body: ArrivingBody, wanted: bytes) -> None:
    """What is in the part, its size and its digest are those bytes."""
    assert body.large is not None
    part = body.large.part
    path = part.folder.path / part.temporary
    assert (part.bytes, part.sha256()) == (len(wanted), hashlib.sha256(wanted).hexdigest())
    assert path.read_bytes() == wanted
    part.discard()


@pytest.mark.parametrize("size", [0, 1, SMALL_BYTES_MAX])
def test_a_small_body_stays_in_memory(owner: Owner, size: int) -> None:
    """No file is made for it."""

    async def receive() -> bytes | None:
        body = owner.body()
        for start in range(0, size, 50_000):
            body.add(BODY[start : min(size, start + 50_000)])
            await body.drain()
        return await body.finish()

    assert run(receive) == BODY[:size]
    assert owner.parts == 0


@pytest.mark.parametrize("step", [7_001, 64 << 10, SMALL_BYTES_MAX + 1])
def test_a_large_body_is_in_its_part_in_order(owner: Owner, step: int) -> None:
    """Byte for byte, with its digest, in one part."""

    async def receive() -> None:
        body = owner.body()
        for start in range(0, len(BODY), step):
            body.add(BODY[start : start + step])
            await body.drain()
        assert await body.finish() is None
        check_part(body, BODY)

    run(receive)
    assert owner.parts == 1


@pytest.mark.parametrize("disk_seconds", [0.0, 0.03])
def test_the_rest_comes_straight_from_the_wire(tmp_path: Path, disk_seconds: float) -> None:
    """After a beginning that came otherwise; written here while the disk is quick, in a lane when it is not."""
    disk = FaultyDisk()
    write, writers = disk.write_all, set[str]()

    def write_slowly(descriptor: int, data: bytes | bytearray | memoryview) -> None:
        writers.add(threading.current_thread().name)
        threading.Event().wait(disk_seconds)
        write(descriptor, data)

    disk.write_all = write_slowly  # type: ignore[method-assign]
    owner = Owner(tmp_path / "files", disk)

    async def receive() -> None:
        body = owner.body()
        body.add(BODY[:1000])
        await body.receive_rest(Given(BODY[1000:]), len(BODY) - 1000)
        assert await body.finish() is None
        assert body.received == len(BODY)
        check_part(body, BODY)

    run(receive)
    owner.lanes.close()
    assert ("eventflow-write" in writers) == (disk_seconds > 0)


def test_memory_is_bounded_when_the_disk_stands_still(tmp_path: Path) -> None:
    """A few buffers are on their way, then nothing more is read."""
    disk, go_on = FaultyDisk(), threading.Event()
    write = disk.write_all

    def write_when_told(descriptor: int, data: bytes | bytearray | memoryview) -> None:
        if threading.current_thread().name == "eventflow-write":
            assert go_on.wait(30)
        else:
            threading.Event().wait(0.03)  # so that a lane writes from now on
        write(descriptor, data)

    disk.write_all = write_when_told  # type: ignore[method-assign]
    owner = Owner(tmp_path / "files", disk)
    whole = BODY * 4
    wire = Given(whole)

    async def receive() -> None:
        body = owner.body()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.receive_rest, wire, len(whole))
            await trio.testing.wait_all_tasks_blocked(0.1)
            read = len(whole) - sum(map(len, wire._pieces))
            assert read <= 7 * BUFFER_BYTES
            go_on.set()
        assert await body.finish() is None
        check_part(body, whole)

    run(receive)
    owner.lanes.close()


@pytest.mark.parametrize("then", [None, trio.BrokenResourceError("reset")], ids=["closed", "reset"])
def test_what_came_before_a_break_is_kept(owner: Owner, then: Exception | None) -> None:
    """Down to the last byte: a server that breaks off early each time must not cost all progress."""

    async def receive() -> None:
        body = owner.body()
        with pytest.raises((ShortBody, trio.BrokenResourceError)):
            await body.receive_rest(Given(BODY[:400_000], BODY[400_000:500_001], then=then), len(BODY))
        assert body.large is not None
        checkpoint = await body.large.settle()
        assert checkpoint.bytes == body.received == 500_001
        assert checkpoint.sha256 == hashlib.sha256(BODY[:500_001]).hexdigest()
        check_part(body, BODY[:500_001])

    run(receive)


def test_what_came_before_a_cancellation_is_kept(owner: Owner) -> None:
    """So does Ctrl-C."""

    async def receive() -> None:
        body = owner.body()
        with trio.move_on_after(0.1):
            await body.receive_rest(Given(BODY[:300_000], hangs=True), len(BODY))
        assert body.large is not None
        assert (await body.large.settle()).bytes == 300_000
        check_part(body, BODY[:300_000])

    run(receive)


def test_it_goes_on_from_a_part(owner: Owner) -> None:
    """The digest is that of the whole."""

    async def receive() -> None:
        part = owner.folder.begin("a", tag="run")
        part.write(BODY[:600_000])
        part.keep()
        (kept,) = [path.name for path in owner.path.iterdir()]
        part = owner.folder.reopen("a", kept)
        assert part.matches(600_000, hashlib.sha256(BODY[:600_000]).hexdigest())
        body = owner.body(large=LargeBody(part, owner.lanes, trio.lowlevel.current_trio_token()))
        body.add(BODY[600_000:600_010])
        await body.drain()
        await body.receive_rest(Given(BODY[600_010:]), len(BODY) - 600_010)
        assert await body.finish() is None
        check_part(body, BODY)

    run(receive)


def test_a_checkpoint_is_of_what_is_written_and_digested(owner: Owner) -> None:
    """At any moment it is a beginning of the body with its own digest, and the file has that much."""

    async def receive() -> None:
        body = owner.body()
        for start in range(0, len(BODY), 300_000):
            body.add(BODY[start : start + 300_000])
            await body.drain()
            assert body.large is not None
            checkpoint = await body.large.settle()
            begun = BODY[: checkpoint.bytes]
            assert checkpoint.bytes == min(len(BODY), start + 300_000)
            assert checkpoint.sha256 == hashlib.sha256(begun).hexdigest()
            assert (owner.path / body.large.part.temporary).stat().st_size >= checkpoint.bytes
        await body.finish()
        check_part(body, BODY)

    run(receive)


@pytest.mark.parametrize("by_wire", [False, True])
def test_no_body_is_larger_than_wanted(owner: Owner, by_wire: bool) -> None:
    """It is refused as soon as that is known; up to the limit it is taken."""

    async def receive() -> None:
        assert await owner.body(bytes_max=0).finish() == b""
        body = owner.body(bytes_max=1000)
        body.add(BODY[:1000])
        if by_wire:
            with pytest.raises(BodyTooLarge):
                await body.receive_rest(Given(BODY), 300_000)
        else:
            with pytest.raises(BodyTooLarge):
                body.add(b"x")
        assert owner.parts == 0

    run(receive)


def test_a_body_is_decoded_as_it_comes(owner: Owner) -> None:
    """Small and large; cut anywhere."""

    async def receive(whole: bytes) -> ArrivingBody | bytes:
        body, coded = owner.body(coding="gzip"), gzip.compress(whole)
        for start in range(0, len(coded), 10_007):
            body.add(coded[start : start + 10_007])
            await body.drain()
        found = await body.finish()
        assert body.received == len(coded)
        assert body.is_decoded
        return body if found is None else found

    assert trio.run(receive, BODY[:1000]) == BODY[:1000]
    large = trio.run(receive, BODY)
    assert isinstance(large, ArrivingBody)
    check_part(large, BODY)


def test_a_bomb_is_no_bomb(owner: Owner) -> None:
    """It is refused before it is in memory or on the disk."""

    async def receive() -> None:
        body = owner.body(coding="gzip")
        body.add(gzip.compress(bytes(400 << 20), 9))
        with pytest.raises(ExpandsTooMuch):
            await body.drain()
        assert body.large is None or body.large.part.bytes < 64 << 20
        if body.large is not None:
            await body.large.settle()
            body.large.part.discard()

    run(receive)


def test_half_a_coded_body_is_none(owner: Owner) -> None:
    """The connection ended in order, the coding did not."""

    async def receive() -> None:
        body = owner.body(coding="gzip")
        body.add(gzip.compress(BODY[:1000])[:-5])
        with pytest.raises(BadEncoding):
            await body.finish()

    run(receive)


@pytest.mark.parametrize("is_slow", [False, True], ids=["quick disk", "slow disk"])
def test_a_full_disk_is_an_error_not_a_hole(tmp_path: Path, is_slow: bool) -> None:
    """Whoever writes; what counts as kept afterwards is what was written before."""
    disk = FaultyDisk()
    write, done = disk.write_all, list[int]()

    def write_twice(descriptor: int, data: bytes | bytearray | memoryview) -> None:
        if len(done) >= 2:
            disk.failing["write_all"] = errno.ENOSPC
        threading.Event().wait(0.03 if is_slow else 0)
        write(descriptor, data)
        done.append(len(data))

    disk.write_all = write_twice  # type: ignore[method-assign]
    owner = Owner(tmp_path / "files", disk)

    async def receive() -> None:
        body = owner.body()
        with pytest.raises(OSError, match="No space left"):
            await body.receive_rest(Given(BODY * 2), len(BODY) * 2)
        assert body.large is not None
        try:
            checkpoint = await body.large.settle()
        except OSError:
            checkpoint = body.large.checkpoint
        assert checkpoint.bytes <= sum(done)
        assert checkpoint.sha256 == hashlib.sha256(BODY[: checkpoint.bytes]).hexdigest()
        body.large.part.discard()

    run(receive)
    owner.lanes.close()


def test_many_bodies_share_the_lanes(owner: Owner) -> None:
    """Their pieces are not mixed up."""
    bodies = [Random(number).randbytes(700_000) for number in range(8)]

    async def receive(number: int) -> None:
        body = owner.body()
        pieces = [bodies[number][start : start + 90_000] for start in range(0, 700_000, 90_000)]
        await body.receive_rest(Given(*pieces), 700_000)
        assert await body.finish() is None
        check_part(body, bodies[number])

    async def receive_all() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(receive, number)

    run(receive_all)
