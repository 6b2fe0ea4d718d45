"""Projections of the log to other systems: OpenTelemetry, OpenLineage, and the sampling of processes."""
