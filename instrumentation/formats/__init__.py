"""Runs in the formats of other tools, as files: no collector, no network, no package but eventflow's own."""

from instrumentation.formats.cloudevents import cloudevents
from instrumentation.formats.otlp_json import otlp_json
from instrumentation.formats.perfetto import perfetto

__all__ = ["cloudevents", "otlp_json", "perfetto"]
