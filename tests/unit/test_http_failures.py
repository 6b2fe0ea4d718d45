"""Each cause has its own error: from what httpx, the system or the disk raised to what a user reads."""

import errno
import pickle
import socket
import ssl

import httpx
import pytest

from eventflow import errors
from eventflow.http.ranges import Refuse, judge
from eventflow.http_failures import explain, status_failure

URL = "https://example.org/a"


def caused_by(error: Exception, cause: BaseException) -> Exception:
    """The error as if raised from the cause, with a layer between, as httpx does."""
    between = RuntimeError("between")
    between.__cause__ = cause
    error.__context__ = between
    return error


@pytest.mark.parametrize(
    ("error", "kind", "what"),
    [
        (httpx.ConnectTimeout(""), errors.TimedOut, "no connection within the time allowed"),
        (httpx.ReadTimeout(""), errors.TimedOut, "nothing received within"),
        (httpx.WriteTimeout(""), errors.TimedOut, "nothing sent within"),
        (httpx.PoolTimeout(""), errors.TimedOut, "no free connection within"),
        (caused_by(httpx.ConnectError("x"), ConnectionRefusedError(111, "y")), errors.ConnectRefused, "refused"),
        (caused_by(httpx.ConnectError("x"), socket.gaierror(-2, "y")), errors.NameNotResolved, "no address"),
        (caused_by(httpx.ConnectError("x"), ssl.SSLError(1, "bad cert")), errors.ConnectFailed, "TLS failed"),
        (
            caused_by(httpx.ConnectError("x"), OSError(errno.ENETUNREACH, "Network is unreachable")),
            errors.ConnectFailed,
            "no connection (network is unreachable)",
        ),
        (httpx.ConnectError("just so"), errors.ConnectFailed, "no connection (just so)"),
        (
            caused_by(httpx.ConnectError("x"), ExceptionGroup("all failed", [ConnectionRefusedError(111, "y")])),
            errors.ConnectRefused,
            "refused",
        ),
        (
            caused_by(httpx.ReadError(""), OSError(104, "Connection reset by peer")),
            errors.ConnectionLost,
            "reset by peer",
        ),
        (httpx.ReadError(""), errors.ConnectionLost, "the connection was lost (ReadError)"),
        (
            httpx.RemoteProtocolError("peer closed connection without sending complete message body (incomplete read)"),
            errors.ShortBody,
            "before the whole body",
        ),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), errors.ConnectionLost, "answer"),
        (httpx.RemoteProtocolError("illegal status line"), errors.BadResponse, "not a valid HTTP response"),
        (httpx.UnsupportedProtocol("x"), errors.InvalidRequest, "cannot be requested"),
        (httpx.InvalidURL("x"), errors.InvalidRequest, "cannot be requested"),
        (httpx.TooManyRedirects("x"), errors.BadResponse, "too many redirects"),
        (httpx.DecodingError("x\ny"), errors.BadResponse, "DecodingError: x y"),
        (OSError(errno.ENOSPC, "No space left on device"), errors.DiskFull, "no room"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), errors.DiskFull, "no room"),
        (PermissionError(errno.EACCES, "Permission denied"), errors.FileNotWritten, "Permission denied"),
        (KeyError("surprise"), errors.UnexpectedFailure, "KeyError: 'surprise'"),
        (errors.ShortBody(URL, "already ours"), errors.ShortBody, "already ours"),
    ],
)
def test_every_cause_has_its_error(error: Exception, kind: type[errors.RequestError], what: str) -> None:
    """With the URL, what happened and what to do, on one line."""
    failure = explain(error, URL)
    assert type(failure) is kind
    assert what in failure.what
    assert str(failure) == f"{URL}: {failure.what}: {failure.fix}"
    assert "\n" not in str(failure)


def test_a_cause_that_is_its_own_cause_ends() -> None:
    """Chains of causes may be circular."""
    error = httpx.ConnectError("x")
    error.__context__ = error
    assert type(explain(error, URL)) is errors.ConnectFailed


@pytest.mark.parametrize(
    ("status", "kind", "what"),
    [
        (200, None, ""),
        (304, None, ""),
        (404, errors.ClientStatus, "404 Not Found"),
        (429, errors.ClientStatus, "429 Too Many Requests"),
        (503, errors.ServerStatus, "503 Service Unavailable"),
        (599, errors.ServerStatus, "599"),
    ],
)
def test_a_status_of_400_or_more_is_a_failure(status: int, kind: type[errors.HttpStatus] | None, what: str) -> None:
    """4xx is the request's, 5xx the server's; Retry-After is kept."""
    failure = status_failure(URL, status, "7")
    assert type(failure) is (kind or type(None))
    if failure:
        assert (failure.what, failure.status, failure.retry_after) == (what, status, "7")


WAIT, ASK_LESS = "resume later", "lower --rate or --concurrency"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, ["check the URL"]),
        (401, ["user name and password"]),
        (403, ["check your rights"]),
        (404, ["correct the list"]),
        (405, ["check the URL"]),
        (407, ["proxy"]),
        (408, [WAIT, ASK_LESS]),
        (410, ["take it off the list"]),
        (418, ["check the URL"]),
        (425, [WAIT]),
        (429, [WAIT, ASK_LESS]),
        (451, ["take it off the list"]),
        (499, ["check the URL"]),
        (500, ["the server's fault", "resume when"]),
        (501, ["find it elsewhere"]),
        (502, ["the server's fault", "resume when"]),
        (503, [WAIT, ASK_LESS]),
        (504, ["the server's fault", "resume when"]),
        (511, ["sign in to the network"]),
        (599, ["the server's fault", "resume when"]),
    ],
)
def test_what_to_do_about_a_status(status: int, said: list[str]) -> None:
    """Who has to act and how: rights, list, proxy, patience, or the server's people; also after a trip to a worker."""
    failure = status_failure(URL, status)
    assert failure is not None
    assert [words for words in said if words not in str(failure)] == []
    assert str(pickle.loads(pickle.dumps(failure))) == str(failure)
    assert ("rights" in failure.fix) == (status in (403, 407))


@pytest.mark.parametrize("status", [300, 304, 305, 302])
def test_a_redirect_that_leads_nowhere_is_to_be_looked_at(status: int) -> None:
    """3xx is no failure of status: it is followed, or it is a response that brings nothing."""
    assert status_failure(URL, status) is None
    refused = judge(None, status, {})
    assert isinstance(refused, Refuse)
    assert str(status) in refused.reason
    assert errors.BadResponse.fix == "open the URL in a browser and see what it is"
