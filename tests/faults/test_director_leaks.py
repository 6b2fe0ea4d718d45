"""The director in the test's process: after success, failure and cancellation nothing of it is left, and no story."""

import errno
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from eventflow.errors import StoreError
from eventflow.folder_disk import FolderDisk
from eventflow.landing import WAITING_MAX
from eventflow.naming import PART_SUFFIX
from eventflow.origin.content import content
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings
from eventflow.vocabulary import (
    AttemptFailed,
    PartKept,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestStarted,
)
from tests.directing import Left, Sitting
from tests.faulty_disk import FaultyDisk

SETTINGS = OriginSettings(files=60, size=40_000, size_spread=2.0, latency_s=0.002, seed=4)
ENDS = (RequestCompleted, RequestFailed, RequestCancelled)


class SlowDisk(FolderDisk):
    """Each sync takes a while, until it is told to go on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def sync_file_system(self, folder: int) -> None:
        time.sleep(self.seconds)
        super().sync_file_system(folder)

    def sync(self, descriptor: int) -> None:
        time.sleep(self.seconds)
        super().sync(descriptor)


class FullDisk(FolderDisk):
    """No byte more, whichever way it comes: a large body may arrive through a pipe."""

    def write_all(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def splice_all(self, pipe: int, descriptor: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """Small files and large ones."""
    with start_origin(SETTINGS) as running:
        yield running


def lines_of(origin: Origin) -> list[str]:
    """Its files, with their checksums."""
    return [f"{entry.url}\t{entry.name}\t{entry.sha256}" for entry in origin.entries()]


def check_stories(sitting: Sitting) -> Counter[type]:
    """Every request that was started has ended, once. Gives how."""
    ends = Counter(type(event) for event in sitting.events(*ENDS))
    assert len(sitting.events(RequestStarted)) == sum(ends.values())
    return ends


def check_nothing_temporary(sitting: Sitting) -> None:
    """But what the log says is kept."""
    kept = {part.name for part in sitting.events(PartKept)}
    assert {path.name for path in sitting.files.rglob(f"*{PART_SUFFIX}")} <= kept


def test_nothing_is_left_after_success(origin: Origin, tmp_path: Path) -> None:
    """No descriptor, no thread, no task; every file is right."""
    left = Left(tmp_path / "files")
    sitting = Sitting(tmp_path, lines_of(origin))
    sitting.direct()
    left.check()
    assert sitting.left == 0
    assert check_stories(sitting) == {RequestCompleted: SETTINGS.files}
    for number, entry in enumerate(origin.entries()):
        assert (sitting.files / entry.name).read_bytes() == content(SETTINGS, number)
    assert not list(sitting.files.rglob(f"*{PART_SUFFIX}"))


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.03, 0.06, 0.1, 0.2])
def test_nothing_is_left_after_cancellation(origin: Origin, tmp_path: Path, seconds: float) -> None:
    """At any moment; and what was left goes on in the next sitting."""

    async def cancel_soon(scope: trio.CancelScope) -> None:
        await trio.sleep(seconds)
        scope.cancel()

    left = Left(tmp_path / "files")
    sitting = Sitting(tmp_path, lines_of(origin), concurrency=8)
    sitting.direct(cancel_soon)
    left.check()
    assert sitting.left == 0
    done = check_stories(sitting)
    assert done[RequestFailed] == 0
    check_nothing_temporary(sitting)
    again = Sitting(tmp_path, lines_of(origin), before=sitting)
    again.direct()
    left.check()
    assert check_stories(again)[RequestCompleted] == SETTINGS.files
    for number, entry in enumerate(origin.entries()):
        assert (sitting.files / entry.name).read_bytes() == content(SETTINGS, number)


def test_nothing_is_left_when_the_disk_is_full(origin: Origin, tmp_path: Path) -> None:
    """Every request fails, and says so; a disk that is full is no reason to hang."""
    left = Left(tmp_path / "files")
    sitting = Sitting(tmp_path, lines_of(origin), disk=FullDisk())
    sitting.direct()
    left.check()
    assert sitting.left == 0
    assert check_stories(sitting) == {RequestFailed: SETTINGS.files}
    assert not [path for path in sitting.files.rglob("*") if not path.is_dir()]


def test_nothing_is_left_when_the_log_fails(origin: Origin, tmp_path: Path) -> None:
    """The log's failure comes out, and neither thread nor descriptor stays behind."""
    left = Left(tmp_path / "files")
    disk = FaultyDisk()
    sitting = Sitting(tmp_path, lines_of(origin), log_disk=disk)

    async def fail_soon(_scope: trio.CancelScope) -> None:
        await trio.sleep(0.03)
        disk.failing["write_all"] = errno.ENOSPC

    with pytest.raises((StoreError, BaseExceptionGroup)) as raised:
        sitting.direct(fail_soon)
    if isinstance(raised.value, BaseExceptionGroup):
        assert raised.value.split(StoreError)[1] is None
    left.check()


