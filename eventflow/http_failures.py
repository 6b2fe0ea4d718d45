"""From what an HTTP client or the disk raised to one of our errors: a table, no state.

Each cause has its own error type, with the URL, what happened and what to do; a library's exception never reaches an
event.
"""

import errno
import sys

from eventflow.errors import (
    ClientStatus,
    DiskFull,
    FileNotWritten,
    RequestError,
    ServerStatus,
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
    if "httpx" in sys.modules:  # else it is none of httpx
        from eventflow.httpx_failures import explain_httpx

        if (failure := explain_httpx(error, url)) is not None:
            return failure
    if isinstance(error, OSError):
        return _explain_disk(error, url)
    return UnexpectedFailure(url, f"{type(error).__name__}: {error}"[:_MESSAGE_MAX].replace("\n", " "))


def _explain_disk(error: OSError, url: str) -> RequestError:
    if error.errno in _FULL:
        return DiskFull(url, "the output folder has no room")
    return FileNotWritten(url, f"the file could not be written ({error.strerror or error})")
