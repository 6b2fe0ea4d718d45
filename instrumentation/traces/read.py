"""Reading the spans of a run from its log, as far as it is told."""

from collections.abc import Callable, Iterator

from eventflow.event import StoredEvent
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder
from instrumentation.traces.fold import SpanFold
from instrumentation.traces.span import FinishedSpan


def read_spans(
    folder: RunFolder, *, stream: str | None = None, see: Callable[[StoredEvent], None] | None = None
) -> Iterator[FinishedSpan]:
    """The spans of a run in the order in which they ended, those of one stream (`request-17`, `run`) if it is named.

    Of a run that is not going on, what has not ended is given last, as `interrupted`. Of one that goes on, what has
    not ended is left out. Memory: that of what is unfinished. `see` is given each event before the spans that it ends.

    Raises:
        LogDamaged: the log is not what was written; what stands before was given.
    """
    is_live = folder.is_live()  # before the last events are read: what is written after that is a run that goes on
    fold = SpanFold(folder.run, _wanted(stream))
    for event in read_events(folder.log):
        if see is not None:
            see(event)
        for span in fold.feed(event):
            if stream is None or span.stream == stream:
                yield span
    if not is_live:
        for span in fold.finish():
            if stream is None or span.stream == stream:
                yield span


def _wanted(stream: str | None) -> Callable[[str], bool] | None:
    if stream is None:
        return None
    return lambda name: name == stream or (name == "run" and stream.startswith("process-"))
