"""What OpenTelemetry's environment variables ask of metrics and log records; see `settings` for those of all signals.

Invariants:
    a value that cannot be is an error in one line.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from eventflow.errors import UsageError, name_of
from instrumentation.otlp.honoured import Honoured

Temporality = Literal["cumulative", "delta", "lowmemory"]
ExemplarFilter = Literal["trace_based", "always_on", "always_off"]

INTERVAL_SECONDS = 10.0
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
_EXEMPLARS = "OTEL_METRICS_EXEMPLAR_FILTER"
_AGGREGATION = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"

_LIMITS = tuple(
    f"OTEL_{record}ATTRIBUTE_{limit}_LIMIT" for record in ("LOGRECORD_", "") for limit in ("COUNT", "VALUE_LENGTH")
)

HONOURED = (
    Honoured(
        _INTERVAL, f"milliseconds of the run's own time between points; {INTERVAL_SECONDS * 1000:.0f} (the SDK: 60000)"
    ),
    Honoured(
        _TEMPORALITY,
        "`cumulative` (default), `delta`, or `lowmemory`: delta for what `eventflow.metrics` measured, "
        "cumulative for the rest",
    ),
    Honoured(_EXEMPLARS, "`trace_based` (default): measurements made within a span; `always_on`: all; `always_off`"),
    Honoured(_AGGREGATION, "only `explicit_bucket_histogram`: events hold counts by bucket"),
    Honoured("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT, OTEL_ATTRIBUTE_COUNT_LIMIT", "attributes of a log record; 128"),
    Honoured(
        "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT, OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "characters of a text in one; no limit",
    ),
)
"""The variables of metrics and log records, for the documents."""


class MetricSettings(msgspec.Struct, frozen=True):
    """How metrics are exported: how often, what sums count from, which measurements are shown as exemplars."""

    interval_seconds: float = INTERVAL_SECONDS
    temporality: Temporality = "cumulative"
    exemplars: ExemplarFilter = "trace_based"


def read_metric_settings(environ: Mapping[str, str]) -> MetricSettings:
    """What the environment asks for.

    Raises:
        UsageError: a variable holds what cannot be.
    """
    aggregation = _word(environ, _AGGREGATION)
    if aggregation not in {"", "explicit_bucket_histogram"}:
        raise UsageError(
            f"{_AGGREGATION}={name_of(aggregation)} cannot be had from counts by bucket",
            "use explicit_bucket_histogram or leave it out",
        )
    return MetricSettings(_interval(environ), _temporality(environ), _exemplars(environ))


def check_limits(environ: Mapping[str, str]) -> None:
    """Whether the SDK will understand the limits of log records, which it reads itself.

    Raises:
        UsageError: a variable holds what cannot be.
    """
    for name in _LIMITS:
        text = _word(environ, name)
        if text and not (text.isascii() and text.isdecimal()):
            raise UsageError(f"{name}={name_of(text)} is no limit", "give a whole number, 0 or more")


def _word(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip().lower()


def _temporality(environ: Mapping[str, str]) -> Temporality:
    match _word(environ, _TEMPORALITY):
        case "" | "cumulative":
            return "cumulative"
        case "delta":
            return "delta"
        case "lowmemory":
            return "lowmemory"
        case other:
            raise UsageError(f"{_TEMPORALITY}={name_of(other)} is none", "use cumulative, delta or lowmemory")


def _exemplars(environ: Mapping[str, str]) -> ExemplarFilter:
    match _word(environ, _EXEMPLARS):
        case "" | "trace_based":
            return "trace_based"
        case "always_on":
            return "always_on"
        case "always_off":
            return "always_off"
        case other:
            raise UsageError(f"{_EXEMPLARS}={name_of(other)} is none", "use trace_based, always_on or always_off")


def _interval(environ: Mapping[str, str]) -> float:
    text = _word(environ, _INTERVAL)
    if not text:
        return INTERVAL_SECONDS
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise UsageError(f"{_INTERVAL}={name_of(text)} is no time", "give a whole number of milliseconds above 0")
    return int(text) / 1000
