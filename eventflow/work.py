"""The work of a run, as a stage sees it: requests to take, stories to tell, and when to stop.

Between a stage (how to run) and the log, the folder and the input (what to run). A stage needs nothing but this: `for
queued in work.requests()`, `with work.story(queued)`. The input is read as fast as requests are taken and no faster, so
a list of a million lines is never in memory.

Invariants:
    `next` gives each request once, whoever asks, in the order of the input;
    a line that is not a request becomes a failed request and never stops the others;
    nothing is given once the run was asked to stop.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from eventflow.event import Link
from eventflow.own_tally import Count
from eventflow.progress import REQUEST_PREFIX, Tally
from eventflow.recorder import Recorder, Span
from eventflow.request import BadLine, Request
from eventflow.resume import Resumption
from eventflow.storing import FileStore, Folder
from eventflow.story import QueuedRequest, Story
from eventflow.stream import Handoff
from eventflow.vocabulary import PartKept, RequestFailed, RequestQueued

VERSION = "0.1.0"
USER_AGENT = f"eventflow/{VERSION}"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a run was asked to be done; kept in `run.json`, and what a resume goes on with.

    Attributes:
        stage: the stage's name.
        workers: how many requests are carried out at once.
        out: the output folder, absolute.
        source: the input file, absolute; None where the run keeps a copy of its input in its own folder.
        source_size, source_mtime_ns: what the input file was when the run began.
        program: the argument list of the external program of the subprocess stage, with `{path}`, `{name}` and `{url}`
            to fill in.
        program_kept: whether that is all of it: what looked secret is not kept.
        timeout_s: how long to wait for a connection, or for the next bytes, in seconds.
        user_agent: the header of that name.
        propagate: the origins that are told which span asks them, see `eventflow.propagation.parse_origin`.

    The others are for the director alone:
        concurrency: how many requests to one origin are in flight at once; None: found while it runs.
        in_flight_max: how many are in flight to all origins together.
        retries: how often a request is tried again.
        rate: how many requests a second to one origin; None: as many as it takes.
        max_size: the largest body that is taken, in bytes; None: any.
        min_rate: the fewest bytes a second, over `timeout_s`, that a body may come with; 0: any.
        deadline_s: how long the run may take; request_deadline_s: and a request, from its start. In seconds.
        decode: whether Content-Encoding is taken off before a body is stored.
        robots: whether robots.txt is heeded.
    """

    stage: str
    workers: int
    out: str
    source: str | None = None
    source_size: int = 0
    source_mtime_ns: int = 0
    program: tuple[str, ...] = ()
    program_kept: bool = True
    timeout_s: float = 30.0
    user_agent: str = USER_AGENT
    propagate: tuple[str, ...] = ()
    concurrency: int | None = None
    in_flight_max: int = 1024
    retries: int = 4
    rate: float | None = None
    max_size: int | None = None
    min_rate: int = 64
    deadline_s: float | None = None
    request_deadline_s: float | None = None
    decode: bool = False
    robots: bool = False

    @property
    def links(self) -> bool:
        """Whether events link to what caused them. The director shows states and no chain."""
        return self.stage != "director"

    def client_options(self, *, is_async: bool = False) -> dict[str, Any]:
        """Keyword arguments for `httpx.Client`, or for `httpx.AsyncClient`.

        Bodies are kept as they are sent, redirects followed. Origins that are to know the span that asks get its ids:
        that of the attempt, if the request is sent within `story.attempt()`.
        """
        options: dict[str, Any] = {
            "follow_redirects": True,
            "timeout": self.timeout_s,
            "headers": {"User-Agent": self.user_agent, "Accept-Encoding": "identity"},
        }
        if self.propagate:
            from eventflow.httpx_context import ContextHeaders  # httpx takes a while to load; the director does without

            context = ContextHeaders(self.propagate)
            options["event_hooks"] = {"request": [context.add_async if is_async else context.add]}
        return options


class Delivery(msgspec.Struct, frozen=True):
    """A queued request on its way to another process."""

    request: Request
    handoff: Handoff
    queued_ns: int


class Workplace:
    """What one process needs to carry out requests.

    Its recorder, the output folder, the thread that makes files durable.

    Args:
        settings: how the run is to be done.
        recorder: this process's.
    """

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        self.settings, self.recorder = settings, recorder
        self.cancelled = threading.Event()
        self.heeds_signals = False  # whether the stage hears of signals itself: then none raises anything
        self.signal_name: str | None = None
        self.folder = Folder.open(Path(settings.out))
        self.store = FileStore()
        self._in_flight: set[Story] = set()

    def story(self, queued: QueuedRequest) -> "StoryInFlight":
        """The story of a request that a worker takes now: `with work.story(queued) as story`."""
        return StoryInFlight(Story(queued, self.folder, self.store, self.cancelled), self._in_flight)

    def unpack(self, delivery: Delivery) -> QueuedRequest:
        """Take over a request that another process queued."""
        return QueuedRequest(delivery.request, self.recorder.adopt(delivery.handoff), delivery.queued_ns)

    def cancel(self, signal_name: str | None = None) -> None:
        """Ask every worker of this process to stop: no new request, and no more of the bodies that are arriving."""
        self.signal_name = self.signal_name or signal_name
        self.cancelled.set()

    def leave_now(self, number: int) -> NoReturn:
        """End the process at once, without another word: the log can take it. `number` is the signal that asked."""
        os._exit(128 + number)

    def abandon_in_flight(self) -> int:
        """End the stories of workers that did not stop in time, from outside; gives their number."""
        abandoned = list(self._in_flight)
        for story in abandoned:
            story.abandon()
        return len(abandoned)

    def close(self) -> None:
        """Finish storing what was handed over."""
        self.store.close()


