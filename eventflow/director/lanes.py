"""The two threads that large bodies go through on their way to the disk: one writes, one digests.

Both work without the interpreter, while the loop reads on. What comes from a plain connection is not even copied into
this process: the kernel moves it from the socket through a pipe into the file (splice), and the digest reads it there.

Invariants:
    pieces reach the file and the digest in the order of their arrival;
    at most `_PIECES_MAX` pieces of a body are on their way;
    a checkpoint counts only bytes that are written and digested.
"""

import contextlib
import fcntl
import os
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache, partial

import msgspec
import trio

from eventflow.part import Part
from eventflow.sources import SystemSources

BUFFER_BYTES = 256 << 10
PIPE_BYTES = 256 << 10
_PIECES_MAX = 4
_QUICK_NS = 20_000_000


class _Lane:
    """A thread that carries out calls in order, from its first use on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], None]) -> None:
        """Have it called after everything that came before. It must not raise."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put(function)

    def close(self) -> None:
        """End the thread after the last call."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


class Pipe:
    """A pipe for `PIPE_BYTES`: what a socket gives goes into it, and from it into a file, and is never copied here.

    `held` is how many bytes are in it.

    Raises:
        OSError: there are too many descriptors, or the user's pipes have all the memory that they may have (64 MiB).
    """

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_CLOEXEC)
        self.held = 0
        try:
            fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Whatever is in it is lost."""
        os.close(self.reading)
        os.close(self.writing)


class Lanes:
    """The two threads that all large bodies of a process share, and buffers and pipes that are used again.

    `digested` is a buffer for the thread that digests.
    """

    def __init__(self) -> None:
        self.writing, self.digesting = _Lane("eventflow-write"), _Lane("eventflow-digest")
        self.digested = bytearray(BUFFER_BYTES)
        self._free: list[bytearray] = []
        self._free_pipes: list[Pipe] = []

    def buffer(self) -> bytearray:
        """A buffer of `BUFFER_BYTES`."""
        return self._free.pop() if self._free else bytearray(BUFFER_BYTES)

    def close(self) -> None:
        """End the threads, when no body is on its way any more."""
        self.writing.close()
        self.digesting.close()
        while self._free_pipes:
            self._free_pipes.pop().close()

    def give_back(self, buffer: bytearray) -> None:
        """Keep a few for the next body."""
        if len(self._free) < 2 * _PIECES_MAX:
            self._free.append(buffer)

    @contextlib.contextmanager
    def pipe(self) -> Iterator[Pipe | None]:
        """A pipe for one body; None if none can be had, and then buffers will do."""
        pipe = None
        if can_splice():
            with contextlib.suppress(OSError):
                pipe = self._free_pipes.pop() if self._free_pipes else Pipe()
        try:
            yield pipe
        finally:
            if pipe is not None and not pipe.held and len(self._free_pipes) < 2 * _PIECES_MAX:
                self._free_pipes.append(pipe)
            elif pipe is not None:
                pipe.close()


@cache
def can_splice() -> bool:
    """Whether this system moves bytes from a socket into a pipe: Linux does, not everything that looks like it."""
    if not hasattr(os, "splice") or not hasattr(fcntl, "F_SETPIPE_SZ"):
        return False
    ours, theirs = socket.socketpair()
    try:
        pipe = Pipe()
        theirs.send(b"x")
        can = os.splice(ours.fileno(), pipe.writing, 1) == 1
        pipe.close()
    except OSError:
        return False
    finally:
        ours.close()
        theirs.close()
    return can


class Checkpoint(msgspec.Struct, frozen=True):
    """So many bytes are in the part, and this is their SHA-256."""

    bytes: int
    sha256: str


class _Piece:
    """Some bytes on their way. Each flag is set once, by one thread."""

    __slots__ = ("buffer", "is_digested", "is_written")

    def __init__(self, buffer: bytearray | None, *, is_written: bool) -> None:
        self.buffer, self.is_written, self.is_digested = buffer, is_written, False


