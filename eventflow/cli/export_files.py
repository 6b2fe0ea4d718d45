"""The part of `eventflow export` that writes files: which format is made of what, and how far it is."""

import contextlib
import enum
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from eventflow.cli.answers import interruptible
from eventflow.cli.whole_file import STANDARD_OUTPUT, explained, pieces_of, whole_file, write_pieces
from eventflow.errors import LogDamaged, UsageError, name_of
from eventflow.event import StoredEvent
from eventflow.log.layout import list_segments, writer_folders
from eventflow.log.reader import place_after, read_events
from eventflow.log.runs import RunFolder

_LINE_SECONDS = 5.0
_EVENTS_AT_ONCE = 1000
_EVENTS_VIEW = "events"
T = TypeVar("T")


class Target(enum.StrEnum):
    """What a run can be exported to."""

    OTLP = "otlp"
    OTLP_JSON = "otlp-json"
    PERFETTO = "perfetto"
    CLOUDEVENTS = "cloudevents"
    PARQUET = "parquet"


_ENDINGS = {
    Target.OTLP_JSON: "otlp.json",
    Target.PERFETTO: "perfetto-trace",
    Target.CLOUDEVENTS: "cloudevents.ndjson",
    Target.PARQUET: "parquet",
}
_BINARY = frozenset((Target.PERFETTO, Target.PARQUET))


def export_file(folder: RunFolder, to: Target, path: Path | None, view: str | None) -> Path:
    """Write a run in a format; gives where it is, `-` for standard output. What is there is replaced.

    Raises:
        UsageError: it cannot be written, there, or at all.
        StoreError: the run cannot be read. Then no file was written.
    """
    _require_view(to, view)
    path = path or Path(f"{folder.run}.{_ending(to, view)}")
    if path == STANDARD_OUTPUT and to in _BINARY and sys.stdout.isatty():
        raise UsageError(f"{to} is not for a terminal", "name a file with --out, or pipe it")
    is_live = folder.is_live()
    if to is Target.PARQUET:
        _write_parquet(folder, view or _EVENTS_VIEW, path)
    else:
        _write(folder, to, path)
    if is_live:
        sys.stderr.write(f"{folder.run} goes on: this is what was there; spans that have not ended are not in it\n")
    return path


def _require_view(to: Target, view: str | None) -> None:
    if view is None:
        return
    from instrumentation.formats.parquet import VIEW_NAMES

    if to is not Target.PARQUET:
        raise UsageError("--view is for tables", "leave it out, or say --to parquet")
    if view not in VIEW_NAMES:
        raise UsageError(f"there is no view {name_of(view)}", f"there are {', '.join(VIEW_NAMES)}")


def _ending(to: Target, view: str | None) -> str:
    return _ENDINGS[to] if view in {None, _EVENTS_VIEW} else f"{view}.{_ENDINGS[to]}"


def _write(folder: RunFolder, to: Target, path: Path) -> None:
    with _counting(folder, rounds=2 if to is Target.PERFETTO else 1) as see:
        write_pieces(path, _pieces(folder, to, see))


def _pieces(folder: RunFolder, to: Target, see: Callable[[], None]) -> Iterator[bytes]:
    """The bytes of a format that is written as it is read. `see` is called for each event."""
    from instrumentation import formats
    from instrumentation.traces import read_spans
    from instrumentation.traces.resource import ProcessIds

    match to:
        case Target.OTLP_JSON:
            processes = ProcessIds()

            def note(event: StoredEvent) -> None:
                processes.see(event)
                see()

            return formats.as_otlp_json(folder.info(), read_spans(folder, see=note), processes)
        case Target.PERFETTO:
            events = _seen(read_events(folder.log), see)
            return formats.as_perfetto(folder.info(), events, read_spans(folder, see=lambda _: see()))
        case _:
            return formats.as_cloudevents(_seen(read_events(folder.log), see))


def _seen(items: Iterable[T], see: Callable[[], None]) -> Iterator[T]:
    for item in items:
        see()
        yield item


def _write_parquet(folder: RunFolder, view: str, path: Path) -> None:
    """DuckDB needs a file that it can go back in, so for standard output and pipes there is one in between."""
    from instrumentation.formats.parquet import write_view

    if path != STANDARD_OUTPUT and (path.is_file() or not path.exists()):
        with whole_file(path) as temporary, explained(path):
            write_view(folder, view, temporary, interruptible)
        return
    with tempfile.TemporaryDirectory(prefix="eventflow-") as between:
        temporary = Path(between) / "view.parquet"
        with explained(temporary):
            write_view(folder, view, temporary, interruptible)
        write_pieces(path, pieces_of(temporary))


@contextlib.contextmanager
def _counting(folder: RunFolder, rounds: int) -> Iterator[Callable[[], None]]:
    """Shows how far it is, on a terminal with a bar, else with a line now and then; gives what counts an event."""
    total = _events(folder)
    with contextlib.ExitStack() as stack:
        if sys.stderr.isatty():
            from eventflow.cli.progress_bar import open_events_bar

            show = stack.enter_context(open_events_bar(folder.run, total and total * rounds))
        else:
            show = _Lines(folder.run, total and total * rounds).show
        count = 0

        def see() -> None:
            nonlocal count
            count += 1
            if count % _EVENTS_AT_ONCE == 0:
                show(count)

        yield see


class _Lines:
    """A line on standard error every few seconds."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._of = label, f" of {total}" if total else ""
        self._next = time.monotonic() + _LINE_SECONDS

    def show(self, count: int) -> None:
        """So many events are read."""
        if time.monotonic() >= self._next:
            self._next += _LINE_SECONDS
            sys.stderr.write(f"{self._label}: {count}{self._of} events\n")
            sys.stderr.flush()


def _events(folder: RunFolder) -> int | None:
    """How many events a run has, as the last line of each writer's log says; None where that cannot be read."""
    total = 0
    with contextlib.suppress(LogDamaged):
        for segments in map(list_segments, writer_folders(folder.log)):
            place = place_after(segments[-1]) if segments else None
            if place is None:
                return None
            total += place.seq + 1
        return total
    return None
