"""What a waterfall says of a span in words: its label, its facts, and what its time was spent on. Pure.

The attributes are those of `instrumentation.traces.attributes`; what is not known here is not shown.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from eventflow.cli.top_text import ASCII, UNICODE, Glyphs
from eventflow.quantities import format_duration, format_size
from instrumentation.traces.span import STATUS_FAILED_MIN, Attribute, FinishedSpan, SpanEvent

ROOTS = frozenset(("request", "run", "stage", "process", "origin"))
DELAYED = "request.delayed"
NO_ANSWER = "no answer"


class Marks(NamedTuple):
    """The signs that are not letters, beside those of `glyphs`."""

    glyphs: Glyphs
    back: str
    to: str
    micro: str
    between: str


UNICODE_MARKS = Marks(UNICODE, "←", "→", "µ", " · ")
ASCII_MARKS = Marks(ASCII, "<-", "->", "u", ", ")


def format_time(seconds: float, marks: Marks = UNICODE_MARKS) -> str:
    """A duration for people, down to a microsecond.

    >>> format_time(0), format_time(0.00035), format_time(0.0034), format_time(0.0215), format_time(5.25)
    ('0', '350 µs', '3.4 ms', '22 ms', '5.25 s')
    """
    if seconds == 0:
        return "0"
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} {marks.micro}s"
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    return format_duration(seconds)


def label_of(span: FinishedSpan) -> str:
    """What it is, in a word or two."""
    if span.step == "process":
        return f"{span.attributes.get('eventflow.process.role', span.name)} {span.attributes.get('process.pid', '')}"
    return span.stream if span.step == "origin" else span.name


def details_of(span: FinishedSpan, marks: Marks, outside: Sequence[str] = ()) -> list[str]:
    """The facts worth saying, the most important first. `outside`: whose spans of other traces led to it."""
    state = [] if span.state == "completed" or span.message else [span.state]
    facts = [*state, *_FACTS.get(span.step, _own_facts)(span, marks)]
    led = [f"{marks.back} {name}" for name in outside]
    if "eventflow.connection.requests" in span.attributes:
        on = f"connection {span.attributes.get('eventflow.connection.id')}"
        led = [f"{' '.join(led)} on {on}" if led else f"kept {on}"]
    server = span.attributes.get("server.address")
    return [*facts, *led, *([] if server is None else [f"{server}:{span.attributes.get('server.port', '')}"])]


def reason_of(delay: SpanEvent, marks: Marks) -> list[str]:
    """Why a request was put off, and for how long."""
    told = delay.attributes
    seconds, reason = told.get("eventflow.request.seconds"), told.get("eventflow.request.reason")
    asked = f" of {format_time(seconds, marks)}" if isinstance(seconds, int | float) else ""
    return [f"{reason or 'delay'}{asked}"]


def spent_on(span: FinishedSpan, start_ns: int, end_ns: int) -> Iterator[tuple[str, int]]:
    """What a stretch of a span's own time was spent on, and for how many nanoseconds."""
    if span.step != "attempt":
        yield _SPENT.get(span.step, span.name), end_ns - start_ns
        return
    sent, answered = (_moment(span, name) for name in ("sent_seconds", "response_seconds"))
    if sent is None and answered is None:
        yield NO_ANSWER, end_ns - start_ns
        return
    sent_ns = span.start_ns if sent is None else sent
    answered_ns = span.end_ns if answered is None else answered
    bounds = (
        ("before it is sent", span.start_ns, sent_ns),
        ("waiting for the server", sent_ns, answered_ns),
        ("a body that broke off" if _broke_off(span) else "reading the answer", answered_ns, span.end_ns),
    )
    for what, begin, end in bounds:
        if (length := min(end, end_ns) - max(begin, start_ns)) > 0:
            yield what, length


def _broke_off(span: FinishedSpan) -> bool:
    status = span.attributes.get("http.response.status_code")
    return span.state != "completed" and isinstance(status, int) and status < STATUS_FAILED_MIN


