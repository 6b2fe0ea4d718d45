"""From what an HTTP client or the disk raised to one of our errors: a table, no state.

Each cause has its own error type, with the URL, what happened and what to do; a library's exception never reaches an
event.
"""

import errno
import socket
import ssl
from collections.abc import Iterator

import httpx

from eventflow.errors import (
    BadResponse,
    ClientStatus,
    ConnectFailed,
    ConnectionLost,
    ConnectRefused,
    DiskFull,
    FileNotWritten,
    InvalidRequest,
    NameNotResolved,
    RequestError,
    ServerStatus,
    ShortBody,
    TimedOut,
    UnexpectedFailure,
)
from eventflow.statuses import said

_FULL = (errno.ENOSPC, errno.EDQUOT)
_MESSAGE_MAX = 300


def status_failure(url: str, status: int, retry_after: str | None = None) -> ClientStatus | ServerStatus | None:
    """The failure that a final status means, None below 400. `url` is redacted."""
    if status < 400:
        return None
    kind = ClientStatus if status < 500 else ServerStatus
    return kind(url, said(status), status, retry_after)


def explain(error: Exception, url: str) -> RequestError:
    """The error of ours that says what `error` means for the request of the redacted `url`."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, httpx.TimeoutException):
        phase = {"ConnectTimeout": "no connection", "ReadTimeout": "nothing received", "WriteTimeout": "nothing sent"}
        return TimedOut(url, f"{phase.get(type(error).__name__, 'no free connection')} within the time allowed")
    if isinstance(error, httpx.ConnectError):
        return _explain_connect(error, url)
    if isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.CloseError)):
        return ConnectionLost(url, f"the connection was lost ({_system_reason(error)})")
    if isinstance(error, httpx.RemoteProtocolError):
        return _explain_protocol(error, url)
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return InvalidRequest(url, "the URL cannot be requested")
    if isinstance(error, httpx.TooManyRedirects):
        return BadResponse(url, "too many redirects")
    if isinstance(error, OSError) and not isinstance(error, httpx.HTTPError):
        return _explain_disk(error, url)
    kind = BadResponse if isinstance(error, httpx.HTTPError) else UnexpectedFailure
    return kind(url, f"{type(error).__name__}: {error}"[:_MESSAGE_MAX].replace("\n", " "))


def _explain_connect(error: httpx.ConnectError, url: str) -> RequestError:
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return NameNotResolved(url, "the name of the host has no address")
        if isinstance(cause, ConnectionRefusedError):
            return ConnectRefused(url, "connection refused")
        if isinstance(cause, ssl.SSLError):
            return ConnectFailed(url, f"TLS failed ({getattr(cause, 'reason', None) or cause})")
    return ConnectFailed(url, f"no connection ({_system_reason(error)})")


def _explain_protocol(error: httpx.RemoteProtocolError, url: str) -> RequestError:
    text = str(error)
    if "incomplete" in text or "without sending complete message body" in text:
        return ShortBody(url, "the connection closed before the whole body had arrived")
    if "disconnected" in text:
        return ConnectionLost(url, "the server closed the connection without an answer")
    return BadResponse(url, f"not a valid HTTP response ({text[:_MESSAGE_MAX]})")


def _explain_disk(error: OSError, url: str) -> RequestError:
    if error.errno in _FULL:
        return DiskFull(url, "the output folder has no room")
    return FileNotWritten(url, f"the file could not be written ({error.strerror or error})")


def _system_reason(error: Exception) -> str:
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    return str(error)[:_MESSAGE_MAX] or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that led to it, groups of errors included."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__]
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions
