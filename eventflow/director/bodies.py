"""Bodies as they arrive: small ones stay in memory, large ones go through the lanes into a part.

Memory for one request is bounded whatever the server sends: up to `SMALL_BYTES_MAX` a body is kept in pieces, beyond
that it goes into a part (a temporary file).

Invariants:
    what has arrived counts, also when the connection breaks;
    a body that ends before its length has come is never whole.
"""

import contextlib
from typing import Protocol

import trio

from eventflow.director.lanes import PIPE_BYTES, Lanes, LargeBody, Pipe
from eventflow.errors import BodyTooLarge, ShortBody
from eventflow.http.decoding import Decoder
from eventflow.http.wire import PlainWire, Wire
from eventflow.part import Part

SMALL_BYTES_MAX = 256 << 10
_PASSED_BYTES_MIN = 128 << 10


class BodyOwner(Protocol):
    """What a body asks of the request that it belongs to."""

    def open_part(self) -> Part:
        """A temporary file, made now."""
        ...

    async def into_task(self) -> None:
        """See to it that everything can be waited for."""
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
        await self._prepare_to_wait()
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
        await self._owner.into_task()
        await self._spill()
        large = self.large or self._open()
        with self._lanes.pipe() if isinstance(wire, PlainWire) else contextlib.nullcontext() as pipe:
            while size:
                if pipe is not None and isinstance(wire, PlainWire):
                    count = await self._pass_on(large, wire, pipe, size)
                else:
                    count = await self._fill(large, wire, size)
                if not count:
                    raise ShortBody(self._url, "the connection closed before the whole body had arrived")
                size -= count
                await self._owner.on_progress(self)
                await trio.lowlevel.checkpoint()

    async def _fill(self, large: LargeBody, wire: Wire, size: int) -> int:
        """A buffer full, at most `size` bytes; 0 when the connection has ended. Even if it breaks, what came counts."""
        buffer = self._lanes.buffer()
        view, filled = memoryview(buffer)[:size], 0
        try:
            while filled < len(view) and (count := await wire.receive_into(view[filled:])):
                self._came(count)
                filled += count
        except BaseException:
            with trio.CancelScope(shield=True), contextlib.suppress(OSError):
                await large.put(view[:filled], buffer)
            raise
        await large.put(view[:filled], buffer)
        return filled

    async def _pass_on(self, large: LargeBody, wire: PlainWire, pipe: Pipe, size: int) -> int:
        """The same without a copy in this process: through a pipe into the file."""
        try:
            while pipe.held < min(size, _PASSED_BYTES_MIN):
                count = await wire.splice_into(pipe.writing, min(size, PIPE_BYTES) - pipe.held)
                if count:
                    self._came(count)
                    pipe.held += count
                elif count == 0 or pipe.held:
                    break  # the connection has ended, or small pieces have filled the pipe
        except BaseException:
            with trio.CancelScope(shield=True), contextlib.suppress(OSError):
                await large.put_from(pipe)
            raise
        passed = pipe.held
        await large.put_from(pipe)
        return passed

    def _came(self, count: int) -> None:
        self.received += count
        self._owner.on_bytes()

    async def finish(self) -> bytes | None:
        """The whole body if it is small enough to be in memory; None: it is in the part, written and digested.

        Raises:
            BadEncoding, ExpandsTooMuch, OSError: see `drain`.
        """
        await self._prepare_to_wait()
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
    def is_decoded(self) -> bool:
        """Whether what is stored is not what was sent."""
        return self._decoder is not None

    async def _prepare_to_wait(self) -> None:
        """Nothing has to wait for a body that is small, so far, and stored as it is sent."""
        if self.large is not None or self._decoder is not None or self._size > SMALL_BYTES_MAX:
            await self._owner.into_task()

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
