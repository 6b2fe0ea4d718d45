"""Where an export goes: the channels of each signal, and which signals are taken there at all."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from eventflow.event import StoredEvent
from instrumentation.otlp.answers import LEFT_OUT, TAKEN, Answer
from instrumentation.otlp.channels import Channel
from instrumentation.otlp.logs import log_records
from instrumentation.otlp.resources import Resources
from instrumentation.otlp.scope import SCOPE
from instrumentation.otlp.sending import Sending
from instrumentation.otlp.settings import Settings, Signal
from instrumentation.otlp.spans import readable_span
from instrumentation.traces import FinishedSpan

_TRIES = 3
Send = Callable[[Any], Answer]
Note = Callable[[Answer], None]


class Destination:
    """The collector of one export.

    Who takes traces need not take anything else: Jaeger does not. A signal that is said to have no place there, several
    times and without anything of it ever taken, is left out. Traces never are.

    Args:
        settings: what goes where.
        resources: the resource of each writer.
    """

    def __init__(self, settings: Settings, resources: Resources) -> None:
        self._settings, self._resources = settings, resources
        self._lock = threading.Lock()
        self._refusals: dict[Signal, int] = {}
        self._has_taken: set[Signal] = set()

    def unsupported(self) -> tuple[Signal, ...]:
        """What has no place there."""
        with self._lock:
            return tuple(sorted(signal for signal, count in self._refusals.items() if count >= _TRIES))

    def sending(self) -> Sending:
        """For loads of finished spans and events, together: they are done when both are."""

        def connect(note: Note) -> tuple[Sequence[Send], Callable[[], None]]:
            traces, logs = self._channel("traces", note), self._channel("logs", note)

            def send_spans(spans: Sequence[FinishedSpan]) -> Answer:
                return traces.send([readable_span(span, self._resources, SCOPE) for span in spans])

            def send_events(events: Sequence[StoredEvent]) -> Answer:
                return self._optional(logs, log_records(events, self._resources))

            def end() -> None:
                traces.close()
                logs.close()

            return (send_spans, send_events), end

        return Sending(connect)

    def measuring(self) -> Sending:
        """For loads of one MetricsData each."""

        def connect(note: Note) -> tuple[Sequence[Send], Callable[[], None]]:
            channel = self._channel("metrics", note)

            def send(items: Sequence[Any]) -> Answer:
                answer = self._optional(channel, items[0])
                # The same points again would be refused again, and the next ones say it too.
                return TAKEN if answer.verdict == "refused" else answer

            return (send,), channel.close

        return Sending(connect, senders=1)

    def _optional(self, channel: Channel, items: Any) -> Answer:
        signal = channel.signal
        if signal in self.unsupported():
            return LEFT_OUT
        answer = channel.send(items)
        with self._lock:
            if answer.verdict == "unsupported" and signal not in self._has_taken:
                self._refusals[signal] = self._refusals.get(signal, 0) + 1
            elif answer is TAKEN:
                self._has_taken.add(signal)
                self._refusals.pop(signal, None)
        return LEFT_OUT if signal in self.unsupported() else answer

    def _channel(self, signal: Signal, note: Note) -> Channel:
        protocols, endpoints = self._settings.protocols, self._settings.endpoints
        return Channel(signal, protocols.get(signal, "http/protobuf"), endpoints.get(signal, ""), note)
