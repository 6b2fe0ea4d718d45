"""eventflow's command line without its log, to see what recording costs: `_fetch_unrecorded.py writer run ...`.

`writer`: events are encoded and counted, but nothing is written. `recorder`: they are not even encoded. It is a program
of the benchmark and not an option of eventflow, since a run without its log can be neither resumed nor explained. It
holds for the process that it runs in and for those that are forked from it.
"""

import runpy
import sys
from collections.abc import Iterable

from eventflow.event import Link, Payload
from eventflow.log.segment import LogWriter
from eventflow.recorder import Recorder, Span


def main() -> None:
    """Take out the part that the first argument names, and go on as eventflow with the others."""
    part = sys.argv.pop(1)
    LogWriter.append = _append_nothing  # type: ignore[assignment, method-assign]
    if part == "recorder":
        Recorder.record = _record_nothing  # type: ignore[assignment, method-assign]
    runpy.run_module("eventflow", run_name="__main__")


def _append_nothing(_writer: LogWriter, _lines: bytes | bytearray, _count: int) -> None:
    """In place of a batch that goes to the disk."""


def _record_nothing(_recorder: Recorder, span: Span, _payload: Payload, _causes: Iterable[Link] = ()) -> Link:
    """In place of an event; the version goes on, since it is what stages ask for."""
    stream = span.stream
    stream.version += 1
    if stream.last is None:
        stream.last = Link("0" * 32, stream.trace_id, span.span_id)
    return stream.last


if __name__ == "__main__":
    main()