def test_no_request_waits_for_ever_for_a_slow_disk(tmp_path: Path) -> None:
    """When so much waits to be durable that several requests wait for room, each of them is woken."""
    settings = OriginSettings(files=WAITING_MAX * 3, size=10)
    with start_origin(settings) as running:
        lines = [entry.url for entry in running.entries()]
        sitting = Sitting(tmp_path, lines, disk=SlowDisk(0.3), concurrency=256)
        with_in = threading.Timer(25.0, os._exit, [99])  # a deadlock is not to be waited for
        with_in.start()
        sitting.direct()
        with_in.cancel()
    assert check_stories(sitting) == {RequestCompleted: settings.files}


def test_a_cancelled_wait_for_room_is_a_cancelled_request(tmp_path: Path) -> None:
    """A body that has arrived, and for which there was no room yet, has an end in the log too."""
    settings = OriginSettings(files=WAITING_MAX * 3, size=10)

    async def cancel_when_full(scope: trio.CancelScope) -> None:
        await trio.sleep(1.5)
        scope.cancel()

    with start_origin(settings) as running:
        lines = [entry.url for entry in running.entries()]
        sitting = Sitting(tmp_path, lines, disk=SlowDisk(2.0), concurrency=256)
        sitting.direct(cancel_when_full)
    ends = check_stories(sitting)
    assert ends[RequestCancelled] > 0
    assert len(list(sitting.files.iterdir())) == ends[RequestCompleted] >= WAITING_MAX


BODY = bytes(range(256)) * 4096


def head_of(start: int, keeps: bool = True) -> bytes:
    """Of a response with the body from `start` on."""
    lines = [
        f"Content-Length: {len(BODY) - start}",
        'ETag: "1"',
        "Connection: keep-alive" if keeps else "Connection: close",
    ]
    if start:
        lines.append(f"Content-Range: bytes {start}-{len(BODY) - 1}/{len(BODY)}")
    status = "206 Partial Content" if start else "200 OK"
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


class Server:
    """A raw server. `answer` is given the connection, and where the range begins that is asked for."""

    def __init__(self, answer: Callable[[socket.socket, int], None]) -> None:
        self._answer, self._listener = answer, socket.create_server(("127.0.0.1", 0))
        self.asked: list[int] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No connection any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                while self._answer_one(connection):
                    pass

    def _answer_one(self, connection: socket.socket) -> bool:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            piece = connection.recv(65536)
            if not piece:
                return False
            request += piece
        self.asked.append(int(request.partition(b"bytes=")[2].partition(b"-")[0] or 0))
        self._answer(connection, self.asked[-1])
        return connection.fileno() >= 0


def test_a_checksum_that_never_fits_is_given_up(tmp_path: Path) -> None:
    """A server that cuts every first answer, and a list that is wrong: fetched whole once more, not for ever."""

    def answer(connection: socket.socket, start: int) -> None:
        connection.sendall(head_of(start, keeps=False) + (BODY[start:] if start else BODY[: len(BODY) // 2]))
        connection.close()

    async def give_up(scope: trio.CancelScope) -> None:
        while len(server.asked) < 30:  # noqa: ASYNC110
            await trio.sleep(0.05)
        scope.cancel()

    server = Server(answer)
    sitting = Sitting(tmp_path, [f"{server.url}/a\ta\t{'0' * 64}"])
    sitting.direct(give_up)
    server.close()
    (failed,) = sitting.events(RequestFailed)
    assert failed.error == "ChecksumMismatch"
    assert len(server.asked) <= 4
    assert not list(sitting.files.iterdir())


def test_a_kept_connection_that_breaks_within_its_answer(tmp_path: Path) -> None:
    """Its answer had begun, so it is a try that failed: not asked again as if nothing had been, and its part counts."""
    left = Left(tmp_path / "files")

    def answer(connection: socket.socket, start: int) -> None:
        if len(server.asked) == 1:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        elif len(server.asked) == 2:
            connection.sendall(head_of(start) + BODY[:20_000])
            time.sleep(0.3)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        else:
            connection.sendall(head_of(start) + BODY[start:])

    server = Server(answer)
    sitting = Sitting(tmp_path, [f"{server.url}/{name}\t{name}" for name in "ab"], concurrency=1)
    sitting.direct()
    server.close()
    assert (sitting.files / "b").read_bytes() == BODY
    assert [event.error for event in sitting.events(AttemptFailed)] == ["ConnectionLost"]
    assert server.asked == [0, 0, 20_000]
    assert sorted(path.name for path in sitting.files.iterdir()) == ["a", "b"]
    left.check()
