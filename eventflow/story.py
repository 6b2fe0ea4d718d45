"""One request's story, told as it happens: the events that every stage emits, in one place.

A stage says what it is doing (`with work.story(queued) as story`, `with story.attempt()`), this module says it to the
log, measures the durations, turns whatever goes wrong into one of our errors and leaves nothing half-done on disk.

The tree of spans, each with the events that belong to it:

    request            request.queued … request.completed | failed | cancelled
    ├── queue          request.started
    ├── attempt        attempt.started, attempt.response, attempt.completed | failed
    │   └── body       attempt.body
    ├── verify         file.verified
    └── store          file.stored

The request's span is the current one of the thread or task while its story goes on, and the attempt's while that does.

Invariants:
    every story that was started ends with exactly one of completed, failed, cancelled, unless the process is killed;
    a request is completed only after its file is durable; a failed or cancelled one leaves no temporary file;
    a failed request raises nothing out of its story; a failing log or an interrupt always does.
"""

from collections.abc import Mapping
from concurrent.futures import Future
from threading import Event as ThreadEvent
from threading import Lock
from typing import Literal, Self
from urllib.parse import urlsplit

from eventflow.errors import ChecksumMismatch, HttpStatus, RequestError, ShortBody, StoreError
from eventflow.http_failures import explain, status_failure
from eventflow.http_metrics import attempt_completed, attempt_failed
from eventflow.recorder import Span
from eventflow.request import Request
from eventflow.storing import FileStore, Folder, Part
from eventflow.vocabulary import (
    AttemptBody,
    AttemptCompleted,
    AttemptFailed,
    AttemptResponse,
    AttemptStarted,
    FileStored,
    FileVerified,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestStarted,
)

