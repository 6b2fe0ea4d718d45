"""Bodies on their way to the disk: small ones in memory, large ones through two threads.

Memory for one request is bounded whatever the server sends: up to `SMALL_BYTES_MAX` a body is kept in pieces, beyond
that it goes into a part (a temporary file), written by one thread and digested by another, both of which work without
the interpreter, while the loop reads on.

Invariants:
    pieces reach the file and the digest in the order of their arrival;
    at most `_BUFFERS_MAX` buffers of a body are on their way;
    a checkpoint counts only bytes that are written and digested.
"""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec
import trio

from eventflow.errors import BodyTooLarge, ShortBody
from eventflow.folder import Part
from eventflow.http.decoding import Decoder
from eventflow.http.wire import Wire
from eventflow.sources import SystemSources

SMALL_BYTES_MAX = 256 << 10
BUFFER_BYTES = 256 << 10
_BUFFERS_MAX = 4
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


class Lanes:
    """The two threads that all large bodies of a process share, and buffers that are used again."""

    def __init__(self) -> None:
        self.writing, self.digesting = _Lane("eventflow-write"), _Lane("eventflow-digest")
        self._free: list[bytearray] = []

    def buffer(self) -> bytearray:
        """A buffer of `BUFFER_BYTES`."""
        return self._free.pop() if self._free else bytearray(BUFFER_BYTES)

    def close(self) -> None:
        """End the threads, when no body is on its way any more."""
        self.writing.close()
        self.digesting.close()

    def give_back(self, buffer: bytearray) -> None:
        """Keep a few for the next body."""
        if len(self._free) < 2 * _BUFFERS_MAX:
            self._free.append(buffer)


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
        await self._wait_until(_BUFFERS_MAX - 1)
        if self._problem is not None:
            raise self._problem
        piece = _Piece(buffer, is_written=self._is_quick)
        if self._is_quick:
            begun = SystemSources.monotonic_ns()
            self.part.put(data)
            self._is_quick = SystemSources.monotonic_ns() - begun < _QUICK_NS
        else:
            self._lanes.writing.call(partial(self._write, piece, data))
        self._on_way.append(piece)
        self._lanes.digesting.call(partial(self._digest, piece, data))

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

    def _write(self, piece: _Piece, data: bytes | memoryview) -> None:
        try:
            self.part.put(data)
        except OSError as problem:
            self._problem = self._problem or problem  # the first one says what is wrong
        piece.is_written = True
        self._tell()

    def _digest(self, piece: _Piece, data: bytes | memoryview) -> None:
        self.part.absorb(data)
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
            if (buffer := pieces.popleft().buffer) is not None:
                self._lanes.give_back(buffer)
        return len(pieces)


class BodyOwner(Protocol):
    """What a body asks of the request that it belongs to."""

    def open_part(self) -> Part:
        """A temporary file, made now."""
        ...

    async def on_progress(self, body: "ArrivingBody") -> None:
        """Some more is there; called often."""
        ...

    def on_bytes(self) -> None:
        """The server is alive."""
        ...


class ArrivingBody:
    """The body of one response, from its first piece to its last.

    Args:
        owner: the request.
        lanes: the threads for a large one.
        url: the redacted URL, for errors.
        bytes_max: how large it may be, as sent; None: as large as it is.
        large: a part to go on with.
        decoder: takes off the content coding; None: stored as sent.
    """

    __slots__ = ("_bytes_max", "_decoder", "_lanes", "_owner", "_pieces", "_sent", "_size", "_url", "large", "received")

    def __init__(
        self,
        owner: BodyOwner,
        lanes: Lanes,
        url: str,
        bytes_max: int | None,
        large: LargeBody | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        self._owner, self._lanes, self._url, self._bytes_max = owner, lanes, url, bytes_max
        self.large, self._decoder = large, decoder
        self._sent: list[bytes] = []  # what waits to be decoded
        self._pieces: list[bytes] = []  # what waits to be stored
        self._size = 0
        self.received = 0

    def add(self, piece: bytes) -> None:
        """Take a piece as it was sent.

        Raises:
            BodyTooLarge: there are more bytes than wanted.
        """
        self.received += len(piece)
        self._check(self.received)
        if self._decoder is not None:
            self._sent.append(piece)
        else:
            self._pieces.append(piece)
            self._size += len(piece)

    async def drain(self) -> None:
        """Make room: decode, and hand over to the lanes what is too much for memory.

        Raises:
            BadEncoding, ExpandsTooMuch: it does not decode, or to too much.
            OSError: it cannot be written.
        """
        if self._decoder is not None:
            await self._decode(self._decoder)
        elif self._size > SMALL_BYTES_MAX or self.large is not None:
            await self._spill()
        await self._owner.on_progress(self)

    async def receive_rest(self, wire: Wire, size: int) -> None:
        """Read the last `size` bytes straight into buffers for the lanes.

        Raises:
            ShortBody: the connection ended before.
            BodyTooLarge, OSError: see `drain`.
        """
        self._check(self.received + size)
        await self._spill()
        large = self.large or self._open()
        while size:
            wanted = min(size, BUFFER_BYTES)
            filled = await self._fill(large, wire, wanted)
            size -= filled
            if filled < wanted:
                raise ShortBody(self._url, "the connection closed before the whole body had arrived")
            await self._owner.on_progress(self)
            await trio.lowlevel.checkpoint()

    async def _fill(self, large: LargeBody, wire: Wire, wanted: int) -> int:
        """Read so many bytes, fewer where the connection ends. Even if it breaks, what came counts."""
        buffer = self._lanes.buffer()
        view, filled = memoryview(buffer), 0
        try:
            while filled < wanted and (count := await wire.receive_into(view[filled:wanted])):
                filled += count
                self.received += count
                self._owner.on_bytes()
        except BaseException:
            with trio.CancelScope(shield=True), contextlib.suppress(OSError):
                await large.put(view[:filled], buffer)
            raise
        await large.put(view[:filled], buffer)
        return filled

    async def finish(self) -> bytes | None:
        """The whole body if it is small enough to be in memory; None: it is in the part, written and digested.

        Raises:
            BadEncoding, ExpandsTooMuch, OSError: see `drain`.
        """
        if self._decoder is not None:
            await self._decode(self._decoder)
            self._decoder.finish()
        if self.large is None and self._size <= SMALL_BYTES_MAX:
            return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        await self._spill()
        assert self.large is not None
        await self.large.settle()
        return None

    @property
    def is_quick(self) -> bool:
        """Whether nothing that is done with it has to wait: it is small, so far, and stored as it is sent."""
        return self.large is None and self._decoder is None and self._size <= SMALL_BYTES_MAX

    @property
    def is_decoded(self) -> bool:
        """Whether what is stored is not what was sent."""
        return self._decoder is not None

    def _check(self, size: int) -> None:
        if self._bytes_max is not None and size > self._bytes_max:
            raise BodyTooLarge(self._url, f"the body is larger than {self._bytes_max} bytes")

    def _open(self) -> LargeBody:
        large = LargeBody(self._owner.open_part(), self._lanes, trio.lowlevel.current_trio_token())
        self.large = large
        return large

    async def _spill(self) -> None:
        if not self._pieces:
            return
        large = self.large or self._open()
        data = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        await large.put(data)

    async def _decode(self, decoder: Decoder) -> None:
        """Decode what has come, piece by piece: so a bomb is noticed before it is in memory."""
        sent, self._sent = self._sent, []
        for piece in sent:
            for decoded in decoder.feed(piece):
                self._pieces.append(decoded)
                self._size += len(decoded)
                if self._size > SMALL_BYTES_MAX:
                    await self._spill()
