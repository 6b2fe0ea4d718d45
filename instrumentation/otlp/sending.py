"""Sending batches until they are taken: a few at once, each again and again, and none of them ever dropped.

The log is the queue, so there is none here: where no more than a few batches wait, `offer` waits, and the reader of the
log with it. How far everything is taken, without a gap, is the place to go on from after a crash.

What a collector refuses although it takes other things is sent in halves, until what it does not like stands alone. If
that is refused again and again, it is counted, reported and left in the log.

Invariants:
    `position` never says more than what was taken, or refused for good;
    at most `BATCHES_MAX` batches are in memory;
    nothing is sent after `close`.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from instrumentation.otlp.answers import Answer

SENDERS = 4
BATCHES_MAX = 6
REFUSALS_MAX = 5
WAIT_SECONDS_MAX = 5.0
_WAIT_SECONDS = 0.25
_AFTER_SECONDS_MAX = 60.0
_LEAVE_SECONDS = 2.0

Position = dict[str, int]


class Load(msgspec.Struct):
    """What is sent together: things for each of the channels, in this order. `position`: how far the log is in it."""

    parts: tuple[Sequence[Any], ...]
    position: Position
    is_done: bool = False


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How it is going.

    Attributes:
        sent: how many things were taken.
        waiting: how many are on their way.
        refused: how many were given up, since the collector takes others and not these.
        problem: why the last try failed, in one line; None if it did not.
        idle_seconds: how long nothing was taken.
    """

    sent: int
    waiting: int
    refused: int
    problem: str | None
    idle_seconds: float


class Sending:
    """Threads that send.

    Args:
        connect: makes what a thread sends with: for each part of a load a function that gives what became of it, and
            one that ends all of them.
        senders: how many threads.
    """

    def __init__(
        self,
        connect: Callable[[], tuple[Sequence[Callable[[Any], Answer]], Callable[[], None]]],
        senders: int = SENDERS,
    ) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._offered: deque[Load] = deque()  # in order, until all before it are done
        self._todo: deque[Load] = deque()
        self._closed = threading.Event()
        self._position: Position | None = None
        self._sent = self._refused = 0
        self._problem: Answer | None = None
        self._taken_at = time.monotonic()
        self._ends: list[Callable[[], None]] = []
        self._threads = [
            threading.Thread(target=self._work, name=f"eventflow-otlp-{number}", daemon=True)
            for number in range(senders)
        ]
        for thread in self._threads:
            thread.start()

    def offer(self, load: Load, seconds: float) -> bool:
        """Send it when its turn comes. While `BATCHES_MAX` loads are on their way it waits so long for room.

        Gives whether there was room.
        """
        with self._lock:
            has_room = self._changed.wait_for(lambda: len(self._offered) < BATCHES_MAX, seconds)
            if has_room:
                self._offered.append(load)
                self._todo.append(load)
                self._changed.notify_all()
            return has_room

    @property
    def position(self) -> Position | None:
        """How far everything is done, without a gap; None if nothing is."""
        with self._lock:
            return self._position

    def is_idle(self) -> bool:
        """Whether everything that was offered is done."""
        with self._lock:
            return not self._offered

    def wait(self, seconds: float) -> bool:
        """Wait so long for everything to be done; gives whether it is."""
        with self._lock:
            return self._changed.wait_for(lambda: not self._offered or self._closed.is_set(), seconds)

    def progress(self) -> Progress:
        """How it is going."""
        with self._lock:
            return Progress(
                sent=self._sent,
                waiting=sum(len(part) for load in self._offered for part in load.parts),
                refused=self._refused,
                problem=str(self._problem) if self._problem else None,
                idle_seconds=time.monotonic() - self._taken_at,
            )

    def close(self) -> None:
        """Send nothing more, whether or not everything is done. Idempotent."""
        with self._lock:
            self._closed.set()
            ends, self._ends = self._ends, []
            self._changed.notify_all()
        for end in ends:
            end()
        for thread in self._threads:
            thread.join(_LEAVE_SECONDS)

    def _work(self) -> None:
        sends, end = self._connect()
        with self._lock:
            self._ends.append(end)
        while (load := self._next()) is not None:
            for send, part in zip(sends, load.parts, strict=True):
                self._deliver(send, part)
            if not self._closed.is_set():
                self._finish(load)

    def _next(self) -> Load | None:
        with self._lock:
            self._changed.wait_for(lambda: self._todo or self._closed.is_set())
            return None if self._closed.is_set() else self._todo.popleft()

    def _finish(self, load: Load) -> None:
        with self._lock:
            load.is_done = True
            while self._offered and self._offered[0].is_done:
                self._position = self._offered.popleft().position
            self._changed.notify_all()

    def _deliver(self, send: Callable[[Any], Answer], part: Sequence[Any]) -> None:
        """Send it until all of it is taken or refused for good, or this is closed."""
        left = [part] if part else []
        tries, before = 0, self.progress().sent
        while left and not self._closed.is_set():
            piece = left.pop()
            answer = send(piece)
            if answer.verdict == "taken":
                self._note_taken(len(piece))
                tries = 0
                continue
            self._note_problem(answer)
            tries += 1
            is_suspect = answer.verdict == "too large" or (answer.verdict == "refused" and tries > 1)
            if is_suspect and len(piece) > 1:
                middle = len(piece) // 2
                left += [piece[middle:], piece[:middle]]
                tries = 0 if answer.verdict == "too large" else 1
            elif is_suspect and tries >= REFUSALS_MAX and self._has_taken_since(before):
                self._note_refused()
                tries = 0
            else:
                left.append(piece)
                self._closed.wait(_pause(tries, answer.after_s))

    def _note_taken(self, count: int) -> None:
        with self._lock:
            self._sent += count
            self._problem = None
            self._taken_at = time.monotonic()

    def _note_problem(self, answer: Answer) -> None:
        with self._lock:
            self._problem = answer

    def _note_refused(self) -> None:
        with self._lock:
            self._refused += 1

    def _has_taken_since(self, before: int) -> bool:
        """Whether the collector takes other things: one that refuses everything is broken, not its data."""
        with self._lock:
            return self._sent > before


def _pause(tries: int, after_s: float) -> float:
    """How long to wait before the next try, in seconds: longer each time, and never as long as everybody else."""
    longest = min(_WAIT_SECONDS * 2.0 ** min(tries - 1, 10), WAIT_SECONDS_MAX)
    own = longest * random.uniform(0.7, 1.0)  # noqa: S311  (that collectors are not asked by everybody at once)
    return max(own, min(after_s, _AFTER_SECONDS_MAX))
