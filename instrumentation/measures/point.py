"""A metric point as plain values: what the events of a run say, in OpenTelemetry's terms, without its SDK.

Invariants:
    the same events give the same points, in the same order;
    no field holds a secret, since no event does.
"""

import msgspec

from eventflow.measuring_events import Attributes, InstrumentKind

Number = int | float
Key = tuple[tuple[str, str | int | float | bool], ...]
"""Attributes to look things up by, in the order of their names."""


class Exemplar(msgspec.Struct, frozen=True, gc=False):
    """One of the measurements behind a point, and the span that it was made in; without ids: in none."""

    value: float
    time_ns: int
    trace_id: str = ""
    span_id: str = ""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How measurements are spread: `buckets[i]` of them are at most `boundaries[i]`, and above the boundary before.

    `recent_min` and `recent_max` are those since `MeasureFold.begin_interval` was called last; `min` and `max` if
    nothing was measured since.
    """

    count: int
    sum: float
    min: float
    max: float
    boundaries: tuple[float, ...]
    buckets: tuple[int, ...]
    recent_min: float
    recent_max: float


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What one instrument shows at one moment, for one set of attributes in one process.

    Attributes:
        name, kind, unit, description: the instrument's. A `counter` never falls, an `up_down_counter` is a sum that
            makes sense over processes, a `gauge` is not.
        attributes: what it is about.
        writer: the process.
        start_ns: since when a sum counts: when the process recorded its first event. Unix time, as is `time_ns`.
        value: how much; of a histogram 0, and `spread` says.
        exemplars: some of the measurements since `MeasureFold.begin_interval`: the greatest, of a histogram in each
            bucket; one within a span rather than a greater one outside.
        is_read: whether somebody looked how much it is by now, rather than measured each thing as it happened:
            OpenTelemetry's observable instruments.
    """

    name: str
    kind: InstrumentKind
    unit: str
    description: str
    attributes: Attributes
    writer: str
    start_ns: int
    time_ns: int
    value: Number = 0
    spread: Spread | None = None
    exemplars: tuple[Exemplar, ...] = ()
    is_read: bool = False


def key_of(attributes: Attributes) -> Key:
    """The attributes in the order of their names."""
    return tuple(sorted(attributes.items()))