def _moment(span: FinishedSpan, name: str) -> int | None:
    seconds = span.attributes.get(f"eventflow.attempt.{name}")
    return span.start_ns + int(seconds * 1e9) if isinstance(seconds, int | float) else None


def _attempt_facts(span: FinishedSpan, marks: Marks) -> Iterator[str]:
    told = span.attributes
    status = told.get("http.response.status_code")
    yield str(status) if status is not None else NO_ANSWER
    if to := told.get("eventflow.attempt.redirected_to"):
        yield f"{marks.to} {to}"
    if again := told.get("http.request.resend_count"):
        yield f"attempt {int(_number(again)) + 1}"
    if begin := told.get("eventflow.attempt.range_start"):
        yield f"from byte {begin} on"


def _connect_facts(span: FinishedSpan, marks: Marks) -> Iterator[str]:
    told = span.attributes
    yield f"new connection {told.get('eventflow.connection.id', '')}"
    parts = (("dns", "name"), ("tcp", "TCP"), ("tls", "TLS"))
    times = [(word, _number(told.get(f"eventflow.connection.{key}_seconds", 0))) for key, word in parts]
    yield ", ".join(f"{word} {format_time(seconds, marks)}" for word, seconds in times if seconds >= 1e-6)
    if "network.peer.address" in told:
        yield f"{told['network.peer.address']}:{told.get('network.peer.port', '')}"


def _size_facts(span: FinishedSpan, _marks: Marks) -> Iterator[str]:
    size = span.attributes.get("http.response.body.size", span.attributes.get("eventflow.file.size"))
    if size is not None:
        yield format_size(_number(size))
    if span.step == "verify" and (checks := span.attributes.get("eventflow.file.checks")):
        yield f"checked {', '.join(checks)}" if isinstance(checks, tuple) else str(checks)
    if decoded := span.attributes.get("eventflow.file.decoded"):
        yield f"{decoded} taken off"
    if span.step == "store" and (name := span.attributes.get("eventflow.file.name")):
        yield str(name)


def _run_facts(span: FinishedSpan, marks: Marks) -> Iterator[str]:
    told = span.attributes
    if "eventflow.stage" in told:
        yield str(told["eventflow.stage"])
    if told.get("eventflow.run.resumed"):
        yield "resumed"
    if "eventflow.run.requests" in told:
        words = ("requests", "completed", "failed")
        yield marks.between.join(f"{word} {told.get(f'eventflow.run.{word}', 0)}" for word in words)


def _process_facts(span: FinishedSpan, _marks: Marks) -> Iterator[str]:
    code = span.attributes.get("process.exit.code")
    if code is not None:
        yield f"killed by signal {-int(_number(code))}" if _number(code) < 0 else f"exit code {code}"
    if span.step == "program" and "process.pid" in span.attributes:
        yield f"pid {span.attributes['process.pid']}"


def _own_facts(span: FinishedSpan, _marks: Marks) -> Iterator[str]:
    """Of what this version does not know: what its event said."""
    for name, value in span.attributes.items():
        yield f"{name.rpartition('.')[2]} {value}"


def _nothing(_span: FinishedSpan, _marks: Marks) -> Sequence[str]:
    return ()


def _number(value: Attribute) -> float:
    return value if isinstance(value, int | float) else 0


_FACTS: dict[str, Callable[[FinishedSpan, Marks], Iterator[str] | Sequence[str]]] = {
    "request": _size_facts,
    "queue": _nothing,
    "attempt": _attempt_facts,
    "connect": _connect_facts,
    "body": _size_facts,
    "verify": _size_facts,
    "store": _size_facts,
    "program": _process_facts,
    "process": _process_facts,
    "origin": _nothing,
    "run": _run_facts,
    "stage": _nothing,
}
_SPENT = {"request": "between steps", "connect": "connecting", "queue": "queue"}
