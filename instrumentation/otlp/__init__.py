"""The log of a run to an OpenTelemetry collector, by OTLP. Needs the extra `telemetry`."""
