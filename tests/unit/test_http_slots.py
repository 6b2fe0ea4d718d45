"""Slots: who asks first gets one first, and none is lost."""

import random
import socket

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from eventflow.http.dialing import Dialled, Origin
from eventflow.http.pool import Connection, Pool
from eventflow.http.slots import Lease, Slots, SlotsClosed
from eventflow.http.wire import PlainWire

HERE, THERE = Origin("http", "here", 80), Origin("http", "there", 80)


def connection(origin: Origin = HERE) -> tuple[Connection, socket.socket]:
    """A connection, and its other side."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return Connection(origin, Dialled(PlainWire(ours), "", 0, 0.0, 0.0, 0.0, None), "0"), theirs


def is_free(slots: Slots, in_all: int) -> bool:
    """Whether nobody holds or waits for anything."""
    return not slots._leases and not slots._lines and slots._common.available_tokens == in_all


def test_none_is_lost_whatever_becomes_of_those_who_take_them() -> None:
    """Some hold one for a while, some fail, some are cancelled while they hold or wait; then all are free."""

    async def one(slots: Slots, chance: random.Random) -> None:
        with trio.move_on_after(chance.uniform(0, 5)):
            await trio.sleep(chance.uniform(0, 3))
            lease = await slots.take(chance.choice([HERE, THERE, Origin("http", "far", 80)]))
            try:
                counts.append(len(slots._leases))
                await trio.sleep(chance.uniform(0, 2))
            finally:
                lease.end(keep=False)
                lease.end(keep=False)

    async def main() -> None:
        slots, chance = Slots(Pool(), 5, 3), random.Random(5)
        async with trio.open_nursery() as nursery:
            for _ in range(300):
                nursery.start_soon(one, slots, chance)
        assert is_free(slots, 5)

    counts: list[int] = []
    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert max(counts) == 5


def test_who_gives_up_in_the_common_line_gives_back_his_place_in_the_other() -> None:
    """Or the origin would have fewer slots from then on, for as long as somebody uses it."""

    async def main() -> None:
        slots = Slots(Pool(), 2, 2)
        first, other = await slots.take(HERE), await slots.take(THERE)
        with trio.move_on_after(0.01) as scope:
            await slots.take(HERE)
        assert scope.cancelled_caught
        other.end(keep=False)
        with trio.fail_after(1):
            (await slots.take(HERE)).end(keep=False)
        first.end(keep=False)
        assert is_free(slots, 2)

    trio.run(main)


def test_a_busy_origin_does_not_hold_up_another() -> None:
    """Who waits for a slot of an origin holds none of the common ones."""

    async def main() -> None:
        slots = Slots(Pool(), 3, 2)
        held = [await slots.take(HERE) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slots.take, HERE)
            await wait_all_tasks_blocked()
            with trio.fail_after(1):
                await slots.take(THERE)
            held[0].end(keep=False)

    trio.run(main)


def test_first_come_first_served() -> None:
    """In one line and in the common one."""
    for origins in ([HERE] * 8, [HERE, THERE] * 4):
        served: list[int] = []

        async def one(slots: Slots, number: int, origin: Origin, served: list[int]) -> None:
            lease = await slots.take(origin)
            served.append(number)
            await trio.sleep(1)
            lease.end(keep=False)

        async def main(origins: list[Origin], served: list[int]) -> None:
            slots = Slots(Pool(), 1, 1)
            async with trio.open_nursery() as nursery:
                for number, origin in enumerate(origins):
                    nursery.start_soon(one, slots, number, origin, served)
                    await wait_all_tasks_blocked()

        trio.run(main, origins, served, clock=MockClock(autojump_threshold=0.01))
        if len(set(origins)) == 1:
            assert served == list(range(8))
        else:
            assert [sorted(served[place : place + 2]) for place in range(0, 8, 2)] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_idle_connections_make_room() -> None:
    """They count, and the one that is idle for the longest goes first."""

    async def main() -> None:
        pool = Pool()
        slots = Slots(pool, 3, 3)
        others = []
        for _ in range(3):
            made, other = connection()
            others.append(other)
            lease = Lease(slots, HERE)
            lease.hold(made)
            lease.drop(keep=True)
        assert len(pool) == 3
        await slots.take(THERE)
        slots.make_room()
        assert len(pool) == 2
        assert others[0].recv(1) == b""
        pool.close()
        for other in others:
            other.close()

    trio.run(main)


def test_closing_ends_everything() -> None:
    """Leases with a connection, without one, and in the making; those who wait and those who come later."""

    async def main() -> None:
        slots = Slots(Pool(), 2, 2)
        with_one, making = await slots.take(HERE), await slots.take(HERE)
        (made, other), (late, late_other) = connection(), connection()
        with_one.hold(made)
        making.making = trio.CancelScope()
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(SlotsClosed):
                    await slots.take(THERE)

            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            slots.close()
        assert making.making.cancel_called
        with pytest.raises(SlotsClosed):
            making.hold(late)
        with pytest.raises(SlotsClosed):
            await slots.take(HERE)
        assert (other.recv(1), late_other.recv(1)) == (b"", b"")
        assert is_free(slots, 2)
        other.close()
        late_other.close()

    trio.run(main)
