"""Reading the spans of a run from its log, as far as it is told."""

from collections.abc import Callable, Collection, Iterator

from eventflow.event import StoredEvent
from eventflow.log.following import EventTail
from eventflow.log.runs import RunFolder
from instrumentation.traces.fold import SpanFold
from instrumentation.traces.span import FinishedSpan

_WORKER = "process-"


def read_spans(
    folder: RunFolder,
    *,
    stream: str | None = None,
    streams: Collection[str] | None = None,
    see: Callable[[StoredEvent], None] | None = None,
) -> Iterator[FinishedSpan]:
    """The spans of a run in the order in which they ended, those of one stream (`request-17`, `run`) if it is named.

    Of a run that is not going on, what has not ended is given last, as `interrupted`. Of one that goes on, what has
    not ended is left out. Memory: that of what is unfinished.

    Args:
        folder: the run.
        stream: the only stream that is wanted.
        streams: the only ones, where there are several.
        see: is given each event that is read before the spans that it ends.

    Raises:
        LogDamaged: the log is not what was written; what stands before was given.
    """
    wanted = {stream} if stream is not None else None if streams is None else set(streams)
    is_live = folder.is_live()  # before the last events are read: what is written after that is a run that goes on
    fold = SpanFold(folder.run, _needed(wanted))
    for event in EventTail(folder.log, streams=_looked_for(wanted)).poll():
        if see is not None:
            see(event)
        for span in fold.feed(event):
            if wanted is None or span.stream in wanted:
                yield span
    if not is_live:
        for span in fold.finish():
            if wanted is None or span.stream in wanted:
                yield span


def _needed(wanted: Collection[str] | None) -> Callable[[str], bool] | None:
    """The streams that the spans of the wanted ones are made of: how a worker ended is in the run's."""
    if wanted is None:
        return None
    needed = {*wanted, "run"} if any(name.startswith(_WORKER) for name in wanted) else wanted
    return needed.__contains__


def _looked_for(wanted: Collection[str] | None) -> Collection[str]:
    """What the log can be searched for; empty: all of it matters, since a worker lived until it wrote last."""
    return () if wanted is None or any(name.startswith(_WORKER) for name in wanted) else wanted
