"""The envelope, the vocabulary and the sources: what is written can be read, by old readers and new."""

import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.errors import MalformedPayload
from eventflow.event import Event, Link, Payload, StoredEvent
from eventflow.sources import SeededSources, Sources, SystemSources
from eventflow.vocabulary import AttemptStarted, UnknownPayload, decode_payload, payload_types

DECODER = msgspec.json.Decoder(StoredEvent)


def stored(payload: Payload, type_name: str | None = None) -> StoredEvent:
    """The event of a payload, written and read."""
    made = Event("i", type_name or payload.TYPE, 1, "r", "s", 0, "w", 0, "t", "p", payload)
    return DECODER.decode(msgspec.json.encode(made))


def test_an_event_reads_back_as_it_was_written() -> None:
    """Every field of the envelope survives, the payload typed by the event's type."""
    link = Link("a", "b", "c")
    payload = AttemptStarted(server_address="h", server_port=1)
    made = Event("i", payload.TYPE, 1, "r", "s", 2, "w", 3, "t", "p", payload, "q", (link,))
    read = DECODER.decode(msgspec.json.encode(made))
    assert decode_payload(read) == payload
    envelope = {name: value for name, value in msgspec.structs.asdict(read).items() if name != "data"}
    assert envelope == {name: value for name, value in msgspec.structs.asdict(made).items() if name != "data"}


def test_an_unknown_type_is_kept_and_passed_on() -> None:
    """Old readers meet new types without failing, and lose nothing of them."""
    line = b'{"id":"i","type":"moon.landed","time":1,"run":"r","stream":"s","version":0,"writer":"w","seq":0,'
    line += b'"trace_id":"t","span_id":"p","data":{"crew":3,"later":{"x":1}},"new_field":7}'
    event = DECODER.decode(line)
    assert decode_payload(event) == UnknownPayload(raw=b'{"crew":3,"later":{"x":1}}')
    assert b'"data":{"crew":3,"later":{"x":1}}' in msgspec.json.encode(event)


def test_an_unknown_field_of_a_known_type_is_ignored() -> None:
    """New writers may add fields."""

    class Newer(Payload, frozen=True, kw_only=True):
        server_address: str
        server_port: int
        colour: str

    event = stored(Newer(server_address="h", server_port=1, colour="red"), "attempt.started")
    assert decode_payload(event) == AttemptStarted(server_address="h", server_port=1)


def test_a_payload_that_does_not_fit_its_type_is_a_clear_error() -> None:
    """The error names the type, the event and what is wrong."""
    event = stored(UnknownPayload(raw=b"x"), "attempt.started")
    with pytest.raises(MalformedPayload, match=r"attempt\.started event i is malformed .*server_address"):
        decode_payload(event)


def test_every_type_is_a_dotted_name_with_a_docstring_of_its_own() -> None:
    """The vocabulary is documented, and its names are static."""
    for name, kind in payload_types().items():
        assert name.replace(".", "").replace("_", "").isalpha(), name
        assert name.count(".") == 1
        assert kind.__doc__
        assert kind.__doc__ != Payload.__doc__


@pytest.mark.parametrize("sources", [SystemSources(), SeededSources(1)])
def test_ids_have_their_standard_forms(sources: Sources) -> None:
    """UUIDv7 of RFC 9562, W3C trace and span ids; event ids sort in the order in which they were made."""
    ids = [sources.event_id() for _ in range(50)]
    assert all(uuid.UUID(one).version == 7 and uuid.UUID(one).variant == uuid.RFC_4122 for one in ids)
    assert len(set(ids)) == 50
    milliseconds = [one[:13] for one in ids]
    assert milliseconds == sorted(milliseconds)
    assert len(sources.trace_id()) == 32
    assert len(sources.span_id()) == 16
    assert int(sources.trace_id(), 16)
    assert int(sources.span_id(), 16)


@given(st.integers(0, 2**32))
def test_seeded_sources_repeat_themselves(seed: int) -> None:
    """The same calls give the same answers; the clock moves on at each reading."""
    one, two = SeededSources(seed), SeededSources(seed)
    calls = ("time_ns", "event_id", "span_id", "trace_id", "name_suffix", "monotonic_ns")
    assert [getattr(one, call)() for call in calls] == [getattr(two, call)() for call in calls]
    assert one.monotonic_ns() < one.monotonic_ns()
