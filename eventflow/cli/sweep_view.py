"""How far a sweep is: a bar on a terminal, a line for each run in a pipe. It draws in the thread of its caller.

Between two looks it does nothing, so that what is measured is not disturbed.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from eventflow.cli.output import status_console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.progress import Progress


class SweepView(Protocol):
    """What shows it."""

    def show(self, now: str, share: float, rest: str) -> None:
        """What is going on, how much of the whole time has passed, and what is left, in words."""
        ...

    def tell(self, text: str) -> None:
        """A line that stays."""
        ...

    def note(self, text: str) -> None:
        """A line that stays, but where a bar shows as much."""
        ...


@contextmanager
def open_view() -> Iterator[SweepView]:
    """The view that fits standard error."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.progress import BarColumn, Progress, TextColumn  # they take a while to load

    columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[rest]}"))
    with Progress(*columns, console=status_console(), auto_refresh=False) as progress:
        yield _Bar(progress)


class _Lines:
    """In a pipe."""

    def show(self, now: str, share: float, rest: str) -> None:
        """Nothing: lines are for what has happened."""

    def tell(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    note = tell


class _Bar:
    """On a terminal."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._task = progress.add_task("", total=1.0, rest="", visible=False)

    def show(self, now: str, share: float, rest: str) -> None:
        self._progress.update(self._task, description=now, completed=share, rest=rest, visible=True, refresh=True)

    def tell(self, text: str) -> None:
        self._progress.console.print(text, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Nothing: the bar has moved."""
