"""Measures: the metric points that the events of a run make."""

from instrumentation.measures.fold import MeasureFold
from instrumentation.measures.point import Exemplar, Point, Spread

__all__ = ["Exemplar", "MeasureFold", "Point", "Spread"]
