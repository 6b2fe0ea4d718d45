"""Reading the spans of a run from its log, as far as it is told."""

from collections.abc import Iterator

from eventflow.log.runs import RunFolder
from instrumentation.traces.span import FinishedSpan


def read_spans(folder: RunFolder, *, stream: str | None = None) -> Iterator[FinishedSpan]:
    """The spans of a run in the order in which they ended, those of one stream (`request-17`, `run`) if it is named.

    Of a run that is not going on, what has not ended is given last, as `interrupted`. Of one that goes on, what has
    not ended is left out. Memory: that of what is unfinished.

    Raises:
        LogDamaged: the log is not what was written; what stands before was given.
    """
    raise NotImplementedError
