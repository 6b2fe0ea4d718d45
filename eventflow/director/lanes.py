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
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec
import trio

from eventflow.part import Part
from eventflow.sources import SystemSources

BUFFER_BYTES = 256 << 10
PIPE_BYTES = 1 << 20
SPLICES = hasattr(os, "splice") and hasattr(fcntl, "F_SETPIPE_SZ")
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
    """A pipe for `PIPE_BYTES`: what a socket gives goes into it, and from it into a file, and is never copied here."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a user's pipes may have so much memory and no more: then it is smaller
            fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

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

    def pipe(self) -> Pipe:
        """An empty pipe."""
        return self._free_pipes.pop() if self._free_pipes else Pipe()

    def give_back(self, used: bytearray | Pipe) -> None:
        """Keep a few for the next body. A pipe must be empty."""
        if isinstance(used, bytearray):
            if len(self._free) < 2 * _PIECES_MAX:
                self._free.append(used)
        elif len(self._free_pipes) < 2 * _PIECES_MAX:
            self._free_pipes.append(used)
        else:
            used.close()


class Checkpoint(msgspec.Struct, frozen=True):
    """So many bytes are in the part, and this is their SHA-256."""

    bytes: int
    sha256: str


class _Piece:
    """Some bytes on their way. Each flag is set once, by one thread."""

    __slots__ = ("is_digested", "is_written", "used")

    def __init__(self, used: bytearray | Pipe | None, *, is_written: bool) -> None:
        self.used, self.is_written, self.is_digested = used, is_written, False


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

    async def put_from(self, pipe: Pipe, size: int) -> None:
        """The same for what stands in a pipe; it is digested once it is written. The pipe is not the caller's any more.

        No `put` comes after it: what is in memory would be digested before this is written.

        Raises:
            OSError: see `put`.
        """
        write = partial(self.part.put_from, pipe.reading, size)
        try:
            await self._wait_for_room()
            is_quick = self._is_quick
            if is_quick:
                self._write_quickly(write)
                self._lanes.give_back(pipe)
        except BaseException:
            pipe.close()
            raise
        piece = _Piece(None if is_quick else pipe, is_written=is_quick)
        digest = partial(self._digest, piece, partial(self.part.absorb_written, size, self._lanes.digested))
        self._on_way.append(piece)
        if is_quick:
            self._lanes.digesting.call(digest)
        else:
            self._lanes.writing.call(partial(self._write, piece, write, digest))

    async def settle(self) -> Checkpoint:
        """Wait until all of it is written and digested, cancelled or not.

        Raises:
            OSError: something could not be written.
        """
        with trio.CancelScope(shield=True):
            await self._wait_until(0)
        if self._problem is not None:
            raise self._problem
        self.checkpoint = Checkpoint(self.part.bytes, self.part.sha256())
        return self.checkpoint

    async def _wait_for_room(self) -> None:
        await self._wait_until(_PIECES_MAX - 1)
        if self._problem is not None:
            raise self._problem

    def _write_quickly(self, write: Callable[[], None]) -> None:
        begun = SystemSources.monotonic_ns()
        write()
        self._is_quick = SystemSources.monotonic_ns() - begun < _QUICK_NS

    def _write(self, piece: _Piece, write: Callable[[], None], digest: Callable[[], None] | None = None) -> None:
        """In a lane. `digest`: what reads it again, so it comes after it."""
        try:
            write()
        except OSError as problem:
            self._problem = self._problem or problem  # the first one says what is wrong
            if isinstance(piece.used, Pipe):  # there is something left in it
                piece.used.close()
                piece.used = None
            piece.is_digested = piece.is_digested or digest is not None
        else:
            if digest is not None:
                self._lanes.digesting.call(digest)
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

    async def _wait_until(self, count_max: int) -> None:
        """Wait until at most so many pieces are on their way."""
        while self._count() > count_max:
            self._moved = trio.Event()
            self._is_waiting = True
            if self._count() > count_max:  # a piece may have arrived before the lanes could know of us
                await self._moved.wait()
            self._is_waiting = False

    def _count(self) -> int:
        """How many pieces are on their way; the buffers of those that have arrived are used again."""
        pieces = self._on_way
        while pieces and pieces[0].is_digested and pieces[0].is_written:
            if (used := pieces.popleft().used) is not None:
                self._lanes.give_back(used)
        return len(pieces)
