"""The part of the vocabulary that is about origins and the connections to them. See `eventflow.vocabulary`."""

from typing import ClassVar

from eventflow.event import Payload


class ConnectionOpened(Payload, frozen=True, kw_only=True):
    """A connection was made for the attempt. `address` is the one of all the addresses that answered first.

    Times are those of the three steps, one after the other; 0 where there was nothing to do.
    """

    TYPE: ClassVar[str] = "connection.opened"
    connection: str
    address: str
    port: int
    dns_seconds: float
    connect_seconds: float
    tls_seconds: float
    tls_version: str | None = None


class ConnectionTaken(Payload, frozen=True, kw_only=True):
    """The attempt took a kept connection. It links to the last event of the attempt that had it before.

    `requests` is how many went over it before this one.
    """

    TYPE: ClassVar[str] = "connection.taken"
    BRIEF: ClassVar[bool] = True
    connection: str
    requests: int
    idle_seconds: float


class LimitChanged(Payload, frozen=True, kw_only=True):
    """How many requests may be in flight to an origin at once has changed. In the stream of the origin.

    At most a few a second for each origin. `latency_seconds` is the median of what was measured.
    """

    TYPE: ClassVar[str] = "limit.changed"
    origin: str
    limit: int
    in_flight: int
    latency_seconds: float = 0.0


class BreakerOpened(Payload, frozen=True, kw_only=True):
    """The origin fails so often that it is left alone for `seconds`. In the stream of the origin."""

    TYPE: ClassVar[str] = "breaker.opened"
    origin: str
    seconds: float


class BreakerClosed(Payload, frozen=True, kw_only=True):
    """The origin answers again. In the stream of the origin."""

    TYPE: ClassVar[str] = "breaker.closed"
    origin: str


class RobotsRead(Payload, frozen=True, kw_only=True):
    """The robots.txt of an origin was asked for. In the stream of the origin.

    `status` 0: there was no answer. `problem` says why it could not be had: then nothing of the origin is fetched.
    """

    TYPE: ClassVar[str] = "robots.read"
    origin: str
    status: int
    problem: str | None = None
