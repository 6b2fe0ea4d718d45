"""The context of a trace in environments and headers: as W3C, B3 and OpenTelemetry's own propagators say."""

from collections.abc import Mapping

import pytest
from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context as TheirContext
from opentelemetry.propagators import _envcarrier
from opentelemetry.propagators._envcarrier import EnvironmentGetter, EnvironmentSetter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from eventflow.errors import UsageError
from eventflow.propagation import CHOICES, Context, Origins, Propagation, environment_name, parse_origin, require_known
from eventflow.propagation import parse_traceparent as parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OURS, OUR_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def extracted(environ: Mapping[str, str]) -> tuple[str, str, bool] | None:
    """What OpenTelemetry's propagator makes of it."""
    context = TraceContextTextMapPropagator().extract(environ, TheirContext(), EnvironmentGetter())
    found = trace.get_current_span(context).get_span_context()
    if not found.is_valid:
        return None
    return trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id), found.trace_flags.sampled


VALID = [
    PARENT,
    f"00-{TRACE}-{SPAN}-00",
    f"00-{TRACE}-{SPAN}-03",
    f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
    f"cc-{TRACE}-{SPAN}-01",
]
INVALID = [
    "",
    "00",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE[:-1]}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-0",
    f"00-{TRACE}-{SPAN}",
    f"0-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-zz",
    f"00-{TRACE}x{SPAN}-01",
    f"00-{'é' * 32}-{SPAN}-01",
]


@pytest.mark.parametrize("text", [*VALID, *INVALID])
def test_traceparent_is_read_as_opentelemetry_reads_it(text: str) -> None:
    """W3C Trace Context §3.2: valid or not, of this version or of one to come."""
    found = parse(text)
    assert (found is not None) == (text in VALID)
    assert extracted({"TRACEPARENT": text}) == (found and (found.trace_id, found.span_id, found.is_sampled))


@pytest.mark.parametrize("text", [f"{PARENT} ", f"{PARENT}\n", PARENT.upper(), f"cc-{TRACE}-{SPAN}-01.x"])
def test_traceparent_is_read_more_strictly_than_opentelemetry_reads_it(text: str) -> None:
    """Nothing but lower-case hex, and a dash before what a version to come adds, as the specification says."""
    assert parse(text) is None


@pytest.mark.parametrize("key", ["", "traceparent", "X-B3-TraceId", "1a", "a b", "é", "uber-trace-id", "_", "ß", "A٣"])
def test_variables_are_called_as_opentelemetry_calls_them(key: str) -> None:
    """OpenTelemetry, Environment Variables as Context Propagation Carriers: the key is normalised."""
    assert environment_name(key) == _envcarrier._normalize_key(key)


def test_what_is_put_into_an_environment_is_what_opentelemetry_puts_there() -> None:
    """Traceparent, tracestate and baggage of the caller, byte by byte; whatever else is there stays."""
    given = {"HOME": "/", "TRACEPARENT": PARENT, "TRACESTATE": "a=1,b@c=2", "BAGGAGE": "user=alice,tier=gold"}
    context = TraceContextTextMapPropagator().extract(given, TheirContext(), EnvironmentGetter())
    state = trace.get_current_span(context).get_span_context().trace_state
    span = SpanContext(int(OURS, 16), int(OUR_SPAN, 16), is_remote=False, trace_flags=TraceFlags(1), trace_state=state)
    context = W3CBaggagePropagator().extract(
        given, trace.set_span_in_context(NonRecordingSpan(span)), EnvironmentGetter()
    )
    theirs = {"HOME": "/"}
    TraceContextTextMapPropagator().inject(theirs, context, EnvironmentSetter())
    W3CBaggagePropagator().inject(theirs, context, EnvironmentSetter())
    before = dict(given)
    assert Propagation(given).environment(given, OURS, OUR_SPAN) == theirs
    assert given == before
    assert baggage.get_all(context) == {"user": "alice", "tier": "gold"}


@pytest.mark.parametrize("state", ["a=1,a=2", "A=1", "a", "a=\x01", ",".join(f"a{n}=1" for n in range(33)), "a=b=c"])
def test_a_tracestate_that_is_not_valid_goes_nowhere(state: str) -> None:
    """Not to programs either, whose environment is otherwise a copy."""
    environ = {"TRACEPARENT": PARENT, "TRACESTATE": state}
    assert Propagation(environ).environment(environ, OURS, OUR_SPAN) == {"TRACEPARENT": f"00-{OURS}-{OUR_SPAN}-01"}


def test_a_tracestate_without_a_traceparent_goes_nowhere() -> None:
    """W3C Trace Context §3.3: without a valid traceparent it has no meaning."""
    environ = {"TRACEPARENT": "nonsense", "TRACESTATE": "a=1"}
    assert Propagation(environ).environment(environ, OURS, OUR_SPAN) == {"TRACEPARENT": f"00-{OURS}-{OUR_SPAN}-01"}


@pytest.mark.parametrize("value", ["a=1\r\nX-Evil: 1", "a=é", "a=" + "b" * 8192, " "])
def test_baggage_that_cannot_be_a_header_goes_nowhere(value: str) -> None:
    """It would be a second header, or none at all."""
    assert list(Propagation({"BAGGAGE": value}).headers(OURS, OUR_SPAN)) == ["traceparent"]


