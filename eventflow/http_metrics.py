"""What every stage measures of its HTTP exchanges, with the names that OpenTelemetry gives them.

`http.client.request.duration` is stable in its semantic conventions for HTTP metrics, the size of the body is not.
"""

from functools import lru_cache

from eventflow import metrics
from eventflow.metrics import Series
from eventflow.recorder import Span

_STATUS_FAILED_MIN = 400
_SIZES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)

DURATION = metrics.timer("http.client.request.duration", description="How long attempts took, bodies included.")
BODY_SIZE = metrics.histogram(
    "http.client.response.body.size",
    unit="By",
    description="How large the files of completed attempts were.",
    boundaries=_SIZES,
)


def attempt_completed(span: Span, host: str, port: int, seconds: float, status: int, size: int) -> None:
    """An exchange that ended as HTTP says it should, with a body of `size` bytes. `span` is the attempt's."""
    duration, body = _of_success(host, port, status)
    duration.measure(seconds, span)
    body.measure(size, span)


def attempt_failed(span: Span, host: str, port: int, seconds: float, status: int | None, error: str) -> None:
    """An exchange that failed, or was answered with a status of 400 or more; `error` is the kind of failure."""
    _of_failure(host, port, status, error).measure(seconds, span)


def attempt_redirected(span: Span, host: str, port: int, seconds: float, status: int) -> None:
    """An exchange that was answered with the address of another."""
    _of_success(host, port, status)[0].measure(seconds, span)


@lru_cache(maxsize=1024)
def _of_success(host: str, port: int, status: int) -> tuple[Series, Series]:
    attributes = _attributes(host, port) | {"http.response.status_code": status}
    return DURATION.series(attributes), BODY_SIZE.series(attributes)


@lru_cache(maxsize=1024)
def _of_failure(host: str, port: int, status: int | None, error: str) -> Series:
    if status is None:
        return DURATION.series(_attributes(host, port) | {"error.type": error})
    kind = str(status) if status >= _STATUS_FAILED_MIN else error
    return DURATION.series(_attributes(host, port) | {"http.response.status_code": status, "error.type": kind})


def _attributes(host: str, port: int) -> dict[str, str | int | float | bool]:
    return {"http.request.method": "GET", "server.address": host, "server.port": port}
