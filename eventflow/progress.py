"""How far a run is: a fold over its log, and so the same for a live run, a finished one and one that was killed.

Invariants:
    a request counts in the state that the last event of its stream gives it, whatever the order in which the writers'
    logs are read; memory is 13 bytes a request and nothing else that grows with their number, so a million requests
    take 13 MB.
"""

from array import array
from collections import Counter
from collections.abc import Iterable
from enum import IntEnum
from typing import Literal

import msgspec

from eventflow.event import Payload, StoredEvent
from eventflow.log.format import decode_event, type_is
from eventflow.measuring_events import MemoryKind, ProcessMeasured, ProcessSampled
from eventflow.vocabulary import RecorderDropped, RequestCompleted, RequestFailed, decode_payload

REQUEST_PREFIX = "request-"
FAILURES_KEPT_MAX = 20


class RequestState(IntEnum):
    """The state that the last request event of a stream leaves the request in."""

    UNSEEN = 0
    QUEUED = 1
    STARTED = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5


RunState = Literal["running", "completed", "interrupted", "failed"]

_RUN_STATES: dict[str, RunState] = {
    "run.started": "running",
    "run.completed": "completed",
    "run.interrupted": "interrupted",
    "run.failed": "failed",
}
_BY_NUMBER = tuple(RequestState)
_WITH_FACTS = frozenset((RequestState.COMPLETED, RequestState.FAILED))
_STATES = {f"request.{state.name.lower()}": state for state in RequestState if state}


class Failure(msgspec.Struct, frozen=True):
    """A request that failed: its number, the error's type and its one-line message."""

    number: int
    error: str
    message: str


