"""The errors: one small tree, made of fields; the message is built from the fields and says the fix.

An error crosses processes, so each is picklable by construction: its arguments go to `super().__init__` unchanged. An
*expected* failure of a request is one of `RequestError`: it becomes an event and never stops the other requests. The
rest stop the run.

Invariants:
    `str(error)` is one line and ends with what to do;
    no error holds a secret: a URL is redacted before it is passed in.
"""

from eventflow.statuses import what_to_do


class EventflowError(Exception):
    """Whatever eventflow raises on purpose."""


class UsageError(EventflowError, ValueError):
    """The command or the call was wrong. Exit status 2.

    Args:
        problem: what is wrong.
        fix: what to do about it.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem, fix)
        self.problem, self.fix = problem, fix

    def __str__(self) -> str:
        return f"{self.problem}: {self.fix}"


class MissingExtra(UsageError):
    """The command needs packages that were not installed."""


class NoActiveSpan(EventflowError, LookupError):
    """`record` was called outside any run."""

    def __str__(self) -> str:
        return "no span is active here: call record() inside `with span:`, or use span.record()"


class StoreError(EventflowError):
    """The store or the machine failed. Exit status 3. What was acknowledged before is safe."""


class LogWriteFailed(StoreError):
    """The log could not be written; nothing after the last commit counts.

    Args:
        path: the segment.
        problem: what the operating system said.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        where = path_of(self.path)
        return f"cannot write the log {where} ({self.problem}): free some room or mend the disk, then resume"


class LogClosed(StoreError):
    """An event was recorded after the recorder was closed, or in a forked child of the process that opened it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the log is not open here ({self.reason}): open it in this process"


class LogBusy(StoreError):
    """Another process writes under this name: a writer's, or that of a subscription.

    Args:
        path: the writer's folder, or the checkpoint.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{path_of(self.path)} is being written by another process: wait until it ends, or take another name"


class WrongVersion(EventflowError):
    """A stream has moved on since it was read: optimistic concurrency. Nothing was appended.

    Args:
        stream: the stream.
        expected: the version that its last event was expected to have, -1 for a stream without events.
        actual: the version that it has.
    """

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(stream, expected, actual)
        self.stream, self.expected, self.actual = stream, expected, actual

    def __str__(self) -> str:
        return (
            f"{name_of(self.stream)} is at version {self.actual}, not {self.expected}: read it again and decide again"
        )


class PartlyAppended(EventflowError):
    """Some of the events of an append are in the log and others are not. Nothing was appended now.

    Args:
        stream: the stream.
        found: how many are there.
        given: how many were given.
    """

    def __init__(self, stream: str, found: int, given: int) -> None:
        super().__init__(stream, found, given)
        self.stream, self.found, self.given = stream, found, given

    def __str__(self) -> str:
        return (
            f"{self.found} of {self.given} events are in {name_of(self.stream)} already, so this is not an append that "
            "was sent before: give new events new ids"
        )


class EventTooLarge(EventflowError, ValueError):
    """An event is larger than the log takes. It was not recorded; the log and the stream are as before.

    Args:
        type_name: the event's type.
        size: its line, in bytes.
        limit: the largest line that is taken.
    """

    def __init__(self, type_name: str, size: int, limit: int) -> None:
        super().__init__(type_name, size, limit)
        self.type_name, self.size, self.limit = type_name, size, limit

    def __str__(self) -> str:
        return (
            f"a {self.type_name} event takes {self.size} bytes and the limit is {self.limit}: "
            "put the bulk into a file and its name into the event"
        )


class LogDamaged(StoreError):
    """Bytes that were committed are not what was written.

    Args:
        path: the segment.
        offset: the first byte of the batch that does not check, from 0.
        line: its line, from 1.
        problem: what does not hold.
    """

    def __init__(self, path: str, offset: int, line: int, problem: str) -> None:
        super().__init__(path, offset, line, problem)
        self.path, self.offset, self.line, self.problem = path, offset, line, problem

    def __str__(self) -> str:
        return (
            f"{path_of(self.path)}: damaged at byte {self.offset}, line {self.line}: {self.problem}: "
            "what stands before it is good; restore the file from a copy, or set its end aside with `eventflow repair`"
        )


