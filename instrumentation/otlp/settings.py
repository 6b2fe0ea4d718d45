"""What OpenTelemetry's environment variables ask for, checked before anything begins.

The exporters of the SDK read what is theirs: endpoints, headers, timeouts, compression, certificates. Read here is what
the SDK leaves to whoever sets it up: which exporters there are, by which protocol, what is sampled, how it is batched.
A value that cannot be is an error in one line, not a warning in a log.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from eventflow.errors import UsageError, name_of
from eventflow.redaction import redact_url
from instrumentation.otlp import metric_settings
from instrumentation.otlp.honoured import Honoured
from instrumentation.otlp.metric_settings import MetricSettings, check_limits, read_metric_settings
from instrumentation.traces.sampling import ALL, Policy

Signal = Literal["traces", "metrics", "logs"]
Protocol = Literal["http/protobuf", "grpc"]

_PATHS: dict[Signal, str] = {"traces": "v1/traces", "metrics": "v1/metrics", "logs": "v1/logs"}
_DEFAULT_ENDPOINTS: dict[Protocol, str] = {"http/protobuf": "http://localhost:4318", "grpc": "http://localhost:4317"}
_COMPRESSIONS: dict[Protocol, tuple[str, ...]] = {
    "http/protobuf": ("none", "gzip", "deflate"),
    "grpc": ("none", "gzip"),
}
BATCH_SPANS = 2_000
BATCH_SECONDS = 1.0
TIMEOUT_SECONDS = 10.0


HONOURED = (
    Honoured(
        "OTEL_EXPORTER_OTLP_ENDPOINT", "where to; that it is set asks `run` to export. `/v1/traces` etc. are added"
    ),
    Honoured("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, …_METRICS_…, …_LOGS_…", "where to for one signal, used as it is"),
    Honoured("OTEL_EXPORTER_OTLP_PROTOCOL, …_TRACES_PROTOCOL, …", "`http/protobuf` (default) or `grpc`"),
    Honoured("OTEL_EXPORTER_OTLP_HEADERS, …_TRACES_HEADERS, …", "sent with each export; never shown or recorded"),
    Honoured("OTEL_EXPORTER_OTLP_TIMEOUT, …_TRACES_TIMEOUT, …", "seconds for one export, its retries included; 10"),
    Honoured(
        "OTEL_EXPORTER_OTLP_COMPRESSION, …_TRACES_COMPRESSION, …", "`none` (default), `gzip`, and by HTTP `deflate`"
    ),
    Honoured("OTEL_EXPORTER_OTLP_CERTIFICATE, …_CLIENT_KEY, …_CLIENT_CERTIFICATE", "files for TLS"),
    Honoured("OTEL_EXPORTER_OTLP_INSECURE", "for gRPC without `http://`: no TLS"),
    Honoured("OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER", "`otlp` or `none`; logs: `none`"),
    Honoured("OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME", "added to the resource; the name is `eventflow` without"),
    Honoured("OTEL_SDK_DISABLED", "`true`: nothing is exported"),
    Honoured(
        "OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG",
        "`always_on`, `always_off`, `traceidratio` and those with `parentbased_`; `--sample` goes before",
    ),
    Honoured("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", f"how many spans go together; {BATCH_SPANS}"),
    Honoured("OTEL_BSP_SCHEDULE_DELAY", f"how long a span waits for company, in ms; {BATCH_SECONDS * 1000:.0f}"),
    *metric_settings.HONOURED,
)


class Settings(msgspec.Struct, frozen=True):
    """What to export, and how.

    Attributes:
        protocols: the protocol of each signal that is exported.
        endpoints: where each goes, without credentials, for people to read.
        policy: which traces.
        batch_spans, batch_seconds: how many spans go together, and how long one waits for company.
        timeout_s: how long one export may take.
        metrics: how metrics are exported.
    """

    protocols: dict[Signal, Protocol]
    endpoints: dict[Signal, str]
    policy: Policy = ALL
    batch_spans: int = BATCH_SPANS
    batch_seconds: float = BATCH_SECONDS
    timeout_s: float = TIMEOUT_SECONDS
    metrics: MetricSettings = MetricSettings()


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Whether the environment names an endpoint, and does not switch OpenTelemetry off."""
    named = any(
        environ.get(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT", "").strip()
        for signal in ("", "TRACES_", "METRICS_", "LOGS_")
    )
    return named and not is_disabled(environ)


def is_disabled(environ: Mapping[str, str]) -> bool:
    """What `OTEL_SDK_DISABLED` says."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def read_settings(environ: Mapping[str, str], *, policy: Policy | None = None, logs: bool = False) -> Settings | None:
    """What the environment asks for; None if it is nothing. `logs`: the events as log records, too.

    Raises:
        UsageError: a variable holds what cannot be.
    """
    if is_disabled(environ):
        return None
    protocols: dict[Signal, Protocol] = {}
    for signal in _PATHS:
        chosen = _exporter(environ, signal)
        is_usual = logs if signal == "logs" else _has_place(environ, signal)
        if chosen == "otlp" or (chosen is None and is_usual):
            protocols[signal] = _protocol(environ, signal)
            _check(environ, signal, protocols[signal])
    if "logs" in protocols:
        check_limits(environ)
    return Settings(
        protocols=protocols,
        endpoints={signal: _endpoint(environ, signal, protocol) for signal, protocol in protocols.items()},
        policy=policy or _sampler(environ),
        batch_spans=int(_number(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_SPANS, least=1, most=1_000_000)),
        batch_seconds=_number(environ, "OTEL_BSP_SCHEDULE_DELAY", BATCH_SECONDS * 1000, most=3_600_000) / 1000,
        timeout_s=max((_timeout(environ, signal) for signal in protocols), default=TIMEOUT_SECONDS),
        metrics=read_metric_settings(environ) if "metrics" in protocols else MetricSettings(),
    )


def _exporter(environ: Mapping[str, str], signal: Signal) -> str | None:
    name = f"OTEL_{signal.upper()}_EXPORTER"
    value = environ.get(name, "").strip().lower()
    if value not in {"", "otlp", "none"}:
        raise UsageError(f"{name}={name_of(value)} is no exporter that eventflow has", "use otlp or none")
    return value or None


def _protocol(environ: Mapping[str, str], signal: Signal) -> Protocol:
    name, value = _setting(environ, signal, "PROTOCOL")
    match value.lower():
        case "" | "http/protobuf":
            return "http/protobuf"
        case "grpc":
            return "grpc"
    raise UsageError(f"{name}={name_of(value)} is no protocol that eventflow speaks", "use http/protobuf or grpc")


def _endpoint(environ: Mapping[str, str], signal: Signal, protocol: Protocol) -> str:
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    common = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or _DEFAULT_ENDPOINTS[protocol]
    if own or protocol == "grpc":
        return redact_url(own or common)
    return redact_url(f"{common.rstrip('/')}/{_PATHS[signal]}")


def _has_place(environ: Mapping[str, str], signal: Signal) -> bool:
    """Whether a signal goes somewhere: where only other signals have an endpoint, nobody meant the local default."""
    own = [name for name in _PATHS if environ.get(f"OTEL_EXPORTER_OTLP_{name.upper()}_ENDPOINT", "").strip()]
    return signal in own or not own or bool(environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip())


def _check(environ: Mapping[str, str], signal: Signal, protocol: Protocol) -> None:
    """What the exporters would not refuse, or only later."""
    _check_endpoint(*_setting(environ, signal, "ENDPOINT"), protocol)
    name, value = _setting(environ, signal, "COMPRESSION")
    known = _COMPRESSIONS[protocol]
    if value and value.lower() not in known:
        raise UsageError(f"{name}={name_of(value)} is no compression for {protocol}", f"use {', '.join(known)}")
    _timeout(environ, signal)
    for what in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"):
        name, value = _setting(environ, signal, what)
        if value and not Path(value).is_file():
            raise UsageError(f"{name} names {name_of(value)}, which is no file", "give the path of a PEM file")
    name, value = _setting(environ, signal, "HEADERS")
    if any("=" not in entry for entry in value.split(",") if entry.strip()):
        raise UsageError(f"{name} has an entry without `=`", "give name=value,name=value")


def _check_endpoint(name: str, value: str, protocol: Protocol) -> None:
    if not value:
        return
    if "://" not in value and protocol == "http/protobuf":
        raise UsageError(f"{name} has no scheme", "give http://HOST:4318 or https://HOST:4318")
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, is_address = urlsplit(""), False
    if not is_address:
        raise UsageError(f"{name} is no address of a collector", "give http://HOST:4318, or with grpc http://HOST:4317")
    if "@" in parts.netloc and protocol == "grpc":
        raise UsageError(f"{name} has a login, which gRPC does not take", "give it in OTEL_EXPORTER_OTLP_HEADERS")


def _timeout(environ: Mapping[str, str], signal: Signal) -> float:
    name, _ = _setting(environ, signal, "TIMEOUT")
    return _number(environ, name, TIMEOUT_SECONDS, most=3_600)


def _setting(environ: Mapping[str, str], signal: Signal, what: str) -> tuple[str, str]:
    """A variable of a signal, else the one for all of them: its name and value."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}"
    name = own if environ.get(own, "").strip() else f"OTEL_EXPORTER_OTLP_{what}"
    return name, environ.get(name, "").strip()


def _sampler(environ: Mapping[str, str]) -> Policy:
    """The sampler as a policy for whole traces: each of ours begins with its request, so no parent decides."""
    value = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    match value.removeprefix("parentbased_"):
        case "" | "always_on":
            return ALL
        case "always_off":
            return Policy(0.0)
        case "traceidratio":
            return Policy(_number(environ, "OTEL_TRACES_SAMPLER_ARG", 1.0, most=1.0))
    raise UsageError(
        f"OTEL_TRACES_SAMPLER={name_of(value)} is no sampler that eventflow has",
        "use always_on, always_off, traceidratio or one of these after parentbased_",
    )


def _number(
    environ: Mapping[str, str], name: str, default: float, *, least: float = 0.0, most: float = float("inf")
) -> float:
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise UsageError(f"{name}={name_of(text)} is not in order", f"give a number of at least {least:g}")
    return value


def variable_table() -> str:
    """`HONOURED` as a table in Markdown."""
    rows = ["| variable | what it does |", "|---|---|"]
    rows += [f"| `{honoured.name}` | {honoured.effect} |" for honoured in HONOURED]
    return "\n".join(rows)
