"""Real stages in a scenario: `eventflow run` in a process of its own, its summary, and what its log says."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventflow.errors import StoreError
from eventflow.event import StoredEvent
from eventflow.log.reader import read_events
from eventflow.log.runs import list_runs
from stages.problems.programs import Running
from stages.running import Summary

_END_SECONDS_MAX = 15.0


class Ran(NamedTuple):
    """A stage that has ended: its summary, its exit status, and its log."""

    summary: Summary
    status: int
    events: list[StoredEvent]

    def first_failure(self) -> str:
        """Which request failed first in the list, and why; what to do about it is left out."""
        message = self.summary.failures[0].message if self.summary.failures else "none"
        return ": ".join(message.split(": ")[:2])

    def stories(self) -> dict[str, list[StoredEvent]]:
        """The events of each stream, in order."""
        return stories(self.events)


class RunningStage:
    """A stage that was started."""

    def __init__(self, argv: list[str], folder: Path, store: Path, environment: Mapping[str, str]) -> None:
        self.store = store
        self.process = Running(argv, folder, environment)

    def events(self) -> list[StoredEvent]:
        """What its log says now: any process may read it, at any time."""
        return [event for run in list_runs(self.store) for event in read_events(run.log)]

    def wait_events(self, type_name: str, count: int, limit_s: float = _END_SECONDS_MAX) -> bool:
        """Wait until its log has so many events of that type."""
        return self.process.wait_until(
            lambda: sum(event.type == type_name for event in self.events()) >= count, limit_s
        )

    def stop(self) -> "Ran":
        """Ask it to stop, as a service manager does, and wait until it has."""
        if self.process.is_running():
            self.process.signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> "Ran":
        """Wait until it has ended.

        Raises:
            StoreError: it did not, or ended without a summary.
        """
        ended = self.process.end(_END_SECONDS_MAX)
        try:
            summary = msgspec.json.decode(ended.out, type=Summary)
        except msgspec.MsgspecError as problem:
            said = ended.err.strip().splitlines()[-1:] or ["it said nothing"]
            raise StoreError(f"a stage of the scenario ended with status {ended.status}: {said[0]}") from problem
        return Ran(summary, ended.status or 0, self.events())


def stories(events: list[StoredEvent]) -> dict[str, list[StoredEvent]]:
    """The events of each stream, in order."""
    told: dict[str, list[StoredEvent]] = {}
    for event in sorted(events, key=lambda event: event.version):
        told.setdefault(event.stream, []).append(event)
    return told