class Tally:
    """The fold. Feed it the event lines of a run, in any order of writers; read the counts at any time."""

    def __init__(self) -> None:
        self.counts = Counter[RequestState]()
        self.bytes = 0
        self.events = 0
        self.events_lost = 0
        self.peak_memory_bytes = 0
        self.memory_kind: MemoryKind = "pss"
        self.processes_max = 0
        self.run_state: RunState = "running"
        self.failures: dict[int, Failure] = {}
        self.first_ns = self.last_ns = 0
        self._run_version = -1
        self._cpu_seconds: dict[str, float] = {}
        self._measured: dict[str, ProcessMeasured] = {}
        self._states = bytearray()
        self._versions = array("I")
        self._sizes = array("Q")

    def feed(self, lines: Iterable[bytes]) -> None:
        """Take event lines. Those that say nothing about progress are not even decoded."""
        for line in lines:
            self.events += 1
            if type_is(line, b"request."):
                self._feed_request(decode_event(line))
            elif type_is(line, b"process.sampled") or type_is(line, b"process.measured"):
                self._feed_measuring(decode_event(line))
            elif type_is(line, b"run."):
                self._feed_run(decode_event(line))
            elif type_is(line, b"recorder.dropped"):
                self._feed_dropped(decode_event(line))

    def take(self, event: StoredEvent) -> None:
        """Take an event that is decoded already: the same as to feed its line."""
        self.events += 1
        noun = event.type.partition(".")[0]
        if noun == "request":
            self._feed_request(event)
        elif event.type in {"process.sampled", "process.measured"}:
            self._feed_measuring(event)
        elif noun == "run":
            self._feed_run(event)
        elif event.type == "recorder.dropped":
            self._feed_dropped(event)

    @property
    def requests(self) -> int:
        """How many requests were read from the input so far."""
        return self.counts.total()

    @property
    def completed(self) -> int:
        """How many are completed."""
        return self.counts[RequestState.COMPLETED]

    @property
    def failed(self) -> int:
        """How many failed."""
        return self.counts[RequestState.FAILED]

    @property
    def cancelled(self) -> int:
        """How many were cancelled in flight."""
        return self.counts[RequestState.CANCELLED]

    @property
    def ended(self) -> int:
        """How many have come to an end, whichever."""
        return self.completed + self.failed + self.cancelled

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all processes; over several sittings of a resumed run, their sum."""
        return sum(self._cpu_seconds.values())

    @property
    def energy(self) -> tuple[float, Literal["measured", "modelled"]] | None:
        """Joules of all sittings, and where from: measured if all of them were. None if none was."""
        told = list(self._measured.values())
        measured = [one.energy_measured_joules for one in told if one.energy_measured_joules is not None]
        if not told:
            return None
        if len(measured) == len(told):
            return sum(measured), "measured"
        is_desktop = told[-1].energy_class == "desktop"
        return sum(one.energy_desktop_joules if is_desktop else one.energy_server_joules for one in told), "modelled"

    def state(self, number: int) -> RequestState:
        """The state of one request."""
        return RequestState(self._states[number]) if number < len(self._states) else RequestState.UNSEEN

    def version(self, number: int) -> int:
        """The place in its story of the last event that moved a request; -1 if none was seen."""
        return self._versions[number] - 1 if number < len(self._versions) else -1

    def completed_bytes(self, number: int) -> int | None:
        """The size of a completed request's file, None if it is not completed."""
        return self._sizes[number] if self.state(number) is RequestState.COMPLETED else None

    def _feed_request(self, event: StoredEvent) -> None:
        self._feed_time(event)
        number = request_number(event.stream)
        state = _STATES.get(event.type)
        if number is None or state is None:
            return
        self._make_room(number)
        if event.version + 1 <= self._versions[number]:
            return
        self._versions[number] = event.version + 1
        self._move(number, state)
        if state in _WITH_FACTS:
            self._enter(number, decode_payload(event))

    def note(self, number: int, payload: Payload) -> None:
        """Take a request event from whoever records it, in the order of its stream: the same as `feed`, but cheaper."""
        state = _STATES[payload.TYPE]
        if number >= len(self._states):
            self._states.extend(bytes(number + 1 - len(self._states) + len(self._states) // 8))
        self._move(number, state)
        if state in _WITH_FACTS:
            self._enter(number, payload)

    def note_measuring(self, writer: str, payload: Payload) -> None:
        """The same for what was measured of the processes."""
        match payload:
            case ProcessSampled():
                if payload.highest_bytes > self.peak_memory_bytes:
                    self.peak_memory_bytes, self.memory_kind = payload.highest_bytes, payload.memory_kind
                self.processes_max = max(self.processes_max, len(payload.processes))
                self._cpu_seconds[writer] = max(self._cpu_seconds.get(writer, 0.0), payload.cpu_seconds)
            case ProcessMeasured():
                self._measured[writer] = payload
            case _:
                pass

    def take_machine(self, other: "Tally") -> None:
        """Begin with what another tally says of memory and CPU."""
        self.peak_memory_bytes, self.memory_kind = other.peak_memory_bytes, other.memory_kind
        self.processes_max, self._cpu_seconds = other.processes_max, dict(other._cpu_seconds)  # noqa: SLF001
        self._measured = dict(other._measured)  # noqa: SLF001

    def _move(self, number: int, state: RequestState) -> None:
        before = _BY_NUMBER[self._states[number]]
        self._states[number] = state
        self.counts[state] += 1
        if before:
            self.counts[before] -= 1
            if before in _WITH_FACTS:
                self._leave(number, before)

    def _leave(self, number: int, state: RequestState) -> None:
        if state is RequestState.COMPLETED:
            self.bytes -= self._sizes[number] if number < len(self._sizes) else 0
        elif state is RequestState.FAILED:
            self.failures.pop(number, None)

    def _enter(self, number: int, payload: Payload) -> None:
        match payload:
            case RequestCompleted(bytes=size):
                if number < len(self._sizes):
                    self._sizes[number] = size
                self.bytes += size
            case RequestFailed(error=error, message=message) if len(self.failures) < FAILURES_KEPT_MAX:
                self.failures[number] = Failure(number, error, message)
            case _:
                pass

    def _feed_run(self, event: StoredEvent) -> None:
        self._feed_time(event)
        if event.version >= self._run_version and (state := _RUN_STATES.get(event.type)):
            self._run_version, self.run_state = event.version, state

    def _feed_measuring(self, event: StoredEvent) -> None:
        self._feed_time(event)
        self.note_measuring(event.writer, decode_payload(event))

    def _feed_dropped(self, event: StoredEvent) -> None:
        dropped = decode_payload(event)
        self.events_lost += dropped.count if isinstance(dropped, RecorderDropped) else 0

    def _feed_time(self, event: StoredEvent) -> None:
        self.first_ns = min(self.first_ns or event.time, event.time)
        self.last_ns = max(self.last_ns, event.time)

    def _make_room(self, number: int) -> None:
        missing = number + 1 - len(self._sizes)
        if missing > 0:
            room = max(missing, len(self._sizes) // 8)
            self._states.extend(bytes(max(0, len(self._sizes) + room - len(self._states))))
            self._versions.extend([0] * room)
            self._sizes.extend([0] * room)


def request_number(stream: str) -> int | None:
    """The number of the request whose stream it is, None for another stream.

    >>> request_number("request-17"), request_number("run")
    (17, None)
    """
    number = stream.removeprefix(REQUEST_PREFIX)
    return int(number) if number.isdecimal() and number != stream else None
