"""A run told event by event, and what the live view sees of it."""

import msgspec

from eventflow.event import Event, Payload
from eventflow.live.snapshot import Snapshot
from eventflow.live.view import LiveView
from eventflow.vocabulary import AttemptResponse, AttemptStarted, RequestCompleted, RequestQueued, RequestStarted

UUID = "01a2087f-7a22-7201-9ebf-ec1123af1f82"
SECOND = 1_000_000_000
START = 1_795_438_800 * SECOND


class Script:
    """Events of one run, a stream's in their order; `at` is seconds after its start."""

    def __init__(self, writer: str = "w") -> None:
        self.writer = writer
        self._versions: dict[str, int] = {}

    def line(self, stream: str, payload: Payload, at: float = 0.0, version: int | None = None) -> bytes:
        """One event line."""
        number = self._versions.get(stream, 0) if version is None else version
        self._versions[stream] = number + 1
        time = START + int(at * SECOND)
        return msgspec.json.encode(
            Event(UUID, payload.TYPE, time, "r", stream, number, self.writer, 0, "t", "s", payload)
        )

    def request(self, number: int, *payloads: Payload, at: float = 0.0, step: float = 0.0) -> list[bytes]:
        """A request's lines, one each `step` seconds."""
        begin = (
            RequestQueued(number=number, url=f"http://h.example/{number}", name="n"),
            RequestStarted(wait_seconds=0),
        )
        return [
            self.line(f"request-{number}", payload, at + place * step)
            for place, payload in enumerate((*begin, *payloads))
        ]

    def run(self, payload: Payload, at: float = 0.0) -> bytes:
        """One of the run's own."""
        return self.line("run", payload, at)


def view_of(*lines: bytes, stage: str = "director", total: int | None = None) -> LiveView:
    """A view that was fed these lines."""
    view = LiveView("r", stage, total)
    view.feed(lines)
    return view


def seen(view: LiveView, at: float = 0.0, **options: object) -> Snapshot:
    """What is seen some seconds after the start, by default of a run that goes on."""
    chosen = {"is_live": True} | options
    return view.snapshot(START + int(at * SECOND), **chosen)  # type: ignore[arg-type]


ATTEMPT = AttemptStarted(server_address="h.example", server_port=80)
RESPONSE = AttemptResponse(status=200, seconds=0.1, content_length=1000)
COMPLETED = RequestCompleted(name="n", bytes=1000, seconds=1.0)
