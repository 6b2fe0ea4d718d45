"""Going on with a run that ended early: what of it is done, and where each unfinished story stands.

Resuming is the same code as starting: the input is read again from its beginning, and this says which requests need
nothing more.

Invariants:
    a completed request whose file is still there with the right size is not fetched again;
    an unfinished story goes on in its own stream and trace, its versions gapless.
"""

from collections.abc import Callable
from pathlib import Path

from eventflow.event import Link, StoredEvent
from eventflow.log.format import decode_event
from eventflow.log.reader import RunTail
from eventflow.progress import RequestState, Tally, request_number
from eventflow.request import BadLine, Request
from eventflow.storing import Folder
from eventflow.stream import Handoff
from eventflow.vocabulary import FileVerified, PartDropped, PartKept, RunStarted, decode_payload

_PART_TYPES = frozenset((PartKept.TYPE, PartDropped.TYPE, FileVerified.TYPE))


class Resumption:
    """What the log of a run says is done.

    Memory: the tally's, and about 500 bytes for each request that is begun and not completed.

    Args:
        log: `<store>/<run>/log` of a run that nobody is writing to.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self.tally = Tally()
        for lines in RunTail(log).poll():
            self.tally.feed(lines)
        self._standings = _standings(log, self._is_wanted)

    def is_done(self, item: Request | BadLine, folder: Folder) -> bool:
        """Whether the item needs nothing more: completed, and its file still there."""
        size = self.tally.completed_bytes(item.number)
        return size is not None and isinstance(item, Request) and folder.has(item.name, size)

    def handoff(self, stream: str) -> Handoff | None:
        """Where a story stands, None if it was never begun."""
        standing = self._standings.get(stream)
        if standing is None and self._is_completed(stream):  # its file is gone: rare, so not remembered but looked up
            standing = _standings(self._log, lambda name: name == stream).get(stream)
        return standing.handoff(stream) if standing else None

    def part(self, stream: str) -> PartKept | None:
        """What is left of a request's file, to go on from."""
        standing = self._standings.get(stream)
        return standing.part if standing else None

    def parts(self) -> set[str]:
        """The names of all the parts that can be gone on from, relative to the output folder."""
        return {standing.part.name for standing in self._standings.values() if standing.part}

    def _is_wanted(self, stream: str) -> bool:
        return not self._is_completed(stream)

    def _is_completed(self, stream: str) -> bool:
        number = request_number(stream)
        return number is not None and self.tally.state(number) is RequestState.COMPLETED


class _Standing:
    """The last event of a story, its root span, and who started that: a span elsewhere, of the run's alone."""

    __slots__ = ("_part_version", "caller", "last", "part", "root", "version")

    def __init__(self) -> None:
        self.version, self.root = -1, ""
        self.caller: str | None = None
        self.last: Link | None = None
        self.part: PartKept | None = None
        self._part_version = -1

    def feed(self, event: StoredEvent) -> None:
        """Take an event of the story; the writers' logs come in any order, so the highest version wins."""
        if event.parent_span_id is None or event.type == RunStarted.TYPE:
            self.root, self.caller = event.span_id, event.parent_span_id
        if event.version > self.version:
            self.version, self.last = event.version, Link(event.id, event.trace_id, event.span_id)
        if event.type in _PART_TYPES and event.version > self._part_version:
            payload = decode_payload(event)
            self._part_version, self.part = event.version, payload if isinstance(payload, PartKept) else None

    def handoff(self, stream: str) -> Handoff | None:
        if self.last is None:
            return None
        return Handoff(
            stream, self.last.trace_id, self.version + 1, self.last, self.root or self.last.span_id, self.caller
        )


def _standings(log: Path, is_wanted: Callable[[str], bool]) -> dict[str, _Standing]:
    found: dict[str, _Standing] = {}
    for lines in RunTail(log).poll():
        for line in lines:
            event = decode_event(line)
            if is_wanted(event.stream):
                found.setdefault(event.stream, _Standing()).feed(event)
    return found
