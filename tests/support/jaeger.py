"""The real Jaeger with the configuration that is shipped, and what it answers on `/api/v3/traces`."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.running import Program, free_port, wait_for
from tests.support.trees import TreeSpan

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "otel" / "jaeger.yaml"
_TRACES_MAX = 100_000  # of the store; to ask for more is an error
_KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_STATUS = {1: "ok", 2: "error"}


class Jaeger(Program):
    """Jaeger on ports of its own. `otlp` is where it takes OTLP over gRPC, `url` its HTTP interface."""

    def __init__(self, program: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        otlp, http, health = free_port(), free_port(), free_port()
        self.otlp, self.url = f"127.0.0.1:{otlp}", f"http://127.0.0.1:{http}"
        environment = {
            "JAEGER_HOST": "127.0.0.1",
            "JAEGER_OTLP_PORT": str(otlp),
            "JAEGER_HTTP_PORT": str(http),
            "JAEGER_GRPC_PORT": str(free_port()),
            "JAEGER_HEALTH_PORT": str(health),
        }
        command: list[str | Path] = [program, "--config", CONFIGURATION]
        ready = f"http://127.0.0.1:{health}/status"
        super().__init__(command, environment=environment, log=folder / "jaeger.log", ready_url=ready)

    def services(self) -> list[str]:
        """The names of services that have spans."""
        return sorted(self._ask("services").get("services", []))

    def spans(self, service: str) -> list[TreeSpan]:
        """Every span of every trace in which the service has a span, as a user sees them.

        What was sent twice with the same bytes is there once: Jaeger keeps both and shows one. What was sent twice with
        other bytes, be it one attribute of the resource, is there twice. To ask changes what is kept: this version
        notes into a trace that it is not complete, and a span that is sent again after that is another one. So a test
        asks this when all is there, and `spans_kept` before.
        """
        return _spans(self._ask("traces", service))

    def spans_kept(self, service: str) -> list[TreeSpan]:
        """The same as it was received: what was sent twice is there twice."""
        return _spans(self._ask("traces", service, raw=True))

    def wait_spans(self, service: str, count: int, *, seconds: float = 30) -> list[TreeSpan]:
        """The spans, when so many different ones are there; see `spans`."""
        kept: Counter[str] = Counter()

        def enough() -> bool:
            found = {span.key: span.name for span in self.spans_kept(service)}
            kept.clear()
            kept.update(found.values())
            return len(found) >= count

        try:
            wait_for(enough, what=f"not {count} spans of {service}", seconds=seconds)
        except AssertionError as error:
            error.add_note(f"there are {kept.total()}: {kept}")
            raise
        return self.spans(service)

    def _ask(self, what: str, service: str = "", *, raw: bool = False) -> dict[str, Any]:
        query = {
            "query.service_name": service,
            "query.start_time_min": "2000-01-01T00:00:00Z",
            "query.start_time_max": "2200-01-01T00:00:00Z",
            "query.num_traces": str(_TRACES_MAX),
            "query.raw_traces": str(raw).lower(),
        }
        try:
            address = f"{self.url}/api/v3/{what}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(address, timeout=30) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 404:  # that is how it says that there is none
                raise
            return {}
        return found


def _spans(answer: dict[str, Any]) -> list[TreeSpan]:
    return [
        _span(span, resource.get("resource", {}))
        for resource in answer.get("result", {}).get("resourceSpans", [])
        for scope in resource.get("scopeSpans", [])
        for span in scope.get("spans", [])
    ]


def _span(span: dict[str, Any], resource: dict[str, Any]) -> TreeSpan:
    status = span.get("status", {})
    return TreeSpan(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        name=span["name"],
        kind=_KINDS.get(span.get("kind", 0), ""),
        status=_STATUS.get(status.get("code", 0), ""),
        message=status.get("message", ""),
        start_ns=int(span["startTimeUnixNano"]),
        end_ns=int(span["endTimeUnixNano"]),
        attributes=_attributes(span),
        links=tuple((link["traceId"], link["spanId"]) for link in span.get("links", [])),
        events=tuple(event["name"] for event in span.get("events", [])),
        resource=_attributes(resource),
    )


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair["value"]) for pair in holder.get("attributes", [])}


def _value(value: dict[str, Any]) -> Any:
    kind, content = next(iter(value.items()), ("", None))
    match kind, content:
        case "intValue", str():  # a string, as the JSON of protobuf has it
            return int(content)
        case "arrayValue", dict():
            return [_value(item) for item in content.get("values", [])]
        case _:
            return content
