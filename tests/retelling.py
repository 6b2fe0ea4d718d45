"""A run told by plain Python over its events: nothing of DuckDB in it, so that SQL can be held against it."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from eventflow.event import StoredEvent
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder

ENDS = ("request.completed", "request.failed", "request.cancelled")


class AttemptFacts(msgspec.Struct):
    """What the events of one attempt say."""

    host: str
    started_ns: int
    response: float | None = None
    body: float | None = None
    state: str = "unfinished"


class RequestFacts(msgspec.Struct):
    """What the events of one request say, its last try."""

    url: str
    state: str = "queued"
    times: dict[str, int] = {}
    data: dict[str, Any] = {}
    wait: float | None = None
    attempts: dict[str, AttemptFacts] = {}


class RunFacts:
    """A run, told by its events one after the other."""

    def __init__(self, folder: RunFolder) -> None:
        self.run, self.stage = folder.run, folder.info().stage
        self.events = sorted(read_events(folder.log), key=lambda event: (event.stream, event.version))
        self.requests: dict[int, RequestFacts] = {}
        self.samples: list[tuple[int, int]] = []
        self.state = "unfinished"
        self.cpu_by_writer: dict[str, float] = defaultdict(float)
        for event in self.events:
            self._take(event, msgspec.json.decode(event.data, type=dict[str, Any]))

    def _take(self, event: StoredEvent, data: dict[str, Any]) -> None:
        noun, verb = event.type.split(".")
        if event.stream.startswith("request-"):
            self._take_story(event, noun, verb, data)
        elif event.type == "process.sampled":
            self.samples.append((event.time, data["memory_bytes"]))
            self.cpu_by_writer[event.writer] = max(self.cpu_by_writer[event.writer], data["cpu_seconds"])
        elif noun == "run":
            self.state = "unfinished" if verb == "started" else verb

    def _take_story(self, event: StoredEvent, noun: str, verb: str, data: dict[str, Any]) -> None:
        number = int(event.stream.removeprefix("request-"))
        if event.type == "request.queued":
            before = self.requests.get(number)
            self.requests[number] = RequestFacts(data["url"], attempts=before.attempts if before else {})
        request = self.requests[number]
        if noun == "request":
            request.state, request.data = verb, data
            request.times["ended" if event.type in ENDS else verb] = event.time
            request.wait = data.get("wait_seconds", request.wait)
        elif event.type == "attempt.started":
            request.attempts[event.span_id] = AttemptFacts(data["server_address"], event.time)
        elif event.type == "attempt.response":
            request.attempts[event.span_id].response = data["seconds"]
        elif event.type == "attempt.body":
            request.attempts[event.parent_span_id or ""].body = data["seconds"]
        elif noun == "attempt":
            request.attempts[event.span_id].state = verb

    def attempts(self) -> Iterator[AttemptFacts]:
        """All attempts of all requests."""
        return (attempt for request in self.requests.values() for attempt in request.attempts.values())

    def completed(self) -> list[RequestFacts]:
        """The requests that came to a good end."""
        return [request for request in self.requests.values() if request.state == "completed"]
