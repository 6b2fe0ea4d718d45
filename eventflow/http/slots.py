"""Who may have a connection, and who has which: the limits of a transport.

Invariants:
    first come, first served: in each origin's line, and then in the common one;
    taking and giving cost the same however many wait or hold;
    whoever is cancelled or fails holds nothing any more, and nobody does after `close`.
"""

import trio

from eventflow.http.dialing import Origin
from eventflow.http.pool import Connection, Pool


class SlotsClosed(Exception):
    """There are no slots any more."""


class Lease:
    """What one request holds: a slot, and then a connection.

    `making` is for the one who makes the connection: it is cancelled if the lease ends before.
    """

    __slots__ = ("_connection", "_origin", "_slots", "has_ended", "making")

    def __init__(self, slots: "Slots", origin: Origin) -> None:
        self._slots, self._origin = slots, origin
        self._connection: Connection | None = None
        self.making: trio.CancelScope | None = None
        self.has_ended = False

    def hold(self, connection: Connection) -> None:
        """This is the request's connection, from now on closed with the lease.

        Raises:
            SlotsClosed: the lease has ended while the connection was made.
        """
        if self.has_ended:
            connection.close()
            raise SlotsClosed
        self._connection = connection

    def drop(self, *, keep: bool = False) -> None:
        """Be without a connection again, which is kept for another request or closed."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if keep:
            self._slots.pool.give(connection)
        else:
            connection.close()

    def end(self, *, keep: bool) -> None:
        """Give everything back. Idempotent."""
        if not self.has_ended:
            self.has_ended = True
            if self.making is not None:
                self.making.cancel()
            self.drop(keep=keep)
            self._slots.give(self._origin, self)


class _Line:
    """The requests to one origin: how many hold a slot or wait for one."""

    __slots__ = ("limiter", "members")

    def __init__(self, size: int) -> None:
        self.limiter, self.members = trio.CapacityLimiter(size), 0


class Slots:
    """The slots of one transport. Made under trio.

    Args:
        pool: where connections go that nobody uses.
        in_all: how many connections there may be, idle ones included.
        per_origin: the same for one origin.
    """

    def __init__(self, pool: Pool, in_all: int, per_origin: int) -> None:
        self.pool, self._in_all, self._per_origin = pool, in_all, per_origin
        self._common = trio.CapacityLimiter(in_all)
        self._lines: dict[Origin, _Line] = {}
        self._leases: set[Lease] = set()
        self._is_closed = False

    def make_room(self) -> None:
        """Close what is idle, as far as a connection that is about to be made would be one too many."""
        self.pool.prune()
        self.pool.shrink(self._in_all - len(self._leases))

    async def take(self, origin: Origin) -> Lease:
        """Wait for a slot. If this is cancelled, there is none to give back.

        Raises:
            SlotsClosed: there are none any more.
        """
        lease = Lease(self, origin)
        line = self._lines.get(origin)
        if line is None:
            line = self._lines[origin] = _Line(self._per_origin)
        line.members += 1
        try:
            await _acquire(line.limiter, lease)
            try:
                await _acquire(self._common, lease)
            except BaseException:
                line.limiter.release_on_behalf_of(lease)
                raise
        except BaseException:
            self._leave(origin, line)
            raise
        self._leases.add(lease)
        if self._is_closed:
            lease.end(keep=False)
            raise SlotsClosed
        return lease

    def give(self, origin: Origin, lease: Lease) -> None:
        """Let the next one have it."""
        line = self._lines[origin]
        self._leases.remove(lease)
        self._common.release_on_behalf_of(lease)
        line.limiter.release_on_behalf_of(lease)
        self._leave(origin, line)

    def close(self) -> None:
        """Close every connection, used or idle; nobody gets one from now on, not even who waits already."""
        self._is_closed = True
        self.pool.close()
        for lease in tuple(self._leases):
            lease.end(keep=False)

    def _leave(self, origin: Origin, line: _Line) -> None:
        line.members -= 1
        if not line.members:
            del self._lines[origin]


async def _acquire(limiter: trio.CapacityLimiter, lease: Lease) -> None:
    """Without a way through the scheduler where a slot is free; whoever waits has been given his before."""
    try:
        limiter.acquire_on_behalf_of_nowait(lease)
    except trio.WouldBlock:
        await limiter.acquire_on_behalf_of(lease)
