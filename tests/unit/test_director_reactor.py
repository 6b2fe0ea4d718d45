"""Coroutines that are driven by hand: they wait for sockets, move into tasks, and none is forgotten."""

import select
import socket
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from eventflow.director import reactor as reactor_module
from eventflow.director.reactor import Reactor
from eventflow.http.wire import PlainWire

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two sockets that are connected; the first is ours."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def in_reactor(check: Callable[[Reactor], Coroutine[Any, Any, None]]) -> None:
    """Run `check` beside a reactor, which is cancelled after it."""

    async def main() -> None:
        reactor = Reactor()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                await nursery.start(reactor.run, nursery)
                await check(reactor)
                nursery.cancel_scope.cancel()

    trio.run(main)


def tasks() -> int:
    """How many tasks there are."""
    return trio.lowlevel.current_statistics().tasks_living


def test_it_runs_at_once_until_it_waits_and_goes_on_when_there_is_something_to_read(pair: Pair) -> None:
    """No task is made for it, however often it waits."""
    ours, theirs = pair
    seen = list[bytes]()

    async def check(reactor: Reactor) -> None:
        wire, before = PlainWire(ours, reactor), tasks()

        async def read_twice() -> None:
            seen.extend([await wire.receive(10), await wire.receive(10)])

        reactor.start(read_twice())
        assert seen == []
        theirs.send(b"one")
        await trio.sleep(0.05)
        assert tasks() == before
        theirs.send(b"two")
        await trio.sleep(0.05)
        assert seen == [b"one", b"two"]

    in_reactor(check)


def test_it_goes_on_in_a_task_when_it_asks_for_one(pair: Pair) -> None:
    """Between two of its lines; what it does there, trio knows. In a task it stays where it is."""
    ours, theirs = pair
    seen = list[object]()

    async def check(reactor: Reactor) -> None:
        wire = PlainWire(ours, reactor)

        async def move() -> None:
            seen.append(await wire.receive(10))
            await reactor.into_task()
            await trio.sleep(0.01)
            await reactor.into_task()
            seen.append(await wire.receive(10))

        reactor.start(move())
        theirs.send(b"one")
        await trio.sleep(0.1)
        theirs.send(b"two")
        await trio.sleep(0.1)
        assert seen == [b"one", b"two"]

    in_reactor(check)


def test_those_that_are_started_by_one_that_runs_come_after_it() -> None:
    """However many they are: nothing is nested, and the scheduler has its turn between them."""
    order, turns = list[int](), list[int]()

    async def check(reactor: Reactor) -> None:
        async def one(number: int) -> None:
            if number < 5_000:
                reactor.start(one(number + 1))
            order.append(number)

        reactor.start(one(0))
        while len(order) <= 5_000:
            turns.append(len(order))
            await trio.lowlevel.checkpoint()
        assert order == list(range(5_001))
        assert len(turns) >= 4

    in_reactor(check)


def test_who_waits_for_a_socket_that_is_closed_hears_of_it(pair: Pair) -> None:
    """As in a task: an attempt that has taken too long is ended so."""
    ours, _ = pair
    seen = list[str]()

    async def check(reactor: Reactor) -> None:
        wire = PlainWire(ours, reactor)

        async def read() -> None:
            try:
                await wire.receive(10)
            except trio.ClosedResourceError:
                seen.append("closed")

        reactor.start(read())
        wire.close()
        await trio.sleep(0.05)
        assert seen == ["closed"]

    in_reactor(check)


def test_all_of_them_are_cancelled_with_it(pair: Pair) -> None:
    """Those that wait, and those that have not begun: each ends as a task that is cancelled."""
    ours, _ = pair
    ends = list[str]()

    async def check(reactor: Reactor) -> None:
        wire = PlainWire(ours, reactor)

        async def read() -> None:
            try:
                await wire.receive(10)
            except trio.Cancelled:
                ends.append("cancelled")
                reactor.start(read_late())
                raise

        async def read_late() -> None:
            try:
                await wire.receive(10)
            except trio.Cancelled:
                ends.append("late")
                raise

        reactor.start(read())

    in_reactor(check)
    assert ends == ["cancelled", "late"]


