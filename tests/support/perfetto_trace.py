"""A Perfetto trace as Perfetto reads it: by the published schema, sorted by time, each track a stack.

What the trace processor only counts among its import errors is an error here.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.unknown_fields import UnknownFieldSet
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

from instrumentation.traces import Attribute


class Slice(NamedTuple):
    """What begins and ends on a track; `depth` is how many it is within."""

    track: str
    category: str
    name: str
    start_ns: int
    end_ns: int
    depth: int
    said: dict[str, Attribute]


class Moment(NamedTuple):
    """An instant on a track."""

    track: str
    name: str
    time_ns: int
    said: dict[str, Attribute]


class Trace:
    """A trace that was read. Tracks are named by their path: `director 17/requests 1`.

    Attributes:
        counters: the values of each, by its track, with their times.
        arrows: pairs of the names of slices.
    """

    def __init__(self, data: bytes) -> None:
        self.slices: list[Slice] = []
        self.moments: list[Moment] = []
        self.counters: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self.arrows: list[tuple[str, str]] = []
        self.units: dict[str, int] = {}
        self._names: dict[tuple[str, int], str] = {}
        self._tracks: dict[int, Any] = {}
        self._pids: set[int] = set()
        self._open: defaultdict[int, list[Any]] = defaultdict(list)
        self._flows: dict[int, str] = {}
        told = schema.Trace()
        told.ParseFromString(data)
        assert not list(unknown_fields(told))
        events = list(self._tokens(told))
        for time_ns, event in sorted(events, key=lambda one: one[0]):  # what is at one time stays in its order
            self._take(time_ns, event)
        assert not any(self._open.values()), "a slice has no end"

    @property
    def tracks(self) -> list[str]:
        """The paths of all tracks."""
        return [self._path(uuid) for uuid in self._tracks]

    def _tokens(self, told: Any) -> Iterator[tuple[int, Any]]:
        for number, packet in enumerate(told.packet):
            assert packet.trusted_packet_sequence_id
            assert packet.sequence_flags == (2 if number else 1)
            if number == 0:
                assert [clock.clock_id for clock in packet.clock_snapshot.clocks] == [6, 1]
            for kind in ("event_categories", "event_names", "debug_annotation_names"):
                for named in getattr(packet.interned_data, kind):
                    assert (kind, named.iid) not in self._names
                    self._names[kind, named.iid] = named.name
            if packet.HasField("track_descriptor"):
                self._describe(packet.track_descriptor)
            if packet.HasField("track_event"):
                assert packet.track_event.track_uuid in self._tracks, "a track is used before it is described"
                yield packet.timestamp, packet.track_event

    def _describe(self, track: Any) -> None:
        assert track.uuid
        assert track.uuid not in self._tracks
        assert not track.parent_uuid or track.parent_uuid in self._tracks
        if track.HasField("process"):
            assert track.process.pid not in self._pids, "Perfetto would make one process of two"
            self._pids.add(track.process.pid)
        self._tracks[track.uuid] = track
        if track.HasField("counter"):
            self.units[self._path(track.uuid)] = track.counter.unit

    def _path(self, uuid: int) -> str:
        track = self._tracks[uuid]
        name = track.name or f"{track.process.process_name} {track.process.pid}"
        return f"{self._path(track.parent_uuid)}/{name}" if track.parent_uuid else name

    def _take(self, time_ns: int, event: Any) -> None:
        track, stack = self._path(event.track_uuid), self._open[event.track_uuid]
        match schema.TrackEvent.Type.Name(event.type):
            case "TYPE_COUNTER":
                assert track in self.units
                self.counters[track].append((time_ns, event.counter_value))
            case "TYPE_SLICE_BEGIN":
                stack.append((time_ns, event))
                self._join(event)
            case "TYPE_SLICE_END":
                start_ns, begun = stack.pop()
                category = self._names["event_categories", begun.category_iids[0]]
                self.slices.append(Slice(track, category, begun.name, start_ns, time_ns, len(stack), self._said(begun)))
            case "TYPE_INSTANT":
                self.moments.append(
                    Moment(track, self._names["event_names", event.name_iid], time_ns, self._said(event))
                )
            case other:
                raise AssertionError(other)

    def _join(self, event: Any) -> None:
        for flow in event.flow_ids:
            if flow in self._flows:
                self.arrows.append((self._flows[flow], event.name))
            self._flows[flow] = event.name
        for flow in event.terminating_flow_ids:
            assert flow in self._flows, "an arrow comes from nowhere"
            self.arrows.append((self._flows.pop(flow), event.name))

    def _said(self, event: Any) -> dict[str, Attribute]:
        return {self._names["debug_annotation_names", one.name_iid]: _value(one) for one in event.debug_annotations}


def _value(annotation: Any) -> Attribute:
    field = annotation.WhichOneof("value")
    if field is None:
        return tuple(each.string_value for each in annotation.array_values)
    value: Attribute = getattr(annotation, field)
    return value


def unknown_fields(message: Any) -> Iterator[str]:
    """The fields of a message, and of those in it, that the schema does not have."""
    for unknown in UnknownFieldSet(message):
        yield f"{message.DESCRIPTOR.name}.{unknown.field_number}"
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                yield from unknown_fields(inner)
