"""The bars of rich, which take a while to load: for commands that show one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from eventflow.cli.output import status_console
from eventflow.progress import Tally
from eventflow.quantities import format_count, format_size

_LABEL, _WIDTH = "{task.description}", 24


@contextmanager
def open_bar(label: str, tally: Tally, total: int | None) -> Iterator[Callable[[], None]]:
    """A bar for the requests of a run; gives what draws it anew."""
    columns = (TextColumn(_LABEL), BarColumn(_WIDTH), _Counts(tally), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=status_console(), auto_refresh=False) as progress:
        bar = progress.add_task(label, total=total)
        yield lambda: progress.update(bar, completed=tally.ended, refresh=True)


@contextmanager
def open_bytes_bar(label: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar for bytes, gone at its end; gives what adds to it."""
    columns = (TextColumn(_LABEL), BarColumn(_WIDTH), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=status_console(), transient=True, disable=not shown) as progress:
        bar = progress.add_task(label, total=total)
        yield lambda size: progress.advance(bar, size)


@contextmanager
def open_events_bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar for events that are read, gone at its end; gives what sets it to a number of them."""
    columns = (TextColumn(_LABEL), BarColumn(_WIDTH), TextColumn("{task.completed:,.0f} events"), TimeRemainingColumn())
    with Progress(*columns, console=status_console(), transient=True) as progress:
        bar = progress.add_task(label, total=total)
        yield lambda count: progress.update(bar, completed=count)


class _Counts(ProgressColumn):
    """Done, failed and the rate since the start."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def render(self, task: Task) -> Text:
        tally = self._tally
        text = Text(f"{format_count(tally.completed)} done", style="green")
        text.append(f"  {format_count(tally.failed)} failed", style="red" if tally.failed else "dim")
        rate = (tally.completed + tally.failed) / task.elapsed if task.elapsed else 0.0
        text.append(f"  {rate:,.0f}/s  {format_size(tally.bytes)}", style="dim")
        return text
