"""The spans that `eventflow trace` shows, read from the log once, and how they are told to programs."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from eventflow.cli.trace_choice import find_streams, stream_of
from eventflow.cli.trace_rows import Part, parts_of
from eventflow.errors import LogDamaged
from eventflow.log.layout import writer_folders
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder
from eventflow.vocabulary import RequestQueued, decode_payload
from instrumentation.traces import FinishedSpan, read_spans

PROCESS_PREFIX = "process-"


class Told(msgspec.Struct, frozen=True):
    """Spans by stream. `damage`: what is wrong with the log; what stands before it was read."""

    spans: Mapping[str, list[FinishedSpan]]
    damage: LogDamaged | None = None


def gather(folder: RunFolder, streams: Collection[str]) -> Told:
    """The spans of some streams; nothing else is kept."""
    spans: dict[str, list[FinishedSpan]] = {stream: [] for stream in streams}
    try:
        for span in read_spans(folder, streams=streams):
            spans[span.stream].append(span)
    except LogDamaged as damage:
        return Told(spans, damage)
    return Told(spans)


def process_streams(folder: RunFolder) -> list[str]:
    """The streams of its worker processes, if it has any: each has a log of its own."""
    writers = [path.name for path in writer_folders(folder.log)]
    return [f"{PROCESS_PREFIX}{writer}" for writer in writers] if len(writers) > 1 else []


def meant(folder: RunFolder, text: str) -> list[str]:
    """The streams that somebody means: one, or several where a URL was asked for more than once.

    Raises:
        UsageError: none.
    """
    stream = stream_of(text)
    if stream is not None and next(read_events(folder.log, streams=[stream]), None) is not None:
        return [stream]
    return find_streams(folder, text)


def queued(folder: RunFolder, stream: str) -> RequestQueued | None:
    """What was asked for, if it is a request."""
    for event in read_events(folder.log, streams=[stream], types=[RequestQueued.TYPE]):
        payload = decode_payload(event)
        return payload if isinstance(payload, RequestQueued) else None
    return None


def story_json(stream: str, spans: Sequence[FinishedSpan]) -> dict[str, Any]:
    """One trace for programs. Times in Unix nanoseconds, durations in seconds."""
    parts, known = parts_of(spans), {span.span_id: span for span in spans}
    return {
        "stream": stream,
        "trace_id": spans[0].trace_id if spans else None,
        "parts": [_part_json(part) for part in parts],
        "spans": [
            _span_json(known[span.span_id], part, number) for number, part in enumerate(parts) for span in part.spans
        ],
    }


def _part_json(part: Part) -> dict[str, Any]:
    return {
        "start_ns": part.start_ns,
        "end_ns": part.end_ns,
        "seconds": part.seconds,
        "goes_on": part.goes_on,
        "critical_path": part.shares,
    }


def _span_json(span: FinishedSpan, part: Part, number: int) -> dict[str, Any]:
    critical_ns = part.critical_ns.get(span.span_id, 0)
    return {
        **msgspec.to_builtins(span),
        "seconds": span.seconds,
        "own_seconds": part.own_ns[span.span_id] / 1e9,
        "critical_seconds": critical_ns / 1e9,
        "on_critical_path": critical_ns > 0,
        "part": number,
    }
