"""An OTLP endpoint that breaks the rules, one request after the other as it is told, and remembers all that it took.

Over HTTP and gRPC at once, on ports that stay the same while it is down. A span counts as taken when the server kept
it, whatever the client heard of it: that is what a backend would have.
"""

import contextlib
import gzip
import socket
import ssl
import struct
import threading
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tests.support.running import free_port

Signal = Literal["traces", "metrics", "logs"]
Key = tuple[str, str]
_GRPC_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}
_SERVICES: dict[str, tuple[str, Any]] = {
    "traces": ("opentelemetry.proto.collector.trace.v1.TraceService", trace_service_pb2.ExportTraceServiceRequest),
    "metrics": (
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        metrics_service_pb2.ExportMetricsServiceRequest,
    ),
    "logs": ("opentelemetry.proto.collector.logs.v1.LogsService", logs_service_pb2.ExportLogsServiceRequest),
}


@dataclass(frozen=True)
class Fault:
    """What the server does with one request; without arguments it takes it, as it should.

    Args:
        status: answered in place of 200 (over gRPC: the code for it). Nothing is taken.
        retry_after: seconds, in the header `Retry-After` (over gRPC: in `RetryInfo`).
        seconds: how long it thinks before it takes and answers.
        rejected: takes all but so many spans, the last of the request, and says so in `partial_success`.
        body: answered in place of the message that the client expects.
        broken: the connection is reset `before` the body is read, or closed `after` it was, or in the `middle` of the
            answer.
        taken: whether the server keeps what a `broken` or odd answer belonged to.
    """

    status: int = 200
    retry_after: float | None = None
    seconds: float = 0
    rejected: int = 0
    body: bytes | None = None
    broken: Literal["", "before", "after", "middle"] = ""
    taken: bool = True


TAKE = Fault()
SLOW = Fault(seconds=2)
BUSY = Fault(status=429, retry_after=1)
UNAVAILABLE = Fault(status=503, retry_after=1)
BAD_REQUEST = Fault(status=400)
TOO_LARGE = Fault(status=413)
PARTIAL = Fault(rejected=1)
GARBAGE = Fault(body=b"<html>not what you expect</html>")
CLOSED_BEFORE = Fault(broken="before", taken=False)
CLOSED_UNTAKEN = Fault(broken="after", taken=False)
CLOSED_TAKEN = Fault(broken="after")
CUT = Fault(broken="middle")


@dataclass
class Received:
    """What the server heard and kept. `heads` and `bodies` hold every byte of every request, bodies decompressed."""

    requests: Counter[str] = field(default_factory=Counter)
    taken: Counter[Key] = field(default_factory=Counter)
    rejected: Counter[Key] = field(default_factory=Counter)
    contents: dict[Key, set[bytes]] = field(default_factory=dict)
    messages: dict[str, list[Any]] = field(default_factory=lambda: {"traces": [], "metrics": [], "logs": []})
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


