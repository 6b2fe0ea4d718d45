"""The context of a trace on its way: from whoever starts eventflow, to the programs and origins that it calls. Pure.

Between the recorder, whose spans have ids, and what leaves the process: the environment of a program, the headers of a
request. The forms are those of W3C Trace Context and Baggage, and of B3; OTEL_PROPAGATORS says which of them. The names
of environment variables are those of OpenTelemetry's environment carriers.

Invariants:
    what is not valid is ignored as if it had not been there, and never passed on;
    no value that leaves here has a line break or another control character in it;
    an environment that is given is never changed: programs get a copy;
    origins get nothing unless they were named, and a redirect to another one takes nothing along.
"""

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec

from eventflow.errors import UsageError, name_of

CHOICES = ("tracecontext", "baggage", "b3", "b3multi", "none")
VARIABLE = "OTEL_PROPAGATORS"
ALL = "all"

_DEFAULT = ("tracecontext", "baggage")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_B3 = re.compile(r"([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_IS_SAMPLED = 1
_STATE_MEMBERS_MAX = 32
_STATE_MEMBER = re.compile(
    r"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_BAGGAGE_BYTES_MAX = 8192
_BAGGAGE = re.compile(rf"[\x20-\x7e\t]{{1,{_BAGGAGE_BYTES_MAX}}}")
_PORTS = {"http": 80, "https": 443}


class Context(msgspec.Struct, frozen=True):
    """A span somewhere: what is done because of it belongs to its trace."""

    trace_id: str
    span_id: str
    is_sampled: bool = True


def traceparent(trace_id: str, span_id: str) -> str:
    """The value of the header of that name (W3C Trace Context §3.2). All of ours are sampled: the log keeps everything.

    >>> traceparent("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    """
    return f"00-{trace_id}-{span_id}-01"


def parse_traceparent(text: str) -> Context | None:
    """The span that it names; None if it is not valid. What a version of the future adds at its end is ignored.

    >>> parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").is_sampled
    False
    >>> parse_traceparent("00-00000000000000000000000000000000-00f067aa0ba902b7-01") is None
    True
    """
    found = _TRACEPARENT.fullmatch(text)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5] is not None):
        return None
    return _context(found[2], found[3], is_sampled=bool(int(found[4], 16) & _IS_SAMPLED))


def environment_name(key: str) -> str:
    """The variable that carries a header (OpenTelemetry, Environment Variables as Context Propagation Carriers).

    >>> environment_name("traceparent"), environment_name("X-B3-TraceId"), environment_name("1st")
    ('TRACEPARENT', 'X_B3_TRACEID', '_1ST')
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", key).upper()
    return f"_{name}" if not name or name[0].isdecimal() else name


class Propagation:
    """How context comes into this process and leaves it.

    Args:
        environ: the environment that the process was started with.

    Attributes:
        caller: the span that this process was started for, if somebody said so.

    What OTEL_PROPAGATORS names and nobody knows here is left out; see `require_known`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.formats = _chosen(environ.get(VARIABLE, ""))
        self.caller: Context | None = None
        self._state = self._baggage = ""
        for name in self.formats:
            if name == "baggage":
                self._baggage = _valid_baggage(environ.get("BAGGAGE", ""))
            elif context := _EXTRACT[name](environ):
                self.caller = context
                if name == "tracecontext":
                    self._state = _valid_state(environ.get("TRACESTATE", ""))

    def headers(self, trace_id: str, span_id: str) -> dict[str, str]:
        """What a request has to carry so that whoever serves it goes on below that span."""
        carried: dict[str, str] = {}
        for name in self.formats:
            if name == "tracecontext":
                carried["traceparent"] = traceparent(trace_id, span_id)
                if self._state:
                    carried["tracestate"] = self._state
            elif name == "b3":
                carried["b3"] = f"{trace_id}-{span_id}-1"
            elif name == "b3multi":
                carried |= {"X-B3-TraceId": trace_id, "X-B3-SpanId": span_id, "X-B3-Sampled": "1"}
            elif self._baggage:
                carried["baggage"] = self._baggage
        return carried

    def environment(self, environ: Mapping[str, str], trace_id: str, span_id: str) -> dict[str, str]:
        """A copy of `environ` for a program that is started in that span. With OTEL_PROPAGATORS=none it is only that.

        >>> Propagation({}).environment({"HOME": "/"}, "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
        {'HOME': '/', 'TRACEPARENT': '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'}
        """
        copied = dict(environ)
        for name in self.formats:
            for key in _KEYS[name]:
                copied.pop(environment_name(key), None)
        copied |= {environment_name(key): value for key, value in self.headers(trace_id, span_id).items()}
        return copied


