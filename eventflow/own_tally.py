"""How far a run is, from those who carry it out, for stages whose logs are too long to be read at the same time.

What a person sees is still only what is durable: a count is shown when the events that it stands for are on the disk.
Several processes send their counts to the one that shows them.

Invariants:
    after `stop`, once the recorder is flushed, the tally is what the log would give.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import msgspec

from eventflow.event import Link, Payload
from eventflow.progress import Failure, RequestState, Tally
from eventflow.recorder import Recorder, Span

_PERIOD_SECONDS = 0.1


class Count(msgspec.Struct, frozen=True):
    """What one process has done: requests by state, bytes of completed files, events, and failures of its own."""

    requests: Mapping[RequestState, int]
    bytes: int
    events: int
    failures: Mapping[int, Failure]


def count_of(tally: Tally, recorder: Recorder, since: Count) -> Count:
    """The count of a process, less what `since` says was there before."""
    requests = Counter(tally.counts)
    requests.subtract(since.requests)
    return Count(dict(requests), tally.bytes - since.bytes, recorder.statistics().recorded, dict(tally.failures))


def counted(tally: Tally) -> Count:
    """What a tally says now."""
    return Count(dict(tally.counts), tally.bytes, tally.events, dict(tally.failures))


class OwnTally:
    """A tally of a run that the stage itself keeps. A context manager, like `LiveTally`.

    Args:
        recorder: of this process.
        before: what an earlier sitting of the run did.
    """

    def __init__(self, recorder: Recorder, before: Tally | None = None) -> None:
        self.tally = Tally()
        self._recorder = recorder
        self._base = counted(before if before is not None else Tally())
        self._own: Tally | None = None
        self._others: dict[int, Count] = {}
        self._pending: tuple[int, Count] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="eventflow-tally", daemon=True)
        if before is not None:
            self.tally.take_machine(before)

    def watch(self, tally: Tally) -> None:
        """The tally that the stage notes requests in, in this process."""
        self._own = tally

    def report(self, process: int, count: Count) -> None:
        """Another process has done so much, durably."""
        self._others[process] = count

    def record_sample(self, root: Span, payload: Payload) -> Link:
        """Record what was measured of the processes, and take note of it."""
        self.tally.note_measuring(self._recorder.writer, payload)
        return root.record(payload)

    def stop(self) -> Tally:
        """Show what is recorded now. It may be called again, to count what came after."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._show(self._now())
        return self.tally

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def _follow(self) -> None:
        """What was counted at one look is shown at the next at which it is durable."""
        while not self._stopping.wait(_PERIOD_SECONDS):
            statistics = self._recorder.statistics()
            if self._pending is not None and statistics.durable >= self._pending[0]:
                self._show(self._pending[1])
                self._pending = None
            if self._pending is None:
                self._pending = (statistics.recorded, self._now())

    def _now(self) -> Count:
        if self._own is None:
            return Count({}, 0, self._recorder.statistics().recorded, {})
        return count_of(self._own, self._recorder, self._base)

    def _show(self, own: Count) -> None:
        requests = Counter(dict(self._base.requests))
        size, events, failures = self._base.bytes, self._base.events, dict[int, Failure]()
        for count in (own, *self._others.values()):
            requests.update(count.requests)
            size += count.bytes
            events += count.events
            if count is not own or not self._others:  # where others do the work, what this one knows is old
                failures.update(count.failures)
        tally = self.tally
        tally.counts, tally.bytes, tally.events, tally.failures = requests, size, events, failures
