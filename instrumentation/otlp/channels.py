"""A channel: one of the SDK's exporters, and what became of each export: the SDK itself says only yes or no.

It says yes to a redirect, to a page of some other server and to a collector that took only a part, and to none of them
should anybody believe that the data arrived. So the answers are looked at: for HTTP in the session that the exporter
sends with, for gRPC in the stub.
"""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import requests
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from eventflow.errors import UsageError
from instrumentation.otlp import answers
from instrumentation.otlp.answers import TAKEN, Answer
from instrumentation.otlp.settings import Protocol, Signal

_RESPONSES: dict[Signal, Any] = {
    "traces": ExportTraceServiceResponse,
    "metrics": ExportMetricsServiceResponse,
    "logs": ExportLogsServiceResponse,
}
_REJECTED: dict[Signal, str] = {
    "traces": "rejected_spans",
    "metrics": "rejected_data_points",
    "logs": "rejected_log_records",
}
_BODY_MAX = 1 << 20


class Channel:
    """One exporter of the SDK, for one signal. Used by one thread at a time; `close` may come from another.

    Args:
        signal: what it exports.
        protocol: how.
        endpoint: where to, as people may read it; the exporter takes the address itself from the environment.
        note: is told of each answer at once, also of those after which the SDK tries again by itself.

    Raises:
        UsageError: the exporter cannot be set up as the environment says.
    """

    def __init__(self, signal: Signal, protocol: Protocol, endpoint: str, note: Callable[[Answer], None]) -> None:
        quieten()
        self.signal = signal
        self._endpoint, self._note = endpoint, note
        self._answer: Answer | None = None
        try:
            self._exporter = _grpc_exporter(self) if protocol == "grpc" else _http_exporter(self)
        except Exception as problem:
            what = f"the exporter of {signal} cannot be set up ({type(problem).__name__})"
            raise UsageError(what, "check the variables that begin with OTEL_EXPORTER_OTLP_") from problem

    def send(self, items: Any) -> Answer:
        """Export spans, log records or metrics, with the SDK's retries and its time-out. Never raises."""
        self._answer = None
        try:
            result = self._exporter.export(items)
        except Exception as problem:  # noqa: BLE001  (the guard of this module: an export that fails is tried again)
            return answers.of_failure(self._endpoint, f"{type(problem).__name__} {problem}")
        if self._answer is None:  # it was not even tried
            return TAKEN if result.name == "SUCCESS" else answers.of_encoding(self._endpoint)
        return self._answer

    def close(self) -> None:
        """Let go of connections, and of an export that waits for its next try."""
        self._exporter.shutdown()

    def note_response(self, status: int, body: bytes, retry_after: str = "") -> None:
        """What the collector answered by HTTP."""
        if not 200 <= status < 300:
            answer = answers.of_status(self._endpoint, status, body[:300].decode(errors="replace"))
            self._is(answer._replace(after_s=float(retry_after) if retry_after.isdecimal() else 0.0))
            return
        try:
            self.note_message(_RESPONSES[self.signal].FromString(body))
        except DecodeError:
            self._is(answers.of_content(self._endpoint))

    def note_message(self, message: Any) -> None:
        """What the collector answered, as OTLP has it."""
        partial = message.partial_success
        rejected = getattr(partial, _REJECTED[self.signal])
        self._is(answers.of_partial(self._endpoint, rejected, partial.error_message) if rejected else TAKEN)

    def note_failure(self, text: str) -> None:
        """There was no answer."""
        self._is(answers.of_failure(self._endpoint, text))

    def note_code(self, code: str, details: str) -> None:
        """What gRPC says in place of an answer."""
        self._is(answers.of_grpc(self._endpoint, code, details))

    def _is(self, answer: Answer) -> None:
        self._answer = answer
        if answer is not TAKEN:
            self._note(answer)


def quieten() -> None:
    """The SDK's own words are for its developers: ours say what to do."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


class _Session(requests.Session):
    """Sends for an exporter and tells the channel what came back."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        if isinstance(self.verify, str):  # of the session, requests would take REQUESTS_CA_BUNDLE before it
            kwargs["verify"] = self.verify
        try:
            response = super().request(*args, **kwargs)
            body = response.content[:_BODY_MAX]
        except Exception as problem:
            self._channel.note_failure(f"{type(problem).__name__} {problem}")
            raise
        self._channel.note_response(response.status_code, body, response.headers.get("retry-after", ""))
        return response


def _http_exporter(channel: Channel) -> Any:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    kinds: Mapping[Signal, Any] = {"traces": OTLPSpanExporter, "metrics": OTLPMetricExporter, "logs": OTLPLogExporter}
    return kinds[channel.signal](session=_Session(channel))


def _grpc_exporter(channel: Channel) -> Any:
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    kinds: Mapping[Signal, Any] = {"traces": OTLPSpanExporter, "metrics": OTLPMetricExporter, "logs": OTLPLogExporter}
    kind = kinds[channel.signal]

    class Watched(kind):  # type: ignore[misc, valid-type]  # a class that is chosen at run time
        """The exporter, whose stub tells the channel what came back. The exporter makes the stub anew at times."""

        def _initialize_channel_and_stub(self) -> None:
            super()._initialize_channel_and_stub()
            self._client: Any = _Stub(self._client, channel)

    return Watched()


class _Stub:
    """Calls by gRPC for an exporter."""

    def __init__(self, stub: Any, channel: Channel) -> None:
        self._stub, self._channel = stub, channel

    def Export(self, **kwargs: Any) -> Any:  # noqa: N802  (the name is OTLP's)
        from grpc import RpcError

        try:
            message = self._stub.Export(**kwargs)
        except RpcError as problem:
            code, details = getattr(problem, "code", None), getattr(problem, "details", None)
            self._channel.note_code(code().name if code else "", (details() if details else "") or "")
            raise
        self._channel.note_message(message)
        return message
