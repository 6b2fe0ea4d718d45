"""Exports take the memory of what is unfinished, however long the run is."""

import tracemalloc
from collections.abc import Callable, Iterable, Iterator

import pytest
from msgspec import Raw

from eventflow.event import Event, StoredEvent
from eventflow.log.runs import RunInfo
from eventflow.vocabulary import RequestQueued
from instrumentation.formats import as_cloudevents, as_otlp_json, as_perfetto
from instrumentation.traces import FinishedSpan
from tests.support.spans import START_NS, child, span

INFO = RunInfo(run="20261123-090000-5eed", stage="director", created="2026-11-23T09:00:00+00:00")
Export = Callable[[Iterable[StoredEvent], Iterable[FinishedSpan]], Iterator[bytes]]
EXPORTS: dict[str, Export] = {
    "otlp-json": lambda _, spans: as_otlp_json(INFO, spans, {}),
    "perfetto": lambda events, spans: as_perfetto(INFO, events, spans),
    "cloudevents": lambda events, _: as_cloudevents(events),
}


def spans(requests: int) -> Iterator[FinishedSpan]:
    """Requests one after the other, each over a connection of its own."""
    for number in range(1, requests + 1):
        story = {"stream": f"request-{number}", "trace_id": f"{number:032x}"}
        used = {"eventflow.connection.id": f"c-{number}"}
        yield child(2 * number, "attempt", number, number + 1, of=2 * number + 1, attributes=used, **story)
        yield span(2 * number + 1, number, number + 1, **story)


def events(requests: int) -> Iterator[StoredEvent]:
    """One event for each request."""
    for number in range(requests):
        stream, data = f"request-{number % 7}", Raw(b'{"number":0,"url":"http://a/","name":"a"}')
        yield Event(
            "e", RequestQueued.TYPE, START_NS + number, INFO.run, stream, 0, "w1", number, "a" * 32, "b" * 16, data
        )


def peak_bytes(export: Export, requests: int) -> int:
    """The most memory that was held while so many requests were exported."""
    tracemalloc.start()
    try:
        for _ in export(events(requests), spans(requests)):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", EXPORTS)
def test_memory_does_not_grow_with_the_run(name: str) -> None:
    """Seven times as many requests take no more."""
    few, many = (peak_bytes(EXPORTS[name], requests) for requests in (750, 5_000))
    assert many < 1.3 * few + 100_000
    assert many < 5 << 20
