"""Dialing: names, races over addresses, and TLS; whatever fails is one of our errors, and no socket is left."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from eventflow.errors import ConnectFailed, ConnectRefused, NameNotResolved, TimedOut
from eventflow.http.dialing import Dialer, Origin, _peer
from eventflow.sources import SeededSources
from tests.transporting import open_sockets

Found = list[tuple[socket.AddressFamily, str]]
V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Whatever a test does, as many sockets are open behind it as before it."""
    before = open_sockets()
    yield
    assert open_sockets() == before


@pytest.fixture
def port() -> Iterator[int]:
    """A port of 127.0.0.1 where somebody listens."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


class Names(trio.abc.HostnameResolver):
    """A name server that knows what it is told, and how often it was asked."""

    def __init__(self, answer: Callable[[str], Found], seconds: float = 0.0) -> None:
        self._answer, self._seconds = answer, seconds
        self.asked: list[str] = []
        self.now = self.most = 0

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        """As the system would."""
        self.asked.append(host.decode() if isinstance(host, bytes) else host)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(self._seconds)
        finally:
            self.now -= 1
        found = self._answer(self.asked[-1])
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port) if family is V4 else (address, port, 0, 0))
            for family, address in found
        ]

    async def getnameinfo(self, *_: Any, **__: Any) -> Any:
        """Nobody asks for it."""
        raise NotImplementedError


class Clock(SeededSources):
    """A clock that is set."""

    now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns


def here(_: str) -> Found:
    """Every name is this machine's."""
    return [(V4, "127.0.0.1")]


def run_with(names: Names, main: Callable[[], Any]) -> Any:
    """A trio run with a name server of its own."""

    async def start() -> Any:
        trio.socket.set_custom_hostname_resolver(names)
        with trio.fail_after(10):
            return await main()

    return trio.run(start)


async def dial(dialer: Dialer, port: int, host: str = "name.example", scheme: str = "http") -> str:
    """Dial and close; the address that answered."""
    dialled = await dialer.dial(Origin(scheme, host, port), f"{scheme}://{host}")
    dialled.wire.close()
    return dialled.address


def test_a_name_is_looked_up_once_a_minute(port: int) -> None:
    """However many need it at the same time."""
    names, clock = Names(here, 0.01), Clock(1)

    async def main() -> None:
        dialer = Dialer(sources=clock)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(dial, dialer, port)
        assert len(names.asked) == 1
        clock.now_ns += 59_000_000_000
        await dial(dialer, port)
        assert len(names.asked) == 1
        clock.now_ns += 2_000_000_000
        await dial(dialer, port)
        assert len(names.asked) == 2

    run_with(names, main)


def test_a_name_that_is_not_there_is_looked_up_once_for_all_who_wait(port: int) -> None:
    """A slow name server would otherwise be asked by one after the other; who comes later asks again."""
    names = Names(lambda _: [], 0.01)

    async def main() -> None:
        dialer = Dialer()

        async def fail() -> None:
            with pytest.raises(NameNotResolved):
                await dial(dialer, port)

        for count in (1, 2):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(fail)
            assert len(names.asked) == count

    run_with(names, main)


def test_a_lookup_that_is_cancelled_is_begun_anew_by_who_waited_for_it(port: int) -> None:
    """Whose patience ended is nobody else's concern."""
    names = Names(here, 0.05)

    async def main() -> None:
        dialer = Dialer()
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.02):
                nursery.start_soon(dial_later, dialer)
                await dial(dialer, port)
        assert len(names.asked) == 2

    async def dial_later(dialer: Dialer) -> None:
        await trio.sleep(0.01)
        assert await dial(dialer, port) == "127.0.0.1"

    run_with(names, main)


def test_not_too_many_lookups_at_once(port: int) -> None:
    """Sixteen; a thousand names wait in line."""
    names = Names(here, 0.005)

    async def main() -> None:
        dialer = Dialer()
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(dial, dialer, port, f"h{number}.example")

    run_with(names, main)
    assert (names.most, len(names.asked)) == (16, 40)


