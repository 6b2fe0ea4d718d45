"""Following a run: a thread that feeds committed events to a tally as they become durable.

What a person sees as done is what this has read, so nothing is ever shown as done before it is on disk.

Invariants:
    after `stop`, the tally holds every event that was durable before the call.
"""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from eventflow.errors import StoreError
from eventflow.event import Link, Payload
from eventflow.log.reader import RunTail
from eventflow.progress import Tally
from eventflow.recorder import Span

_PERIOD_SECONDS = 0.1


class LiveTally:
    """A tally that keeps up with the log of a run. A context manager.

    Args:
        log: `<store>/<run>/log`.
    """

    def __init__(self, log: Path) -> None:
        self.tally = Tally()
        self._tail = RunTail(log)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="eventflow-tally", daemon=True)

    def record_sample(self, root: Span, payload: Payload) -> Link:
        """Record what was measured of the processes; it is read from the log like the rest."""
        return root.record(payload)

    def stop(self) -> Tally:
        """Stop following, read what is left, and give the tally. It may be called again, to read what came after."""
        self._stopping.set()
        self._thread.join()
        self._poll()
        return self.tally

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def _follow(self) -> None:
        while not self._stopping.wait(_PERIOD_SECONDS):
            try:
                self._poll()
            except (OSError, StoreError):  # said by the last poll, in `stop`, where it can be raised
                return

    def _poll(self) -> None:
        for lines in self._tail.poll():
            self.tally.feed(lines)
