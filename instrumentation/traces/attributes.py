"""What a span says of what its events say: OpenTelemetry's semantic conventions where they have a word, else ours.

`ATTRIBUTES` is the whole table, with the meaning of each; the documentation is made from it and a test holds the code
to it. Durations are in seconds, sizes in bytes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from eventflow import origin_events as origins
from eventflow import vocabulary as said
from eventflow.event import Payload
from instrumentation.traces.span import STATUS_FAILED_MIN, Attribute

Put = dict[str, Attribute]


class Known(NamedTuple):
    """An attribute: on which steps it is, what it means, and whether the name is OpenTelemetry's."""

    name: str
    steps: str
    meaning: str

    @property
    def is_convention(self) -> bool:
        """Whether OpenTelemetry's semantic conventions have it."""
        return not self.name.startswith("eventflow.")


ATTRIBUTES = (
    Known("url.full", "request, attempt", "the URL, without credentials and secret query values"),
    Known("http.request.method", "attempt", "always `GET`"),
    Known("http.request.resend_count", "attempt", "how many attempts came before, if any"),
    Known("http.response.status_code", "attempt", "the status"),
    Known("http.response.body.size", "attempt, body", "how many bytes of body arrived, as sent"),
    Known("http.response.header.content-type", "attempt", "that header, as a list of one"),
    Known("server.address", "attempt", "the host of the URL"),
    Known("server.port", "attempt", "the port of the URL, also if it is the scheme's own"),
    Known("network.peer.address", "attempt, connect", "the address that a new connection was made to"),
    Known("network.peer.port", "attempt, connect", "its port"),
    Known("network.protocol.version", "attempt", "HTTP's version: `1.1`, `2`"),
    Known("tls.protocol.version", "connect", "TLS's version, if the connection is encrypted"),
    Known(
        "error.type",
        "run, stage, request, attempt, process, program",
        "the kind of failure, the status, the exit code, or `interrupted`",
    ),
    Known("process.executable.name", "program", "the program's name, without arguments"),
    Known("process.pid", "process, program", "its number"),
    Known("process.exit.code", "process, program", "its exit code; negative: the signal that killed it"),
    Known("eventflow.request.number", "request", "the place of the request in the input, from 0"),
    Known("eventflow.file.name", "request, store", "the file, relative to the output folder"),
    Known("eventflow.file.size", "request, verify, store", "its size"),
    Known("eventflow.file.sha256", "verify", "its SHA-256"),
    Known("eventflow.file.checks", "verify", "what it was held against: `size`, `sha256`"),
    Known("eventflow.file.decoded", "verify", "the Content-Encoding that was taken off"),
    Known("eventflow.attempt.sent_seconds", "attempt", "when the request was sent, after the attempt's start"),
    Known("eventflow.attempt.response_seconds", "attempt", "when the headers were there, after the attempt's start"),
    Known("eventflow.attempt.range_start", "attempt", "from which byte on the file was asked for"),
    Known("eventflow.attempt.redirected_to", "attempt", "the URL that the response sends on to"),
    Known("eventflow.connection.id", "attempt, connect", "which connection"),
    Known("eventflow.connection.requests", "attempt", "how many requests had gone over a kept connection before"),
    Known("eventflow.connection.dns_seconds", "connect", "how long the name took"),
    Known("eventflow.connection.tcp_seconds", "connect", "how long the connection took"),
    Known("eventflow.connection.tls_seconds", "connect", "how long TLS took"),
    Known("eventflow.stage", "run, stage", "the stage"),
    Known("eventflow.run.workers", "run, stage", "how many workers were asked for"),
    Known("eventflow.run.resumed", "run", "whether it is the going on of a run that ended early"),
    Known("eventflow.run.requests", "run", "how many requests it had begun"),
    Known("eventflow.run.completed", "run", "how many were completed"),
    Known("eventflow.run.failed", "run", "how many failed"),
    Known("eventflow.run.bytes", "run", "the size of all completed files"),
    Known(
        "eventflow.state",
        "run, stage, request, attempt, process, program",
        "`cancelled`: ended because somebody asked for it; `interrupted`: its process was killed",
    ),
    Known("eventflow.process.role", "process", "`worker`"),
)


def _if_known(put: Put, name: str, value: Attribute | None) -> None:
    if value is not None:
        put[name] = value


def _queued(event: said.RequestQueued, put: Put) -> None:
    put["url.full"] = event.url
    put["eventflow.request.number"] = event.number


def _completed(event: said.RequestCompleted, put: Put) -> None:
    put["eventflow.file.name"] = event.name
    put["eventflow.file.size"] = event.bytes


def _failed(event: said.RequestFailed | said.RunFailed, put: Put) -> None:
    put["error.type"] = event.error


def _attempt(event: said.AttemptStarted, put: Put) -> None:
    put["http.request.method"] = event.method
    put["server.address"] = event.server_address
    put["server.port"] = event.server_port
    if event.resend_count:
        put["http.request.resend_count"] = event.resend_count


def _sent(event: said.AttemptSent, put: Put) -> None:
    put["eventflow.attempt.sent_seconds"] = event.seconds
    _if_known(put, "eventflow.attempt.range_start", event.range_start)


def _response(event: said.AttemptResponse, put: Put) -> None:
    put["http.response.status_code"] = event.status
    put["network.protocol.version"] = event.http_version
    put["eventflow.attempt.response_seconds"] = event.seconds
    if event.content_type is not None:
        put["http.response.header.content-type"] = (event.content_type,)


def _redirected(event: said.AttemptRedirected, put: Put) -> None:
    put["http.response.status_code"] = event.status
    put["eventflow.attempt.redirected_to"] = event.url


def _body(event: said.AttemptBody, put: Put) -> None:
    put["http.response.body.size"] = event.bytes


def _attempt_failed(event: said.AttemptFailed, put: Put) -> None:
    put["error.type"] = event.error
    if event.status is not None:
        put["http.response.status_code"] = event.status
        if event.status >= STATUS_FAILED_MIN:
            put["error.type"] = str(event.status)


def _opened(event: origins.ConnectionOpened, put: Put) -> None:
    put["eventflow.connection.id"] = event.connection
    put["network.peer.address"] = event.address
    put["network.peer.port"] = event.port
    put["eventflow.connection.dns_seconds"] = event.dns_seconds
    put["eventflow.connection.tcp_seconds"] = event.connect_seconds
    put["eventflow.connection.tls_seconds"] = event.tls_seconds
    _if_known(put, "tls.protocol.version", event.tls_version and event.tls_version.removeprefix("TLSv"))


def _taken(event: origins.ConnectionTaken, put: Put) -> None:
    put["eventflow.connection.id"] = event.connection
    put["eventflow.connection.requests"] = event.requests


def _verified(event: said.FileVerified, put: Put) -> None:
    put["eventflow.file.size"] = event.bytes
    put["eventflow.file.sha256"] = event.sha256
    put["eventflow.file.checks"] = event.checks
    _if_known(put, "eventflow.file.decoded", event.decoded)


def _stored(event: said.FileStored, put: Put) -> None:
    put["eventflow.file.name"] = event.name
    put["eventflow.file.size"] = event.bytes


def _process(event: said.ProcessStarted, put: Put) -> None:
    put["process.pid"] = event.pid
    if event.role == "program":
        put["process.executable.name"] = event.program
    else:
        put["eventflow.process.role"] = event.role


def exited(event: said.ProcessExited, put: Put) -> None:
    """How a process ended. On the span of that process, whichever span the event is in."""
    if event.exit_code is not None:
        put["process.exit.code"] = event.exit_code
        if event.exit_code:
            put["error.type"] = str(event.exit_code)


def _run(event: said.RunStarted, put: Put) -> None:
    put["eventflow.stage"] = event.stage
    put["eventflow.run.workers"] = event.workers
    if event.resumed:
        put["eventflow.run.resumed"] = True


def _counted(event: said.RunCounts, put: Put) -> None:
    put["eventflow.run.requests"] = event.requests
    put["eventflow.run.completed"] = event.completed
    put["eventflow.run.failed"] = event.failed
    put["eventflow.run.bytes"] = event.bytes


def _run_failed(event: said.RunFailed, put: Put) -> None:
    _counted(event, put)
    _failed(event, put)


def _stage(event: said.StageStarted, put: Put) -> None:
    put["eventflow.stage"] = event.stage
    put["eventflow.run.workers"] = event.workers


PUTTERS: dict[str, Callable[[Any, Put], None]] = {
    said.RequestQueued.TYPE: _queued,
    said.RequestCompleted.TYPE: _completed,
    said.RequestFailed.TYPE: _failed,
    said.AttemptStarted.TYPE: _attempt,
    said.AttemptSent.TYPE: _sent,
    said.AttemptResponse.TYPE: _response,
    said.AttemptRedirected.TYPE: _redirected,
    said.AttemptBody.TYPE: _body,
    said.AttemptFailed.TYPE: _attempt_failed,
    origins.ConnectionOpened.TYPE: _opened,
    origins.ConnectionTaken.TYPE: _taken,
    said.FileVerified.TYPE: _verified,
    said.FileStored.TYPE: _stored,
    said.ProcessStarted.TYPE: _process,
    said.ProcessExited.TYPE: exited,
    said.RunStarted.TYPE: _run,
    said.RunCompleted.TYPE: _counted,
    said.RunInterrupted.TYPE: _counted,
    said.RunFailed.TYPE: _run_failed,
    said.StageStarted.TYPE: _stage,
}
# Of these, the span that encloses their own says some, too: a connection's address is the attempt's.
LENT = {
    origins.ConnectionOpened.TYPE: ("network.peer.address", "network.peer.port", "eventflow.connection.id"),
    said.AttemptBody.TYPE: ("http.response.body.size",),
}


def told(payload: Payload) -> Put:
    """The fields of a payload as attributes of a span event, or of the span of an event type of one's own.

    Named by the event's first word: `eventflow.request.seconds`. What is neither text nor number is its JSON; of a
    type that this version does not know, all of it is `eventflow.data`.
    """
    if isinstance(payload, said.UnknownPayload):
        return {"eventflow.data": payload.raw.decode(errors="replace")}
    prefix = f"eventflow.{payload.TYPE.partition('.')[0]}."
    put: Put = {}
    for name in payload.__struct_fields__:
        value = getattr(payload, name)
        if isinstance(value, str | bool | int | float):
            put[prefix + name] = value
        elif value is not None:
            put[prefix + name] = msgspec.json.encode(value).decode()
    return put


def attribute_table() -> str:
    """`ATTRIBUTES` as a table in Markdown."""
    rows = ["| attribute | on | meaning |", "|---|---|---|"]
    rows += [f"| `{known.name}` | {known.steps} | {known.meaning} |" for known in ATTRIBUTES]
    return "\n".join(rows)