class StoryInFlight:
    """A story that is known to the workplace while it goes on, so that an interrupt reaches it."""

    __slots__ = ("_in_flight", "_story")

    def __init__(self, story: Story, in_flight: set[Story]) -> None:
        self._story, self._in_flight = story, in_flight

    def __enter__(self) -> Story:
        self._in_flight.add(self._story)
        return self._story.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        try:
            return self._story.__exit__(kind, error, trace)
        finally:
            self._in_flight.discard(self._story)


class Work(Workplace):
    """The workplace of the process that runs the stage: it also has the input.

    Args:
        settings: how the run is to be done.
        recorder: this process's.
        log: the folder of the run's log, for the recorders of other processes.
        span: the stage's span.
        cause: the stage's start, to which every request links.
        items: the input, read lazily.
        resumption: what an earlier sitting of the run has done.

    Attributes:
        tally: how far it is, as far as the stage says so to it: the director does, whose log is long.
        report: what other processes have counted goes here.
    """

    def __init__(
        self,
        settings: Settings,
        recorder: Recorder,
        log: Path,
        span: Span,
        cause: Link,
        items: Iterable[Request | BadLine],
        resumption: Resumption | None = None,
    ) -> None:
        super().__init__(settings, recorder)
        self.span = span
        self.log = log
        self.cause = cause
        self._items = iter(items)
        self.resumption = resumption
        self.tally = resumption.tally if resumption else Tally()
        self.report: Callable[[int, Count], None] = lambda _process, _count: None
        self._lock = threading.Lock()

    def next(self) -> QueuedRequest | None:
        """The next request to carry out, None when there is none left or the run was asked to stop.

        Any thread may call it.
        """
        with self._lock:
            while not self.cancelled.is_set():
                item = next(self._items, None)
                if item is None:
                    return None
                if self.resumption and self.resumption.is_done(item, self.folder):
                    continue
                queued = self._queue(item)
                if queued:
                    return queued
            return None

    def requests(self) -> Iterator[QueuedRequest]:
        """The requests to carry out, one at a time.

        Several threads may each have such an iterator and share them out.
        """
        while queued := self.next():
            yield queued

    def source(self) -> str | None:
        """The path of the input if it is a file that another process can read too."""
        return self.settings.source

    def part(self, number: int) -> PartKept | None:
        """What an earlier sitting of the run left of a request's file."""
        return self.resumption.part(f"{REQUEST_PREFIX}{number}") if self.resumption else None

    def pack(self, queued: QueuedRequest) -> Delivery:
        """Hand a request over to another process."""
        return Delivery(queued.request, queued.root.handoff(), queued.queued_ns)

    def _queue(self, item: Request | BadLine) -> QueuedRequest | None:
        root = self._root(item.number)
        if isinstance(item, Request):
            queued = RequestQueued(number=item.number, url=item.redacted_url, name=item.name, sha256=item.sha256)
            root.record(queued, self.cause)
            self.tally.note(item.number, queued)
            return QueuedRequest(item, root, self.recorder.sources.monotonic_ns())
        root.record(RequestQueued(number=item.number, url=item.preview, name=""), self.cause)
        failed = RequestFailed(error=type(item.error).__name__, message=str(item.error), seconds=0.0)
        root.record(failed)
        self.tally.note(item.number, failed)
        return None

    def _root(self, number: int) -> Span:
        stream = f"{REQUEST_PREFIX}{number}"
        handoff = self.resumption.handoff(stream) if self.resumption else None
        return self.recorder.adopt(handoff) if handoff else self.recorder.open_stream(stream)


def fill_in(program: Sequence[str], *, path: str, name: str, url: str) -> list[str]:
    """The argument list of an external program for one file.

    Only the three placeholders are replaced, braces else stay.

    >>> fill_in(["gzip", "-k", "{path}"], path="files/a.txt", name="a.txt", url="http://h/a.txt")
    ['gzip', '-k', 'files/a.txt']
    """
    values = {"path": path, "name": name, "url": url}
    return [re.sub(r"\{(path|name|url)\}", lambda match: values[match[1]], argument) for argument in program]
