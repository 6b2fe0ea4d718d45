"""CloudEvents: by the specification, and nothing of an event is lost."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from eventflow.event import Event, Link, StoredEvent
from eventflow.log.reader import read_events
from instrumentation.formats.cloudevents import TYPE_PREFIX, as_cloudevents, timestamp
from tests.directed_log import write_directed_run

# The rules of CloudEvents 1.0.2 for the structured JSON mode, with those of the extensions that are used and of ours.
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1, "format": "uri-reference", "pattern": "^/eventflow/[^/]+/[^/]+$"},
        "type": {"type": "string", "pattern": r"^dev\.eventflow\.[a-z]"},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "format": "date-time", "pattern": r"\.[0-9]{9}Z$"},
        "datacontenttype": {"const": "application/json"},
        "traceparent": {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$"},
        "sequence": {"type": "string", "pattern": "^[0-9]{12}$"},
        "streamversion": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
        "parentspanid": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        "links": {"type": "string", "minLength": 1},
        "data": {"type": "object"},
    },
    "propertyNames": {"pattern": "^[a-z0-9]{1,20}$"},
    "additionalProperties": False,
}
LINE = re.compile(rb"[^\n]+\n")
HEXADECIMAL = "0123456789abcdef"


def of(text: bytes) -> list[dict[str, Any]]:
    """The events of some lines, each of which is held against the rules."""
    validator = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    found = [json.loads(line) for line in LINE.findall(text)]
    for event in found:
        validator.validate(event)
    return found


def back(cloud: dict[str, Any]) -> StoredEvent:
    """The event that a CloudEvent was made of, from what it says."""
    _, _, run, writer = cloud["source"].split("/")
    _, trace_id, span_id, _ = cloud["traceparent"].split("-")
    seconds = datetime.fromisoformat(f"{cloud['time'][:19]}+00:00").timestamp()
    links = [Link(*link.split("/")) for link in cloud.get("links", "").split()]
    return Event(
        id=cloud["id"],
        type=cloud["type"].removeprefix(TYPE_PREFIX),
        time=int(seconds) * 10**9 + int(cloud["time"][20:29]),
        run=unquote(run),
        stream=cloud["subject"],
        version=cloud["streamversion"],
        writer=unquote(writer),
        seq=int(cloud["sequence"]),
        trace_id=trace_id,
        span_id=span_id,
        data=msgspec.Raw(msgspec.json.encode(cloud["data"])),
        parent_span_id=cloud.get("parentspanid"),
        links=tuple(links),
    )


def hexadecimal(size: int) -> st.SearchStrategy[str]:
    """Ids as W3C has them."""
    return st.text(HEXADECIMAL, min_size=size, max_size=size)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
LINKS = st.builds(Link, st.uuids().map(str), hexadecimal(32), hexadecimal(16))
EVENTS: st.SearchStrategy[StoredEvent] = st.builds(
    Event,
    id=st.uuids().map(str),
    type=st.from_regex(r"[a-z]+\.[a-z]+", fullmatch=True),
    time=st.integers(0, 4 * 10**18),
    run=NAMES,
    stream=NAMES,
    version=st.integers(0, 2**31 - 1),
    writer=NAMES,
    seq=st.integers(0, 10**12 - 1),
    trace_id=hexadecimal(32),
    span_id=hexadecimal(16),
    data=st.dictionaries(NAMES, NAMES | st.integers(-(2**53), 2**53) | st.booleans() | st.none()).map(
        lambda data: msgspec.Raw(msgspec.json.encode(data))
    ),
    parent_span_id=st.none() | hexadecimal(16),
    links=st.lists(LINKS, max_size=3).map(tuple),
)


def plain(event: StoredEvent) -> tuple[Any, ...]:
    """Something to compare: the payload by its value."""
    fields = msgspec.structs.asdict(event)
    return *(value for name, value in fields.items() if name != "data"), msgspec.json.decode(event.data)


@given(st.lists(EVENTS, max_size=5))
def test_nothing_is_lost(events: list[StoredEvent]) -> None:
    """The event can be made again from what the CloudEvent says, whatever is in it."""
    assert [plain(back(cloud)) for cloud in of(b"".join(as_cloudevents(events)))] == list(map(plain, events))


def test_a_line() -> None:
    """One event, as it is written."""
    links = (Link("e-0", "a" * 32, "c" * 16), Link("e-9", "d" * 32, "e" * 16))
    data = msgspec.Raw(b'{"wait_seconds":0.25}')
    event: StoredEvent = Event(
        "e-1", "request.started", 1_795_438_800_000_000_017, "r/1", "request-0", 1, "w1", 7, "a" * 32, "b" * 16, data
    )
    (line,) = as_cloudevents([msgspec.structs.replace(event, parent_span_id="c" * 16, links=links)])
    assert line.decode() == (
        '{"specversion":"1.0","id":"e-1","source":"/eventflow/r%2F1/w1","type":"dev.eventflow.request.started",'
        '"subject":"request-0","time":"2026-11-23T13:00:00.000000017Z","datacontenttype":"application/json",'
        f'"traceparent":"00-{"a" * 32}-{"b" * 16}-01","sequence":"000000000007","streamversion":1,'
        f'"parentspanid":"{"c" * 16}","links":"e-0/{"a" * 32}/{"c" * 16} e-9/{"d" * 32}/{"e" * 16}",'
        '"data":{"wait_seconds":0.25}}\n'
    )


def test_a_whole_run(store: Path) -> None:
    """Every event of a run is there once, by the rules, and `sequence` sorts as the writer wrote."""
    folder = write_directed_run(store, requests=200)
    events = list(read_events(folder.log))
    pieces = list(as_cloudevents(iter(events)))
    assert len(pieces) > 1
    found = of(b"".join(pieces))
    assert [plain(back(cloud)) for cloud in found] == list(map(plain, events))
    sequences = [cloud["sequence"] for cloud in found]
    assert sequences == sorted(sequences)
    assert len({(cloud["source"], cloud["id"]) for cloud in found}) == len(events)


def test_times() -> None:
    """RFC 3339 in UTC with all nine digits, also before a second is full."""
    assert timestamp(0) == "1970-01-01T00:00:00.000000000Z"
    assert timestamp(999_999_999) == "1970-01-01T00:00:00.999999999Z"
    assert timestamp(1_000_000_000) == "1970-01-01T00:00:01.000000000Z"
