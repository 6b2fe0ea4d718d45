"""Progress on a terminal (a moving bar) or in a pipe (a line now and then).

It shows what is durable, nothing sooner.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from eventflow.log.runs import RunFolder
from eventflow.progress import Tally

_REFRESH_SECONDS = 0.1
_LINE_SECONDS = 5.0


@contextmanager
def progress_bar(label: str, tally: Tally, total: int | None) -> Iterator[None]:
    """While it is entered, show how far `tally` is. `total` requests are expected, None where nobody knows."""
    with _View(label, tally, total):
        yield


@contextmanager
def watch_run(folder: RunFolder, tally: Tally, total: int | None) -> Iterator[None]:
    """The view that `run` and `resume` use."""
    with progress_bar(folder.run, tally, total):
        yield


@contextmanager
def watch_nothing(_folder: RunFolder, _tally: Tally, _total: int | None) -> Iterator[None]:
    """No view at all, for `--quiet` and `--json`."""
    yield


class _View:
    """A thread that shows a tally until it is told to stop."""

    def __init__(self, label: str, tally: Tally, total: int | None) -> None:
        self._label, self._tally, self._total = label, tally, total
        self._stopping = threading.Event()
        show = self._show_bar if sys.stderr.isatty() else self._show_lines
        self._thread = threading.Thread(target=show, name="eventflow-progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _show_bar(self) -> None:
        from eventflow.cli.progress_bar import open_bar  # rich's bars take a while to load

        with open_bar(self._label, self._tally, self._total) as refresh:
            while not self._stopping.wait(_REFRESH_SECONDS):
                refresh()
            refresh()

    def _show_lines(self) -> None:
        begun = time.monotonic()
        while not self._stopping.wait(_LINE_SECONDS):
            tally = self._tally
            rate = tally.ended / (time.monotonic() - begun)
            of = f" of {self._total}" if self._total else ""
            sys.stderr.write(f"{self._label}: {tally.completed}{of} done, {tally.failed} failed, {rate:.0f}/s\n")
            sys.stderr.flush()
