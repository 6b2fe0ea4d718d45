"""What is seen of a run at one moment: plain values, for a screen or as JSON.

Sizes are in bytes, durations in seconds, times in unix nanoseconds. Texts are as the log has them: redacted, but
perhaps with characters that a terminal would obey.
"""

from enum import IntEnum
from typing import Literal

import msgspec

from eventflow.measuring_events import MemoryKind

State = Literal["starting", "running", "completed", "interrupted", "failed", "killed", "damaged"]
Order = Literal["age", "stuck", "slow"]


class Where(IntEnum):
    """Where a request is that has not ended, in the order of its way.

    REQUESTING is all that the stages know that hand a request to an HTTP library: it connects, sends, or waits.
    """

    QUEUED = 0
    DELAYED = 1
    STARTED = 2
    REQUESTING = 3
    CONNECTING = 4
    SENT = 5
    ANSWERING = 6
    RECEIVING = 7
    PROCESSING = 8


class FlightLine(msgspec.Struct, frozen=True, kw_only=True):
    """One request in flight.

    Attributes:
        state_seconds: for how long it has been where it is.
        attempt: the number of its attempt, from 1; 0 before the first.
        bytes: what is there of the file; of `length`, where that is known.
        wait_seconds: for a request that waits for its next try, until when; 0 otherwise.
    """

    number: int
    url: str
    state: str
    age_seconds: float
    state_seconds: float
    attempt: int
    bytes: int
    length: int | None
    bytes_per_second: float
    wait_seconds: float
    reason: str


class OriginLine(msgspec.Struct, frozen=True, kw_only=True):
    """One origin. What it was asked: attempts, redirects and retries among them.

    Attributes:
        in_flight: requests that have a place of its limit now.
        limit: how many may be in flight, over all processes; None where nothing limits them but the workers.
        limits: what the limit was, over the time of the snapshot's courses.
        breaker_seconds: for how long it will still be left alone; 0: it is being probed; None: the breaker is closed.
    """

    origin: str
    queued: int
    in_flight: int
    attempts: int
    errors: int
    attempts_per_second: float
    bytes_per_second: float
    latency_seconds: float
    limit: int | None
    limits: tuple[float, ...]
    breaker_seconds: float | None


class ErrorLine(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt or a request that failed. `outcome`: it is tried again, it has failed, or that is not known yet."""

    time: int
    error: str
    message: str
    url: str
    outcome: Literal["retry", "failed", ""]


class ProcessLine(msgspec.Struct, frozen=True, kw_only=True):
    """One process. `cpu` is how many cores it uses; `in_flight` the requests that it spoke of last."""

    pid: int
    role: str
    memory_bytes: int
    cpu: float
    threads: int
    in_flight: int


class MachineLine(msgspec.Struct, frozen=True, kw_only=True):
    """All processes together: memory now and at most, how many cores they use, and each; `course` is of the memory."""

    memory_bytes: int
    memory_kind: MemoryKind
    peak_memory_bytes: int
    cpu: float
    processes: tuple[ProcessLine, ...]
    course: tuple[float, ...]


class Courses(msgspec.Struct, frozen=True, kw_only=True):
    """How it went: requests that ended, and bytes that were received, each second.

    `whole`: from the beginning to the end, in at most 128 steps; else over the last minute, by the second.
    """

    whole: bool
    requests: tuple[float, ...]
    bytes: tuple[float, ...]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment.

    Requests are counted over the whole run, everything else since it was started or resumed last.

    Attributes:
        problem: what is wrong with the log, if something is.
        time: the moment; of a run that nobody writes any more, that of its last event.
        total: how many requests the input has; None where nobody knows.
        unfinished: requests of an earlier sitting that were on their way when it was killed, and are not queued again.
        states: how many requests are where.
        silent_seconds: how long ago the last event was.
        seconds_left: how long it will take at the rate of the last half minute; None where nobody knows.
        requests_per_second: requests that came to an end.
    """

    run: str
    stage: str
    state: State
    problem: str | None
    time: int
    started: int
    seconds: float
    resumed: bool
    events: int
    events_lost: int
    events_malformed: int
    events_per_second: float
    silent_seconds: float
    requests: int
    total: int | None
    completed: int
    failed: int
    cancelled: int
    unfinished: int
    states: dict[str, int]
    bytes: int
    requests_per_second: float
    bytes_per_second: float
    seconds_left: float | None
    flights: tuple[FlightLine, ...]
    origins: tuple[OriginLine, ...]
    origins_known: int
    attempt_errors: dict[str, int]
    request_errors: dict[str, int]
    last_errors: tuple[ErrorLine, ...]
    workers: int
    machine: MachineLine
    courses: Courses
