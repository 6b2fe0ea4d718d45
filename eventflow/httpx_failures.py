"""What httpx raised, as one of our errors. Loaded only where httpx is, which takes a while.

Each cause has its own error type, as in `eventflow.http_failures`; text of the library's is cut to a line's length.
"""

import socket
import ssl
from collections.abc import Iterator

import httpx

from eventflow.errors import (
    BadResponse,
    ConnectFailed,
    ConnectionLost,
    ConnectRefused,
    InvalidRequest,
    NameNotResolved,
    RequestError,
    ShortBody,
    TimedOut,
)

_MESSAGE_MAX = 300


def explain_httpx(error: Exception, url: str) -> RequestError | None:
    """The error of ours that says what an error of httpx means; None: it is none of httpx."""
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
    if isinstance(error, httpx.HTTPError):
        return BadResponse(url, f"{type(error).__name__}: {error}"[:_MESSAGE_MAX].replace("\n", " "))
    return None


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
