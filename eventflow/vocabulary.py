"""The vocabulary: every type of event, what it says and when it is emitted.

This file with `eventflow.origin_events` and `eventflow.measuring_events`, which it takes in, are the only ones that
know the names. A projection matches on these classes; a stage builds them. Sizes are in bytes and durations in seconds
of the monotonic clock, always.

Invariants:
    a type, once released, keeps its name and meaning; fields are only added, with a default;
    no field ever holds a secret: URLs pass through `eventflow.redaction.redact_url` before they get here.
"""

from typing import ClassVar, Literal

import msgspec

from eventflow import measuring_events, origin_events
from eventflow.errors import MalformedPayload
from eventflow.event import Payload, StoredEvent


class RunStarted(Payload, frozen=True, kw_only=True):
    """First event of a run, and again with `resumed` when a run goes on after a crash or Ctrl-C."""

    TYPE: ClassVar[str] = "run.started"
    stage: str
    workers: int
    resumed: bool = False


class RunCounts(Payload, frozen=True, kw_only=True):
    """What a run had done when it ended. `completed + failed + cancelled <= requests`."""

    requests: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    bytes: int = 0
    seconds: float = 0.0


class RunCompleted(RunCounts, frozen=True, kw_only=True):
    """Every request of the run came to an end, completed or failed."""

    TYPE: ClassVar[str] = "run.completed"


class RunInterrupted(RunCounts, frozen=True, kw_only=True):
    """The run was asked to stop (Ctrl-C, SIGTERM) and did so in order. It can be resumed."""

    TYPE: ClassVar[str] = "run.interrupted"
    signal: str


class RunFailed(RunCounts, frozen=True, kw_only=True):
    """The run itself could not go on: the store or the machine failed, not a request. It can be resumed."""

    TYPE: ClassVar[str] = "run.failed"
    error: str
    message: str


class StageStarted(Payload, frozen=True, kw_only=True):
    """The stage begins its work, its pools being ready to start."""

    TYPE: ClassVar[str] = "stage.started"
    stage: str
    workers: int


class StageCompleted(Payload, frozen=True, kw_only=True):
    """The stage has nothing left to do and its pools are gone."""

    TYPE: ClassVar[str] = "stage.completed"
    stage: str
    seconds: float


class RequestQueued(Payload, frozen=True, kw_only=True):
    """A request was read from the input. It opens the request's stream, trace and root span; `url` is redacted."""

    TYPE: ClassVar[str] = "request.queued"
    BRIEF: ClassVar[bool] = True
    number: int
    url: str
    name: str
    sha256: str | None = None


class RequestStarted(Payload, frozen=True, kw_only=True):
    """A worker took the request."""

    TYPE: ClassVar[str] = "request.started"
    BRIEF: ClassVar[bool] = True
    wait_seconds: float


class RequestCompleted(Payload, frozen=True, kw_only=True):
    """The request's file is verified and durably in its place. The end of a story."""

    TYPE: ClassVar[str] = "request.completed"
    BRIEF: ClassVar[bool] = True
    name: str
    bytes: int
    seconds: float


class RequestFailed(Payload, frozen=True, kw_only=True):
    """The request cannot be completed. The end of a story, until a resume tries again."""

    TYPE: ClassVar[str] = "request.failed"
    error: str
    message: str
    seconds: float


class RequestDelayed(Payload, frozen=True, kw_only=True):
    """The request will be tried again after `seconds`.

    Or its first try has to wait for the sake of the origin.
    """

    TYPE: ClassVar[str] = "request.delayed"
    seconds: float
    reason: str


class RequestCancelled(Payload, frozen=True, kw_only=True):
    """The request was in flight when the run was interrupted.

    No temporary file of it is left but the one that `part.kept` names.
    """

    TYPE: ClassVar[str] = "request.cancelled"
    seconds: float


class AttemptStarted(Payload, frozen=True, kw_only=True):
    """The request is handed to the HTTP client. Opens the attempt's span, a child of the request's root span."""

    TYPE: ClassVar[str] = "attempt.started"
    BRIEF: ClassVar[bool] = True
    server_address: str
    server_port: int
    method: str = "GET"
    resend_count: int = 0


class AttemptSent(Payload, frozen=True, kw_only=True):
    """The request is sent; now the server has its turn. `seconds` since the attempt started."""

    TYPE: ClassVar[str] = "attempt.sent"
    BRIEF: ClassVar[bool] = True
    seconds: float
    range_start: int | None = None


class AttemptAnswering(Payload, frozen=True, kw_only=True):
    """The response has begun and its headers have not ended. `seconds` since the attempt started."""

    TYPE: ClassVar[str] = "attempt.answering"
    BRIEF: ClassVar[bool] = True
    seconds: float


class AttemptResponse(Payload, frozen=True, kw_only=True):
    """Status and headers have arrived. `seconds` since the attempt started.

    `suggested_name` is what Content-Disposition calls the file, made safe; files are named by the list all the same.
    """

    TYPE: ClassVar[str] = "attempt.response"
    BRIEF: ClassVar[bool] = True
    status: int
    seconds: float
    http_version: str = "1.1"
    content_length: int | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    first_byte_seconds: float | None = None
    suggested_name: str | None = None


