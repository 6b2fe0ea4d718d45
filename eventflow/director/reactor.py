"""Many requests in one task: coroutines that are driven by hand as long as they wait for nothing but their sockets.

Most requests of a run are small files over kept connections: sent, answered with one read, stored. A way through trio's
scheduler and a registration with the kernel for each read would cost them a fifth of their time. So their coroutines
run here: the kernel is told once of each connection, and asked once for all that have news. What else they may have to
wait for, they wait for in a task of trio's: `into_task` moves a coroutine there as it is, between two of its lines.

Invariants:
    a coroutine is here, or in a task of the nursery, and moves in one direction only;
    after `_STEPS_MAX` steps the scheduler has its turn, so that requests which never wait stop nobody else;
    when `run` is cancelled every coroutine goes on in a task, where it is cancelled as any other: none is forgotten;
    where there is no epoll (not Linux) every coroutine is in a task from its beginning.
"""

import contextlib
import select
import socket
import types
from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any

import trio

_NEWS_MAX = 256
_STEPS_MAX = 1024
_TASK = object()
Driven = Coroutine[Any, Any, None]


class Reactor:
    """Drives the coroutines of one trio run. Everything is called in that run's thread.

    It works from `run` on.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._waiting: dict[int, Driven] = {}
        self._known: set[int] = set()  # descriptors that epoll watches
        self._ready: deque[Driven] = deque()
        self._is_driving = False
        self._has_ended = self._epoll is None
        self._nursery: trio.Nursery
        self._idle: trio.CancelScope | None = None  # while `run` waits for news

    def start(self, coroutine: Driven) -> None:
        """Run a coroutine until it waits; at once, or right after the one that is running."""
        if self._has_ended:
            self._nursery.start_soon(_go_on, coroutine)
            return
        self._ready.append(coroutine)
        if not self._is_driving:
            self._drive()

    async def run(self, nursery: trio.Nursery, *, task_status: trio.TaskStatus[None]) -> None:
        """Drive, until cancelled; who needs a task gets one of the nursery's.

        Raises:
            Exception: what a coroutine raised.
        """
        self._nursery = nursery
        task_status.started()
        if self._epoll is None:
            return
        try:
            while True:
                if self._ready:
                    await trio.lowlevel.checkpoint()
                else:
                    with trio.CancelScope() as self._idle:
                        await trio.lowlevel.wait_readable(self._epoll.fileno())
                    self._idle = None
                self._take_news(self._epoll)
                self._drive()
        finally:
            self._has_ended = True
            for coroutine in (*self._ready, *self._waiting.values()):
                nursery.start_soon(_go_on, coroutine)
            self._ready.clear()
            self._waiting.clear()
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()

    def _take_news(self, epoll: select.epoll) -> None:
        for descriptor, _ in epoll.poll(0, _NEWS_MAX):
            coroutine = self._waiting.pop(descriptor, None)
            if coroutine is not None:
                self._ready.append(coroutine)
            else:  # nobody is here for it: a kept connection that was closed, or one that is read in a task
                self._forget(descriptor)

    def _drive(self) -> None:
        """Each one that is ready goes on until it waits again."""
        ready, waiting = self._ready, self._waiting
        self._is_driving = True
        try:
            for _ in range(_STEPS_MAX):
                if not ready:
                    return
                coroutine = ready.popleft()
                try:
                    asked = coroutine.send(None)
                except StopIteration:
                    continue
                if asked is _TASK:
                    self._nursery.start_soon(_go_on, coroutine)
                else:
                    assert type(asked) is int, "it waits for something that is not its socket, and not in a task"
                    waiting[asked] = coroutine
            if ready and self._idle is not None:
                self._idle.cancel()
        finally:
            self._is_driving = False

    def _forget(self, descriptor: int) -> None:
        self._known.discard(descriptor)
        if self._epoll is not None and not self._epoll.closed:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    # ------------------------------------------------------------------------------------------ what coroutines await

    @types.coroutine
    def into_task(self) -> Generator[Any, Any, None]:
        """Go on in a task of trio's, where everything can be waited for; whoever is in one stays there."""
        if self._is_driving:
            yield _TASK

    @types.coroutine
    def wait_readable(self, waited: socket.socket) -> Generator[Any, Any, None]:
        """Until there is something to read: here or in a task, wherever the coroutine is.

        Raises:
            trio.ClosedResourceError: it was closed meanwhile.
        """
        if self._is_driving and self._epoll is not None:
            descriptor = waited.fileno()
            if descriptor not in self._known:
                self._epoll.register(descriptor, select.EPOLLIN)
                self._known.add(descriptor)
            yield descriptor
            if self._is_driving:
                return
            if waited.fileno() < 0:
                raise trio.ClosedResourceError("closed")
        yield from trio.lowlevel.wait_readable(waited).__await__()  # noqa: ASYNC105  (it is awaited, by a generator)

    async def wait_writable(self, waited: socket.socket) -> None:
        """Until there is room to write; in a task, since it is seldom."""
        await self.into_task()
        if waited.fileno() < 0:  # closed before the task had its turn
            raise trio.ClosedResourceError("closed")
        await trio.lowlevel.wait_writable(waited)

    def notify_closing(self, closing: socket.socket) -> None:
        """To be called before a socket is closed: whoever waits for it is woken."""
        descriptor = closing.fileno()
        self._forget(descriptor)
        if (coroutine := self._waiting.pop(descriptor, None)) is not None:
            self._nursery.start_soon(_go_on, coroutine)
        trio.lowlevel.notify_closing(closing)


async def _go_on(coroutine: Driven) -> None:
    """For the nursery, which takes none but functions like this."""
    await _rest_of(coroutine)


@types.coroutine
def _rest_of(coroutine: Driven) -> Generator[Any, Any, None]:
    """A coroutine that has begun cannot be awaited, but what is left of it can."""
    yield from coroutine.__await__()
