"""Following a run for `eventflow top`: its log is read as far as it goes, again and again, and shown each time."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import get_args

import msgspec
from rich.console import Console

from eventflow.cli.live_run import GOOD_BYE
from eventflow.cli.output import drawing_console, is_unicode
from eventflow.cli.top_frame import Look, frame
from eventflow.cli.top_screen import Left, Screen, rendered
from eventflow.cli.top_text import ASCII, UNICODE, Glyphs
from eventflow.errors import LogDamaged, StoreError
from eventflow.live.snapshot import Order, Snapshot
from eventflow.live.tail import LineTail
from eventflow.live.view import LiveView
from eventflow.log.runs import RunFolder
from eventflow.request import expected_requests

_ROWS_MIN = 20
_NICE = 5
_ORDERS: tuple[Order, ...] = get_args(Order)


class Follower:
    """A run whose log is read as far as it goes, again and again.

    Attributes:
        damage: what was found to be wrong with the log; all that stands before was taken in.
    """

    def __init__(self, folder: RunFolder) -> None:
        info = folder.info()
        self._folder = folder
        self._view = LiveView(folder.run, info.stage)
        self._tail = LineTail(folder.log)
        self._is_live = True
        self.damage: LogDamaged | None = None
        self._counting = threading.Thread(target=self._count, args=(info.settings,), daemon=True)
        self._counting.start()

    def read(self, between: Callable[[], None] = lambda: None) -> None:
        """Take in what is there. `between` is called after each batch.

        Raises:
            StoreError: the log cannot be read.
        """
        is_live = self._folder.is_live()  # asked first: who has ended since then has said all that there is to read
        self.damage = None
        try:
            for lines in self._tail.poll():
                self._view.feed(lines)
                between()
        except LogDamaged as damage:
            self.damage = damage
        except OSError as problem:
            reason = problem.strerror or str(problem)
            raise StoreError(f"{self._folder.log} cannot be read ({reason}): is the run still there?") from problem
        self._is_live = is_live

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to come."""
        return not self._is_live

    def wait_counted(self) -> None:
        """Wait until it is known how long the input is."""
        self._counting.join()

    def snapshot(self, rows: int, order: Order = "age") -> Snapshot:
        """What is seen now."""
        problem = str(self.damage) if self.damage is not None else None
        return self._view.snapshot(time.time_ns(), is_live=self._is_live, rows=rows, order=order, problem=problem)

    def _count(self, settings: dict[str, object]) -> None:
        """A list of a hundred million lines takes a while; so this has a thread."""
        self._view.total = expected_requests(settings)


def is_screen() -> bool:
    """Whether standard output is a terminal that can be drawn on."""
    return sys.stdout.isatty() and not Console().is_dumb_terminal


def _glyphs(console: Console) -> Glyphs:
    return UNICODE if is_unicode(console) else ASCII


def print_frame(follower: Follower) -> None:
    """One frame, as long as it is; in a pipe as wide as COLUMNS says."""
    follower.read()
    follower.wait_counted()
    console = drawing_console()
    lines = frame(follower.snapshot(_ROWS_MIN), Look(console.width, glyphs=_glyphs(console)))
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in rendered(lines, console)))


def print_json(follower: Follower, seconds: float, *, once: bool) -> None:
    """A line each time. Everything but ASCII is escaped, so that it does nothing to a terminal either."""
    follower.wait_counted()
    while True:
        follower.read()
        sys.stdout.write(json.dumps(msgspec.to_builtins(follower.snapshot(_ROWS_MIN))) + "\n")
        sys.stdout.flush()
        if once or follower.has_ended:
            return
        time.sleep(seconds)


def watch(follower: Follower, seconds: float, parent: int | None) -> None:
    """On the whole screen, until somebody leaves. For a run's own process: until that ends, or Ctrl-C."""
    console = Console(highlight=False)
    if parent is None:
        with Screen(console) as screen:
            _Watch(follower, screen, console, seconds).go_on()
    os.nice(_NICE)  # the run goes first
    with socket.socket(fileno=parent) as run:
        run.sendall(b"%d\n" % os.getpid())
        try:
            with Screen(console, run.fileno()) as screen:
                _Watch(follower, screen, console, seconds).go_on()
        finally:
            run.sendall(GOOD_BYE)


class _Watch:
    """The view on a screen, until `q`."""

    def __init__(self, follower: Follower, screen: Screen, console: Console, seconds: float) -> None:
        self._follower, self._screen, self._seconds = follower, screen, seconds
        self._glyphs = _glyphs(console)
        self._order: Order = "age"
        self._due = time.monotonic()

    def go_on(self) -> None:
        """Read, show, wait.

        Raises:
            Left: that is all.
        """
        self._follower.read(self._between)
        while True:
            self._show(is_reading=False)
            self._due = time.monotonic() + self._seconds
            self._heed(self._screen.wait(self._seconds))
            self._follower.read(self._between)

    def _between(self) -> None:
        """While a long log is read: show how far that is, now and then, and hear keys."""
        if time.monotonic() >= self._due + self._seconds:
            self._show(is_reading=True)
            self._due = time.monotonic()
            self._heed(self._screen.wait(0))

    def _show(self, *, is_reading: bool) -> None:
        width, height = self._screen.size
        look = Look(width, height, self._glyphs, self._order, keys=self._screen.has_keys, is_reading=is_reading)
        self._screen.show(frame(self._follower.snapshot(max(height, _ROWS_MIN), self._order), look))

    def _heed(self, key: str | None) -> None:
        if key in ("q", "Q"):
            raise Left
        if key in ("o", "O"):
            self._order = _ORDERS[(_ORDERS.index(self._order) + 1) % len(_ORDERS)]