class LargeBody:
    """A body that goes into a part. One trio task puts; the lanes work.

    It writes by itself, which is a copy into the system's cache, as long as that is quick; once the disk has made it
    wait, a lane writes. The digest is always a lane's.

    Args:
        part: the temporary file, `part.bytes` of which are there already.
        lanes: the threads.
        token: the trio run's.
    """

    def __init__(self, part: Part, lanes: Lanes, token: trio.lowlevel.TrioToken) -> None:
        self.part, self._lanes, self._token = part, lanes, token
        self.checkpoint = Checkpoint(part.bytes, part.sha256())
        self._on_way: deque[_Piece] = deque()
        self._is_quick = True
        self._is_waiting = False
        self._problem: OSError | None = None
        self._moved = trio.Event()

    async def put(self, data: bytes | memoryview, buffer: bytearray | None = None) -> None:
        """Have it written and digested; waits only while too much is on its way.

        Raises:
            OSError: it, or something before, could not be written.
        """
        await self._wait_for_room()
        piece = _Piece(buffer, is_written=self._is_quick)
        if self._is_quick:
            self._write_quickly(partial(self.part.put, data))
        else:
            self._lanes.writing.call(partial(self._write, piece, partial(self.part.put, data)))
        self._on_way.append(piece)
        self._lanes.digesting.call(partial(self._digest, piece, partial(self.part.absorb, data)))

    async def put_from(self, pipe: Pipe) -> None:
        """The same for what stands in a pipe, which is empty then, unless this fails. It is digested from the file.

        Raises:
            OSError: see `put`.
        """
        await self._wait_for_room()
        size = pipe.held
        piece, write = _Piece(None, is_written=self._is_quick), partial(self.part.put_from, pipe.reading, size)
        if self._is_quick:
            self._write_quickly(write)
        else:
            self._lanes.writing.call(partial(self._write, piece, write))
            with trio.CancelScope(shield=True):
                await self._wait_until(lambda: piece.is_written)
            if self._problem is not None:
                raise self._problem
        pipe.held = 0
        self._on_way.append(piece)
        absorb = partial(self.part.absorb_written, size, self._lanes.digested)
        self._lanes.digesting.call(partial(self._digest, piece, absorb))

    async def settle(self) -> Checkpoint:
        """Wait until all of it is written and digested, cancelled or not.

        Raises:
            OSError: something could not be written.
        """
        with trio.CancelScope(shield=True):
            await self._wait_until(lambda: self._count() == 0)
        if self._problem is not None:
            raise self._problem
        self.checkpoint = Checkpoint(self.part.bytes, self.part.sha256())
        return self.checkpoint

    async def _wait_for_room(self) -> None:
        await self._wait_until(lambda: self._count() < _PIECES_MAX)
        if self._problem is not None:
            raise self._problem

    def _write_quickly(self, write: Callable[[], None]) -> None:
        begun = SystemSources.monotonic_ns()
        write()
        self._is_quick = SystemSources.monotonic_ns() - begun < _QUICK_NS

    def _write(self, piece: _Piece, write: Callable[[], None]) -> None:
        """In a lane."""
        try:
            write()
        except OSError as problem:
            self._problem = self._problem or problem  # the first one says what is wrong
        piece.is_written = True
        self._tell()

    def _digest(self, piece: _Piece, absorb: Callable[[], None]) -> None:
        """In a lane."""
        try:
            absorb()
        except OSError as problem:
            self._problem = self._problem or problem
        piece.is_digested = True
        self._tell()

    def _tell(self) -> None:
        """In a lane: wake the task, but only if it waits, for that costs as much as to digest some kilobytes."""
        if self._is_waiting:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._wake)

    def _wake(self) -> None:
        self._moved.set()

    async def _wait_until(self, has_come: Callable[[], bool]) -> None:
        """Wait for what the lanes do."""
        while not has_come():
            self._moved = trio.Event()
            self._is_waiting = True
            if not has_come():  # it may have come before the lanes could know of us
                await self._moved.wait()
            self._is_waiting = False

    def _count(self) -> int:
        """How many pieces are on their way; the buffers of those that have arrived are used again."""
        pieces = self._on_way
        while pieces and pieces[0].is_digested and pieces[0].is_written:
            if (buffer := pieces.popleft().buffer) is not None:
                self._lanes.give_back(buffer)
        return len(pieces)
