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
LEAVE_SECONDS = 2.0

Position = dict[str, int]


class Load(msgspec.Struct):
    """What is sent together: things for each of the channels, in this order. `position`: how far the log is in it."""

    parts: tuple[Sequence[Any], ...]
    position: Position
    is_done: bool = False


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How it is going.

    Attributes:
        sent: how many things were taken; `by_part` is the same for each part of the loads.
        waiting: how many are on their way.
        refused: how many were given up, since the collector takes others and not these.
        problem: why the last try failed, in one line; None if it did not.
        idle_seconds: how long nothing was taken.
    """

    sent: int
    by_part: tuple[int, ...]
    waiting: int
    refused: int
    problem: str | None
    idle_seconds: float


Connect = Callable[[Callable[[Answer], None]], tuple[Sequence[Callable[[Any], Answer]], Callable[[], None]]]


class Sending:
    """Threads that send.

    Args:
        connect: makes what a thread sends with: for each part of a load a function that gives what became of it, and
            one that ends all of them. It is given what to call with an answer that is not the last yet.
        senders: how many threads.

    Raises:
        UsageError: what `connect` raises.
    """

    def __init__(self, connect: Connect, senders: int = SENDERS) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._offered: deque[Load] = deque()  # in order, until all before it are done
        self._todo: deque[Load] = deque()
        self._closed = threading.Event()
        self._position: Position | None = None
        self._sent: dict[int, int] = {}
        self._refused = 0
        self._problem: Answer | None = None
        self._taken_at = time.monotonic()
        connected = [connect(self._note_problem) for _ in range(senders)]
        self._ends = [end for _, end in connected]
        self._threads = [
            threading.Thread(target=self._work, args=(sends,), name=f"eventflow-otlp-{number}", daemon=True)
            for number, (sends, _) in enumerate(connected)
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
                sent=sum(self._sent.values()),
                by_part=tuple(count for _, count in sorted(self._sent.items())),
                waiting=sum(len(part) for load in self._offered for part in load.parts),
                refused=self._refused,
                problem=str(self._problem) if self._problem else None,
                idle_seconds=time.monotonic() - self._taken_at,
            )

    def close(self) -> None:
        """Send nothing more, whether or not everything is done. Idempotent. Takes `LEAVE_SECONDS` at most."""
        self._closed.set()
        ends, self._ends = self._ends, []
        for end in ends:
            threading.Thread(target=end, daemon=True).start()  # the SDK's may wait
        with self._lock:
            self._changed.notify_all()
        deadline = time.monotonic() + LEAVE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self, sends: Sequence[Callable[[Any], Answer]]) -> None:
        while (load := self._next()) is not None:
            places = zip(range(len(sends)), sends, load.parts, strict=True)
            if all(self._deliver(place, send, part) for place, send, part in places):
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

    def _deliver(self, place: int, send: Callable[[Any], Answer], part: Sequence[Any]) -> bool:
        """Send it until all of it is taken or refused for good, which gives true, or this is closed.

        What is refused is halved, and what is refused alone waits until everything else was tried: a collector that
        takes other things and refuses these `REFUSALS_MAX` times does not like them; one that takes nothing is broken.
        """
        left = deque([_Piece(part)]) if part else deque()
        before = self.progress().sent
        while left:
            if self._closed.is_set():
                return False
            piece = left.popleft()
            answer = _send(send, piece.items)
            if answer.verdict in {"taken", "left out"}:
                self._note_taken(place, len(piece.items) if answer.verdict == "taken" else 0)
                continue
            self._note_problem(answer)
            piece.tries += 1
            is_suspect = answer.verdict == "too large" or (answer.verdict == "refused" and piece.tries > 1)
            if is_suspect and len(piece.items) > 1:
                left.extendleft(reversed(piece.halves(1 if answer.verdict == "refused" else 0)))
                continue
            if not is_suspect:
                left.appendleft(piece)
            elif piece.tries >= REFUSALS_MAX and self.progress().sent > before:
                self._note_refused()
                continue
            else:
                left.append(piece)
                if any(other.tries < piece.tries for other in left):
                    continue  # first everything else
            self._closed.wait(_pause(piece.tries, answer.after_s))
        return True

    def _note_taken(self, place: int, count: int) -> None:
        with self._lock:
            self._sent[place] = self._sent.get(place, 0) + count
            self._problem = None
            self._taken_at = time.monotonic()

    def _note_problem(self, answer: Answer) -> None:
        with self._lock:
            self._problem = answer

    def _note_refused(self) -> None:
        with self._lock:
            self._refused += 1


class _Piece:
    """A part of a load, and how often it was tried."""

    __slots__ = ("items", "tries")

    def __init__(self, items: Sequence[Any], tries: int = 0) -> None:
        self.items, self.tries = items, tries

    def halves(self, tries: int) -> "list[_Piece]":
        middle = len(self.items) // 2
        return [_Piece(self.items[:middle], tries), _Piece(self.items[middle:], tries)]


def _send(send: Callable[[Any], Answer], items: Sequence[Any]) -> Answer:
    try:
        return send(items)
    except Exception as problem:  # noqa: BLE001  (what cannot even be made is found by halving, and told)
        return Answer("refused", f"something cannot be exported ({type(problem).__name__})", "please report it")


def _pause(tries: int, after_s: float) -> float:
    """How long to wait before the next try, in seconds: longer each time, and never as long as everybody else."""
    longest = min(_WAIT_SECONDS * 2.0 ** min(tries - 1, 10), WAIT_SECONDS_MAX)
    own = longest * random.uniform(0.7, 1.0)  # noqa: S311  (that collectors are not asked by everybody at once)
    return max(own, min(after_s, _AFTER_SECONDS_MAX))
