"""The pool: the warmest connection first, the oldest one goes, and nothing stays behind of an origin."""

import socket
from collections.abc import Iterator

import pytest
import trio

from eventflow.http.dialing import Dialled, Origin
from eventflow.http.pool import Connection, Pool
from eventflow.http.wire import PlainWire

HERE, THERE = Origin("http", "here", 80), Origin("http", "there", 80)


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Made:
    """Connections, and the sockets of their other sides."""

    def __init__(self) -> None:
        self.others: list[socket.socket] = []

    def __call__(self, origin: Origin = HERE) -> Connection:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.others.append(theirs)
        name = str(len(self.others) - 1)
        return Connection(origin, Dialled(PlainWire(ours), "", 0, 0.0, 0.0, 0.0, None), name)

    def is_closed(self, number: int) -> bool:
        """Whether the connection has been closed."""
        try:
            return self.others[number].recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


@pytest.fixture
def made() -> Iterator[Made]:
    """Makes connections."""
    maker = Made()
    yield maker
    for other in maker.others:
        other.close()


def in_trio(run: object) -> None:
    """Closing a wire wakes whoever waits for it, which needs trio."""

    async def main() -> None:
        assert callable(run)
        run()

    trio.run(main)


def test_the_connection_that_was_used_last_is_taken_first(made: Made) -> None:
    """So that the others grow old and can go; each origin has its own."""

    def run() -> None:
        pool = Pool()
        given = [made(), made(), made(THERE), made()]
        for connection in given:
            pool.give(connection)
        assert [pool.take(HERE) for _ in range(4)] == [given[3], given[1], given[0], None]
        assert (pool.take(THERE), len(pool)) == (given[2], 0)
        for connection in given:
            connection.close()

    in_trio(run)


def test_no_more_are_kept_than_may_be(made: Made) -> None:
    """The one that is idle for the longest goes, whatever its origin."""

    def run() -> None:
        pool = Pool(kept_max=2)
        for origin in (HERE, THERE, HERE):
            pool.give(made(origin))
        assert [made.is_closed(number) for number in range(3)] == [True, False, False]
        assert len(pool) == 2
        pool.shrink(1)
        assert [made.is_closed(number) for number in range(3)] == [True, True, False]
        pool.close()
        assert (made.is_closed(2), len(pool)) == (True, 0)

    in_trio(run)


def test_none_is_used_after_its_time(made: Made) -> None:
    """It is closed when it would be taken, or by `prune`."""

    def run() -> None:
        clock = Clock()
        pool = Pool(idle_s=10, clock_ns=clock)
        pool.give(made())
        clock.now_ns += 6_000_000_000
        pool.give(made())
        clock.now_ns += 5_000_000_000
        pool.prune()
        assert [made.is_closed(number) for number in range(2)] == [True, False]
        clock.now_ns += 5_000_000_000
        assert pool.take(HERE) is None
        assert made.is_closed(1)

    in_trio(run)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_one_that_the_server_has_ended_or_spoken_on_is_not_used(says: bytes, made: Made) -> None:
    """What it said would be taken for the answer to the next request."""

    def run() -> None:
        pool = Pool()
        good = made()
        for connection in (good, made()):
            pool.give(connection)
        made.others[1].sendall(says) if says else made.others[1].shutdown(socket.SHUT_WR)
        assert pool.take(HERE) is good
        assert made.is_closed(1)
        good.close()

    in_trio(run)


def test_nothing_stays_behind_of_an_origin(made: Made) -> None:
    """A million origins, each asked once, leave no million empty stacks, whichever way their connections went."""

    def run() -> None:
        pool = Pool(kept_max=8)
        for number in range(40):
            origin = Origin("http", f"h{number}", 80)
            pool.give(made(origin))
            if number % 3 == 0:
                taken = pool.take(origin)
                assert taken is not None
                taken.close()
            elif number % 3 == 1:
                made.others[-1].shutdown(socket.SHUT_WR)
                assert pool.take(origin) is None
        assert len(pool._idle) == len(pool) <= 8
        pool.close()
        assert not pool._idle

    in_trio(run)