class Origins:
    """The origins that are told about our traces.

    Args:
        names: as `parse_origin` gives them; `all` is all of them.
    """

    __slots__ = ("_all", "_known")

    def __init__(self, names: tuple[str, ...]) -> None:
        self._all = ALL in names
        self._known = frozenset(map(_place, names)) if not self._all else frozenset()

    def __bool__(self) -> bool:
        return self._all or bool(self._known)

    def allows(self, scheme: str, host: str, port: int | None) -> bool:
        """Whether that one is told. An IPv6 address has no brackets; no port is the scheme's own."""
        return self._all or (scheme, host.lower(), port or _PORTS.get(scheme, 0)) in self._known


def parse_origin(text: str) -> str:
    """An origin as it is kept in the settings of a run, or `all`.

    Raises:
        UsageError: it is neither. Nothing that could be a secret is in the message.

    >>> parse_origin("HTTPS://Example.org:443/"), parse_origin("http://[::1]:8080"), parse_origin("all")
    ('https://example.org', 'http://[::1]:8080', 'all')
    """
    if text == ALL:
        return ALL
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise _no_origin(text) from None
    rest = (parts.path.removeprefix("/"), parts.query, parts.fragment)
    if parts.scheme not in _PORTS or "@" in parts.netloc or any(rest) or port == 0:
        raise _no_origin(text)
    if not re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*", host):
        raise _no_origin(text)
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")


def _no_origin(text: str) -> UsageError:
    shown = name_of(text) if "@" not in text and "?" not in text else "what was given"
    return UsageError(
        f"{shown} is no origin to propagate traces to",
        "give https://host, https://host:port or all, without path or login",
    )


def _place(origin: str) -> tuple[str, str, int]:
    parts = urlsplit(origin)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def require_known(environ: Mapping[str, str]) -> None:
    """Whoever asks for propagation is told what cannot be had; who does not is left in peace, as OpenTelemetry demands.

    Raises:
        UsageError: OTEL_PROPAGATORS names something that is not known here.
    """
    for name in _names(environ.get(VARIABLE, "")):
        if name not in CHOICES:
            raise UsageError(f"{VARIABLE} has the unknown {name_of(name)}", f"give some of {', '.join(CHOICES)}")


def _chosen(text: str) -> tuple[str, ...]:
    """The known names in OTEL_PROPAGATORS, each once, in their order; none of them where one is `none`."""
    names = _names(text)
    return () if "none" in names else tuple(name for name in names or _DEFAULT if name in CHOICES)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip().lower())))


def _context(trace_id: str, span_id: str, *, is_sampled: bool) -> Context | None:
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return Context(trace_id, span_id, is_sampled)


def _from_tracecontext(environ: Mapping[str, str]) -> Context | None:
    return parse_traceparent(environ.get("TRACEPARENT", ""))


def _from_b3(environ: Mapping[str, str]) -> Context | None:
    """Either form, as OpenTelemetry says: the single one first."""
    found = _B3.fullmatch(environ.get("B3", "").lower())
    if found:
        return _context(found[1].rjust(32, "0"), found[2], is_sampled=found[3] != "0")
    parts = (environ.get("X_B3_TRACEID", ""), environ.get("X_B3_SPANID", ""))
    found = _B3.fullmatch("-".join(parts).lower())
    if found is None:
        return None
    is_refused = environ.get("X_B3_SAMPLED", "1").lower() in ("0", "false")
    return _context(found[1].rjust(32, "0"), found[2], is_sampled=not is_refused or environ.get("X_B3_FLAGS") == "1")


def _valid_state(text: str) -> str:
    """The tracestate as it may be passed on (W3C Trace Context §3.3), empty if any of it is not valid."""
    members = [stripped for member in text.split(",") if (stripped := member.strip(" \t"))]
    found = [_STATE_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in found if match is not None}
    return ",".join(members) if len(keys) == len(members) <= _STATE_MEMBERS_MAX else ""


def _valid_baggage(text: str) -> str:
    """The baggage as it may be passed on (W3C Baggage §3.3): all of it, since what it means is not for us to know."""
    text = text.strip(" \t")
    return text if _BAGGAGE.fullmatch(text) else ""


_Extract = Callable[[Mapping[str, str]], Context | None]
_EXTRACT: Mapping[str, _Extract] = {"tracecontext": _from_tracecontext, "b3": _from_b3, "b3multi": _from_b3}
_KEYS: Mapping[str, tuple[str, ...]] = {
    "tracecontext": ("traceparent", "tracestate"),
    "baggage": ("baggage",),
    "b3": ("b3",),
    "b3multi": ("X-B3-TraceId", "X-B3-SpanId", "X-B3-Sampled", "X-B3-ParentSpanId", "X-B3-Flags"),
}
