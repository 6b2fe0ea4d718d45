"""From the log of a run to a collector, while the run goes on or after it.

What was taken by the collector is kept as a checkpoint: how far the log was read. What the projection remembers beyond
that, the stories that are not over, is not kept: it follows from the log, which is read again from its beginning up to
there, without sending anything. So an exporter that is killed goes on where it was, and sends again at most what it
sent since the last checkpoint: the same spans with the same ids, which backends take for the same.

Invariants:
    every span of the log is taken by the collector at least once before its events are in the checkpoint;
    the run never waits for this.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator

import msgspec

from eventflow.errors import LogDamaged, MalformedPayload, StoreError
from eventflow.event import StoredEvent
from eventflow.log.following import EventTail, Subscription
from eventflow.log.runs import RunFolder
from instrumentation.otlp.destination import Destination
from instrumentation.otlp.metrics import MetricProjection
from instrumentation.otlp.resources import Resources
from instrumentation.otlp.sending import Load, Position, Progress, Sending
from instrumentation.otlp.settings import Settings, Signal
from instrumentation.traces import FinishedSpan
from instrumentation.traces.fold import SpanFold
from instrumentation.traces.sampling import Sampler

BATCH_BYTES = 4 << 20
LOOK_SECONDS = 0.1
SAVE_SECONDS = 1.0
PATIENCE_SECONDS = 10.0
NO_PATIENCE_SECONDS = 3.0
_LOOKS_PER_LOCK = 5


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it.

    Attributes:
        sent: what was taken, in all: `spans`, `log_records`, and exports of metrics.
        left: how many were not. The log has them.
        refused: how many the collector refused for good.
        unsupported: what the collector takes no kind of: metrics, logs. They were not sent.
        unsampled: how many spans were left out on purpose.
        problem: why some were not taken, in one line.
    """

    sent: int
    spans: int
    log_records: int
    left: int
    refused: int
    unsampled: int
    unsupported: tuple[Signal, ...] = ()
    problem: str | None