_DEFAULT_PORTS = {"http": 80, "https": 443}
_STORE_SECONDS_MAX = 60.0


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; raised in a worker at the next piece of its body."""


class QueuedRequest:
    """A request that was read from the input, its root span, and when (monotonic nanoseconds) it was read."""

    __slots__ = ("queued_ns", "request", "root")

    def __init__(self, request: Request, root: Span, queued_ns: int) -> None:
        self.request, self.root, self.queued_ns = request, root, queued_ns


class Story:
    """The story of one request from the moment when a worker takes it. A context manager; used by one worker.

    Args:
        queued: the request.
        folder: where its file goes.
        store: what makes files durable.
        cancelled: set when the run is asked to stop.
    """

    def __init__(self, queued: QueuedRequest, folder: Folder, store: FileStore, cancelled: ThreadEvent) -> None:
        self.request, self.root = queued.request, queued.root
        self.cancelled = cancelled
        self.content_length: int | None = None
        self._queued_ns = queued.queued_ns
        self._clock = queued.root.recorder.sources.monotonic_ns
        self._folder, self._store = folder, store
        self._part: Part | None = None
        self._storing: Future[float] | None = None
        self._bytes = 0
        self._over = False
        self._ending = Lock()

    @property
    def part(self) -> Part:
        """The temporary file of this request, made at the first use. Interrupted if the story is over."""
        if self._part is None:
            if self._over:
                raise Interrupted
            self._part = self._folder.begin(self.request.name, tag=self.root.recorder.run)
        return self._part

    def attempt(self) -> "Attempt":
        """One try on the wire: `with story.attempt() as attempt`."""
        return Attempt(self)

    def submit(self) -> Future[float]:
        """Verify the file and begin to store it; the result is the seconds that storing took. Follow with `stored`.

        Raises:
            ShortBody, ChecksumMismatch: the bytes are not what they should be.
        """
        begun = self._clock()
        part, request, url = self.part, self.request, self.request.redacted_url
        checks: list[Literal["size", "sha256"]] = []
        if self.content_length is not None:
            if part.bytes != self.content_length:
                raise ShortBody(url, f"{part.bytes} bytes arrived where Content-Length says {self.content_length}")
            checks.append("size")
        digest = part.sha256()
        if request.sha256 is not None:
            if digest != request.sha256.lower():
                raise ChecksumMismatch(
                    url, f"its SHA-256 is {digest[:12]}…, the list says {request.sha256[:12].lower()}…"
                )
            checks.append("sha256")
        self._bytes = part.bytes
        verified = FileVerified(bytes=part.bytes, sha256=digest, seconds=self.since(begun), checks=tuple(checks))
        self.root.child().record(verified)
        self._storing = self._store.submit(part)
        return self._storing

    def stored(self, seconds: float) -> None:
        """The file is durable under its final name."""
        self._storing = None
        self.root.child().record(FileStored(name=self.request.name, bytes=self._bytes, seconds=seconds))

    def store(self) -> None:
        """Verify, store, and wait until the file is durable: `submit` and `stored` for code that may block."""
        self.stored(self.submit().result())

    def since(self, begun_ns: int) -> float:
        """Seconds since a reading of the monotonic clock."""
        return (self._clock() - begun_ns) / 1e9

    def abandon(self) -> None:
        """End the story of a worker that cannot be stopped in time, from another thread."""
        if not self._over:
            self._cancel()

    def __enter__(self) -> Self:
        self._started_ns = self._clock()
        self.root.child().record(RequestStarted(wait_seconds=(self._started_ns - self._queued_ns) / 1e9))
        self.root.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        try:
            return self._end_with(error)
        finally:
            self.root.__exit__(kind, error, trace)

    def _end_with(self, error: BaseException | None) -> bool:
        if self._over:
            return True
        if error is None:
            self._complete()
            return False
        if isinstance(error, StoreError):
            self._discard()
            return False
        if isinstance(error, Exception) and not self.cancelled.is_set():
            self._fail(explain(error, self.request.redacted_url))
            return True
        self._finish_storing()
        if not self._over:
            self._cancel()
        return isinstance(error, Exception)  # a failure that stopping the run brought about is no failure

    def _finish_storing(self) -> None:
        """An interrupt came while a whole file was on its way to the disk.

        That takes a moment, and then it is completed.
        """
        if self._storing is not None:
            try:
                self.stored(self._storing.result(_STORE_SECONDS_MAX))
            except (OSError, TimeoutError):
                return
            self._complete()

    def _complete(self) -> None:
        self._end(RequestCompleted(name=self.request.name, bytes=self._bytes, seconds=self.since(self._started_ns)))

    def _fail(self, failure: RequestError) -> None:
        self._discard()
        seconds = self.since(self._started_ns)
        self._end(RequestFailed(error=type(failure).__name__, message=str(failure), seconds=seconds))

    def _cancel(self) -> None:
        self._discard()
        self._end(RequestCancelled(seconds=self.since(self._started_ns)))

    def _end(self, outcome: RequestCompleted | RequestFailed | RequestCancelled) -> None:
        """Record the outcome, once: an abandoned worker may still come to an end of its own."""
        with self._ending:
            if self._over:
                return
            self._over = True
        self.root.record(outcome)

    def _discard(self) -> None:
        if self._part is not None:
            self._part.discard()


class Attempt:
    """One try of a request on the wire. A context manager; what goes wrong inside leaves it as one of our errors."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._span = story.root.child()
        self._status: int | None = None

    def response(self, status: int, headers: Mapping[str, str], http_version: str = "HTTP/1.1") -> None:
        """Status and headers have arrived.

        Raises:
            ClientStatus, ServerStatus: the status is 400 or more.
        """
        story = self._story
        self._response_ns = story._clock()  # noqa: SLF001  (two classes of one module)
        self._status = status
        length = headers.get("content-length", "")
        story.content_length = int(length) if length.isdecimal() else None
        self._span.record(
            AttemptResponse(
                status=status,
                seconds=(self._response_ns - self._started_ns) / 1e9,
                http_version=http_version.removeprefix("HTTP/"),
                content_length=story.content_length,
                content_type=headers.get("content-type"),
                content_encoding=headers.get("content-encoding"),
                etag=headers.get("etag"),
                last_modified=headers.get("last-modified"),
            )
        )
        if failure := status_failure(story.request.redacted_url, status, headers.get("retry-after")):
            raise failure

    def write(self, chunk: bytes) -> None:
        """Add a piece of the body to the temporary file.

        Raises:
            Interrupted: the run was asked to stop.
            OSError: the disk would not take it.
        """
        if self._story.cancelled.is_set():
            raise Interrupted
        self._story.part.write(chunk)

    def __enter__(self) -> Self:
        self._started_ns = self._story._clock()  # noqa: SLF001
        parts = urlsplit(self._story.request.url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        self._origin = parts.hostname or "", port
        self._span.record(AttemptStarted(server_address=self._origin[0], server_port=port))
        self._span.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._end_with(error)
        finally:
            self._span.__exit__(kind, error, trace)

    def _end_with(self, error: BaseException | None) -> None:
        story = self._story
        if error is None:
            body = AttemptBody(bytes=story.part.bytes, seconds=story.since(self._response_ns))
            self._span.child().record(body)
            seconds = story.since(self._started_ns)
            self._span.record(AttemptCompleted(seconds=seconds))
            attempt_completed(self._span, *self._origin, seconds, self._status or 0, story.part.bytes)
        elif isinstance(error, Exception) and not isinstance(error, StoreError):
            failure = explain(error, story.request.redacted_url)
            kind, seconds = type(failure).__name__, story.since(self._started_ns)
            attempt_failed(self._span, *self._origin, seconds, self._status, kind)
            self._span.record(
                AttemptFailed(
                    error=kind,
                    message=failure.what,
                    seconds=seconds,
                    status=self._status,
                    retry_after=failure.retry_after if isinstance(failure, HttpStatus) else None,
                )
            )
            raise failure from error