class NewerFormat(StoreError):
    """The run was written by a newer eventflow."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(path, found, known)
        self.path, self.found, self.known = path, found, known

    def __str__(self) -> str:
        where = path_of(self.path)
        return f"{where} has format {self.found}, this eventflow reads up to {self.known}: upgrade eventflow"


class MalformedPayload(StoreError):
    """A payload does not fit the type that its event names."""

    def __init__(self, type_name: str, event_id: str, problem: str) -> None:
        super().__init__(type_name, event_id, problem)
        self.type_name, self.event_id, self.problem = type_name, event_id, problem

    def __str__(self) -> str:
        what = f"the payload of {self.type_name} event {self.event_id} is malformed ({self.problem})"
        return f"{what}: run `eventflow verify`"


class UnknownRun(EventflowError, LookupError):
    """No such run, or more than one, in the store."""

    def __init__(self, name: str, store: str, matches: tuple[str, ...] = ()) -> None:
        super().__init__(name, store, matches)
        self.name, self.store, self.matches = name, store, matches

    def __str__(self) -> str:
        if self.matches:
            shown = ", ".join(self.matches[:5])
            return f"{name_of(self.name)} fits {len(self.matches)} runs ({shown}): give more of the name"
        what = f"no run {name_of(self.name)} in {path_of(self.store)}"
        return f"{what}: `eventflow runs` lists them, --store names another folder"


def name_of(text: str) -> str:
    """The text as it can stand in a one-line message: quoted, control characters escaped, at most 120 characters."""
    shown = ascii(text) if not text.isprintable() else repr(text)
    return shown if len(shown) <= 120 else f"{shown[:110]}…{shown[-1]}"


def path_of(path: str) -> str:
    """The path as it can stand in a one-line message: as it is, or quoted and escaped if it has characters for that."""
    return path if path.isprintable() else ascii(path)


class RequestError(EventflowError):
    """A request failed; the others go on.

    Args:
        url: the redacted URL.
        what: what happened, in a few words.
    """

    fix = "try again with `eventflow resume`"

    def __init__(self, url: str, what: str) -> None:
        super().__init__(url, what)
        self.url, self.what = url, what

    def __str__(self) -> str:
        return f"{self.url}: {self.what}: {self.fix}"


class InvalidRequest(RequestError, ValueError):
    """A line of the input is not a request."""

    fix = "correct the line"


class ConnectRefused(RequestError, ConnectionError):
    """Nothing listens at that address."""

    fix = "check the host and port, then resume"


class NameNotResolved(RequestError):
    """DNS has no address for the host."""

    fix = "check the spelling of the host and your DNS, then resume"


class ConnectFailed(RequestError, ConnectionError):
    """No connection could be made, for a reason other than refusal: no route, no TLS, no socket."""

    fix = "check the network and the certificate, then resume"


class ConnectionLost(RequestError, ConnectionError):
    """The server closed or reset the connection before the response was complete."""

    fix = "resume to try again; if it stays, ask for less at once with --workers"


class TimedOut(RequestError, TimeoutError):
    """Nothing arrived within the time allowed."""

    fix = "resume to try again, or allow more with --timeout"


class HttpStatus(RequestError):
    """The server answered with a status of 400 or more.

    Args:
        url: the redacted URL.
        what: the status and its phrase.
        status: the status.
        retry_after: the header of that name as it was sent, if any.
    """

    def __init__(self, url: str, what: str, status: int = 0, retry_after: str | None = None) -> None:
        super().__init__(url, what)
        self.args = (url, what, status, retry_after)
        self.status, self.retry_after = status, retry_after
        self.fix = what_to_do(status)


class ClientStatus(HttpStatus):
    """4xx: the request was wrong, as the server sees it."""


class ServerStatus(HttpStatus):
    """5xx: the server failed."""


class BadResponse(RequestError):
    """The response is not HTTP, redirects for ever, or cannot be decoded."""

    fix = "open the URL in a browser and see what it is"


class ShortBody(RequestError):
    """Fewer or more bytes arrived than Content-Length promised."""

    fix = "resume to fetch it again"


class CertificateRejected(ConnectFailed):
    """The server's certificate is not to be trusted for this host: wrong name, out of date, or of an unknown issuer."""

    fix = "do not trust the server until its certificate is mended; a private authority goes into SSL_CERT_FILE"


class ServerAbsent(RequestError, ConnectionError):
    """The origin failed so often that it is left alone for a while (circuit breaker); nothing was sent."""

    fix = "resume when the server is well"


class DeadlinePassed(RequestError, TimeoutError):
    """The request took longer than it was given."""

    fix = "resume to go on, or allow more with --request-deadline"


class TooSlow(RequestError, TimeoutError):
    """Bytes arrived, but fewer a second than the lowest rate that is put up with."""

    fix = "resume to try again, or lower --min-rate"


class BodyTooLarge(RequestError):
    """The body is, or would be, larger than the limit."""

    fix = "raise --max-size if you want it"


class HeadTooLarge(BadResponse):
    """Status line and headers, or their number, are over the limit; or interim responses do not end."""


class BadEncoding(BadResponse):
    """The body is not in the encoding that Content-Encoding names, ends early in it, or the encoding is not known."""

    fix = "fetch it without --decode, which keeps the bytes as they are sent"


class ExpandsTooMuch(BadResponse):
    """The body decodes to far more bytes than were sent: a decompression bomb."""

    fix = "fetch it without --decode, which keeps the bytes as they are sent"


class ChecksumMismatch(RequestError):
    """The bytes do not have the SHA-256 that the list gives."""

    fix = "fetch the list and the file again; one of them is not what it was"


class DiskFull(RequestError, OSError):
    """The output folder has no room."""

    fix = "free some room, then resume"

    def __init__(self, url: str, what: str) -> None:
        RequestError.__init__(self, url, what)


class FileNotWritten(RequestError, OSError):
    """The file could not be written for a reason other than room."""

    fix = "check the output folder and its permissions, then resume"

    def __init__(self, url: str, what: str) -> None:
        RequestError.__init__(self, url, what)


class ProgramFailed(RequestError):
    """The external program of the subprocess stage ended with a status that is not 0."""

    fix = "run the program on the file by hand to see why, then resume"


class UnexpectedFailure(RequestError):
    """Something that this version has no word for.

    It is not swallowed: the others go on, and the message says what it was.
    """

    fix = "report it, with this message"