class Exporting:
    """The export of one run.

    Args:
        folder: the run.
        settings: what to send, and how.
        subscription: where the checkpoint is, for an export that goes on where the last one was; else everything is
            sent.
        follow: until nobody writes to the run any more; else what is there.
        report: called a few times a second with how it is going.
        patience_s: how long to try once the run is over and nothing is taken any more; if nothing ever was, it is not
            longer than three seconds.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        *,
        subscription: Subscription | None = None,
        follow: bool = False,
        report: Callable[[Progress], None] = lambda _progress: None,
        patience_s: float = PATIENCE_SECONDS,
    ) -> None:
        self._folder, self._settings, self._subscription = folder, settings, subscription
        self._follow, self._report, self._patience_s = follow, report, patience_s
        self._stopped = threading.Event()
        self._damage: StoreError | None = None
        self._resources = Resources(folder.info())
        self._fold, self._sampler = SpanFold(folder.run), Sampler(settings.policy)
        self._destination = Destination(settings, self._resources)
        self._measures: MetricProjection | None = None
        if "metrics" in settings.protocols:
            self._measures = MetricProjection(folder.info(), self._resources, settings.metrics)
        self._spans: list[FinishedSpan] = []
        self._events: list[StoredEvent] = []
        self._offered: Position = {}  # how far the log is in what was offered last
        self._bytes = 0  # of the payloads that these are made of
        self._since: float | None = None  # when the first of these came
        self._over_at: float | None = None  # when the run was seen to be over
        self._saved: Position | None = None
        self._saved_at = self._reported_at = 0.0

    def stop(self) -> None:
        """End it early, from another thread or a signal handler. What was taken is in the checkpoint."""
        self._stopped.set()

    def carry_out(self) -> Outcome:
        """Send everything.

        Raises:
            LogDamaged: the log is not what was written. What stands before was sent.
            StoreError: the checkpoint cannot be written.
        """
        sending, measuring = self._destination.sending(), self._destination.measuring()
        after = self._subscription.saved if self._subscription else {}
        try:
            self._recall(after)
            self._read(EventTail(self._folder.log, after=after), sending, measuring)
            self._wait(sending, measuring)
        finally:
            sending.close()
            measuring.close()
        self._save(sending)
        if self._damage is not None:
            raise self._damage
        return self._outcome(sending.progress(), measuring.progress())

    def _recall(self, after: Position) -> None:
        """Feed what is done, for the sake of what it began."""
        if not after:
            return
        for event in self._events_of(EventTail(self._folder.log)):
            if event.seq <= after.get(event.writer, -1):
                for _ in self._sampler.feed(self._feed(event)):
                    pass
                if self._measures is not None and self._measures.due(event.time):
                    self._measures.skip()
            if self._stopped.is_set():
                return

    def _read(self, tail: EventTail, sending: Sending, measuring: Sending) -> None:
        look, is_told = 0, False
        while not self._stopped.is_set():
            is_live = self._follow and (look % _LOOKS_PER_LOCK != 0 or self._folder.is_live())
            is_told = not is_live and not self._folder.is_live()
            for event in self._events_of(tail):
                self._take(event, tail, sending, measuring)
                if self._stopped.is_set():
                    return
            if not is_live or self._damage is not None:
                break
            look += 1
            self._send(tail, sending, force=self._since is not None and self._is_late(self._since))
            self._tend(tail, sending)
            self._stopped.wait(LOOK_SECONDS)
        else:
            return
        if is_told and self._damage is None:
            self._collect(self._fold.finish())
            self._spans += self._sampler.finish()
        self._send(tail, sending, force=True)
        self._measure(measuring, wait=True)

    def _events_of(self, tail: EventTail) -> Iterator[StoredEvent]:
        """The events that came. Damage ends them, and is raised at the end: what stands before it is sent."""
        try:
            yield from tail.poll()
        except LogDamaged as damage:
            self._damage = self._damage or damage

    def _take(self, event: StoredEvent, tail: EventTail, sending: Sending, measuring: Sending) -> None:
        spans = self._feed(event)
        if spans:
            self._collect(spans)
        if "logs" in self._settings.protocols:
            self._events.append(event)
        self._bytes += len(event.data)
        if self._since is None and (self._spans or self._events):
            self._since = time.monotonic()
        self._send(tail, sending, force=False)
        if self._measures is not None and self._measures.due(event.time):
            self._measure(measuring, wait=False)

    def _feed(self, event: StoredEvent) -> Iterable[FinishedSpan]:
        try:
            self._resources.feed(event)
            if self._measures is not None:
                self._measures.feed(event)
            return self._fold.feed(event) if "traces" in self._settings.protocols else ()
        except MalformedPayload as damage:  # the rest is sent all the same
            self._damage = self._damage or damage
            return ()

    def _collect(self, spans: Iterable[FinishedSpan]) -> None:
        self._spans += self._sampler.feed(spans)

    def _is_late(self, since: float) -> bool:
        return time.monotonic() - since >= self._settings.batch_seconds

    def _send(self, tail: EventTail, sending: Sending, *, force: bool) -> None:
        is_full = len(self._spans) + len(self._events) >= self._settings.batch_spans or self._bytes >= BATCH_BYTES
        if not (is_full or force):
            return
        for load in self._loads(dict(tail.position)):
            while not sending.offer(load, LOOK_SECONDS):
                self._tend(tail, sending)
                if self._stopped.is_set() or self._is_hopeless(sending.progress()):
                    self.stop()
                    return
            self._offered = load.position
        self._spans, self._events, self._since, self._bytes = [], [], None, 0
        self._tend(tail, sending)

    def _loads(self, position: Position) -> Iterator[Load]:
        """What waits, in loads that are not too large: at the end of a run, much may be over at once.

        Only when the last of them is taken, the log is done that far.
        """
        spans: list[FinishedSpan] = []
        size = 0
        for span in self._spans:
            if len(spans) >= self._settings.batch_spans or size >= BATCH_BYTES:
                yield Load((spans, []), self._offered)
                spans, size = [], 0
            spans.append(span)
            size += sum(len(value) for value in span.attributes.values() if isinstance(value, str))
        if spans or self._events:
            yield Load((spans, self._events), position)

    def _measure(self, measuring: Sending, *, wait: bool) -> None:
        """Send how the metrics stand: they are sums, so where the last ones wait still, the next ones say it too."""
        if self._measures is None or not (wait or measuring.is_idle()):
            return
        measuring.wait(NO_PATIENCE_SECONDS if wait else 0)
        data = self._measures.data()
        if data is not None:
            measuring.offer(Load(([data],), {}), NO_PATIENCE_SECONDS)

    def _tend(self, tail: EventTail, sending: Sending) -> None:
        """What is done now and then: say how it goes, keep how far it is."""
        now = time.monotonic()
        if now - self._reported_at >= LOOK_SECONDS:
            self._reported_at = now
            self._report(sending.progress())
        if now - self._saved_at >= SAVE_SECONDS:
            self._saved_at = now
            if not self._spans and not self._events and sending.is_idle():
                self._keep(dict(tail.position))
            else:
                self._save(sending)

    def _save(self, sending: Sending) -> None:
        position = sending.position
        if position is not None:
            self._keep(position)

    def _keep(self, position: Position) -> None:
        if self._subscription is not None and position != self._saved:
            self._subscription.save(position)
            self._saved = position

    def _wait(self, sending: Sending, measuring: Sending) -> None:
        """Until everything is taken, or nothing is any more."""
        while not self._stopped.is_set():
            progress = sending.progress() if sending.progress().waiting else measuring.progress()
            self._report(progress)
            if self._is_hopeless(progress) or (sending.wait(LOOK_SECONDS) and measuring.wait(LOOK_SECONDS)):
                return
            if time.monotonic() - self._saved_at >= SAVE_SECONDS:
                self._saved_at = time.monotonic()
                self._save(sending)

    def _is_hopeless(self, progress: Progress) -> bool:
        """Whether the run is over, and nothing was taken for so long that it is not worth waiting for.

        A collector that has not said anything yet has the time that an export may take.
        """
        if self._over_at is None:
            if self._follow and self._folder.is_live():
                return False
            self._over_at = time.monotonic()
        patience_s = self._patience_s if progress.sent else min(self._patience_s, NO_PATIENCE_SECONDS)
        if progress.problem is None:
            patience_s = max(patience_s, self._settings.timeout_s + NO_PATIENCE_SECONDS)
        return min(time.monotonic() - self._over_at, progress.idle_seconds) >= patience_s

    def _outcome(self, progress: Progress, measures: Progress) -> Outcome:
        left = progress.waiting + measures.waiting + len(self._spans) + len(self._events)
        spans, records = (*progress.by_part, 0, 0)[:2]
        return Outcome(
            sent=progress.sent + measures.sent,
            spans=spans,
            log_records=records,
            left=left,
            refused=progress.refused + measures.refused,
            unsupported=self._destination.unsupported(),
            unsampled=self._sampler.dropped,
            problem=(progress.problem or measures.problem or self._unsaid()) if left else None,
        )

    def _unsaid(self) -> str:
        """Why something is left, if no answer says it."""
        where = next(iter(self._settings.endpoints.values()))
        return "it was stopped" if self._stopped.is_set() else f"{where} does not answer: is it a collector?"