def test_names_in_lower_case_are_not_read() -> None:
    """Environment carriers: Get must not read names that are not normalised."""
    assert Propagation({"traceparent": PARENT}).caller is None


B3 = {"b3": f"{OURS}-{OUR_SPAN}-1"}
B3_MULTI = {"X-B3-TraceId": OURS, "X-B3-SpanId": OUR_SPAN, "X-B3-Sampled": "1"}
W3C = {"traceparent": f"00-{OURS}-{OUR_SPAN}-01"}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("", W3C | {"baggage": "a=1"}),
        (" , ", W3C | {"baggage": "a=1"}),
        ("tracecontext", W3C),
        ("baggage", {"baggage": "a=1"}),
        ("b3", B3),
        ("b3multi", B3_MULTI),
        ("B3 ,tracecontext, b3", B3 | W3C),
        ("none", {}),
        ("tracecontext,none", {}),
    ],
)
def test_otel_propagators_chooses(chosen: str, expected: dict[str, str]) -> None:
    """Which headers a request carries, and which variables a program gets."""
    environ = {"OTEL_PROPAGATORS": chosen, "BAGGAGE": "a=1"}
    propagation = Propagation(environ)
    assert propagation.headers(OURS, OUR_SPAN) == expected
    carried = propagation.environment({}, OURS, OUR_SPAN)
    assert carried == {environment_name(name): value for name, value in expected.items()}


def test_an_unknown_propagator_is_left_out() -> None:
    """The others count; whoever asks for propagation is told, in one line, with those that are known."""
    environ = {"OTEL_PROPAGATORS": "jaeger,tracecontext"}
    assert Propagation(environ).formats == ("tracecontext",)
    assert Propagation({"OTEL_PROPAGATORS": "jaeger"}).formats == ()
    require_known({"OTEL_PROPAGATORS": "none"})
    with pytest.raises(
        UsageError, match=f"OTEL_PROPAGATORS has the unknown 'jaeger': give some of {', '.join(CHOICES)}"
    ):
        require_known(environ)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"B3": f"{TRACE}-{SPAN}-1-{OUR_SPAN}"}, Context(TRACE, SPAN)),
        ({"B3": f"{TRACE}-{SPAN}"}, Context(TRACE, SPAN)),
        ({"B3": f"{TRACE[:16]}-{SPAN}-d"}, Context("0" * 16 + TRACE[:16], SPAN)),
        ({"B3": f"{TRACE}-{SPAN}-0"}, Context(TRACE, SPAN, is_sampled=False)),
        ({"X_B3_TRACEID": TRACE, "X_B3_SPANID": SPAN}, Context(TRACE, SPAN)),
        ({"X_B3_TRACEID": TRACE, "X_B3_SPANID": SPAN, "X_B3_SAMPLED": "0"}, Context(TRACE, SPAN, is_sampled=False)),
        ({"X_B3_TRACEID": TRACE, "X_B3_SPANID": SPAN, "X_B3_SAMPLED": "0", "X_B3_FLAGS": "1"}, Context(TRACE, SPAN)),
        ({"B3": "0"}, None),
        ({"B3": f"{'0' * 32}-{SPAN}-1"}, None),
        ({"X_B3_TRACEID": TRACE}, None),
        ({"TRACEPARENT": PARENT}, None),
    ],
)
def test_b3_in_both_its_forms(environ: dict[str, str], expected: Context | None) -> None:
    """Whichever form is to be sent, both are read, as OpenTelemetry says; W3C's is not, since it was not chosen."""
    for chosen in ("b3", "b3multi"):
        assert Propagation({"OTEL_PROPAGATORS": chosen, **environ}).caller == expected


def test_none_reads_nothing_and_changes_nothing() -> None:
    """A program then gets the environment as it is, as without eventflow."""
    environ = {"OTEL_PROPAGATORS": "none", "TRACEPARENT": PARENT, "TRACESTATE": "not valid", "BAGGAGE": "a=1"}
    propagation = Propagation(environ)
    assert propagation.caller is None
    assert propagation.environment(environ, OURS, OUR_SPAN) == environ


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org",
        "ftp://example.org",
        "https://",
        "https://example.org/path",
        "https://example.org?q",
        "https://example.org#f",
        "https://example.org:0",
        "https://example.org:99999",
        "https://exämple.org",
        "https://a b",
        "https://[::1",
        "ALL",
        "*",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    """In one line that says what is one."""
    with pytest.raises(UsageError, match="is no origin to propagate traces to: give https://host, ") as caught:
        parse_origin(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["https://me:hunter2@example.org", "https://example.org/?token=hunter2"])
def test_a_secret_in_an_origin_is_not_repeated(text: str) -> None:
    """Neither in the message nor in the settings: there is no way for it to get there."""
    with pytest.raises(UsageError) as caught:
        parse_origin(text)
    assert "hunter2" not in str(caught.value)


def test_origins_are_scheme_host_and_port() -> None:
    """All three must be the same, whichever way they are written."""
    origins = Origins(("https://example.org", "http://[::1]:8080"))
    assert origins
    assert origins.allows("https", "Example.org", None)
    assert origins.allows("https", "example.org", 443)
    assert origins.allows("http", "::1", 8080)
    assert not origins.allows("http", "example.org", None)
    assert not origins.allows("https", "example.org", 8443)
    assert not origins.allows("https", "www.example.org", None)
    assert Origins(("all",)).allows("http", "anybody", 1)
    assert not Origins(())