class FaultyCollector:
    """The server. It runs in threads of this process while the `with` lasts.

    Args:
        faults: what it does with the first requests for traces, one each; after them, and with all others, `TAKE`.
        always: in place of `TAKE` from then on.
        refuses: a span, as its trace's and its own id: with 400, each request for traces that holds it.
        forward: the base address of an OTLP/HTTP endpoint that gets what was taken. What that refuses is not taken.
        tls: the server speaks TLS over HTTP, with this context.
    """

    def __init__(
        self,
        faults: Iterable[Fault] = (),
        *,
        always: Fault = TAKE,
        refuses: Key | None = None,
        forward: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.faults, self.always, self.received = deque(faults), always, Received()
        self._refuses, self._forward, self._tls, self._lock = refuses, forward, tls, threading.Lock()
        self._http_port, self._grpc_port = free_port(), free_port()
        scheme = "https" if tls else "http"
        self.http, self.grpc = f"{scheme}://127.0.0.1:{self._http_port}", f"http://127.0.0.1:{self._grpc_port}"
        self._servers: tuple[ThreadingHTTPServer, grpc.Server, threading.Thread] | None = None

    def up(self) -> Self:
        """Listen."""
        assert self._servers is None, "it listens"
        server = _HttpServer(("127.0.0.1", self._http_port), self)
        if self._tls:
            server.socket = self._tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        over_grpc = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        over_grpc.add_generic_rpc_handlers([_grpc_handler(name, self) for name in _SERVICES])
        assert over_grpc.add_insecure_port(f"127.0.0.1:{self._grpc_port}")
        over_grpc.start()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        self._servers = server, over_grpc, thread
        return self

    def down(self) -> None:
        """Refuse connections; those that are open are closed."""
        if self._servers is None:
            return
        server, over_grpc, thread = self._servers
        over_grpc.stop(0).wait()
        server.shutdown()
        server.server_close()
        thread.join()
        self._servers = None

    def next_fault(self, signal: str) -> Fault:
        """What to do with the next request."""
        with self._lock:
            return self.faults.popleft() if signal == "traces" and self.faults else self.always

    def take(self, signal: str, message: Any, fault: Fault) -> tuple[int, bytes]:
        """Keep a message as the fault says; the status and body to answer."""
        with self._lock:
            self.received.requests[signal] += 1
        time.sleep(fault.seconds)
        if self._refuses and signal == "traces" and self._refuses in {key for key, _ in _spans(message)}:
            fault = BAD_REQUEST
        if fault.status != 200:
            return fault.status, Status(message="as the test wants").SerializeToString()
        rejected = _reject(message, fault.rejected) if signal == "traces" else []
        if fault.taken:
            if self._forward and (status := _post(f"{self._forward}/v1/{signal}", message)) != 200:
                return status, b""
            self._keep(signal, message)
        with self._lock:
            self.received.rejected.update(rejected)
        answer = trace_service_pb2.ExportTraceServiceResponse()
        if rejected:
            answer.partial_success.rejected_spans = len(rejected)
            answer.partial_success.error_message = "as the test wants"
        return 200, answer.SerializeToString() if fault.body is None else fault.body

    def _keep(self, signal: str, message: Any) -> None:
        with self._lock:
            self.received.messages[signal].append(message)
            for key, content in _spans(message) if signal == "traces" else ():
                self.received.taken[key] += 1
                self.received.contents.setdefault(key, set()).add(content)

    def heard(self, *, head: bytes = b"", body: bytes = b"") -> None:
        """Remember what came over the wire."""
        with self._lock:
            self.received.heads.append(head)
            self.received.bodies.append(body)

    def __enter__(self) -> Self:
        return self.up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def _spans(message: Any) -> Iterable[tuple[Key, bytes]]:
    """Each span's key, and its bytes together with those of its resource: what a backend compares."""
    for resource in message.resource_spans:
        about = resource.resource.SerializeToString(deterministic=True)
        for scope in resource.scope_spans:
            for span in scope.spans:
                key = (span.trace_id.hex(), span.span_id.hex())
                yield key, about + span.SerializeToString(deterministic=True)


def _reject(message: Any, count: int) -> list[Key]:
    """Take the last spans out of a message; their keys."""
    found: list[Key] = []
    for resource in reversed(message.resource_spans):
        for scope in reversed(resource.scope_spans):
            while len(found) < count and scope.spans:
                span = scope.spans.pop()
                found.append((span.trace_id.hex(), span.span_id.hex()))
    return found


def _post(url: str, message: Any) -> int:
    headers = {"Content-Type": "application/x-protobuf"}
    request = urllib.request.Request(url, message.SerializeToString(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 503


# ------------------------------------------------------------------------------------------------------ over HTTP


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], collector: FaultyCollector) -> None:
        self.collector, self.open = collector, set[socket.socket]()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or speaks another protocol, is what some tests are about."""

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def do_POST(self) -> None:
        collector, signal = self.server.collector, self.path.rsplit("/", 1)[-1]
        collector.heard(head=f"{self.requestline}\r\n{self.headers}".encode())
        if signal not in _SERVICES:
            self._answer(404, b"", None)
            return
        fault = collector.next_fault(signal)
        if fault.broken == "before":
            self._reset()
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        collector.heard(body=body)
        status, answer = collector.take(signal, _SERVICES[signal][1].FromString(body), fault)
        if fault.broken == "after":
            self.close_connection = True
        elif fault.broken == "middle":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + answer)
            self.close_connection = True
        else:
            self._answer(status, answer, fault.retry_after)

    def _answer(self, status: int, body: bytes, retry_after: float | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        if retry_after is not None:
            self.send_header("Retry-After", f"{retry_after:g}")
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        """Close with the body unread: the client gets a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is that of the library
        """Nothing: pytest shows what is written."""


# ------------------------------------------------------------------------------------------------------ over gRPC


def _grpc_handler(signal: str, collector: FaultyCollector) -> grpc.GenericRpcHandler:
    service, request = _SERVICES[signal]

    def export(body: bytes, context: grpc.ServicerContext) -> bytes:
        fault = collector.next_fault(signal)
        collector.heard(head=repr(context.invocation_metadata()).encode(), body=body)
        if fault.broken == "before":
            context.abort(grpc.StatusCode.UNAVAILABLE, "closed")
        status, answer = collector.take(signal, request.FromString(body), fault)
        if fault.broken:
            context.abort(grpc.StatusCode.UNAVAILABLE, "closed")
        if status != 200:
            _abort(context, _GRPC_CODES[status], fault.retry_after)
        return answer

    behaviour: Callable[..., Any] = grpc.unary_unary_rpc_method_handler(export)
    return grpc.method_handlers_generic_handler(service, {"Export": behaviour})


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, retry_after: float | None) -> None:
    if retry_after is not None:
        seconds = int(retry_after)
        wait = RetryInfo(retry_delay=Duration(seconds=seconds, nanos=int((retry_after - seconds) * 1e9)))
        details = Status(code=code.value[0], message="as the test wants")
        details.details.add().Pack(wait)
        context.set_trailing_metadata([("grpc-status-details-bin", details.SerializeToString())])
    context.abort(code, "as the test wants")
