"""Runs in the formats of other tools, as files: no collector, no network, no package but eventflow's own."""

from instrumentation.formats.cloudevents import as_cloudevents
from instrumentation.formats.otlp_json import as_otlp_json
from instrumentation.formats.perfetto import as_perfetto

__all__ = ["as_cloudevents", "as_otlp_json", "as_perfetto"]