def test_not_too_many_names_are_remembered() -> None:
    """4 096, then the oldest is forgotten."""
    names = Names(here)

    async def main() -> None:
        dialer = Dialer()
        for number in (*range(4097), 4096, 0):
            await dialer._addresses(f"h{number}", 80, "")

    run_with(names, main)
    assert len(names.asked) == 4097 + 1


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..b", ".example"])
def test_a_name_that_cannot_be_one_has_no_address(host: str, port: int) -> None:
    """What the system's resolver raises for it is not a network's error."""
    with pytest.raises(NameNotResolved):
        trio.run(dial, Dialer(), port, host)


def test_an_address_is_not_looked_up(port: int) -> None:
    """There is nothing to ask."""
    names = Names(here)

    async def main() -> None:
        assert await dial(Dialer(), port, "127.0.0.1") == "127.0.0.1"

    run_with(names, main)
    assert not names.asked


def test_addresses_are_tried_with_families_in_turn(port: int) -> None:
    """The preferred family first, then one of the other (RFC 8305 §4); one that refuses holds nobody up."""
    found: Found = [(V6, "::ffff:127.0.0.7"), (V6, "::ffff:127.0.0.8"), (V4, "127.0.0.1"), (V4, "127.0.0.9")]

    async def main() -> Any:
        begun = trio.current_time()
        addresses = await Dialer()._addresses("name", port, "")
        address = await dial(Dialer(), port)
        return [where[0] for _, where in addresses], address, trio.current_time() - begun

    order, address, seconds = run_with(Names(lambda _: found), main)
    assert order == ["::ffff:127.0.0.7", "127.0.0.1", "::ffff:127.0.0.8", "127.0.0.9"]
    assert address == "127.0.0.1"
    assert seconds < 0.25  # no head start for one that has failed


@pytest.fixture
def silent(port: int) -> Iterator[str]:
    """An address that does not answer on the same port: its listener's queue is full, so Linux drops what comes."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.2", port))
        yield "127.0.0.2"


def test_an_address_that_does_not_answer_gets_a_head_start_only(port: int, silent: str) -> None:
    """A quarter of a second (RFC 8305 §5), then the next one is tried beside it; the loser is closed."""

    async def main() -> Any:
        begun = trio.current_time()
        address = await dial(Dialer(), port)
        return address, trio.current_time() - begun

    address, seconds = run_with(Names(lambda _: [(V4, silent), (V4, "127.0.0.1")]), main)
    assert address == "127.0.0.1"
    assert seconds >= 0.24


def test_no_socket_is_left_of_a_race_that_nobody_wins_or_waits_for(port: int, silent: str) -> None:
    """It times out, or is cancelled."""
    names = Names(lambda _: [(V4, silent), (V4, silent)])

    async def main() -> None:
        before = open_sockets()
        with pytest.raises(TimedOut):
            await dial(Dialer(connect_s=0.3), port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial, Dialer(), port)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert open_sockets() == before

    run_with(names, main)


def test_what_went_wrong_is_told() -> None:
    """Refused by all of them is refused; anything else is what the last one said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    both: Found = [(V4, "127.0.0.1"), (V4, "127.0.0.3")]
    unreachable: Found = [(V4, "127.0.0.1"), (V4, "255.255.255.255")]

    async def main() -> None:
        await dial(Dialer(), free)

    with pytest.raises(ConnectRefused):
        run_with(Names(lambda _: both), main)
    with pytest.raises(ConnectFailed, match="no connection"):
        run_with(Names(lambda _: unreachable), main)


def test_a_connection_that_is_gone_as_soon_as_it_was_made_has_failed() -> None:
    """A reset may come before anybody has asked who the other side is."""
    never = socket.socket()
    with pytest.raises(ConnectFailed):
        _peer(never, "")
    assert never.fileno() == -1