def test_an_error_of_one_ends_the_nursery_and_cancels_the_others(pair: Pair) -> None:
    """As an error of a task does."""
    ours, theirs = pair
    ends = list[str]()

    async def check(reactor: Reactor) -> None:
        wire = PlainWire(ours, reactor)

        async def fail() -> None:
            await wire.receive(10)
            raise ValueError("no")

        async def wait() -> None:
            try:
                await other.receive(10)
            except trio.Cancelled:
                ends.append("cancelled")
                raise

        other = PlainWire(theirs, reactor)
        reactor.start(fail())
        reactor.start(wait())
        theirs.send(b"x")
        await trio.sleep_forever()

    theirs.setblocking(False)
    with pytest.raises(ExceptionGroup) as caught:
        in_reactor(check)
    assert caught.group_contains(ValueError, match="no")
    assert ends == ["cancelled"]


def test_a_connection_that_nobody_waits_for_any_more_makes_no_work(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes stay, for whoever reads it in a task, and epoll speaks of it once."""
    ours, theirs = pair
    seen, turns = list[bytes](), list[int]()
    take_news = Reactor._take_news

    def count(reactor: Reactor, epoll: select.epoll) -> None:
        turns.append(1)
        take_news(reactor, epoll)

    monkeypatch.setattr(Reactor, "_take_news", count)

    async def check(reactor: Reactor) -> None:
        wire = PlainWire(ours, reactor)

        async def read() -> None:
            seen.append(await wire.receive(10))

        reactor.start(read())
        theirs.send(b"one")
        await trio.sleep(0.05)
        theirs.send(b"two")
        await trio.sleep(0.05)
        assert len(turns) == 2
        seen.append(await wire.receive(10))
        assert seen == [b"one", b"two"]
        reactor.start(read())
        theirs.send(b"three")
        await trio.sleep(0.05)
        assert seen[-1] == b"three"

    in_reactor(check)


def test_where_there_is_no_epoll_everything_is_a_task(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS."""
    monkeypatch.setattr(reactor_module, "select", SimpleNamespace())
    ours, theirs = pair
    seen = list[bytes]()

    async def check(reactor: Reactor) -> None:
        wire = PlainWire(ours, reactor)

        async def read() -> None:
            seen.append(await wire.receive(10))

        reactor.start(read())
        theirs.send(b"one")
        await trio.sleep(0.05)
        assert seen == [b"one"]

    in_reactor(check)


def test_a_full_socket_is_waited_for_in_a_task(pair: Pair) -> None:
    """A request that does not fit at once is sent wholly."""
    ours, theirs = pair
    request = bytes(5_000_000)
    theirs.setblocking(False)

    async def check(reactor: Reactor) -> None:
        wire = PlainWire(ours, reactor)
        sent = trio.Event()

        async def send() -> None:
            await wire.send(request)
            sent.set()

        reactor.start(send())
        received = 0
        while received < len(request):
            await trio.lowlevel.wait_readable(theirs)
            received += len(theirs.recv(1 << 20))
        await sent.wait()

    in_reactor(check)


def test_a_full_socket_that_is_closed_is_no_error_of_ours(pair: Pair) -> None:
    """Also if it is closed before the task that waits for it has its turn."""
    ours, _ = pair
    seen = list[str]()

    async def check(reactor: Reactor) -> None:
        wire = PlainWire(ours, reactor)

        async def send() -> None:
            try:
                await wire.send(bytes(5_000_000))
            except trio.ClosedResourceError:
                seen.append("closed")

        reactor.start(send())
        wire.close()
        await trio.sleep(0.05)
        assert seen == ["closed"]

    in_reactor(check)


def test_what_it_cannot_wait_for_is_named() -> None:
    """A call of trio's in a coroutine that did not ask for a task would never come back."""

    async def check(reactor: Reactor) -> None:
        async def forget_to_ask() -> None:
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)

        reactor.start(forget_to_ask())

    with pytest.raises(ExceptionGroup) as caught:
        in_reactor(check)
    assert caught.group_contains(AssertionError, match="not in a task")
