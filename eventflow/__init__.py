"""Download and process many things; every step is an immutable event in one log.

The names here are what a program of yours needs to record its own work and to read what was recorded; everything else
is private.

>>> import tempfile, pathlib
>>> from eventflow import Payload, Recorder, create_run, read_events, record
>>> class Painted(Payload, frozen=True, kw_only=True):
...     TYPE = "fence.painted"
...     metres: float
>>> run = create_run(pathlib.Path(tempfile.mkdtemp()), stage="painting")
>>> with Recorder(run.log, run.run) as recorder, recorder.open_stream("fence-1"):
...     link = record(Painted(metres=2.5))
>>> [event.type for event in read_events(run.log)]
['fence.painted']
"""

from eventflow.errors import EventflowError, LogDamaged, RequestError, StoreError, UsageError, WrongVersion
from eventflow.event import Event, Link, Payload, StoredEvent
from eventflow.log.appending import Appended, Appender
from eventflow.log.following import Subscription, follow
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run, find_run, list_runs
from eventflow.log.sql import Answer, query
from eventflow.recorder import Recorder, Span, current_span, record
from eventflow.sources import SeededSources, Sources, SystemSources
from eventflow.stream import Handoff
from eventflow.vocabulary import decode_payload, payload_types

__all__ = [
    "Answer",
    "Appended",
    "Appender",
    "Event",
    "EventflowError",
    "Handoff",
    "Link",
    "LogDamaged",
    "Payload",
    "Recorder",
    "RequestError",
    "RunFolder",
    "SeededSources",
    "Sources",
    "Span",
    "StoreError",
    "StoredEvent",
    "Subscription",
    "SystemSources",
    "UsageError",
    "WrongVersion",
    "create_run",
    "current_span",
    "decode_payload",
    "find_run",
    "follow",
    "list_runs",
    "payload_types",
    "query",
    "read_events",
    "record",
]