class AttemptProgressed(Payload, frozen=True, kw_only=True):
    """More of the body has arrived: `bytes` of it so far in this attempt. At most once a second for each request."""

    TYPE: ClassVar[str] = "attempt.progressed"
    bytes: int
    seconds: float


class AttemptRedirected(Payload, frozen=True, kw_only=True):
    """The response sends the request on to another URL (redacted); the next attempt goes there.

    `seconds` since the attempt started.
    """

    TYPE: ClassVar[str] = "attempt.redirected"
    status: int
    url: str
    seconds: float | None = None


class PartKept(Payload, frozen=True, kw_only=True):
    """What is there of the file, for the next attempt or a resume to go on from by Range.

    Args:
        name: the temporary file, relative to the output folder.
        bytes: how many bytes of it count; whatever is behind them does not.
        sha256: of those bytes, so that nothing is ever added to a part that is not what it was.
        url: where they came from (redacted).
        etag, last_modified, date, content_encoding: what the response said of itself.
        length: how long the whole is, where the response said so.
    """

    TYPE: ClassVar[str] = "part.kept"
    name: str
    bytes: int
    sha256: str
    url: str
    etag: str | None = None
    last_modified: str | None = None
    date: str | None = None
    content_encoding: str | None = None
    length: int | None = None


class PartDropped(Payload, frozen=True, kw_only=True):
    """The temporary file of an earlier attempt is of no use, and is gone: the next attempt begins at the beginning."""

    TYPE: ClassVar[str] = "part.dropped"
    reason: str


class AttemptBody(Payload, frozen=True, kw_only=True):
    """The last byte of the body has arrived and is written to the temporary file. `seconds` since the response."""

    TYPE: ClassVar[str] = "attempt.body"
    BRIEF: ClassVar[bool] = True
    bytes: int
    seconds: float


class AttemptCompleted(Payload, frozen=True, kw_only=True):
    """The HTTP exchange ended as HTTP says it should."""

    TYPE: ClassVar[str] = "attempt.completed"
    BRIEF: ClassVar[bool] = True
    seconds: float


class AttemptFailed(Payload, frozen=True, kw_only=True):
    """The HTTP exchange failed: no connection, a status of 400 or more, a body cut short."""

    TYPE: ClassVar[str] = "attempt.failed"
    error: str
    message: str
    seconds: float
    status: int | None = None
    retry_after: str | None = None


class FileVerified(Payload, frozen=True, kw_only=True):
    """The bytes are what they should be. `checks` says against what: `size` (Content-Length), `sha256` (the list's).

    `decoded` names the Content-Encoding that was taken off before the bytes were counted; None: they are as sent.
    """

    TYPE: ClassVar[str] = "file.verified"
    BRIEF: ClassVar[bool] = True
    bytes: int
    sha256: str
    seconds: float
    checks: tuple[Literal["size", "sha256"], ...] = ()
    decoded: str | None = None


class FileStored(Payload, frozen=True, kw_only=True):
    """The file and the folder entry are on disk (fsync) under the final name, relative to the output folder."""

    TYPE: ClassVar[str] = "file.stored"
    BRIEF: ClassVar[bool] = True
    name: str
    bytes: int
    seconds: float


class ProcessStarted(Payload, frozen=True, kw_only=True):
    """A process of the run began: the run itself, a worker, or an external program (arguments are never recorded)."""

    TYPE: ClassVar[str] = "process.started"
    pid: int
    role: Literal["main", "worker", "program"]
    program: str = "python"


class ProcessExited(Payload, frozen=True, kw_only=True):
    """A process of the run ended. `exit_code` as in the subprocess module: negative is the signal that killed it."""

    TYPE: ClassVar[str] = "process.exited"
    pid: int
    exit_code: int | None
    seconds: float


class RecorderDropped(Payload, frozen=True, kw_only=True):
    """Events, or measurements of `eventflow.metrics`, were lost between the program and the log.

    This must never occur; it is counted so that nobody has to believe it.
    """

    TYPE: ClassVar[str] = "recorder.dropped"
    count: int


class UnknownPayload(Payload, frozen=True, kw_only=True):
    """A payload of a type that this version does not know, kept as it was written."""

    raw: bytes


def _leaves(parent: type[Payload]) -> dict[str, type[Payload]]:
    found = {parent.TYPE: parent} if parent.TYPE else {}
    for child in parent.__subclasses__():
        found |= _leaves(child)
    return found


def payload_types() -> dict[str, type[Payload]]:
    """Every known event type by name, those that users defined by subclassing `Payload` included."""
    return _leaves(Payload)


def decode_payload(event: StoredEvent) -> Payload:
    """The typed payload of a stored event; `UnknownPayload` where this version does not know the type.

    Raises:
        MalformedPayload: the type is known and the payload does not fit it. The log is damaged or was written by
            something else.
    """
    raw = bytes(event.data)
    kind = _KNOWN.get(event.type) or payload_types().get(event.type)
    if kind is None:
        return UnknownPayload(raw=raw)
    try:
        return msgspec.json.decode(raw, type=kind)
    except ValueError as problem:
        raise MalformedPayload(event.type, event.id, str(problem)) from problem


_KNOWN = payload_types()
assert {origin_events.LimitChanged.TYPE, measuring_events.MetricMeasured.TYPE} <= _KNOWN.keys()
